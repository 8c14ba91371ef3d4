"""How failures are met: limits, pauses, and how long a statement may be tried."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TypeVar

from enhancer.domain.tasks import Kind
from enhancer.pipeline.plans import Job
from enhancer.storage.database import patiently

T = TypeVar("T")

LONGEST_PAUSE = 300.0  # seconds between two attempts at most, unless the provider asks for more
PATIENCE = 300.0  # seconds that a finished piece of work waits for PostgreSQL or the store to come back
LAST_WORDS = 3.0  # seconds that a task which is cancelled may take to record what must not be lost


@dataclass(frozen=True, slots=True)
class Policy:
    """
    How failures are met.

    `time_limits` and `retry_delay` in seconds; `repeats`: how often a paid call of unknown outcome is made again.
    """

    time_limits: Mapping[Kind, float]
    retry_delay: float
    repeats: int

    def pause(self, attempt: int, asked: float | None) -> float:
        """Seconds: doubled each time, a quarter more or less by chance, never less than the provider asked for."""
        pause = min(self.retry_delay * 2.0 ** (attempt - 1), LONGEST_PAUSE)
        return max(pause * random.uniform(0.75, 1.25), asked or 0.0)  # noqa: S311

    async def patiently(self, job: Job, statement: Callable[[], Awaitable[T]]) -> T:
        """What the statement brings, tried for as long as a task of the kind may take."""
        return await patiently(statement, seconds=self.time_limits[job.task.kind])


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """What `work` returns; cancelled meanwhile, it has LAST_WORDS seconds more before the cancellation is raised."""
    running = asyncio.create_task(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running], timeout=LAST_WORDS)
        raise
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
