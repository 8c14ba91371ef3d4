from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.storage import events, lifecycle, steps, tasks
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from enhancer.storage.tasks import IdempotencyKey
from tests.lives import claim, claimed, finish, in_state, new_user, now, said, told, waiting

LONGEST_CALL = 100.0
FINAL = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
SOON = timedelta(seconds=5)


async def cancel(pool: Pool, task: Task) -> bool:
    return await lifecycle.cancel_waiting(pool, task, said(task, status="cancelled"), message="Cancelled")


async def retry(pool: Pool, task: Task) -> bool:
    return await lifecycle.retry(pool, task, said(task), message="Again", longest_call=LONGEST_CALL)


async def permit(pool: Pool, task: Task, *, repeats: int = 1) -> bool:
    return await steps.permit(pool, task, "redraw", model="m", longest_call=LONGEST_CALL, repeats=repeats)


async def called(pool: Pool, state: State) -> Task:
    """A running task whose step was called and stands so."""
    task = await claimed(pool)
    assert await permit(pool, task)
    if state is State.DONE:
        await steps.finish(pool, task, "redraw", result={"path": "x"}, usage={})
    elif state is State.SUBMITTED:
        await pool.execute("UPDATE task_steps SET state = 'submitted', provider_id = 'job-1'")
    else:
        await steps.settle(pool, task, "redraw", state)
    return task


async def step_of(pool: Pool, task: Task) -> steps.StepRow:
    found = await steps.get(pool, task.id, "redraw")
    assert found is not None
    return found


async def run_at(pool: Pool, task: Task) -> datetime:
    at: datetime = await pool.fetchval("SELECT run_at FROM tasks WHERE id = $1", task.id)
    return at


# -- cancel


@pytest.mark.parametrize("status", Status)
async def test_only_a_task_that_runs_can_be_asked_to_end(pool: Pool, status: Status) -> None:
    task = await in_state(pool, status)
    asked = await lifecycle.request_cancel(pool, task.id)
    assert asked is (status is Status.PROCESSING)
    assert ((await now(pool, task)).cancel_requested_at is not None) is asked


async def test_asking_again_to_end_does_not_change_when_it_was_asked(pool: Pool) -> None:
    task = await claimed(pool)
    await lifecycle.request_cancel(pool, task.id)
    first = await now(pool, task)
    assert await lifecycle.request_cancel(pool, task.id)
    assert await now(pool, task) == first


async def test_a_task_that_waits_ends_with_its_event(pool: Pool) -> None:
    task = await waiting(pool)
    assert await cancel(pool, task)
    ended = await now(pool, task)
    assert (ended.status, ended.message, ended.last_seq) == (Status.CANCELLED, "Cancelled", 1)
    assert ended.completed_at == ended.updated_at == ended.cancel_requested_at
    assert [(event["id"], event["status"]) for event in await told(pool, task.id)] == [(1, "cancelled")]
    assert await tasks.claim(pool, "a", limit=9, per_user=9, lease=60, time_limits={Kind.ENHANCEMENT: 600}) == []


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.PENDING])
async def test_a_task_that_does_not_wait_is_left_as_it_is(pool: Pool, status: Status) -> None:
    task = await in_state(pool, status)
    assert not await cancel(pool, task)
    assert await now(pool, task) == task


async def test_a_task_that_has_spoken_meanwhile_is_looked_at_again_first(pool: Pool) -> None:
    seen = await waiting(pool)
    running = await claim(pool)
    await tasks.put_back(pool, running, seconds=60, event=said(running), message="⏳")
    assert not await cancel(pool, seen)
    assert await cancel(pool, await now(pool, seen))


async def test_of_a_claim_and_a_cancellation_at_once_one_wins(pool: Pool) -> None:
    user = await new_user(pool)
    for number in range(50):
        task = await waiting(pool, user)

        async def late(task: Task = task, pause: float = number * 0.0001) -> bool:
            await asyncio.sleep(pause)
            return await cancel(pool, task)

        claims = tasks.claim(pool, "a", limit=1, per_user=99, lease=60, time_limits={Kind.ENHANCEMENT: 600})
        found, cancelled = await asyncio.gather(claims, late())
        assert [each.id for each in found] == ([] if cancelled else [task.id])
        current = await now(pool, task)
        assert current.status is (Status.CANCELLED if cancelled else Status.PROCESSING)
        assert current.last_seq == len(await told(pool, task.id)) == int(cancelled)


