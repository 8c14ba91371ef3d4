from __future__ import annotations

import pytest

from enhancer.domain.tasks import Task
from enhancer.storage import calls, steps, tasks
from enhancer.storage.calls import Call
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from tests.lives import claim, claimed, waiting

USAGE = {"total_tokens": 7}


async def permit(pool: Pool, task: Task, step: str = "redraw", *, model: str = "m", billed: bool = True) -> bool:
    return await steps.permit(pool, task, step, model=model, longest_call=100, repeats=1, billed=billed)


async def finish(pool: Pool, task: Task, step: str = "redraw") -> None:
    await steps.finish(pool, task, step, result={"path": "x"}, usage=USAGE)


async def only(pool: Pool, task: Task) -> Call:
    [call] = await calls.of_task(pool, task.id)
    return call


async def outcomes(pool: Pool, task: Task) -> list[str]:
    return [call.outcome for call in await calls.of_task(pool, task.id)]


async def next_holder(pool: Pool, task: Task, worker: str = "b") -> Task:
    """The task in other hands, long after the calls that were made."""
    await pool.execute("UPDATE tasks SET lease_until = now() - interval '1 second' WHERE id = $1", task.id)
    await pool.execute("UPDATE task_steps SET started_at = started_at - interval '1 hour'")
    assert await tasks.reap(pool) == 1
    return await claim(pool, worker)


async def test_a_task_that_has_called_nobody_has_no_entry(pool: Pool) -> None:
    assert await calls.of_task(pool, (await waiting(pool)).id) == []


@pytest.mark.parametrize("billed", [True, False])
async def test_a_permit_is_an_entry_before_it_is_used(pool: Pool, billed: bool) -> None:
    task = await claimed(pool)
    assert await permit(pool, task, model="gpt-image-x", billed=billed)
    call = await only(pool, task)
    assert (call.step, call.model, call.billed, call.outcome) == ("redraw", "gpt-image-x", billed, "started")
    assert (call.usage, call.finished_at) == (None, None)


async def test_a_result_is_entered_with_what_was_counted(pool: Pool) -> None:
    task = await claimed(pool)
    await permit(pool, task)
    await finish(pool, task)
    call = await only(pool, task)
    assert (call.outcome, call.usage) == ("done", USAGE)
    assert call.finished_at is not None
    assert call.finished_at >= call.started_at


@pytest.mark.parametrize("state", [State.REFUSED, State.AMBIGUOUS])
async def test_a_call_without_a_result_is_entered_as_it_ended(pool: Pool, state: State) -> None:
    task = await claimed(pool)
    await permit(pool, task)
    await steps.settle(pool, task, "redraw", state)
    call = await only(pool, task)
    assert (call.outcome, call.usage) == (state.value, None)
    assert call.finished_at is not None


async def test_what_the_gate_refuses_is_no_entry(pool: Pool) -> None:
    task = await claimed(pool)
    assert await permit(pool, task)
    assert not await permit(pool, task)
    await pool.execute("UPDATE tasks SET cancel_requested_at = now()")
    assert not await permit(pool, task, "write")
    assert await outcomes(pool, task) == ["started"]


async def test_calls_are_listed_in_the_order_in_which_they_were_made(pool: Pool) -> None:
    task = await claimed(pool)
    await permit(pool, task, model="old")
    await steps.settle(pool, task, "redraw", State.REFUSED)
    task = await next_holder(pool, task)
    await permit(pool, task, model="new")
    await finish(pool, task)
    await permit(pool, task, "write")
    made = await calls.of_task(pool, task.id)
    assert [(call.step, call.model, call.outcome) for call in made] == [
        ("redraw", "old", "refused"),
        ("redraw", "new", "done"),
        ("write", "m", "started"),
    ]


async def test_a_call_that_was_cut_off_and_its_repetition_are_two_entries(pool: Pool) -> None:
    task = await claimed(pool)
    await permit(pool, task)
    task = await next_holder(pool, task)
    await permit(pool, task)
    await finish(pool, task)
    assert await outcomes(pool, task) == ["started", "done"]


async def test_a_late_result_is_entered_for_the_call_that_brought_it(pool: Pool) -> None:
    first = await claimed(pool)
    await permit(pool, first)
    second = await next_holder(pool, first)
    await permit(pool, second)
    await finish(pool, first)
    assert await outcomes(pool, first) == ["done", "started"]
    await finish(pool, second)
    assert await outcomes(pool, first) == ["done", "done"]


async def test_a_former_holder_settles_its_own_call(pool: Pool) -> None:
    first = await claimed(pool)
    await permit(pool, first)
    second = await next_holder(pool, first)
    await permit(pool, second)
    await steps.settle(pool, first, "redraw", State.AMBIGUOUS)
    assert await outcomes(pool, first) == ["ambiguous", "started"]


@pytest.mark.parametrize("settled", [True, False])
async def test_a_result_that_was_found_later_is_entered_for_the_last_call(pool: Pool, settled: bool) -> None:
    first = await claimed(pool)
    await permit(pool, first)
    if settled:
        await steps.settle(pool, first, "redraw", State.AMBIGUOUS)
    await finish(pool, await next_holder(pool, first))
    assert await outcomes(pool, first) == ["done"]


async def test_an_entry_that_says_done_is_not_written_again(pool: Pool) -> None:
    task = await claimed(pool)
    await permit(pool, task)
    await finish(pool, task)
    entered = await only(pool, task)
    await steps.finish(pool, task, "redraw", result={"path": "y"}, usage={"total_tokens": 8})
    await steps.settle(pool, task, "redraw", State.AMBIGUOUS)
    assert await only(pool, task) == entered


async def test_tasks_and_steps_have_entries_of_their_own(pool: Pool) -> None:
    one, other = await claimed(pool), await claimed(pool)
    for task in (one, other):
        await permit(pool, task)
        await permit(pool, task, "write")
    await finish(pool, one)
    assert await outcomes(pool, one) == ["done", "started"]
    assert await outcomes(pool, other) == ["started", "started"]
