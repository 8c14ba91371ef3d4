"""
What an operator would try, each on a site of its own; `python -m tests.faults --trial NAME` runs one at full length.

A trial asserts what it is about, and returns what is left of the run for the checker. Its docstring says what must
come of it. What was done is counted by name in `Trial.done`.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from tests.faults import evidence
from tests.faults.checker import FINAL, Facts
from tests.faults.clients import Order
from tests.faults.fleet import Fleet
from tests.faults.patience import until_found
from tests.faults.servers import FAST, IMMEDIATE, Bucket
from tests.faults.stage import Replica, Site, Stage

USERS = 20
REPLICAS = ("replica-1", "replica-2")
SETTLE = 300.0  # seconds after the trouble by which everything has ended
DISK = 8_000_000  # bytes of the small disk


@dataclass
class Trial:
    """How much is tried: `tasks` in all, `seconds` of trouble; `seed` fixes what is left to chance."""

    site: Site
    tasks: int
    seconds: float
    seed: int = 7
    done: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def stage(self, **settings: object) -> AsyncIterator[Stage]:
        """A stage on which calls that take their time are not taken for dead."""
        async with Stage.open(self.site, delay=0.1, videos=False, **{"call_timeout": 20, **settings}) as stage:
            yield stage


async def kills(trial: Trial) -> Facts:
    """
    One replica or the other is killed every two seconds, and PostgreSQL restarts four times, while tasks go through.

    All reach a final state; nothing finished is called again, and every second bill is a recorded ambiguity.
    """
    async with trial.stage(call_timeout=5) as stage:
        dice = random.Random(trial.seed)
        fleet = Fleet(stage, REPLICAS, trial.seed, trial.done)
        async with fleet.running():
            users = await crowd(stage)
            orders = asyncio.create_task(ordered(stage, users, trial.tasks, over=trial.seconds * 0.8))
            restarts = asyncio.create_task(_restarts(trial, dice, times=4))
            for _ in range(round(trial.seconds / 2)):
                await asyncio.sleep(2)
                fleet.slots[dice.choice(REPLICAS)].program.send(signal.SIGKILL)
                trial.done["replica kill -9"] += 1
            await asyncio.gather(orders, restarts)
            await stage.all_ended(seconds=SETTLE)
        return await stage.facts()


async def redis(trial: Trial) -> Facts:
    """Redis is stopped in the middle of watched tasks: no client misses or repeats an event."""
    valkey = trial.site.valkey
    return await _without_redis(trial, valkey.kill, valkey.start)


async def redis_frozen(trial: Trial) -> Facts:
    """The same with a Redis that hangs: tasks go on meanwhile, as no publisher is held for long."""
    valkey = trial.site.valkey

    async def freeze() -> None:
        valkey.freeze()

    async def thaw() -> None:
        valkey.thaw()

    return await _without_redis(trial, freeze, thaw)


async def sigterm(trial: Trial) -> Facts:
    """Under load, every replica ends within its grace time and charges no attempt; the next start goes on."""
    grace = 5
    async with trial.stage(shutdown_grace=grace) as stage:
        stopped = await asyncio.gather(*(stage.replica() for _ in REPLICAS))
        await ordered(stage, await crowd(stage), trial.tasks, over=0)
        await _some_ended(stage, trial.tasks // 10)
        for replica in stopped:
            replica.program.send(signal.SIGTERM)
        # ten seconds more for what is closed after the grace time, on a machine that is busy
        codes = await asyncio.gather(*(replica.program.ended(seconds=grace + 10) for replica in stopped))
        assert codes == [0] * len(stopped)
        left = [row for row in await _rows(stage) if row["status"] not in FINAL]
        assert {(row["status"], row["attempts"]) for row in left} == {("pending", 0)}
        trial.done["replica SIGTERM"] += len(stopped)
        trial.done["tasks that were given back or waited"] += len(left)
        await asyncio.gather(*(stage.replica() for _ in REPLICAS))
        await stage.all_ended(seconds=SETTLE)
        facts = await stage.facts()
        assert {task.status for task in facts.tasks} == {"completed"}
        return facts


async def postgres(trial: Trial) -> Facts:
    """PostgreSQL is away: 503, not ready, no call starts. It is back: everything goes on, without a restart."""
    server = trial.site.postgres
    async with trial.stage(lease=60) as stage:
        replicas = await asyncio.gather(*(stage.replica() for _ in REPLICAS))
        await ordered(stage, await crowd(stage), trial.tasks, over=0)
        await _some_ended(stage, trial.tasks // 10)
        await server.stop()
        trial.done["PostgreSQL stopped"] += 1
        await until_found(lambda: _quiet(stage), "the calls in flight are over", seconds=60)
        before = len(stage.provider.calls())
        ended = asyncio.get_running_loop().time() + trial.seconds
        while asyncio.get_running_loop().time() < ended:
            for replica in replicas:
                assert await _status(stage, replica, "/readyz") == 503
                assert await _status(stage, replica, "/healthz") == 200
            assert (await stage.clients.post(Order(1)))[0] == 503
            trial.done["uploads answered by 503"] += 1
            await asyncio.sleep(0.5)
        assert len(stage.provider.calls()) == before
        await server.start()
        await stage.all_ended(seconds=SETTLE)
        assert [replica.program.code for replica in replicas] == [None] * len(replicas)
        facts = await stage.facts()
        assert {task.status for task in facts.tasks} == {"completed"}
        return facts


async def disk(trial: Trial) -> Facts:
    """
    The disk is full: an upload is told so and leaves nothing, and a paid image is kept and saved when there is room.

    Needs root, for a small disk.
    """
    async with trial.stage() as stage, _small_disk(stage.store):
        user = await stage.user()
        replica = await stage.replica(workers=1)
        await stage.provider.hold("edits")
        task = await stage.task(user)
        await stage.provider.arrived("edits")
        before = await stage.stored()
        _fill(stage.store / "filler")
        for _ in range(trial.tasks):
            status, body = await stage.clients.post(Order(await stage.user()))
            assert (status, body["code"]) == (503, "storage_unavailable"), body
            trial.done["uploads answered by 503"] += 1
        assert await stage.stored() == before | {"filler"}, "nothing half-written"
        await stage.provider.release("edits")
        await replica.program.said(r"storage\.unreachable")
        await asyncio.sleep(trial.seconds)
        assert (await stage.row(task))["status"] == "processing"
        (stage.store / "filler").unlink()
        await stage.task()
        await stage.all_ended(seconds=SETTLE)
        facts = await stage.facts()
        assert [task.status for task in facts.tasks] == ["completed"] * 2
        assert Counter(call.step for call in facts.calls if call.billed) == {"redraw": 2, "write": 2}
        return facts


async def s3(trial: Trial) -> Facts:
    """
    Two replicas with an object store that hangs for a while, in the middle of uploads and of paid calls.

    An upload is answered in bounded time; what was paid for is stored once the store answers. Needs moto's server.
    """
    async with trial.stage() as stage, Bucket.open(stage.folder, trial.site.watchdog, stage.http) as bucket:
        stage.bucket = bucket
        stage.settings |= bucket.settings
        await asyncio.gather(*(stage.replica() for _ in REPLICAS))
        await stage.provider.hold("edits")
        await ordered(stage, await crowd(stage), trial.tasks, over=0)
        await stage.provider.arrived("edits", min(trial.tasks, 8))
        bucket.proxy.swallowing = True
        await stage.provider.release("edits")
        users = [await stage.user() for _ in range(4)]
        refused = await asyncio.gather(*(stage.clients.post(Order(user), seconds=60) for user in users))
        assert {(status, body["code"]) for status, body in refused} == {(503, "storage_unavailable")}
        trial.done["uploads answered by 503"] += len(refused)
        await asyncio.sleep(trial.seconds)
        bucket.proxy.heal()
        await ordered(stage, await crowd(stage), 4, over=0)
        await stage.all_ended(seconds=SETTLE)
        facts = await stage.facts()
        assert {task.status for task in facts.tasks} == {"completed"}
        assert {call.step for call in facts.calls if call.billed} == {"redraw", "write"}
        return facts


Run = Callable[[Trial], Awaitable[Facts]]

TRIALS: dict[str, tuple[Run, int, float]] = {
    "kills": (kills, 200, 60),
    "redis": (redis, 100, 20),
    "redis-frozen": (redis_frozen, 100, 20),
    "sigterm": (sigterm, 60, 0),
    "postgres": (postgres, 60, 20),
    "disk": (disk, 5, 20),
    "s3": (s3, 20, 20),
}
"""By name: what is run, with how many tasks, for how many seconds."""


async def crowd(stage: Stage) -> list[int]:
    """The ids of new users."""
    return [await stage.user() for _ in range(USERS)]


async def ordered(stage: Stage, users: Iterable[int], tasks: int, *, over: float) -> list[int]:
    """So many accepted and watched tasks, ordered within `over` seconds by users who take turns."""

    async def order(user_id: int) -> int:
        task_id = await stage.clients.upload(Order(user_id), seconds=over + SETTLE)
        stage.watch(user_id, task_id)
        return task_id

    uploads = []
    for user, _ in zip(cycle(users), range(tasks), strict=False):
        uploads.append(asyncio.create_task(order(user)))
        await asyncio.sleep(over / tasks)
    return await asyncio.gather(*uploads)


async def _restarts(trial: Trial, dice: random.Random, *, times: int) -> None:
    for number in range(times):
        await asyncio.sleep(trial.seconds / (times + 1) * dice.uniform(0.7, 1.0))
        how = (FAST, IMMEDIATE)[number % 2]
        await trial.site.postgres.restart(how)
        trial.done[f"PostgreSQL restart by {how.name}"] += 1


async def _without_redis(
    trial: Trial, take_away: Callable[[], Awaitable[None]], bring_back: Callable[[], Awaitable[None]]
) -> Facts:
    async with trial.stage(lease=60) as stage:
        await asyncio.gather(*(stage.replica() for _ in REPLICAS))
        await ordered(stage, await crowd(stage), trial.tasks, over=0)
        await _some_ended(stage, trial.tasks // 10)
        await take_away()
        try:
            before = await _count_ended(stage)
            await _some_ended(stage, before + 1)
            await asyncio.sleep(trial.seconds)
            trial.done["tasks that ended without Redis"] += await _count_ended(stage) - before
        finally:
            await bring_back()
        await ordered(stage, await crowd(stage), max(trial.tasks // 10, 1), over=0)
        await stage.all_ended(seconds=SETTLE)
        facts = await stage.facts()
        assert {task.status for task in facts.tasks} == {"completed"}
        assert {task.attempts for task in facts.tasks} == {1}
        return facts


async def _rows(stage: Stage) -> Iterable[dict[str, object]]:
    async with evidence.connected(stage.url) as connection:
        return [dict(row) for row in await connection.fetch("SELECT * FROM tasks")]


async def _count_ended(stage: Stage) -> int:
    return sum(row["status"] in FINAL for row in await _rows(stage))


async def _some_ended(stage: Stage, count: int) -> None:
    async def look() -> bool:
        return await _count_ended(stage) >= count

    await until_found(look, f"{count} tasks have ended", seconds=SETTLE)


async def _quiet(stage: Stage) -> bool:
    """Whether no call has ended for longer than a call takes."""
    before = len(stage.provider.calls())
    await asyncio.sleep(1)
    return len(stage.provider.calls()) == before


async def _status(stage: Stage, replica: Replica, path: str) -> int:
    async with stage.http.get(f"{replica.address}{path}") as answer:
        return answer.status


@asynccontextmanager
async def _small_disk(folder: Path) -> AsyncIterator[None]:
    """A tmpfs of DISK bytes at a folder."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        yield
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "--lazy", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
