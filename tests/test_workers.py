"""The pool of workers: who gets which task, for how long, and what is left when it stops."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

import pytest

from enhancer.domain.accounts import User
from enhancer.domain.tasks import Event, Kind, Lease, Status, Task
from enhancer.pipeline.orders import WAKE
from enhancer.settings import Settings
from enhancer.storage import tasks
from enhancer.storage.database import Pool
from enhancer.workers import Terms, Workers
from tests.pipeline.watching import blocked, claimed, ended, eventually, listening, reached
from tests.pipeline.workshop import newcomer, opened, order

TIME_LIMITS = {Kind.ENHANCEMENT: 600.0}


class Runs:
    """What the workers are given to run: it begins, waits until it may end, and finishes the task."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._may_end: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.begun: list[Lease] = []
        self.running: set[Lease] = set()
        self.most = 0
        self.abandoned: list[Task] = []

    async def run(self, lease: Lease) -> None:
        """Work on a task."""
        self.begun.append(lease)
        self.running.add(lease)
        self.most = max(self.most, len(self.running))
        try:
            await self._may_end[lease.task.id].wait()
            await self._finish(lease.task, Status.COMPLETED)
        finally:
            self.running.discard(lease)

    async def abandon(self, task: Task) -> None:
        """Give up a task."""
        self.abandoned.append(task)
        await self._finish(task, Status.FAILED)

    def let_end(self, *ended: Task) -> None:
        """These may end."""
        for task in ended:
            self._may_end[task.id].set()

    async def began(self, count: int) -> list[int]:
        """The ids of the tasks in the order in which they were begun, once there are so many."""

        async def look() -> bool:
            return len(self.begun) >= count

        await eventually(look)
        return [lease.task.id for lease in self.begun]

    async def _finish(self, task: Task, status: Status) -> None:
        error = ("internal", "") if status is Status.FAILED else None
        event = Event(task.last_seq + 1, "{}")
        await tasks.finish(self._pool, task, event, status, progress=0, message="", output={}, error=error)


@pytest.fixture
def runs(pool: Pool) -> Runs:
    return Runs(pool)


@pytest.fixture
async def user(pool: Pool) -> User:
    return await newcomer(pool)


@pytest.fixture
async def other(pool: Pool) -> User:
    return await newcomer(pool)


def terms(name: str = "here", **over: object) -> Terms:
    usual: dict[str, object] = {"per_user": 9, "lease": 60.0, "poll": 0.05, "grace": 5.0}
    sizes = {Kind.ENHANCEMENT: over.pop("size", 2)}
    return Terms(name=name, time_limits=TIME_LIMITS, **{**usual, "sizes": sizes, **over})  # type: ignore[arg-type]


@asynccontextmanager
async def working(pool: Pool, runs: Runs, name: str = "here", **over: object) -> AsyncIterator[Workers]:
    """Workers at work."""
    workers = Workers(pool, terms(name, **over), runs.run, runs.abandon)
    async with workers.working():
        yield workers


async def add(pool: Pool, user: User, count: int = 1) -> list[Task]:
    """Tasks that wait."""
    added = [await tasks.insert(pool, user.id, Kind.ENHANCEMENT, {}, max_attempts=4) for _ in range(count)]
    return [task for task in added if task]


async def leased(pool: Pool) -> list[int]:
    """The tasks in workers' hands."""
    rows = await pool.fetch("SELECT id FROM tasks WHERE status = 'processing' ORDER BY id")
    return [row["id"] for row in rows]


# claiming


async def test_no_more_is_leased_than_there_are_workers(pool: Pool, runs: Runs, user: User) -> None:
    added = await add(pool, user, 7)
    async with working(pool, runs, size=3):
        for task in added:
            await runs.began(min(7, task.id - added[0].id + 3))
            assert len(await leased(pool)) <= 3
            runs.let_end(task)
            await ended(pool, task)
    assert runs.most == 3
    assert len(runs.begun) == 7


async def test_tasks_are_begun_in_their_order(pool: Pool, runs: Runs, user: User) -> None:
    added = await add(pool, user, 5)
    runs.let_end(*added)
    async with working(pool, runs, size=1):
        assert await runs.began(5) == [task.id for task in added]
        await ended(pool, added[-1])


async def test_a_user_with_one_task_comes_before_the_rest_of_a_user_with_many(
    pool: Pool, runs: Runs, user: User, other: User
) -> None:
    many = await add(pool, user, 50)
    async with working(pool, runs, size=2, grace=0):
        await runs.began(2)
        [single] = await add(pool, other)
        runs.let_end(many[0])
        assert (await runs.began(3))[2] == single.id


async def test_a_user_has_no_more_running_than_allowed_over_all_replicas(
    pool: Pool, runs: Runs, user: User, other: User
) -> None:
    of_user, of_other = await add(pool, user, 6), await add(pool, other, 1)
    async with AsyncExitStack() as stack:
        for name in ("a", "b", "c"):
            await stack.enter_async_context(working(pool, runs, name, size=4, per_user=2))
        runs.let_end(*of_other)
        for number, task in enumerate(of_user):
            await runs.began(min(7, number + 3))
            owners = await pool.fetch("SELECT user_id FROM tasks WHERE status = 'processing'")
            assert [row["user_id"] for row in owners].count(user.id) <= 2
            runs.let_end(task)
            await ended(pool, task)


