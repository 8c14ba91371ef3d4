"""The way to PostgreSQL, by TCP: it can be cut and mended, and answers can be kept back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit, urlunsplit

from pydantic import SecretStr

from enhancer.settings import Settings
from tests.pipeline.watching import eventually

PIECE = 65536  # bytes


class Cable:
    """
    Between a service and PostgreSQL. Cut: connections break, and new ones at once.

    Muted: what the service says arrives, what the server answers is kept back until it may speak again.
    """

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._whole = True
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self.connections = 0

    def cut(self) -> None:
        """PostgreSQL is gone."""
        self._whole = False
        for end in list(self._ends):
            end.transport.abort()

    def mend(self) -> None:
        """PostgreSQL is back."""
        self._whole = True

    def mute(self) -> None:
        """No answer comes any more."""
        self._speaking.clear()

    def unmute(self) -> None:
        """Answers come again, those first that were kept back."""
        self._speaking.set()

    async def connected(self, more_than: int) -> None:
        """Return when there have been more connections than that."""

        async def look() -> bool:
            return self.connections > more_than

        await eventually(look)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections += 1
        if not self._whole:
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        ends = {writer, to_server}
        self._ends |= ends
        try:
            there = asyncio.create_task(_carry(reader, to_server))
            back = asyncio.create_task(_carry(from_server, writer, self._speaking))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        finally:
            self._ends -= ends
            for end in ends:
                end.transport.abort()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: asyncio.Event | None = None
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(PIECE):
            if allowed:
                await allowed.wait()
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def laid(settings: Settings) -> AsyncIterator[tuple[Cable, Settings]]:
    """A cable to the settings' database, and settings that lead through it."""
    assert settings.database_url is not None
    address = urlsplit(settings.database_url.get_secret_value())
    [folder] = parse_qs(address.query)["host"]
    cable = Cable(f"{folder}/.s.PGSQL.5432")
    running: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(cable.serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    who = address.netloc.rpartition("@")[0]
    url = urlunsplit(address._replace(netloc=f"{who}@127.0.0.1:{port}", query="sslmode=disable"))
    try:
        yield cable, settings.model_copy(update={"database_url": SecretStr(url)})
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
