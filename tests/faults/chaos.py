"""
Faults by chance, by a seed: everything is killed, frozen, restarted and cut off while clients order and watch.

A seed fixes which faults come, on what, and for how long. What they meet is left to the machine.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, get_args

from enhancer import crash
from tests.faults.checker import Facts
from tests.faults.clients import GONE, Order
from tests.faults.fleet import Fleet
from tests.faults.proxy import Proxy
from tests.faults.servers import FAST, IMMEDIATE
from tests.faults.stage import LEASE, Provider, Stage

USERS = 8
CANCELLED = 0.05  # of all orders, by their user
EVERY_VIDEO = 4  # one order of so many is a video
PAUSE = (0.3, 1.2)  # seconds between the beginnings of two faults
FROZEN = (0.3, 1.4 * LEASE)  # seconds; some outlast the lease, none the margin after which a call is taken for dead
AWAY = (0.0, 2.0)  # seconds that a server or a wire is away
SETTLE = 240.0  # seconds after the last fault by which everything has ended
CALLS, ORDERS = ("edits", "chat"), ("order", "look", "content")
RECIPES = ("429", "500", "503", "hang", "dropped", "truncated", "unread", "html", "empty")


class Fault(NamedTuple):
    """`target`: what it is done to, which suffers one fault at a time. `weight`: how often, beside the others."""

    name: str
    target: str
    weight: int
    act: Callable[[random.Random], Awaitable[None]]


class Chaos:
    """One run on a stage. `done` counts the faults by name."""

    def __init__(self, stage: Stage, *, seed: int, replicas: int, tasks: int, seconds: float) -> None:
        self.done: Counter[str] = Counter()
        self._stage = stage
        self._seed = seed
        self._tasks = tasks
        self._seconds = seconds
        self._names = [f"replica-{number}" for number in range(1, replicas + 1)]
        self._fleet = Fleet(stage, self._names, seed, self.done)

    async def run(self) -> Facts:
        """Break things for a time, mend them, wait for the end of all tasks; what is left then."""
        async with self._fleet.running():
            users = [await self._stage.user() for _ in range(USERS)]
            orders = asyncio.create_task(self._order_all(users))
            await self._break_things()
            await orders
            await self._stage.all_ended(seconds=SETTLE)
        return await self._stage.facts()

    # -- clients

    async def _order_all(self, users: Sequence[int]) -> None:
        """Orders over four fifths of the time, each by any of the users."""
        pause = 0.8 * self._seconds / self._tasks
        dice = self._dice("orders")
        uploads = []
        for number in range(self._tasks):
            order = Order(dice.choice(users), video=number % EVERY_VIDEO == 0)
            uploads.append(asyncio.create_task(self._order(order, cancels=dice.random() < CANCELLED)))
            await asyncio.sleep(pause)
        await asyncio.gather(*uploads)

    async def _order(self, order: Order, *, cancels: bool) -> None:
        task_id = await self._stage.clients.upload(order, seconds=self._seconds + SETTLE)
        self._stage.watch(order.user_id, task_id, video=order.video)
        if cancels:
            with suppress(*GONE):
                await self._stage.clients.cancel(order.user_id, task_id, video=order.video)

    # -- faults

    async def _break_things(self) -> None:
        """Begin a fault every moment; one whose target still suffers another comes after it."""
        faults, dice = self._faults(), self._dice("faults")
        weights = [fault.weight for fault in faults]
        last: dict[str, asyncio.Task[None]] = {}
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        while loop.time() < end:
            [fault] = dice.choices(faults, weights)
            self.done[fault.name] += 1
            act = self._act(fault, random.Random(dice.random()), after=last.get(fault.target))
            last[fault.target] = asyncio.create_task(act)
            await asyncio.sleep(dice.uniform(*PAUSE))
        await asyncio.gather(*last.values())

    async def _act(self, fault: Fault, dice: random.Random, *, after: asyncio.Task[None] | None) -> None:
        if after:
            await after
        await fault.act(dice)

    def _dice(self, purpose: str) -> random.Random:
        """A sequence for each purpose: how fast one thing goes must not change what becomes of another."""
        return random.Random(f"{self._seed} {purpose}")

    def _faults(self) -> list[Fault]:
        stage = self._stage
        wires = {"PostgreSQL": stage.postgres, "Redis": stage.redis, "provider": stage.wire}
        if stage.video_wire:
            wires["video server"] = stage.video_wire
        return [
            *(fault for name in self._names for fault in self._on_replica(name)),
            *(fault for name, proxy in wires.items() for fault in self._on_wire(name, proxy)),
            Fault("PostgreSQL fast restart", "PostgreSQL", 2, lambda dice: self._restart_postgres(dice, FAST)),
            Fault(
                "PostgreSQL immediate restart", "PostgreSQL", 2, lambda dice: self._restart_postgres(dice, IMMEDIATE)
            ),
            Fault("Redis kill -9", "Redis", 3, self._restart_redis),
            *(Fault(f"provider {name}", "provider", 1, self._spoil(stage.provider, CALLS, name)) for name in RECIPES),
            *(Fault(f"video server {name}", "videos", 1, self._spoil(stage.videos, ORDERS, name)) for name in RECIPES),
        ]

    def _on_replica(self, name: str) -> list[Fault]:
        return [
            Fault("replica kill -9", name, 3, lambda _: self._signal(name, signal.SIGKILL)),
            Fault("replica SIGTERM", name, 1, lambda _: self._signal(name, signal.SIGTERM)),
            Fault("replica dies at a point", name, 3, lambda dice: self._crash(dice, name)),
            Fault("replica frozen", name, 3, lambda dice: self._freeze(dice, name)),
        ]

    def _on_wire(self, name: str, proxy: Proxy) -> list[Fault]:
        return [
            Fault(f"wire to {name} slow", f"wire {name}", 1, lambda dice: self._disturb(dice, proxy, "slow")),
            Fault(f"wire to {name} reset", f"wire {name}", 1, lambda dice: self._disturb(dice, proxy, "reset")),
            Fault(f"wire to {name} swallows", f"wire {name}", 1, lambda dice: self._disturb(dice, proxy, "swallows")),
            Fault(f"wire to {name} refuses", f"wire {name}", 1, lambda dice: self._disturb(dice, proxy, "refuses")),
        ]

    async def _signal(self, name: str, number: signal.Signals) -> None:
        self._fleet.slots[name].program.send(number)

    async def _crash(self, dice: random.Random, name: str) -> None:
        self._fleet.crashes[name] = f"{dice.choice(get_args(crash.Point))}:{dice.randint(1, 3)}"
        self._fleet.slots[name].program.send(signal.SIGKILL)

    async def _freeze(self, dice: random.Random, name: str) -> None:
        program = self._fleet.slots[name].program
        program.send(signal.SIGSTOP)
        await asyncio.sleep(dice.uniform(*FROZEN))
        program.send(signal.SIGCONT)

    async def _restart_postgres(self, dice: random.Random, how: signal.Signals) -> None:
        await self._stage.site.postgres.stop(how)
        await asyncio.sleep(dice.uniform(*AWAY))
        await self._stage.site.postgres.start()

    async def _restart_redis(self, dice: random.Random) -> None:
        await self._stage.site.valkey.kill()
        await asyncio.sleep(dice.uniform(*AWAY))
        await self._stage.site.valkey.start()

    async def _disturb(self, dice: random.Random, proxy: Proxy, how: str) -> None:
        proxy.delay = 0.2 if how == "slow" else 0.0
        proxy.swallowing = how == "swallows"
        proxy.refusing = how == "refuses"
        if how in {"reset", "refuses"}:
            proxy.reset()
        await asyncio.sleep(dice.uniform(*AWAY))
        proxy.heal()

    def _spoil(
        self, provider: Provider, kinds: Sequence[str], recipe: str
    ) -> Callable[[random.Random], Awaitable[None]]:
        async def act(dice: random.Random) -> None:
            await provider.fail(dice.choice(kinds), recipe, times=dice.randint(1, 2))

        return act
