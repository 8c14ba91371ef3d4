"""The servers of a run, each of which can be killed and started again where it was."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg
import psutil
from redis.asyncio import Redis

from enhancer.embedded import postgres, valkey
from tests.faults.patience import until
from tests.faults.processes import Watchdog
from tests.faults.proxy import Target

FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT  # PostgreSQL's names for two ways to stop


@dataclass
class Postgres:
    """
    A cluster in `folder`, on a Unix socket, that loses nothing that was committed when its processes crash.

    Without fsync: the machine does not crash, and an end would wait for the files of all databases.
    """

    folder: Path
    watchdog: Watchdog
    url: str = ""
    _pid: int = 0
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, watchdog: Watchdog) -> AsyncIterator[Self]:
        """A server that runs."""
        server = cls(folder, watchdog)
        await server.start()
        try:
            yield server
        finally:
            await server._stack.aclose()

    @property
    def socket(self) -> Target:
        """Where a proxy reaches it."""
        [folder] = parse_qs(urlsplit(self.url).query)["host"]
        return f"{folder}/.s.PGSQL.5432"

    def at(self, database: str) -> str:
        """The address of one of its databases."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def by(self, port: int, database: str) -> str:
        """The address of a database by a proxy."""
        parts = urlsplit(self.url)
        return f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}/{database}"

    async def start(self) -> None:
        """Start, with what was committed before."""
        self.url = await self._stack.enter_async_context(postgres.running(self.folder, durable=True))
        connection = await asyncpg.connect(self.url)
        try:
            cluster = await connection.fetchval("SELECT current_setting('data_directory')")
            await connection.execute("ALTER SYSTEM SET fsync = off")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
        self._pid = int((Path(cluster) / "postmaster.pid").read_text().split()[0])
        self.watchdog.watch(self._pid)

    async def stop(self, how: signal.Signals = FAST) -> None:
        """Stop, and wait for the end."""
        await _end(self._pid, how)
        await self._stack.aclose()

    async def restart(self, how: signal.Signals = FAST) -> None:
        """Stop and start."""
        await self.stop(how)
        await self.start()


@dataclass
class Valkey:
    """A server on a port that stays the same."""

    folder: Path
    watchdog: Watchdog
    url: str = ""
    _pid: int = 0
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, watchdog: Watchdog) -> AsyncIterator[Self]:
        """A server that runs."""
        server = cls(folder, watchdog)
        await server.start()
        try:
            yield server
        finally:
            await server._stack.aclose()

    @property
    def address(self) -> Target:
        """Where a proxy reaches it."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def by(self, port: int) -> str:
        """Its address by a proxy."""
        return f"redis://:{urlsplit(self.url).password}@127.0.0.1:{port}/0"

    async def start(self) -> None:
        """Start, with nothing in it."""
        self.url = await self._stack.enter_async_context(valkey.running(self.folder))
        async with Redis.from_url(self.url) as client:
            self._pid = int((await client.info("server"))["process_id"])
        self.watchdog.watch(self._pid)

    async def kill(self) -> None:
        """kill -9."""
        await _end(self._pid, signal.SIGKILL)
        await self._stack.aclose()


async def _end(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
    await until(lambda: not psutil.pid_exists(pid), f"the end of process {pid}")
