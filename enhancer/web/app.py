"""The application: routes, middlewares, and what opens and closes with it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from enhancer import metrics
from enhancer.domain.tasks import encode
from enhancer.service import Service
from enhancer.web import docs, errors, guard, headers, home, openapi
from enhancer.web.audience import Audience
from enhancer.web.headers import ORIGINS, Origins
from enhancer.web.hub import Hub
from enhancer.web.keys import AUDIENCE, DOCUMENT, HUB, SERVICE, STOPPING
from enhancer.web.routes import ROUTES

JSON_LIMIT = 64 * 1024  # bytes of a JSON body; forms have limits of their own


def build(service: Service) -> web.Application:
    """The application around an open service."""
    middlewares = [_measured, headers.preflights, errors.problems, guard.guarded]
    app = web.Application(middlewares=middlewares, client_max_size=JSON_LIMIT)
    app[SERVICE] = service
    app[STOPPING] = asyncio.Event()
    app[ORIGINS] = Origins.of(service.settings)
    guard.set_up(app, service.settings)
    app.on_response_prepare.append(headers.complete)
    document: Callable[[], str] = functools.cache(lambda: encode(openapi.document(ROUTES, service.settings.public_url)))
    app[DOCUMENT] = document
    app.cleanup_ctx.append(_hub)
    app.on_shutdown.append(_end_streams)
    for route in ROUTES:
        app.router.add_route(route.method, _pattern(route.path), route.handler)
        if route.method == "GET" and "stream" not in route.path:
            app.router.add_route("HEAD", _pattern(route.path), route.handler)
    app.router.add_get("/", home.page)
    app.router.add_static("/page", home.PAGE)
    app.router.add_static("/docs/assets", docs.ASSETS)
    return app


async def _hub(app: web.Application) -> AsyncIterator[None]:
    service = app[SERVICE]
    async with (
        Hub.open(service.pool, service.bus, poll=service.settings.poll_interval) as hub,
        Audience.open(service.epochs, service.settings) as audience,
    ):
        app[HUB], app[AUDIENCE] = hub, audience
        yield


async def _end_streams(app: web.Application) -> None:
    """Open streams would hold a stop for as long as the server waits for its handlers."""
    app[STOPPING].set()
    app[HUB].close()


@web.middleware
async def _measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    began = time.perf_counter()
    response = await handler(request)
    if response.content_type != "text/event-stream":
        seconds = time.perf_counter() - began
        metrics.REQUESTS.labels(request.method, errors.route_of(request), str(response.status)).observe(seconds)
    return response


def _pattern(path: str) -> str:
    """aiohttp's form of a path: ids are digits, a file's path has slashes."""
    return path.replace("{id}", "{id:[0-9]{1,19}}").replace("{path}", "{path:.+}")