async def test_a_task_that_was_accepted_elsewhere_is_claimed_when_the_bell_rings(
    settings: Settings, pool: Pool
) -> None:
    far = {"poll_interval": 600.0}
    front_settings = settings.model_copy(update={**far, "replica": "front", "workers": 0})
    back_settings = settings.model_copy(update={**far, "replica": "back"})
    async with opened(front_settings) as front, opened(back_settings) as back:
        assert await back.service.bus.confirmed(WAKE, seconds=60)
        task = await ended(pool, await order(front))
    assert task.status is Status.COMPLETED
    assert task.started_at is not None
    assert (task.started_at - task.created_at).total_seconds() < 60


async def test_a_worker_that_becomes_idle_looks_for_work_at_once(pool: Pool, runs: Runs, user: User) -> None:
    added = await add(pool, user, 3)
    runs.let_end(*added)
    async with working(pool, runs, size=1, poll=600.0):
        await runs.began(3)
        await ended(pool, added[-1])


async def test_a_service_without_workers_claims_nothing(settings: Settings, pool: Pool) -> None:
    async with opened(settings.model_copy(update={"workers": 0})) as front:
        task = await order(front)
        assert not {"_feed", "_reap", "_beat", "enhancement-0"} & {
            running.get_name() for running in asyncio.all_tasks()
        }
    assert (await reached(pool, task, lambda _: True)).status is Status.PENDING


# leases


async def test_a_long_task_keeps_its_lease(pool: Pool, runs: Runs, user: User) -> None:
    [task] = await add(pool, user)
    async with working(pool, runs, lease=0.3):
        await runs.began(1)
        first = await pool.fetchval("SELECT lease_until FROM tasks")

        async def outlived() -> bool:
            return bool(await pool.fetchval("SELECT now() > $1::timestamptz + interval '0.3 s' FROM tasks", first))

        await eventually(outlived)
        assert await tasks.reap(pool) == 0
        runs.let_end(task)
        task = await ended(pool, task)
    assert (task.fence, task.attempts) == (1, 1)


async def test_a_lease_is_not_renewed_for_ever(pool: Pool, runs: Runs, user: User) -> None:
    [task] = await add(pool, user)
    async with working(pool, runs, lease=0.2, size=1, grace=0):
        await runs.began(1)
        await pool.execute("UPDATE tasks SET deadline_at = now() - interval '1 s'")
        await reached(pool, task, lambda found: found.status is Status.PENDING)


async def test_a_lease_that_another_has_taken_is_noticed(pool: Pool, runs: Runs, user: User) -> None:
    [task] = await add(pool, user)
    with listening() as log:
        async with working(pool, runs, lease=0.3, grace=0):
            await runs.began(1)
            await pool.execute("UPDATE tasks SET fence = fence + 1, worker = 'another'")
            lost = await log.says("lease.lost")
    assert vars(lost)["tasks"] == [task.id]


async def test_a_cancel_request_comes_with_the_heartbeat(pool: Pool, runs: Runs, user: User) -> None:
    [task] = await add(pool, user)
    async with working(pool, runs, lease=0.3):
        await runs.began(1)
        await pool.execute("UPDATE tasks SET cancel_requested_at = now()")

        async def cancelled() -> bool:
            return runs.begun[0].cancelled

        await eventually(cancelled)
        runs.let_end(task)


async def test_the_end_of_a_lost_task_does_not_end_the_lease_of_its_successor(pool: Pool, user: User) -> None:
    """A task that is lost, and comes back to the same process while its first worker still goes on."""
    begun, first_may_end = list[Lease](), asyncio.Event()

    async def run(lease: Lease) -> None:
        begun.append(lease)
        await (first_may_end if len(begun) == 1 else asyncio.Event()).wait()

    async def renewed(since: datetime) -> bool:
        return bool(await pool.fetchval("SELECT lease_until > $1::timestamptz + interval '0.3 s' FROM tasks", since))

    [task] = await add(pool, user)
    workers = Workers(pool, terms(lease=0.3, grace=0.0), run, Runs(pool).abandon)
    async with workers.working():
        await eventually(lambda: _count(begun, 1))
        await pool.execute("UPDATE tasks SET status = 'pending', lease_until = NULL, worker = NULL")
        await eventually(lambda: _count(begun, 2))
        first_may_end.set()
        since = await pool.fetchval("SELECT lease_until FROM tasks")
        await eventually(lambda: renewed(since))
        assert await leased(pool) == [task.id]
    assert [lease.task.fence for lease in begun] == [1, 2]


async def _count(begun: list[Lease], wanted: int) -> bool:
    return len(begun) >= wanted


# those who died


