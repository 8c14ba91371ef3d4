"""Words that the tests of the tables share. Time passes by moving what is stored into the past."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from enhancer.domain.tasks import Event, Kind, Task, encode
from enhancer.storage import subscriptions, tasks, users
from enhancer.storage.database import Pool

TIME_LIMITS = {Kind.ENHANCEMENT: 600.0, Kind.VIDEO: 1800.0}
LEASE = 60.0

_numbers = itertools.count(1)


async def new_user(pool: Pool, *, quota: int | None = None) -> int:
    """The id of a user with an active subscription."""
    user = await users.insert(pool, f"somebody{next(_numbers)}@example.com", "no hash")
    await subscriptions.activate(pool, user.id, plan="test", quota=quota, days=30)
    return user.id


async def order(pool: Pool, user_id: int | None = None, kind: Kind = Kind.ENHANCEMENT, *, attempts: int = 4) -> Task:
    """A task that waits, of a new user unless one is given."""
    task = await tasks.insert(pool, user_id or await new_user(pool), kind, {"key": "x"}, max_attempts=attempts)
    assert task is not None
    return task


async def claim(pool: Pool, worker: str = "a", *, limit: int = 1, per_user: int = 1_000_000) -> list[Task]:
    """A claim on the usual terms."""
    return await tasks.claim(pool, worker, limit=limit, per_user=per_user, lease=LEASE, time_limits=TIME_LIMITS)


async def leased(pool: Pool, worker: str = "a", *, attempts: int = 4) -> Task:
    """A new task, claimed by a worker. No other must be waiting."""
    await order(pool, attempts=attempts)
    [task] = await claim(pool, worker)
    return task


async def stored(pool: Pool, task: Task) -> Task:
    """The task as the table has it now."""
    found = await tasks.get(pool, task.id)
    assert found is not None
    return found


async def reclaimed(pool: Pool, task: Task, worker: str = "b") -> Task:
    """The task in the hands of another worker, after its lease ran out."""
    await let_lease_run_out(pool, task)
    assert await tasks.reap(pool) == 1
    [again] = await claim(pool, worker)
    assert again.id == task.id
    return again


async def let_lease_run_out(pool: Pool, task: Task) -> None:
    """Time passes for a task's lease."""
    await pool.execute("UPDATE tasks SET lease_until = now() - interval '1 second' WHERE id = $1", task.id)


async def let_pause_end(pool: Pool, task: Task) -> None:
    """Time passes for a task that was put back."""
    await pool.execute("UPDATE tasks SET run_at = now() - interval '1 second' WHERE id = $1", task.id)


@asynccontextmanager
async def held(pool: Pool, change: str) -> AsyncIterator[None]:
    """Within the block a change, such as UPDATE ON tasks, waits in its middle for the block's end."""
    await pool.execute(
        f"""
        CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$;
        CREATE TRIGGER hold BEFORE {change} FOR EACH ROW EXECUTE FUNCTION hold();
        """
    )
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock(4711)")
        yield


async def until_waiting(pool: Pool, count: int) -> None:
    """Until so many statements wait for an advisory lock."""
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") < count:
            pass


def event(task: Task, after: int = 0, **more: object) -> Event:
    """The task's next event, or one `after` that."""
    seq = task.last_seq + 1 + after
    return Event(seq, encode({"progress": seq, "message": "Größe 图 🎨", "status": "processing", **more}))
