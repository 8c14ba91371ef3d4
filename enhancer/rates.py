"""
Rates: who asks how often, counted over all replicas in Redis.

What this process alone has counted stands beside it, and goes on alone while Redis is away, slow or frozen: a limit
costs a request a fraction of a second at worst, and never its answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from limits.aio.storage import RedisStorage
from limits.errors import StorageError

from enhancer.errors import TooManyRequests

log = logging.getLogger(__name__)

PATIENCE = 0.1  # seconds that Redis may take to count
REST = 1.0  # seconds of counting alone after Redis failed
AT_ONCE = 16  # connections to Redis at most; whoever waits for one loses patience, too
MANY = 100_000  # callers that are counted here at once; beyond, the counting begins anew

AWAY = (StorageError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Rule:
    """How many in how many `seconds`; an `amount` of 0 sets no limit."""

    name: str
    amount: int
    seconds: int = 60


@dataclass(frozen=True, slots=True)
class Spent:
    """What is left of a rule's amount, which may be less than nothing; `reset`: seconds until it is whole again."""

    rule: Rule
    left: int
    reset: float

    def check(self) -> None:
        """Raises TooManyRequests when nothing was left for this request."""
        if self.left < 0:
            raise TooManyRequests(retry_after=math.ceil(self.reset))


class Rates:
    """Counts in windows that begin for everybody at the same time: one round trip then tells all that answers say."""

    def __init__(self, url: str) -> None:
        self._redis = RedisStorage(
            _scheme(url),
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="enhancer:rates",
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
        )
        self._free = asyncio.Semaphore(AT_ONCE)
        self._resting_until = 0.0
        self._here: Counter[str] = Counter()
        self._windows: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Rates]:
        """Rates over the Redis at `url`, which need not be there."""
        rates = cls(url)
        try:
            yield rates
        finally:
            await rates._redis.bridge.get_connection().aclose()  # type: ignore[attr-defined]

    async def spend(self, rule: Rule, who: str) -> Spent | None:
        """Count one more of `who`; None when the rule sets no limit."""
        if not rule.amount:
            return None
        now = time.time()
        window = int(now // rule.seconds)
        key = f"{rule.name}:{who}"
        count = self._count_here(key, window)
        if count <= rule.amount:  # else a flood: Redis has nothing to add
            count = await self._count_together(f"{key}:{window}", rule.seconds) or count
        return Spent(rule, rule.amount - count, (window + 1) * rule.seconds - now)

    def _count_here(self, key: str, window: int) -> int:
        if len(self._here) > MANY:
            self._here.clear()
            self._windows.clear()
        if self._windows.get(key) != window:
            self._windows[key] = window
            self._here[key] = 0
        self._here[key] += 1
        return self._here[key]

    async def _count_together(self, key: str, seconds: int) -> int:
        """The count of all replicas; 0 when it cannot be had."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._resting_until:
            return 0
        try:
            async with asyncio.timeout(PATIENCE), self._free:
                return await self._redis.incr(key, 2 * seconds)
        except AWAY as error:
            self._resting_until = loop.time() + REST
            log.warning("rates.unreachable", extra={"error": type(error).__name__})
            return 0


def _scheme(url: str) -> str:
    """The library's form of a Redis address."""
    return f"async+redis+{url}" if url.startswith("unix:") else f"async+{url}"
