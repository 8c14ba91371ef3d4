"""Replicas that are started again whenever they end, as their containers would be."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.patience import until
from tests.faults.stage import Replica, Stage

RESTARTED = (0.0, 1.0)  # seconds after which a dead replica is started again


@dataclass
class Fleet:
    """`slots`: by name, the replica that was started last. `crashes`: where the next one of a name shall die."""

    stage: Stage
    names: Sequence[str]
    seed: object
    done: Counter[str] = field(default_factory=Counter)
    slots: dict[str, Replica] = field(default_factory=dict)
    crashes: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of them answer when the block begins, and are kept running while it lasts."""
        keepers = [asyncio.create_task(self._keep(name)) for name in self.names]
        try:
            await until(lambda: len(self.slots) == len(self.names), "all replicas answer", seconds=120)
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, name: str) -> None:
        dice = random.Random(f"{self.seed} {name}")
        while True:
            try:
                self.slots[name] = await self.stage.replica(name, crash_at=self.crashes.pop(name, ""))
            except AssertionError:
                if self.stage.latest(name).program.code is None:
                    raise
                self.done["died while it started"] += 1
            else:
                await self.slots[name].program.ended(seconds=math.inf)
            await asyncio.sleep(dice.uniform(*RESTARTED))
