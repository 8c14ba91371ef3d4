"""
What a task lets its watchers see while a step runs: drafts of an image, words of a script.

It passes: no number, no row. Whatever goes wrong with it is nobody's business but the log's, and no step waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from enhancer.bus import Bus
from enhancer.domain.tasks import encode

log = logging.getLogger(__name__)

PAUSE = 0.3  # seconds between two of a task at least; the last words of a step may come sooner
MOST = 4  # in any second of a task
LAST_LOOK = 0.1  # seconds that a step waits at its end for what is still to be shown

Payload = Mapping[str, object] | Callable[[], Awaitable[Mapping[str, object]]]
"""The data of a named event, or what makes it: called only when its turn comes."""


class Screen:
    """Shows the latest of each kind, at most MOST a second by the clock, to whoever watches the channel."""

    def __init__(self, bus: Bus, channel: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._channel = channel
        self._now = clock
        self._next: dict[str, Payload] = {}
        self._wanted = asyncio.Event()
        self._recent = deque[float](maxlen=MOST)

    def show(self, kind: str, payload: Payload) -> None:
        """Let it be seen, unless something newer of its kind comes before its turn. Outside `lit` nothing is seen."""
        self._next[kind] = payload
        self._wanted.set()

    @asynccontextmanager
    async def lit(self, after: int) -> AsyncIterator[None]:
        """
        Show things within the block; afterwards they are forgotten. `after`: the number of the task's last event.

        What is shown belongs to the moment between two events, so the next one puts it out wherever it is kept.
        """
        showing = asyncio.create_task(self._show_all(after), name=f"screen {self._channel}")
        try:
            yield
            await _ended(showing)
            await self._say_last(after)
        finally:
            await _ended(showing)
            self._next.clear()
            await self._quickly(self._bus.forget(self._channel))

    async def _show_all(self, after: int) -> None:
        while True:
            await self._wanted.wait()
            if self._recent:
                await asyncio.sleep(max(self._free_at() - self._now(), 0))
            self._wanted.clear()
            for kind, payload in list(self._next.items()):
                await self._show_one(kind, payload, after)
                if self._next.get(kind) is payload:
                    del self._next[kind]

    async def _show_one(self, kind: str, payload: Payload, after: int) -> None:
        self._recent.append(self._now())
        try:
            data = await payload() if callable(payload) else payload
            told = {"event": kind, "after": after, "data": {**data, "timestamp": round(time.time(), 3)}}
            await self._bus.show(self._channel, kind, encode(told))
        except Exception as error:
            log.warning("show.failed", extra={"channel": self._channel, "error": type(error).__name__})

    async def _say_last(self, after: int) -> None:
        """What is at hand when the step ends; what would have to be made first comes too late."""
        full = len(self._recent) == MOST and self._now() - self._recent[0] < 1
        for kind, payload in self._next.items():
            if not full and not callable(payload):
                await self._quickly(self._show_one(kind, payload, after))

    def _free_at(self) -> float:
        """When the next may be shown, by the monotonic clock."""
        full = self._recent[0] + 1 if len(self._recent) == MOST else 0.0
        return max(self._recent[-1] + PAUSE, full)

    @staticmethod
    async def _quickly(work: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(LAST_LOOK):
                await work
        except TimeoutError:
            pass


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel it until it has ended: clients may lose a cancellation that comes as they finish."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=LAST_LOOK)
