"""Serving: from the socket to the last stream."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from enhancer import service
from enhancer.errors import RequestTimeout, SetupError
from enhancer.service import Service
from enhancer.settings import Settings
from enhancer.web.app import build
from enhancer.web.connections import Runner
from enhancer.web.keys import ADDRESS

log = logging.getLogger("enhancer.http")
_faults = logging.getLogger("enhancer.http.server")

BACKLOG = 4096  # connections that may wait to be accepted: a crowd reconnects at once
SPARE = 200  # files kept for PostgreSQL, Redis, the models and the store
HANDLERS_END = 5.0  # seconds that running requests may take at a stop; streams end by themselves


@asynccontextmanager
async def serving(settings: Settings, *, share: bool = False) -> AsyncIterator[Service]:
    """
    The whole service behind HTTP. A PORT of 0 becomes the port that was free: see the service's settings.

    Raises SetupError when the address is taken.
    """
    with _bound(settings) as sock:
        settings = settings.model_copy(update={"port": sock.getsockname()[1]})
        async with service.running(settings, share=share) as running:
            runner = runner_of(build(running))
            await runner.setup()
            try:
                await web.SockSite(runner, sock, backlog=BACKLOG).start()
                yield running
            finally:
                await runner.cleanup()


def runner_of(app: web.Application) -> web.AppRunner:
    """What serves an application. A client that leaves does not cancel its handler, which may be about to commit."""
    return Runner(
        app,
        most=_most_connections(),
        access_log_class=AccessLogger,
        access_log=log,
        handler_cancellation=False,
        logger=_faults,
        shutdown_timeout=HANDLERS_END,
    )


async def serve(settings: Settings, *, stop: asyncio.Event, ready: Callable[[Service], None]) -> None:
    """Serve until `stop` is set. `ready` is called once requests are answered."""
    _allow_open_files(settings)
    async with serving(settings) as running:
        _settle()
        ready(running)
        await stop.wait()
        log.info("service.stopping")


def _most_connections() -> int:
    """All but SPARE of the files that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(SPARE, soft - SPARE)


class AccessLogger(AbstractAccessLogger):
    """One line a request, without its query: that is where tokens are."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """See aiohttp."""
        about = {
            "method": request.method,
            "path": request.path,
            "status": response.status,
            "ms": round(time * 1000, 1),
            "remote": request.get(ADDRESS, request.remote),
        }
        self.logger.info("http.request", extra=about)

    @property
    def enabled(self) -> bool:
        """See aiohttp."""
        return self.logger.isEnabledFor(logging.INFO)


def _settle() -> None:
    """
    Let the collector of garbage pass over what is there for good: modules, models, routes.

    130,000 objects: a full collection stopped the loop for 50 ms and more on a small machine, and next to nothing
    afterwards.
    """
    gc.collect()
    gc.freeze()


def _allow_open_files(settings: Settings) -> None:
    """A stream is an open file; so is what a proxy keeps beside it. Raise our limit as far as it goes."""
    wanted = 2 * settings.max_streams
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("limits.open_files", extra={"allowed": allowed, "max_streams": settings.max_streams})


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a fault is ours; for every malformed request, aiohttp would log a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | RequestTimeout)


_faults.addFilter(_is_ours)


def _bound(settings: Settings) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise SetupError(f"HOST cannot be listened on: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise SetupError(f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}") from error
    return sock
