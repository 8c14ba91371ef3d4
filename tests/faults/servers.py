"""The servers of a run, each of which can be killed and started again where it was."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

import aiohttp
import asyncpg
import psutil
from redis.asyncio import Redis

from enhancer.embedded import postgres, valkey
from tests.faults.patience import until
from tests.faults.processes import Program, Watchdog
from tests.faults.proxy import Proxy, Target

FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT  # PostgreSQL's names for two ways to stop


@dataclass
class Server:
    """A server that keeps its `folder`, and can be stopped, frozen and started again where it was."""

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

    async def start(self) -> None:
        """Start, on the same address."""
        self._pid = await self._begin()
        self.watchdog.watch(self._pid)

    async def stop(self, how: signal.Signals) -> None:
        """Stop by a signal, and wait for the end."""
        os.kill(self._pid, how)
        await until(lambda: not psutil.pid_exists(self._pid), f"the end of process {self._pid}")
        await self._stack.aclose()

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self._pid, signal.SIGCONT)

    async def _begin(self) -> int:
        """Set `url`; the id of the process."""
        raise NotImplementedError


class Postgres(Server):
    """
    A cluster on a Unix socket, that loses nothing that was committed when its processes crash.

    Without fsync: the machine does not crash, and an end would wait for the files of all databases.
    """

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

    async def stop(self, how: signal.Signals = FAST) -> None:
        await super().stop(how)

    async def restart(self, how: signal.Signals = FAST) -> None:
        """Stop and start."""
        await self.stop(how)
        await self.start()

    async def _begin(self) -> int:
        self.url = await self._stack.enter_async_context(postgres.running(self.folder, durable=True))
        connection = await asyncpg.connect(self.url)
        try:
            cluster = await connection.fetchval("SELECT current_setting('data_directory')")
            await connection.execute("ALTER SYSTEM SET fsync = off")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
        return int((Path(cluster) / "postmaster.pid").read_text().split()[0])


class Valkey(Server):
    """A server on a port that stays the same, which forgets everything when it stops."""

    @property
    def address(self) -> Target:
        """Where a proxy reaches it."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def by(self, port: int) -> str:
        """Its address by a proxy."""
        return f"redis://:{urlsplit(self.url).password}@127.0.0.1:{port}/0"

    async def kill(self) -> None:
        """kill -9."""
        await self.stop(signal.SIGKILL)

    async def _begin(self) -> int:
        self.url = await self._stack.enter_async_context(valkey.running(self.folder))
        async with Redis.from_url(self.url) as client:
            return int((await client.info("server"))["process_id"])


class Bucket:
    """An object store of S3's protocol, moto's server, behind a proxy: it is slow, refuses or hangs as that does."""

    def __init__(self, http: aiohttp.ClientSession, address: str, proxy: Proxy) -> None:
        self._http = http
        self._address = address
        self.proxy = proxy

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, watchdog: Watchdog, http: aiohttp.ClientSession) -> AsyncIterator[Self]:
        """A server that runs, with an empty bucket."""
        program = Program(
            "moto.server",
            "-H",
            "127.0.0.1",
            "-p",
            "0",
            log=folder / "bucket.log",
            watchdog=watchdog,
            PYTHONUNBUFFERED="1",
        )
        try:
            port = int((await program.said(r"Running on http://127\.0\.0\.1:(\d+)"))[1])
            address = f"http://127.0.0.1:{port}/bucket"
            async with http.put(address) as answer:
                assert answer.status == 200
            async with Proxy.open(("127.0.0.1", port)) as proxy:
                yield cls(http, address, proxy)
        finally:
            await program.kill()

    @property
    def settings(self) -> dict[str, str]:
        """What a replica needs to keep its files here."""
        return {
            "storage_url": "s3://bucket",
            "aws_endpoint_url": f"http://127.0.0.1:{self.proxy.port}",
            "aws_access_key_id": "nobody",
            "aws_secret_access_key": "nothing",
            "aws_region": "us-east-1",
        }

    async def files(self) -> set[str]:
        """The names of the first thousand files."""
        async with self._http.get(self._address, params={"list-type": "2"}) as answer:
            return set(re.findall(r"<Key>([^<]+)</Key>", await answer.text()))
