from __future__ import annotations

import asyncpg
import pytest

from enhancer.domain.tasks import Event, Task
from enhancer.storage import events, tasks
from enhancer.storage.database import Pool
from tests.storage import event, leased


async def told(pool: Pool, task: Task, count: int) -> list[Event]:
    """The task's first events."""
    spoken = [event(task, n) for n in range(count)]
    for one in spoken:
        assert await tasks.advance(pool, task, one, progress=one.seq, message="", output={})
    return spoken


async def test_events_come_in_order_after_the_cursor(pool: Pool) -> None:
    task = await leased(pool)
    spoken = await told(pool, task, 12)
    assert await events.after(pool, task.id, 0) == spoken
    assert await events.after(pool, task.id, 9) == spoken[9:]
    assert await events.after(pool, task.id, 12) == []


async def test_an_event_is_replayed_as_the_text_that_was_written(pool: Pool) -> None:
    task = await leased(pool)
    text = '{"b": 1.0,  "a": "\\u00e9 é 🎨",\t"b": 2}'
    await tasks.advance(pool, task, Event(1, text), progress=1, message="", output={})
    assert await events.after(pool, task.id, 0) == [Event(1, text)]


async def test_events_of_another_task_are_not_read(pool: Pool) -> None:
    first = await leased(pool)
    await told(pool, first, 2)
    second = await leased(pool)
    spoken = await told(pool, second, 1)
    assert await events.after(pool, second.id, 0) == spoken
    assert await events.after(pool, second.id + 1, 0) == []


async def test_heads_are_the_last_numbers_of_the_tasks_that_exist(pool: Pool) -> None:
    first = await leased(pool)
    await told(pool, first, 3)
    second = await leased(pool)
    assert await events.heads(pool, [first.id, second.id, second.id + 1]) == {first.id: 3, second.id: 0}
    assert await events.heads(pool, []) == {}


async def test_events_go_with_their_task(pool: Pool) -> None:
    task = await leased(pool)
    await told(pool, task, 2)
    await pool.execute("DELETE FROM tasks")
    assert await events.after(pool, task.id, 0) == []


async def test_what_is_no_json_is_refused(pool: Pool) -> None:
    task = await leased(pool)
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await tasks.advance(pool, task, Event(1, "{"), progress=1, message="", output={})
    assert await events.heads(pool, [task.id]) == {task.id: 0}
