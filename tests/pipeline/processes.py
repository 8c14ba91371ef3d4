"""The service as a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from enhancer.settings import Settings

PASSED_ON = ("database_url", "redis_url", "data_dir", "secret_key", "openai_api_key", "openai_base_url")
ROOT = Path(__file__).parents[2]


class Process:
    """`python -m enhancer serve`, ready. `url`: where it is reached."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and it is gone."""
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self._process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Its exit code, which is not long to wait for."""
        async with asyncio.timeout(60):
            return await self._process.wait()


@asynccontextmanager
async def serving(settings: Settings, **more: object) -> AsyncIterator[Process]:
    """A process with these settings, and more of them by name, killed at the block's end if it has not ended."""
    given = {name: getattr(settings, name) for name in PASSED_ON} | {"poll_interval": 0.05} | more
    environment = {name.upper(): _text(value) for name, value in given.items() if value is not None}
    log = settings.data_dir.parent / f"{more.get('replica', 'service')}.log"
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "enhancer", "serve", "--port", "0"),
            cwd=log.parent,  # where there is no .env
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield Process(process, await _address(process, log))
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _address(process: asyncio.subprocess.Process, log: Path) -> str:
    """What it announces once it answers."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = await process.stdout.readline()
    found = re.search(rb"http://\S+", line)
    assert found, f"it did not start: see {log}"
    return found[0].decode()


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
