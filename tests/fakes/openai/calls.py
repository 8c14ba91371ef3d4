"""What the stand-in remembers of a call, and how a call can be held."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

GONE = 0.05  # seconds after which a caller that has gone is noticed

Kind = Literal["edits", "chat", "models", "unknown"]


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call, from its headers to its answer.

    `started` and `ended`: Unix time, seconds. `status`: None when no answer was sent. `fields`: what came in, images
    as their sizes. `outcome`: "answered", "rejected" (a wrong request), "broken" (the caller went away before its
    request was read), or the fault's name. `billed`: whether a real provider would have charged for it; a caller
    that went away meanwhile changes nothing. `port`: the caller's; calls that share one shared a connection.
    """

    kind: Kind
    started: float
    ended: float
    outcome: str
    status: int | None
    model: str
    fields: Mapping[str, str]
    billed: bool
    port: int


class Arrivals:
    """Counts the calls of a kind that have been read and found right."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Condition()

    async def add(self) -> None:
        async with self._changed:
            self.count += 1
            self._changed.notify_all()

    async def reach(self, count: int) -> None:
        async with self._changed, asyncio.timeout(60):
            await self._changed.wait_for(lambda: self.count >= count)


class Hold:
    """Calls that wait until they are let go."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._before = arrivals.count
        self._released = asyncio.Event()

    async def arrived(self, count: int = 1) -> None:
        """Return when `count` calls have come since the hold began; they are read, checked, and not yet answered."""
        await self._arrivals.reach(self._before + count)

    def release(self) -> None:
        """Let them all go, and those that come later."""
        self._released.set()

    async def wait(self, request: web.Request) -> None:
        """Until it is let go; who has hung up waits no longer."""
        await waited(self._released, request)


async def waited(event: asyncio.Event, request: web.Request) -> None:
    """Return when the event is set or the caller has gone, so that the record tells how long its call lasted."""
    while not event.is_set() and request.transport is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), GONE)
