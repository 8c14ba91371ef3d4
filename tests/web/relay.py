"""A line to a server that can be cut and mended, as networks and restarts do it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit


class Relay:
    """Passes bytes between `port` of this machine and a server's socket."""

    def __init__(self, target: str | int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    async def mend(self) -> None:
        """Accept connections, at the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for passing in self._passing:
            passing.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def hold(self) -> None:
        """Pass nothing on until `release`; connections stay."""
        self._open.clear()

    def release(self) -> None:
        """Pass on what was held, and what comes."""
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await self._reach()
        self._start(reader, there[1], writer)
        self._start(there[0], writer, there[1])

    def _start(self, reader: asyncio.StreamReader, *writers: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._copy(reader, *writers))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        """Until one side ends; then both do."""
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    await self._open.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            for end in (writer, other):
                end.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(self._target)


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[tuple[Relay, str]]:
    """A line to the server of an address, and the address through it."""
    split = urlsplit(url)
    folder = parse_qs(split.query).get("host", [""])[0]
    relay = Relay(f"{folder}/.s.PGSQL.5432" if folder else int(split.port or 0))
    await relay.mend()
    credentials = split.netloc.rpartition("@")[0]
    try:
        yield relay, f"{split.scheme}://{credentials}@127.0.0.1:{relay.port}{split.path}"
    finally:
        await relay.cut()
