"""Waiting for what must come, with an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LOOK = 0.02  # seconds between two looks


async def until(condition: Callable[[], T | None], what: str, *, seconds: float = 60.0) -> T:
    """The first true value of `condition`. Raises AssertionError that says `what` did not come in time."""

    async def look() -> T | None:
        return condition()

    return await until_found(look, what, seconds=seconds)


async def until_found(look: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = 60.0) -> T:
    """The same for a look that has to be awaited."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (found := await look()):
        assert loop.time() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(LOOK)
    return found
