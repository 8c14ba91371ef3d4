"""A TCP proxy that can be slow, break its connections, or swallow what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

Target = tuple[str, int] | str
"""An address, or the path of a Unix socket."""


@dataclass(eq=False)
class _Link:
    """A connection through the proxy. `lossy`: bytes of it were swallowed."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    lossy: bool = False

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """
    In front of `target`, on a port of its own.

    `delay`: seconds that every piece takes longer. `swallowing`: what comes in goes nowhere. `refusing`: new
    connections are closed at once.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.swallowing = False
        self.refusing = False
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target) -> AsyncIterator[Self]:
        """A proxy that listens while the block lasts."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.reset()
            for task in list(proxy._tasks):
                task.cancel()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)
            await server.wait_closed()

    def reset(self) -> None:
        """Break all connections now."""
        for link in list(self._links):
            link.abort()

    def heal(self) -> None:
        """Be a plain wire again; connections that have lost something are broken."""
        self.delay, self.swallowing, self.refusing = 0.0, False, False
        for link in list(self._links):
            if link.lossy:
                link.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer])
        self._links.add(link)
        try:
            if not self.refusing:
                there, back = await self._connect()
                link.writers.append(back)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, back, link))
                    group.create_task(self._pump(there, writer, link))
        except* OSError:
            pass
        finally:
            self._links.discard(link)
            link.abort()
            for end in link.writers:
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        """One direction; its end ends the connection."""
        while data := await reader.read(1 << 16):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.swallowing:
                link.lossy = True
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
