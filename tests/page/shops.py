"""The service as a process at one address, where it can be killed and started again, with users of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp

from enhancer.storage import database
from tests.conftest import SECRET, subscriber
from tests.faults.processes import Watchdog

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple"
START_LIMIT = 90.0  # seconds

_numbers = itertools.count(1)


@dataclass
class Shop:
    """`python -m enhancer serve` with these settings, by their names in the environment."""

    folder: Path
    settings: dict[str, str]
    watchdog: Watchdog
    port: int = 0
    _process: Process | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, watchdog: Watchdog, **settings: str) -> AsyncIterator[Self]:
        """A shop that serves, until the block's end."""
        shop = cls(folder, settings, watchdog)
        try:
            yield shop
        finally:
            await shop.end(signal.SIGTERM)

    @property
    def url(self) -> str:
        """Where it is, now and after a new start."""
        return f"http://127.0.0.1:{self.port}/"

    async def start(self, **more: str) -> None:
        """Start, with more settings."""
        self.port = self.port or _free_port()
        quick = {"SECRET_KEY": SECRET, "POLL_INTERVAL": "0.2", "RETRY_DELAY": "0.1", "SHUTDOWN_GRACE": "2"}
        with (self.folder / "serve.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "enhancer", "serve", "--port", str(self.port)),
                cwd=self.folder,  # where there is no .env
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **quick, **self.settings, **more},
                stdout=PIPE,
                stderr=log,
            )
        self.watchdog.watch(self._process.pid)
        assert self._process.stdout
        async with asyncio.timeout(START_LIMIT):
            line = await self._process.stdout.readline()
        assert b"http://" in line, (self.folder / "serve.log").read_text()[-2000:]

    async def end(self, number: signal.Signals) -> None:
        """Signal it, and wait for its end."""
        if self._process and self._process.returncode is None:
            self._process.send_signal(number)
        await self.ended()

    async def ended(self) -> None:
        """Its end, whoever brought it."""
        if self._process:
            async with asyncio.timeout(START_LIMIT):
                await self._process.wait()

    async def user(self) -> str:
        """The e-mail address of a new user with a subscription, whose password is PASSWORD."""
        async with database.connect(self.settings["DATABASE_URL"], size=2) as pool:
            return (await subscriber(pool, f"visitor{next(_numbers)}@example.com")).email

    async def token(self, email: str) -> str:
        """What signing in brings."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}api/v1/auth/login", json={"email": email, "password": PASSWORD}) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["access_token"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def strings(language: str) -> dict[str, str]:
    """The page's texts."""
    text = (ROOT / f"enhancer/web/page/i18n/{language}.js").read_text()
    return dict(re.findall(r'^  "([^"]+)": "(.*)",$', text, re.MULTILINE))
