"""For operators: whether the process lives, whether it can work, and what it counts."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from enhancer import metrics
from enhancer.errors import RequestError
from enhancer.service import Service
from enhancer.storage import migrations, tasks
from enhancer.storage.database import UNREACHABLE
from enhancer.web.enhancements import answer
from enhancer.web.keys import SERVICE, STOPPING
from enhancer.web.models import Health, Readiness

PROBE = 3.0  # seconds that PostgreSQL may take to answer


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz -> 200: the process answers."""
    return answer(Health())


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz -> 200, or 503 when no task can be accepted."""
    service = request.app[SERVICE]
    postgresql, redis, storage = await asyncio.gather(_postgresql(service), service.bus.ping(), _storage(service))
    ready = postgresql == "ok" and storage == "ok" and not request.app[STOPPING].is_set()
    state = Readiness.model_validate(
        {
            "status": "ready" if ready else "not ready",
            "postgresql": postgresql,
            "redis": "ok" if redis else "unreachable",
            "storage": storage,
        }
    )
    return answer(state, status=200 if ready else 503)


async def expose(request: web.Request) -> web.Response:
    """GET /metrics -> the counts, in Prometheus' text format."""
    try:
        async with asyncio.timeout(PROBE):
            for status, count in (await tasks.waiting(request.app[SERVICE].pool)).items():
                metrics.WAITING.labels(status.value).set(count)
    except UNREACHABLE:  # the other figures are wanted then more than ever
        metrics.WAITING.clear()
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _postgresql(service: Service) -> str:
    try:
        async with asyncio.timeout(PROBE):
            return "migrations missing" if await migrations.pending(service.pool) else "ok"
    except UNREACHABLE:
        return "unreachable"


async def _storage(service: Service) -> str:
    try:
        async with asyncio.timeout(PROBE):
            await service.files.check()
    except (RequestError, TimeoutError):
        return "unavailable"
    return "ok"