# -- retry


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_a_task_that_failed_or_was_cancelled_waits_again_as_if_it_were_new(pool: Pool, status: Status) -> None:
    ended = await in_state(pool, status)
    assert await retry(pool, ended)
    task = await now(pool, ended)
    assert (task.status, task.attempts, task.message) == (Status.PENDING, 0, "Again")
    assert (task.error_code, task.error_message, task.completed_at, task.cancel_requested_at) == (None,) * 4
    assert (task.started_at, task.processing_time) == (None, None)
    assert (await claim(pool)).id == task.id


async def test_what_a_task_has_reached_is_kept(pool: Pool) -> None:
    ended = await in_state(pool, Status.FAILED)
    await retry(pool, ended)
    task = await now(pool, ended)
    assert (task.progress, task.output, task.fence) == (30, {"found": 1}, ended.fence + 1)
    assert (task.input, task.created_at, task.max_attempts) == (ended.input, ended.created_at, ended.max_attempts)


async def test_the_events_of_the_former_life_are_gone(pool: Pool) -> None:
    ended = await in_state(pool, Status.FAILED)
    event = said(ended)
    await lifecycle.retry(pool, ended, event, message="Again", longest_call=LONGEST_CALL)
    assert await events.after(pool, ended.id, 0) == [event]
    assert (await now(pool, ended)).last_seq == event.seq == ended.last_seq + 1


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING, Status.COMPLETED])
async def test_a_task_in_any_other_state_is_not_tried_again(pool: Pool, status: Status) -> None:
    task = await in_state(pool, status)
    before = await told(pool, task.id)
    assert not await retry(pool, task)
    assert await now(pool, task) == task
    assert await told(pool, task.id) == before


async def test_of_ten_who_try_a_task_again_at_once_one_does(pool: Pool) -> None:
    task = await in_state(pool, Status.FAILED)
    assert sum(await asyncio.gather(*(retry(pool, task) for _ in range(10)))) == 1
    assert len(await told(pool, task.id)) == 1


@pytest.mark.parametrize(
    ("state", "waits", "then", "ambiguous"),
    [
        (State.STARTED, True, State.REFUSED, 1),
        (State.AMBIGUOUS, True, State.REFUSED, 1),
        (State.REFUSED, False, State.REFUSED, 0),
        (State.SUBMITTED, False, State.SUBMITTED, 0),
        (State.DONE, False, State.DONE, 0),
    ],
)
async def test_a_call_that_may_be_running_is_waited_for_and_counted(
    pool: Pool, state: State, waits: bool, then: State, ambiguous: int
) -> None:
    task = await finish(pool, await called(pool, state), Status.FAILED)
    before = await step_of(pool, task)
    assert await retry(pool, task)
    after = await step_of(pool, task)
    assert (after.state, after.ambiguous, after.result) == (then, ambiguous, before.result)
    at = await run_at(pool, task)
    if waits:
        assert at == before.started_at + timedelta(seconds=LONGEST_CALL)
    else:
        assert at - datetime.now(UTC) < SOON


async def test_a_call_that_is_long_over_is_not_waited_for(pool: Pool) -> None:
    task = await finish(pool, await called(pool, State.STARTED), Status.FAILED)
    await pool.execute("UPDATE task_steps SET started_at = now() - interval '1 hour'")
    assert await retry(pool, task)
    assert await run_at(pool, task) - datetime.now(UTC) < SOON
    assert (await step_of(pool, task)).ambiguous == 1


async def test_cancelling_and_trying_again_does_not_shorten_the_wait(pool: Pool) -> None:
    task = await finish(pool, await called(pool, State.STARTED), Status.FAILED)
    await retry(pool, task)
    at = await run_at(pool, task)
    assert await cancel(pool, await now(pool, task))
    assert await retry(pool, await now(pool, task))
    assert await run_at(pool, task) == at
    assert (await step_of(pool, task)).ambiguous == 1