async def test_what_a_former_life_of_this_replica_held_is_taken_up_at_once(pool: Pool, runs: Runs, user: User) -> None:
    mine, foreign = await add(pool, user, 2)
    assert (await claimed(pool, "here")).id == mine.id
    assert (await claimed(pool, "there")).id == foreign.id
    runs.let_end(mine, foreign)
    async with working(pool, runs):
        task = await ended(pool, mine)
        assert await leased(pool) == [foreign.id]
    assert (task.fence, task.attempts) == (2, 2)


async def test_what_a_dead_replica_held_is_taken_up_when_its_lease_has_run_out(
    pool: Pool, runs: Runs, user: User
) -> None:
    [task] = await add(pool, user)
    await claimed(pool, "there", lease=0.2)
    runs.let_end(task)
    async with working(pool, runs, lease=0.4):
        task = await ended(pool, task)
    assert (task.fence, task.attempts) == (2, 2)


async def test_a_task_that_ends_its_process_each_time_is_given_up_and_others_are_not(
    pool: Pool, runs: Runs, user: User
) -> None:
    deadly, harmless = await add(pool, user, 2)
    runs.let_end(harmless)
    for name in ("a", "b", "c", "d"):
        assert (await claimed(pool, name, lease=0)).id == deadly.id
        assert await tasks.reap(pool) == 1
        await pool.execute("UPDATE tasks SET run_at = created_at")
    async with working(pool, runs):
        given_up, finished = await ended(pool, deadly), await ended(pool, harmless)
    assert (given_up.status, given_up.attempts) == (Status.FAILED, 4)
    assert [task.id for task in runs.abandoned] == [deadly.id]
    assert finished.status is Status.COMPLETED


async def test_a_worker_outlives_a_fault_in_what_it_runs(pool: Pool, runs: Runs, user: User) -> None:
    faulty, sound = await add(pool, user, 2)
    runs.let_end(sound)

    async def run(lease: Lease) -> None:
        if lease.task.id == faulty.id:
            raise RuntimeError("a fault")
        await runs.run(lease)

    workers = Workers(pool, terms(size=1, lease=0.2), run, runs.abandon)
    async with workers.working():
        assert (await ended(pool, sound)).status is Status.COMPLETED
        given_up = await ended(pool, faulty)
    assert (given_up.status, given_up.attempts) == (Status.FAILED, 4)


# the stop


@asynccontextmanager
async def stopping(stack: AsyncExitStack) -> AsyncIterator[None]:
    """The workers on the stack are told to stop; at the block's end they have."""
    end = asyncio.create_task(stack.aclose())
    try:
        await asyncio.sleep(0)  # its first step, which tells everybody
        yield
    finally:
        async with asyncio.timeout(60):
            await end


async def test_a_stop_waits_for_what_runs_and_begins_nothing(pool: Pool, runs: Runs, user: User) -> None:
    added = await add(pool, user, 5)
    stack = AsyncExitStack()
    await stack.enter_async_context(working(pool, runs))
    await runs.began(2)
    async with stopping(stack):
        assert all(lease.stopping for lease in runs.begun)
        runs.let_end(*added)
    assert len(runs.begun) == 2
    assert [(await ended(pool, task)).status for task in added[:2]] == [Status.COMPLETED] * 2
    assert await leased(pool) == []


async def test_what_does_not_end_in_time_is_cancelled(pool: Pool, runs: Runs, user: User) -> None:
    [task] = await add(pool, user)
    with listening() as log:
        async with working(pool, runs, grace=0.05):
            await runs.began(1)
    assert runs.running == set()
    assert vars(await log.says("workers.grace_over"))["tasks"] == [task.id]


async def test_what_is_claimed_at_the_last_moment_is_told_to_stop(pool: Pool, runs: Runs, user: User) -> None:
    stack = AsyncExitStack()
    workers = await stack.enter_async_context(working(pool, runs, poll=600.0))
    [task] = await add(pool, user)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE tasks IN EXCLUSIVE MODE")
        workers.wake()
        await blocked(pool, "WITH RECURSIVE load AS")
        end = asyncio.create_task(stack.aclose())
    await runs.began(1)
    assert runs.begun[0].stopping
    runs.let_end(task)
    await end
    assert (await ended(pool, task)).attempts == 1


async def test_a_second_stop_does_not_wait(pool: Pool, runs: Runs, user: User) -> None:
    await add(pool, user)
    at_work = asyncio.Event()

    async def serve() -> None:
        async with working(pool, runs, grace=600.0):
            at_work.set()
            await runs.began(1)

    service = asyncio.create_task(serve())
    await at_work.wait()
    await eventually(lambda: _all_told(runs))
    service.cancel()
    with pytest.raises(asyncio.CancelledError):
        await service
    assert runs.running == set()
    assert not {"_feed", "_reap", "_beat", "enhancement-0"} & {running.get_name() for running in asyncio.all_tasks()}


async def _all_told(runs: Runs) -> bool:
    return bool(runs.begun) and all(lease.stopping for lease in runs.begun)
