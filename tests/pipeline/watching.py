"""Watching the service's tables and its log from a test: what is waited for is looked for, never slept for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.storage import steps, tasks
from enhancer.storage.database import Pool

T = TypeVar("T")

LOOK = 0.02  # seconds between two looks


async def eventually(look: Callable[[], Awaitable[T | None]], *, seconds: float = 60) -> T:
    """The first thing that `look` finds."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110  what happens in the database rings no bell here
            await asyncio.sleep(LOOK)
    return found


async def reached(pool: Pool, task: Task, when: Callable[[Task], bool], *, seconds: float = 60) -> Task:
    """The task, as soon as it is so."""

    async def look() -> Task | None:
        found = await tasks.get(pool, task.id)
        assert found is not None
        return found if when(found) else None

    return await eventually(look, seconds=seconds)


async def ended(pool: Pool, task: Task, *, seconds: float = 60) -> Task:
    """The task in its final state."""
    return await reached(pool, task, lambda found: found.status.final, seconds=seconds)


async def put_back(pool: Pool, task: Task) -> Task:
    """The task when it waits again, and says so."""
    return await reached(pool, task, lambda found: found.status is Status.PENDING and found.message.startswith("⏳"))


async def told(pool: Pool, task: Task) -> list[dict[str, Any]]:
    """The task's events in order, as clients get them; their numbers have no gap."""
    rows = await pool.fetch("SELECT seq, data FROM task_events WHERE task_id = $1 ORDER BY seq", task.id)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    return [json.loads(row["data"]) for row in rows]


async def points(pool: Pool, task: Task) -> list[int]:
    """The progress that the task's events tell."""
    return [event["progress"] for event in await told(pool, task)]


async def messages(pool: Pool, task: Task) -> list[str]:
    """What the task's events say."""
    return [event.get("message") or event["error"] for event in await told(pool, task)]


async def step_of(pool: Pool, task: Task, name: str) -> steps.StepRow:
    """The gate's row of a step that was begun."""
    found = await steps.get(pool, task.id, name)
    assert found is not None
    return found


async def outlive(pool: Pool, task: Task) -> None:
    """As if an hour had passed for a task that waits: no call of it can still be running."""
    await pool.execute("UPDATE task_steps SET started_at = started_at - interval '1 hour' WHERE task_id = $1", task.id)
    await pool.execute("UPDATE tasks SET run_at = now() WHERE id = $1", task.id)


async def wish_end(pool: Pool, task: Task) -> None:
    """What a cancel request leaves."""
    await pool.execute("UPDATE tasks SET cancel_requested_at = now() WHERE id = $1", task.id)


@asynccontextmanager
async def locked(pool: Pool, task: Task, table: str = "tasks") -> AsyncIterator[None]:
    """Nobody else can change the task's rows of a table meanwhile."""
    column = "id" if table == "tasks" else "task_id"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SELECT 1 FROM {table} WHERE {column} = $1 FOR UPDATE", task.id)
        yield


async def blocked(pool: Pool, statement: str) -> int:
    """The process id of the connection whose statement of this beginning waits for a lock."""

    async def look() -> int | None:
        found: int | None = await pool.fetchval(
            """
            SELECT pid FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND ltrim(query, E' \\n') LIKE $1 || '%'
            """,
            statement,
        )
        return found

    return await eventually(look)


class Log(logging.Handler):
    """The log lines of the service, waited for by their event."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it."""
        self.records.append(record)

    def has(self, event: str) -> bool:
        """Whether it was said."""
        return any(record.msg == event for record in self.records)

    async def says(self, event: str, *, times: int = 1) -> logging.LogRecord:
        """The record, once the event has been said so often."""

        async def look() -> logging.LogRecord | None:
            found = [record for record in self.records if record.msg == event]
            return found[-1] if len(found) >= times else None

        return await eventually(look)


@contextmanager
def listening() -> Iterator[Log]:
    """What the service logs meanwhile."""
    log, logger = Log(), logging.getLogger("enhancer")
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)


async def claimed(pool: Pool, worker: str, *, lease: float = 60) -> Task:
    """A waiting task in the hands of a worker, as a process leaves it that dies right after its claim."""
    [task] = await tasks.claim(pool, worker, limit=1, per_user=100, lease=lease, time_limits={Kind.ENHANCEMENT: 600.0})
    return task
