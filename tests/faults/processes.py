"""Programs of a run: known by their process ids, ended here, whatever becomes of the harness."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.faults.patience import until

ROOT = Path(__file__).parents[2]


class Watchdog:
    """A process that ends what it was told of when this one is gone, or leaves the block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.watchdog"], cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def watch(self, pid: int) -> None:
        """See to the end of this process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{pid}\n".encode())
        self._process.stdin.flush()


class Program:
    """A Python program of ours, `python -m MODULE`; what it prints is in its log."""

    def __init__(self, module: str, *arguments: str, log: Path, watchdog: Watchdog, **environment: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={"PATH": os.defpath, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        watchdog.watch(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; a signal's number is negative. None: it runs."""
        return self._process.poll()

    @property
    def frozen(self) -> bool:
        """Whether it is stopped, by a SIGSTOP."""
        return self.code is None and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.code is None:
            self._process.send_signal(number)

    async def said(self, pattern: str, *, seconds: float = 60.0) -> re.Match[str]:
        """The first match in its log. Raises AssertionError when it ends before."""

        def look() -> re.Match[str] | None:
            ended = self.code
            found = re.search(pattern, self.text())
            assert found or ended is None, f"{self.log.name} ended with {ended}:\n{self.text()[-2000:]}"
            return found

        return await until(look, f"{pattern!r} in {self.log.name}", seconds=seconds)

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    async def ended(self, *, seconds: float = 60.0) -> int:
        """Its exit code, once it has ended."""
        await until(lambda: self.code is not None, f"the end of {self.log.name}", seconds=seconds)
        return self._process.wait()

    async def end(self, number: signal.Signals, *, seconds: float = 60.0) -> int:
        """Signal it and wait for its end."""
        self.send(number)
        return await self.ended(seconds=seconds)

    async def kill(self) -> None:
        """kill -9."""
        await self.end(signal.SIGKILL)
