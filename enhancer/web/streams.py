"""
Streams: a task's events as Server-Sent Events.

aiohttp-sse brings the response: its headers, the limits of a stalled client, the end from outside. Events do not go
through its `send`, which encodes and awaits for every client: the hub frames an event once, and here it is written
to the transport as it is (13 instead of 37 µs of CPU a delivery, measured with 2,000 clients).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from enhancer import metrics
from enhancer.domain.tasks import Kind
from enhancer.storage.database import UNREACHABLE
from enhancer.web import auth
from enhancer.web.hub import Frame, chunk
from enhancer.web.keys import ADDRESS, AUDIENCE, EPOCH, HUB, SERVICE, STOPPING

log = logging.getLogger(__name__)

RETRY = 2000  # milliseconds after which a browser reconnects
RETRY_BUSY = 15_000  # milliseconds, when there are too many streams
HEARTBEAT = 15.0  # seconds of quiet before a comment
SEND_BUFFER = 64 * 1024  # bytes that the kernel holds for a client; it is dropped when as many wait here for it


class Stream(EventSourceResponse):
    """
    One client of the hub (see hub.Watcher). `done` ends the handler.

    aiohttp-sse 3.0 runs `_ping` beside the stream as a task of its own; ours has nothing to do, because the hub's
    rounds bring the heartbeat.
    """

    def __init__(self) -> None:
        super().__init__()
        self.headers["Cache-Control"] = "no-cache, no-transform"
        self.headers["Connection"] = "close"  # what is written past aiohttp must be the last on its connection
        self.cursor = 0
        self.done = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._chunked_by_hand = True
        self._quiet_since = 0.0

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """See aiohttp. Raises ConnectionResetError when the client has gone, which aiohttp-sse does not expect."""
        if self.prepared:
            return self._payload_writer
        if request.transport is None:
            raise ConnectionResetError("The client has gone")
        return await super().prepare(request)

    async def open(self, request: web.Request, *, retry: int) -> None:
        """Send the headers and the first bytes, so that a browser knows at once that it is connected."""
        await self.prepare(request)
        self.force_close()
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            sock = transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._chunked_by_hand = request.version >= (1, 1)
        self._quiet_since = asyncio.get_running_loop().time()
        await self.write(f"retry: {retry}\n\n: connected\n\n".encode())

    def give(self, frames: Sequence[Frame]) -> None:
        """Write events."""
        self._write(b"".join(f.chunk if self._chunked_by_hand else f.text for f in frames))

    def say(self, text: bytes) -> None:
        """Write what is in the event stream's format."""
        self._write(chunk(text) if self._chunked_by_hand else text)

    def end(self) -> None:
        """Let the handler return."""
        if not self.done.done():
            self.done.set_result(None)

    def tick(self, now: float) -> None:
        """A comment after a time of quiet; the end when the client has gone."""
        if self._transport is None or self._transport.is_closing():
            self.end()
        elif now - self._quiet_since >= HEARTBEAT:
            self.say(b":\n\n")

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            self.end()
            return
        if transport.get_write_buffer_size() > SEND_BUFFER:  # it does not read; it may come back with its last id
            transport.abort()
            metrics.DROPPED.inc()
            self.end()
            return
        transport.write(data)
        self._quiet_since = asyncio.get_running_loop().time()

    async def _ping(self) -> None:
        """See the class."""


async def enhancement(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/ai/enhance-and-script/{id}/stream -> 200 and the events, or 204 when the last one was seen."""
    return await follow(request, Kind.ENHANCEMENT)


async def video(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/videos/{id}/stream -> 200 and the events, or 204 when the last one was seen."""
    return await follow(request, Kind.VIDEO)


async def follow(request: web.Request, kind: Kind) -> web.StreamResponse:
    """The stream of a task of this kind, for its owner or the holder of its stream token."""
    user_id = auth.watcher(request, kind.channel(int(request.match_info["id"])))
    task = (await auth.own_task(request, kind, user_id)).bare()
    after = _last_event_id(request)
    if task.status.final and after == task.last_seq:
        return web.Response(status=204)
    stream = Stream()
    after = after if after <= task.last_seq else 0
    watching = partial(request.app[HUB].watching, task, after, stream)
    return await served(request, user_id, stream, watching, about=task.channel)


async def served(
    request: web.Request,
    user_id: int,
    stream: Stream,
    watching: Callable[[], AbstractAsyncContextManager[None]],
    *,
    about: str,
) -> Stream:
    """The user's stream once it has ended; it is written to within `watching`. `about`: for the log."""
    with contextlib.suppress(ConnectionError, TimeoutError):  # the client has gone: that is how streams end
        if _full(request, user_id):
            await stream.open(request, retry=RETRY_BUSY)
        else:
            with request.app[AUDIENCE].seated(user_id, request[ADDRESS], stream, epoch=request[EPOCH]):
                await _follow(request, stream, watching, about)
    return stream


async def _follow(
    request: web.Request, stream: Stream, watching: Callable[[], AbstractAsyncContextManager[None]], about: str
) -> None:
    await stream.open(request, retry=RETRY)
    with metrics.STREAMS.track_inprogress():
        async with stream:
            try:
                async with watching():
                    await stream.done
            except UNREACHABLE as error:
                log.warning("database.unreachable", extra={"error": type(error).__name__})
            except ConnectionError:
                raise
            except Exception:  # no other answer can be given in this one: end it, and the client comes back
                log.exception("stream.failed", extra={"channel": about})
            if request.app[STOPPING].is_set():  # not all of them at once
                await stream.write(f"retry: {random.randint(RETRY // 2, 2 * RETRY)}\n\n".encode())  # noqa: S311


def _full(request: web.Request, user_id: int) -> bool:
    """Whether the client has to come back later: a browser comes back after an answer, and after no refusal."""
    service = request.app[SERVICE]
    open_streams = request.app[HUB].watchers
    return (
        request.app[STOPPING].is_set()
        or open_streams >= service.settings.max_streams
        or request.app[AUDIENCE].full(user_id, request[ADDRESS])
    )


def last_event_id(request: web.Request) -> str:
    """As it was sent; the header goes before the query."""
    return request.headers.get("Last-Event-ID") or request.query.get("last_event_id") or ""


def _last_event_id(request: web.Request) -> int:
    """What the client saw last; anything odd means nothing."""
    given = last_event_id(request)
    return int(given) if re.fullmatch(r"[0-9]{1,18}", given) else 0
