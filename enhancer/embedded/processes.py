"""Server processes: started apart from our terminal, known for ours before they are signalled, and stopped in time."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from enhancer.embedded.places import Account

log = logging.getLogger("enhancer.embedded")

PAUSE = 0.01  # seconds between two looks at a server that is starting or stopping


class Server(Protocol):
    """A server process of ours."""

    @property
    def pid(self) -> int: ...

    async def send(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""

    async def ended(self) -> None:
        """Wait for its end."""


@dataclass(frozen=True, slots=True)
class Child:
    """A server that this process started."""

    process: Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> None:
        await self.process.wait()


@dataclass(frozen=True, slots=True)
class Orphan:
    """
    A server that a crashed process left behind.

    `verify`: whether this process id still is that server; it is asked before every signal.
    """

    pid: int
    verify: Callable[[], Awaitable[bool]]

    async def send(self, number: signal.Signals) -> None:
        if await self.verify():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> None:
        while await self.verify():  # noqa: ASYNC110  a process that is not our child tells nobody of its end
            await asyncio.sleep(PAUSE)


async def spawn(
    *command: str | Path,
    output: int | IO[bytes],
    cwd: Path = Path("/"),
    account: Account | None = None,
    stdin: int | IO[bytes] = DEVNULL,
) -> Process:
    """
    A child in a session of its own, so that the terminal's Ctrl-C is ours alone to answer.

    It inherits nothing of our environment, where keys may be, nor of our groups when it runs as another user.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=output,
        stderr=STDOUT,
        cwd=cwd,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
        umask=0o077,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


async def finish(process: Process) -> int:
    """The exit code of a short-lived child; killed with all that it started when we are not to wait any longer."""
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def stop(server: Server, name: str, *ladder: tuple[signal.Signals, float]) -> None:
    """Signal a server and wait for its end; `ladder`: each next signal with the seconds that it is given."""
    for number, patience in ladder:
        await server.send(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await server.ended()
            log.info("embedded.stopped", extra={"server": name, "pid": server.pid})
            return
        log.warning("embedded.stop_slow", extra={"server": name, "pid": server.pid, "signal": number.name})


async def to_the_end(work: Coroutine[None, None, None]) -> None:
    """Await `work` in full though this task be cancelled meanwhile; the cancellation is raised after it."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def complaint(path: Path, start: int = 0) -> str:
    """What a server's log says from byte `start` on about why it ended: its last fatal line, else its last one."""
    text = path.read_bytes()[start:].decode(errors="replace") if path.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if re.search(r"FATAL|PANIC|error:", line)]
    return (fatal or lines or ["it wrote no log"])[-1]
