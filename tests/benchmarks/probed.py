"""
The command line with a probe in its event loop: how late it comes to what was due.

    python -m tests.benchmarks.probed serve ...      what follows SIGUSR1 is measured, SIGUSR2 prints it to LAG_FILE
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from enhancer import cli

EVERY = 0.01  # seconds


class Probe:
    """Samples how late a timer of EVERY seconds is served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._late: list[float] = []
        self._due = 0.0
        loop.add_signal_handler(signal.SIGUSR1, self._begin)
        loop.add_signal_handler(signal.SIGUSR2, self._tell)

    def _begin(self) -> None:
        self._late.clear()
        self._due = self._loop.time() + EVERY
        self._loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        now = self._loop.time()
        self._late.append(now - self._due)
        if self._due:
            self._due = now + EVERY
            self._loop.call_at(self._due, self._sample)

    def _tell(self) -> None:
        self._due = 0.0
        file = Path(os.environ["LAG_FILE"])
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(self._late))
        draft.rename(file)


def main() -> int:
    """Run the command line; the probe costs nothing until it is asked for."""
    make = asyncio.new_event_loop

    def probed() -> asyncio.AbstractEventLoop:
        loop = make()
        Probe(loop)
        return loop

    asyncio.events.new_event_loop = probed
    asyncio.runners.events.new_event_loop = probed  # type: ignore[attr-defined]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
