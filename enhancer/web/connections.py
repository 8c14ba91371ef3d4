"""
Connections: aiohttp's own, which wait for no client for ever.

aiohttp times nothing between two requests but an idle connection, and answers what is no HTTP with a line of text.
Here a request's head must come within HEAD_LIMIT, its body and our answer must move, and every refusal is a problem.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from enhancer.errors import RequestTimeout
from enhancer.web import errors, headers

HEAD_LIMIT = 20.0  # seconds from a connection's or a request's first byte to the end of its headers
IDLE_LIMIT = 75.0  # seconds between two requests on a connection
LINGERING = 5.0  # seconds that the rest of a body is read which nobody wants any more
BODY_PACE = 10.0  # seconds in which MIN_BODY bytes of a body must come
MIN_BODY = 10_000  # bytes
STALL_LIMIT = 60.0  # seconds that a client may take nothing of what is being sent to it

_LATE = b"HTTP/1.1 408 Request Timeout\r\nServer: enhancer\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_arrived", "_awaited", "_body", "_heard", "_stalled")

    def __init__(self, manager: Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._body: StreamReader | None = None
        self._arrived = 0  # bytes of the body since its pace was last looked at
        self._heard = False  # whether something came since the last request
        self._awaited: asyncio.TimerHandle | None = None  # what ends the wait for a head, or looks at the pace
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._await(HEAD_LIMIT, self._no_head)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            # for what is sent past our buffers: a file goes from the kernel to the kernel
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_LIMIT * 1000))
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio."""
        for timer in (self._awaited, self._stalled):
            if timer:
                timer.cancel()
        self._awaited = self._stalled = self._body = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        known = self._request_count
        self._heard |= bool(data)
        super().data_received(data)
        if self._request_count != known:
            self._heard = False
            self._begin_body()
        elif self._body is not None:
            self._arrived += len(data)
        elif data and self._awaited is None and self._waiter is not None:
            self._await(HEAD_LIMIT, self._no_head)

    def pause_writing(self) -> None:
        """See asyncio."""
        super().pause_writing()
        self._stalled = self._loop.call_later(STALL_LIMIT, self._abort)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be read as a request, or was broken before any handler of ours saw it."""
        super().handle_error(request, status, exc, message)  # which logs it
        answer = errors.unreadable() if status < 500 else errors.internal()
        headers.bare(answer)
        answer.force_close()
        return answer

    def _await(self, seconds: float, then: Any) -> None:
        if self._awaited:
            self._awaited.cancel()
        self._awaited = self._loop.call_later(seconds, then)

    def _begin_body(self) -> None:
        """A head is complete: from here on its body has to keep its pace."""
        if self._awaited:
            self._awaited.cancel()
            self._awaited = None
        body = self._messages[-1][1] if self._messages else None
        self._body = None if body is None or body.is_eof() else body
        self._arrived = 0
        if self._body is not None:
            self._await(BODY_PACE, self._look_at_pace)

    def _look_at_pace(self) -> None:
        self._awaited, body = None, self._body
        if body is None or body.is_eof():
            self._body = None
            return
        held = self._reading_paused or getattr(self, "_buffer_paused", False)  # by us; the latter not in 3.14.0
        if held or self._arrived >= MIN_BODY:
            self._arrived = 0
            self._await(BODY_PACE, self._look_at_pace)
            return
        self._body = None
        body.set_exception(RequestTimeout())

    def _no_head(self) -> None:
        self._awaited = None
        if self._waiter is not None and not self._waiter.done() and self.transport is not None:
            if self._heard:
                self.transport.write(_LATE)
            self.force_close()

    def _abort(self) -> None:
        self._stalled = None
        if self.transport is not None:
            self.transport.abort()


class Connections(Server):
    """All connections of a service; `most` at once, so that files and the database find their descriptors, too."""

    def __init__(self, server: Server, most: int) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=server._loop,
            **server._kwargs,
        )
        self._most = most

    def __call__(self) -> RequestHandler:
        """See aiohttp."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """See aiohttp."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._most:
            self._loop.call_soon(transport.abort)  # aiohttp has to begin before it can end


class Runner(web.AppRunner):
    """What serves an application over such connections."""

    def __init__(self, app: web.Application, *, most: int, **kwargs: Any) -> None:
        super().__init__(app, keepalive_timeout=IDLE_LIMIT, lingering_time=LINGERING, **kwargs)
        self._most = most

    async def _make_server(self) -> Server:
        return Connections(await super()._make_server(), self._most)