async def test_the_gate_lets_a_user_s_second_try_through_even_where_calls_are_held(pool: Pool) -> None:
    task = await finish(pool, await called(pool, State.AMBIGUOUS), Status.FAILED)
    await retry(pool, task)
    await pool.execute("UPDATE tasks SET run_at = now()")
    again = await claim(pool)
    assert await permit(pool, again, repeats=0)
    step = await step_of(pool, again)
    assert (step.calls, step.ambiguous) == (2, 1)


async def test_a_result_that_comes_after_the_second_try_began_is_kept(pool: Pool) -> None:
    first = await called(pool, State.STARTED)
    await retry(pool, await finish(pool, first, Status.FAILED))
    assert await steps.finish(pool, first, "redraw", result={"path": "late"}, usage={}) == {"path": "late"}
    assert (await step_of(pool, first)).state is State.DONE


async def test_a_former_worker_does_not_settle_what_was_counted_already(pool: Pool) -> None:
    first = await called(pool, State.STARTED)
    await retry(pool, await finish(pool, first, Status.FAILED))
    await steps.settle(pool, first, "redraw", State.AMBIGUOUS)
    step = await step_of(pool, first)
    assert (step.state, step.ambiguous) == (State.REFUSED, 1)


async def test_trying_one_task_again_leaves_the_others_alone(pool: Pool) -> None:
    other = await finish(pool, await called(pool, State.STARTED), Status.FAILED)
    task = await finish(pool, await called(pool, State.STARTED), Status.FAILED)
    before = (await now(pool, other), await step_of(pool, other), await told(pool, other.id))
    await retry(pool, task)
    assert (await now(pool, other), await step_of(pool, other), await told(pool, other.id)) == before


# -- delete


@pytest.mark.parametrize("status", [Status.PENDING, *FINAL])
async def test_a_task_that_does_not_run_goes_with_all_that_was_told_and_called(pool: Pool, status: Status) -> None:
    task = await in_state(pool, status)
    await pool.execute(
        "INSERT INTO task_steps (task_id, step, state, fence, model) VALUES ($1, 's', 'started', 1, 'm')", task.id
    )
    await pool.execute(
        "INSERT INTO task_calls (task_id, step, fence, model, billed) VALUES ($1, 's', 1, 'm', true)", task.id
    )
    assert await lifecycle.delete(pool, task.id)
    for table in ("tasks", "task_steps", "task_calls", "task_events"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert await pool.fetchval("SELECT tasks FROM task_usage") == 1


async def test_a_task_that_runs_is_not_removed(pool: Pool) -> None:
    task = await called(pool, State.STARTED)
    assert not await lifecycle.delete(pool, task.id)
    assert await now(pool, task) == task


async def test_of_ten_who_remove_a_task_at_once_one_does(pool: Pool) -> None:
    task = await in_state(pool, Status.COMPLETED)
    assert sum(await asyncio.gather(*(lifecycle.delete(pool, task.id) for _ in range(10)))) == 1


async def test_the_key_of_a_removed_task_is_free(pool: Pool) -> None:
    user, key = await new_user(pool), IdempotencyKey("mine", b"hash")
    first = await tasks.insert(pool, user, Kind.ENHANCEMENT, {"key": "a"}, max_attempts=4, key=key)
    assert first is not None
    assert await tasks.insert(pool, user, Kind.ENHANCEMENT, {"key": "b"}, max_attempts=4, key=key) is None
    assert await lifecycle.delete(pool, first.id)
    assert await tasks.of_key(pool, user, key) is None
    assert await tasks.insert(pool, user, Kind.ENHANCEMENT, {"key": "b"}, max_attempts=4, key=key) is not None


async def test_a_worker_that_comes_back_to_a_removed_task_changes_nothing(pool: Pool) -> None:
    task = await called(pool, State.STARTED)
    await pool.execute("UPDATE tasks SET lease_until = now() - interval '1 second'")
    assert await tasks.reap(pool) == 1
    assert await lifecycle.delete(pool, task.id)
    assert await steps.finish(pool, task, "redraw", result={"path": "late"}, usage={}) is None
    assert not await tasks.advance(pool, task, said(task), progress=50, message="", output={})
    assert await pool.fetchval("SELECT count(*) FROM task_events") == 0
