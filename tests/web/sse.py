"""A client of Server-Sent Events on a socket of its own, as strict as the specification is."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

PATIENCE = 60.0  # seconds for anything to come


@dataclass(frozen=True, slots=True)
class Event:
    """A message as a browser would dispatch it: `id` is the last one seen, `data` the text as it came."""

    id: str
    data: str
    name: str = "message"

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Client:
    """One response: its status and headers, then its events as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._chunked = False
        self._lines = b""
        self._body = bytearray()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.retry: list[int] = []
        self.comments: list[str] = []
        self.shown: list[Event] = []
        self.last_id = ""

    async def head(self) -> None:
        """Read the status line and the headers."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        self._chunked = self.headers.get("transfer-encoding") == "chunked"

    async def event(self) -> Event | None:
        """The next event without a name; None: the server has ended the response, properly."""
        while (event := await self.any_event()) and event.name != "message":
            self.shown.append(event)
        return event

    async def until(self, name: str) -> list[Event]:
        """All events up to the next of this name."""
        events: list[Event] = []
        while not events or events[-1].name != name:
            event = await self.any_event()
            assert event, f"the response ended without {name}"
            events.append(event)
        return events

    async def any_event(self) -> Event | None:
        """The next event, named or not. A named one has no id of its own."""
        data: list[str] = []
        name, numbered = "message", False
        while (line := await self._line()) is not None:
            if not line and data:
                assert numbered == (name == "message"), f"{name} with an id, or a message without"
                return Event(self.last_id, "\n".join(data), name)
            match line.partition(":"):
                case ("", ":", text):
                    self.comments.append(text.strip())
                case ("data", _, text):
                    data.append(text.removeprefix(" "))
                case ("id", _, text):
                    self.last_id, numbered = text.removeprefix(" "), True
                case ("event", _, text):
                    name = text.removeprefix(" ")
                case ("retry", _, text):
                    self.retry.append(int(text))
                case _:
                    assert not line, f"no line of an event: {line!r}"
        assert not data, "the response ended in the middle of an event"
        return None

    async def take(self, count: int) -> list[Event]:
        """The next `count` events without a name."""
        events = [await self.event() for _ in range(count)]
        assert None not in events, "the response ended early"
        return [event for event in events if event]

    async def rest(self) -> list[Event]:
        """All events without a name up to the end; the named ones are in `shown`."""
        events = []
        while event := await self.event():
            events.append(event)
        return events

    async def comment(self) -> str:
        """The next comment; no event may come before it."""
        seen = len(self.comments)
        while len(self.comments) == seen:
            line = await self._line()
            assert line is not None, "the response ended"
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
            else:
                assert not line.startswith(("data", "id")), line
                if line.startswith("retry:"):
                    self.retry.append(int(line.removeprefix("retry:")))
        return self.comments[-1]

    async def body(self) -> bytes:
        """The whole body of an answer that is no stream, to the end of the connection or of its length."""
        length = int(self.headers.get("content-length", -1))
        async with asyncio.timeout(PATIENCE):
            return await (self._reader.readexactly(length) if length >= 0 else self._reader.read())

    def abort(self) -> None:
        """Vanish: the server gets a reset instead of a farewell."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _line(self) -> str | None:
        async with asyncio.timeout(PATIENCE):
            while b"\n" not in self._lines:
                piece = await self._piece()
                if not piece:
                    assert not self._lines, "the response ended in the middle of a line"
                    return None
                self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        return line.decode()

    async def _piece(self) -> bytes:
        """What came next; empty at the end. HTTP/1.1 must say so by an empty chunk."""
        if not self._chunked:
            return await self._reader.read(65536)
        size = int((await self._reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self._reader.readexactly(size + 2)
        assert data.endswith(b"\r\n"), "a chunk is longer than it says"
        if not size:
            assert await self._reader.read() == b"", "something came after the end"
        return data[:-2]


@asynccontextmanager
async def connect(
    address: tuple[str, int],
    target: str,
    *,
    token: str | None = None,
    last_id: str | bytes | None = None,
    version: str = "1.1",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    receive_buffer: int | None = None,
) -> AsyncIterator[Client]:
    """A request whose response has begun. `receive_buffer`: bytes that the kernel takes for us, if few are wanted."""
    sock = socket.create_connection(address)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer or 2**20)
    client = Client(reader, writer)
    lines = [f"{method} {target} HTTP/{version}", f"Host: {address[0]}:{address[1]}", "Accept: text/event-stream"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    raw = "\r\n".join(lines).encode()
    if last_id is not None:
        raw += b"\r\nLast-Event-ID: " + (last_id if isinstance(last_id, bytes) else last_id.encode())
    try:
        writer.write(raw + b"\r\n\r\n")
        await client.head()
        yield client
    finally:
        await client.close()
