from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from enhancer import embedded
from enhancer.settings import Settings
from enhancer.web.keys import STOPPING
from tests.conftest import Running, Start, make_settings
from tests.web.forms import ASYNC, LOGIN, STATUS, STREAM, accept, form, nothing_is_left
from tests.web.relay import relayed

pytestmark = pytest.mark.usefixtures("quiet")

READY = {"status": "ready", "postgresql": "ok", "redis": "ok", "storage": "ok"}


async def get(running: Running, path: str) -> tuple[int, Any]:
    async with running.http.get(path, headers={"Authorization": ""}) as answer:
        return answer.status, await answer.json()


async def test_all_is_well(idle: Running) -> None:
    assert await get(idle, "/healthz") == (200, {"status": "ok"})
    assert await get(idle, "/readyz") == (200, READY)


async def test_redis_away_is_reported_and_no_reason_to_stop(
    settings: Settings, start: Start, redis_url: str, quiet: None
) -> None:
    async with relayed(redis_url) as (relay, url):
        given = {**settings.model_dump(), "redis_url": url, "workers": 0}
        running = await start(Settings.model_validate(given))
        assert await get(running, "/readyz") == (200, READY)
        await relay.cut()
        assert await get(running, "/readyz") == (200, READY | {"redis": "unreachable"})
        await accept(running.http)
        await relay.mend()
        assert await get(running, "/readyz") == (200, READY)


@dataclass
class Own:
    """A service on servers of its own, which can be stopped under it."""

    running: Running
    servers: AsyncExitStack


@pytest.fixture
async def own(tmp_path: Path, start: Start) -> AsyncIterator[Own]:
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(embedded.servers(tmp_path / "servers", durable=False))
        settings = make_settings(
            database_url=servers.database_url, redis_url=servers.redis_url, data_dir=tmp_path / "data", workers=0
        )
        yield Own(await start(settings), stack)


async def test_without_postgresql_nothing_is_ready_and_nobody_waits_for_it(own: Own) -> None:
    running = own.running
    task = await accept(running.http)
    await own.servers.aclose()
    status, body = await get(running, "/readyz")
    assert (status, body["status"], body["postgresql"]) == (503, "not ready", "unreachable")
    assert await get(running, "/healthz") == (200, {"status": "ok"})
    async with running.http.get("/metrics") as answer:
        assert answer.status == 200
    for method, path, data in (
        ("POST", ASYNC, form()),
        ("GET", STATUS.format(task["id"]), None),
        ("GET", STREAM.format(task["id"]), None),
        ("POST", LOGIN, b'{"email": "a@b.c", "password": "x"}'),
    ):
        async with running.http.request(method, path, data=data) as answer:
            assert answer.status == 503, path
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json(content_type=None))["code"] == "storage_unavailable"


async def test_a_service_is_ready_again_when_postgresql_is(settings: Settings, start: Start) -> None:
    assert settings.database_url
    async with relayed(settings.database_url.get_secret_value()) as (relay, url):
        running = await start(Settings.model_validate({**settings.model_dump(), "database_url": url, "workers": 0}))
        await relay.cut()
        assert (await get(running, "/readyz"))[0] == 503
        async with running.http.post(ASYNC, data=form()) as answer:
            assert answer.status == 503
        await relay.mend()
        assert await get(running, "/readyz") == (200, READY)
        await nothing_is_left(running)
        await accept(running.http)


async def test_a_schema_that_is_missing_is_not_ready(idle: Running) -> None:
    await idle.service.pool.execute("DELETE FROM schema_migrations")
    assert await get(idle, "/readyz") == (503, READY | {"status": "not ready", "postgresql": "migrations missing"})


async def test_a_store_that_takes_nothing_is_not_ready(idle: Running) -> None:
    idle.service.settings.uploads.rmdir()
    idle.service.settings.uploads.write_text("in the way")
    assert await get(idle, "/readyz") == (503, READY | {"status": "not ready", "storage": "unavailable"})


async def test_a_service_that_stops_is_not_ready(idle: Running) -> None:
    app = idle.http.server.app  # type: ignore[attr-defined]
    app[STOPPING].set()
    assert await get(idle, "/readyz") == (503, READY | {"status": "not ready"})
    assert (await get(idle, "/healthz"))[0] == 200


async def metrics(running: Running) -> dict[str, Metric]:
    async with running.http.get("/metrics", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return {family.name: family for family in text_string_to_metric_families(await answer.text())}


async def test_the_figures_are_there(shop: Running) -> None:
    await accept(shop.http)
    families = await metrics(shop)
    ours = {name: family.type for name, family in families.items() if name.startswith("enhancer_")}
    kinds = {name: kind for name, kind in ours.items() if not name.endswith("_created")}
    assert kinds == {
        "enhancer_tasks_finished": "counter",
        "enhancer_task_seconds": "histogram",
        "enhancer_provider_calls": "counter",
        "enhancer_provider_call_seconds": "histogram",
        "enhancer_tasks": "gauge",
        "enhancer_workers_busy": "gauge",
        "enhancer_streams": "gauge",
        "enhancer_stream_events": "counter",
        "enhancer_streams_dropped": "counter",
        "enhancer_http_request_seconds": "histogram",
    }
    assert all(family.documentation for family in families.values())


async def test_waiting_tasks_are_counted(idle: Running) -> None:
    for _ in range(3):
        await accept(idle.http)
    samples = {sample.labels["status"]: sample.value for sample in (await metrics(idle))["enhancer_tasks"].samples}
    assert samples == {"pending": 3, "processing": 0}


async def test_routes_are_counted_by_their_pattern(idle: Running) -> None:
    for path in ("/uploads/user_1/originals/secret.jpg", STATUS.format(12345), "/nothing/like/it"):
        async with idle.http.get(path):
            pass
    samples = (await metrics(idle))["enhancer_http_request_seconds"].samples
    routes = {sample.labels["route"] for sample in samples}
    assert {"/uploads/{path}", STATUS.format("{id}"), "(none)"} <= routes
    assert not any("secret" in route or "12345" in route for route in routes)
