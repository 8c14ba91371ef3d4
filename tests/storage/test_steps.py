from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

import asyncpg
import pytest

from enhancer.domain.tasks import Status, Task
from enhancer.storage import steps, tasks
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from tests.storage import claim, event, held, leased, let_lease_run_out, reclaimed, until_waiting

LONGEST_CALL = 100.0
AGES = {"young": 5.0, "old": 200.0}  # seconds


async def permit(
    pool: Pool, task: Task, step: str = "redraw", *, repeats: int = 1, billed: bool = True, model: str = "m"
) -> bool:
    return await steps.permit(pool, task, step, model=model, longest_call=LONGEST_CALL, repeats=repeats, billed=billed)


async def finish(pool: Pool, task: Task, found: Mapping[str, object]) -> Mapping[str, object]:
    kept = await steps.finish(pool, task, "redraw", result=found, usage={"total_tokens": 7})
    assert kept is not None
    return kept


async def row(pool: Pool, task: Task, step: str = "redraw") -> steps.StepRow:
    found = await steps.get(pool, task.id, step)
    assert found is not None
    return found


async def let_call_grow_old(pool: Pool) -> None:
    await pool.execute("UPDATE task_steps SET started_at = started_at - interval '1 hour'")


# -- the gate, as a whole


class Holder(Enum):
    """What there is to be said of whoever asks."""

    HOLDS = "holds the lease"
    LATE = "its lease has run out, and nobody has noticed"
    REAPED = "its lease has run out and was taken"
    REPLACED = "another has claimed the task"
    CANCELLED = "the user wants an end"
    ENDED = "the task has ended"


@dataclass(frozen=True)
class Case:
    """A step as it stands, and who asks for what."""

    holder: Holder
    state: State | None
    age: str
    ambiguous: int
    own: bool
    repeats: int
    billed: bool

    @property
    def permitted(self) -> bool:
        """What the gate has to answer."""
        if self.holder is not Holder.HOLDS or self.state in {State.DONE, State.SUBMITTED}:
            return False
        if self.state is None:
            return True
        if self.own:  # a lease calls a step once
            return False
        if self.state is State.REFUSED or not self.billed:
            return True
        return self.age == "old" and self.ambiguous < self.repeats

    def __str__(self) -> str:
        whose = "own" if self.own else "former"
        return (
            f"{self.holder.value}; {whose} {self.age} {self.state} call, {self.ambiguous} ambiguous, "
            f"{self.repeats} repeats allowed, {'billed' if self.billed else 'free'}"
        )


@pytest.mark.parametrize("holder", list(Holder), ids=lambda holder: holder.name.lower())
async def test_the_gate_opens_exactly_when_it_may(pool: Pool, holder: Holder) -> None:
    task = await in_the_hands_of(pool, holder)
    cases = {
        f"step {number}": Case(holder, *traits)
        for number, traits in enumerate(
            itertools.product((None, *State), AGES, (0, 1, 2), (True, False), (0, 1, 2), (True, False))
        )
    }
    await lay_out(pool, task, cases)
    wrong = []
    for step, case in cases.items():
        before = await pool.fetchrow("SELECT * FROM task_steps WHERE step = $1", step)
        answer = await permit(pool, task, step, repeats=case.repeats, billed=case.billed, model="new model")
        after = await pool.fetchrow("SELECT *, now() - started_at AS age FROM task_steps WHERE step = $1", step)
        if answer != case.permitted or not holds(case, task, before, after):
            wrong.append(f"{case} -> {answer}")
    assert wrong == []


async def in_the_hands_of(pool: Pool, holder: Holder) -> Task:
    """A task claimed for the second time, and then what the case says."""
    task = await reclaimed(pool, await leased(pool))
    if holder is Holder.LATE:
        await let_lease_run_out(pool, task)
    elif holder is Holder.REAPED:
        await let_lease_run_out(pool, task)
        await tasks.reap(pool)
    elif holder is Holder.REPLACED:
        await reclaimed(pool, task, "c")
    elif holder is Holder.CANCELLED:
        await pool.execute("UPDATE tasks SET cancel_requested_at = now()")
    elif holder is Holder.ENDED:
        await tasks.finish(pool, task, event(task), Status.COMPLETED, progress=100, message="", output={})
    return task


async def lay_out(pool: Pool, task: Task, cases: Mapping[str, Case]) -> None:
    """Rows for the cases, begun by this holder of the task or by the former one."""
    await pool.executemany(
        """
        INSERT INTO task_steps (task_id, step, state, fence, model, calls, ambiguous, result, started_at)
        VALUES ($1, $2, $3, $4, 'old model', 3, $5, $6, now() - $7::interval)
        """,
        [
            (
                task.id,
                step,
                case.state.value,
                task.fence if case.own else task.fence - 1,
                case.ambiguous,
                {"kept": True} if case.state is State.DONE else None,
                timedelta(seconds=AGES[case.age]),
            )
            for step, case in cases.items()
            if case.state
        ],
    )


def holds(case: Case, task: Task, before: asyncpg.Record | None, after: asyncpg.Record | None) -> bool:
    """Whether the row is what the answer makes of it: untouched, or a call that has just begun."""
    if not case.permitted:
        return before is None if after is None else before is not None and dict(before) == untimed(after)
    unknown = case.billed and case.state in {State.STARTED, State.AMBIGUOUS}
    begun = {
        "state": "started",
        "fence": task.fence,
        "model": "new model",
        "calls": 1 + (before["calls"] if before else 0),
        "ambiguous": (before["ambiguous"] if before else 0) + unknown,
        "result": None,
        "finished_at": None,
    }
    return (
        after is not None and begun.items() <= dict(after).items() and after["age"] < timedelta(seconds=AGES["young"])
    )


def untimed(record: asyncpg.Record) -> dict[str, object]:
    return {name: value for name, value in record.items() if name != "age"}


# -- the gate, in parts


async def test_a_step_that_was_never_begun_is_not_there(pool: Pool) -> None:
    assert await steps.get(pool, (await leased(pool)).id, "redraw") is None


async def test_the_first_permit_is_told_of_in_the_row(pool: Pool) -> None:
    task = await leased(pool)
    assert await permit(pool, task)
    begun = await row(pool, task)
    assert (begun.state, begun.calls, begun.ambiguous) == (State.STARTED, 1, 0)
    assert (begun.provider_id, begun.result) == (None, None)
    assert abs((datetime.now(UTC) - begun.started_at).total_seconds()) < 60


async def test_steps_of_one_task_and_tasks_with_one_step_do_not_know_each_other(pool: Pool) -> None:
    first, second = await leased(pool), await leased(pool)
    assert await permit(pool, first, "redraw")
    assert await permit(pool, first, "write")
    assert await permit(pool, second, "redraw")


async def test_a_call_that_the_provider_knows_by_an_id_is_not_made_again(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await let_call_grow_old(pool)
    await pool.execute("UPDATE task_steps SET provider_id = 'job 1'")
    assert not await permit(pool, task, billed=True)
    assert not await permit(pool, task, billed=False)
    assert (await row(pool, task)).provider_id == "job 1"


async def test_a_task_that_does_not_exist_has_no_permit(pool: Pool) -> None:
    task = await leased(pool)
    await pool.execute("DELETE FROM tasks")
    assert not await permit(pool, task)


async def test_a_call_cut_off_is_repeated_once_then_held(pool: Pool) -> None:
    task = await leased(pool)
    permits = []
    for _ in range(3):
        permits.append(await permit(pool, task, repeats=1))
        await let_call_grow_old(pool)
        task = await reclaimed(pool, task)
    assert permits == [True, True, False]
    held = await row(pool, task)
    assert (held.calls, held.ambiguous) == (2, 1)


async def test_with_no_repeats_a_call_cut_off_is_held(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task, repeats=0)
    await let_call_grow_old(pool)
    assert not await permit(pool, await reclaimed(pool, task), repeats=0)


async def test_refused_calls_are_made_again_without_an_end_and_without_ambiguity(pool: Pool) -> None:
    task = await leased(pool)
    for calls in range(1, 4):
        assert await permit(pool, task, repeats=0)
        await steps.settle(pool, task, "redraw", State.REFUSED)
        refused = await row(pool, task)
        assert (refused.state, refused.calls, refused.ambiguous) == (State.REFUSED, calls, 0)
        task = await reclaimed(pool, task)


async def test_a_permit_clears_the_end_of_the_call_before(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await steps.settle(pool, task, "redraw", State.REFUSED)
    assert await pool.fetchval("SELECT finished_at IS NOT NULL FROM task_steps")
    await permit(pool, await reclaimed(pool, task))
    assert await pool.fetchval("SELECT finished_at IS NULL FROM task_steps")


# -- settling


@pytest.mark.parametrize("state", [State.REFUSED, State.AMBIGUOUS])
async def test_the_holder_settles_how_its_call_ended(pool: Pool, state: State) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await steps.settle(pool, task, "redraw", state)
    assert (await row(pool, task)).state is state


async def test_a_former_holder_settles_nothing(pool: Pool) -> None:
    old = await leased(pool)
    await permit(pool, old)
    new = await reclaimed(pool, old)
    await let_call_grow_old(pool)
    assert await permit(pool, new)
    await steps.settle(pool, old, "redraw", State.REFUSED)
    assert (await row(pool, new)).state is State.STARTED


async def test_a_holder_does_not_settle_the_call_of_its_predecessor(pool: Pool) -> None:
    old = await leased(pool)
    await permit(pool, old)
    new = await reclaimed(pool, old)
    await steps.settle(pool, new, "redraw", State.REFUSED)
    assert (await row(pool, new)).state is State.STARTED


async def test_a_call_is_settled_once(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await steps.settle(pool, task, "redraw", State.AMBIGUOUS)
    await steps.settle(pool, task, "redraw", State.REFUSED)
    assert (await row(pool, task)).state is State.AMBIGUOUS


@pytest.mark.parametrize("state", [State.SUBMITTED, State.DONE])
async def test_what_was_submitted_or_done_is_not_settled(pool: Pool, state: State) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await pool.execute(
        "UPDATE task_steps SET state = $1, result = $2", state.value, {"a": 1} if state is State.DONE else None
    )
    await steps.settle(pool, task, "redraw", State.REFUSED)
    assert (await row(pool, task)).state is state


# -- results


async def test_a_result_is_kept_with_what_it_cost(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    assert await finish(pool, task, {"path": "ü/图.png", "size": [1, 2]}) == {"path": "ü/图.png", "size": [1, 2]}
    done = await row(pool, task)
    assert (done.state, done.result) == (State.DONE, {"path": "ü/图.png", "size": [1, 2]})
    assert await pool.fetchval("SELECT usage FROM task_steps") == {"total_tokens": 7}
    assert await pool.fetchval("SELECT finished_at IS NOT NULL FROM task_steps")


async def test_an_empty_result_is_a_result(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    assert await finish(pool, task, {}) == {}
    assert (await row(pool, task)).state is State.DONE


async def test_the_first_result_is_the_one_that_counts(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    assert await finish(pool, task, {"n": 1}) == await finish(pool, task, {"n": 2}) == {"n": 1}


async def test_of_results_at_once_everybody_gets_the_same(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    kept = await asyncio.gather(*(finish(pool, task, {"n": n}) for n in range(8)))
    assert kept == [(await row(pool, task)).result] * 8


async def test_the_result_of_a_worker_that_lost_its_lease_is_kept(pool: Pool) -> None:
    old = await leased(pool)
    await permit(pool, old)
    new = await reclaimed(pool, old)
    assert await finish(pool, old, {"n": 1}) == {"n": 1}
    await let_call_grow_old(pool)
    assert not await permit(pool, new)
    assert (await row(pool, new)).result == {"n": 1}


@pytest.mark.parametrize("state", [State.REFUSED, State.AMBIGUOUS, State.SUBMITTED])
async def test_a_result_is_kept_however_the_step_stood(pool: Pool, state: State) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await pool.execute("UPDATE task_steps SET state = $1", state.value)
    assert await finish(pool, task, {"n": 1}) == {"n": 1}
    assert not await permit(pool, task)


async def test_steps_go_with_their_task(pool: Pool) -> None:
    task = await leased(pool)
    await permit(pool, task)
    await pool.execute("DELETE FROM tasks")
    assert await steps.get(pool, task.id, "redraw") is None


# -- races


async def test_many_permits_asked_for_at_once_by_one_holder_are_one(pool: Pool) -> None:
    task = await leased(pool)
    for number in range(20):
        permits = await asyncio.gather(*(permit(pool, task, f"step {number}") for _ in range(6)))
        assert sum(permits) == 1


@pytest.mark.parametrize("moment", range(4))
async def test_a_holder_and_its_successor_never_both_have_a_permit(pool: Pool, moment: int) -> None:
    """The holder asks while its lease runs out, is reaped or claimed, or while its successor asks as well."""
    holder = await leased(pool, attempts=100)
    for number in range(25):
        step = f"step {number}"
        asking = asyncio.create_task(permit(pool, holder, step)) if moment == 0 else None
        await let_lease_run_out(pool, holder)
        asking = asyncio.create_task(permit(pool, holder, step)) if moment == 1 else asking
        await reap_one(pool)
        asking = asyncio.create_task(permit(pool, holder, step)) if moment == 2 else asking
        [successor] = await claim(pool, "b")
        asking = asking or asyncio.create_task(permit(pool, holder, step))
        permits = await asyncio.gather(asking, permit(pool, successor, step))
        assert sum(permits) == 1
        assert (await row(pool, holder, step)).calls == 1
        holder = successor


async def test_a_permit_in_the_moment_when_the_lease_runs_out_is_the_only_one(pool: Pool) -> None:
    holder = await leased(pool, attempts=100)
    for number in range(50):
        step, soon = f"step {number}", timedelta(microseconds=number % 20 * 200)
        await pool.execute("UPDATE tasks SET lease_until = clock_timestamp() + $1::interval", soon)
        last, _ = await asyncio.gather(permit(pool, holder, step), tasks.reap(pool))
        await pool.execute("UPDATE tasks SET lease_until = now() WHERE status = 'processing'")
        await tasks.reap(pool)
        [holder] = await claim(pool, "b")
        assert last + await permit(pool, holder, step) == 1


async def test_a_task_is_not_taken_from_whoever_is_at_the_gate(pool: Pool) -> None:
    task = await leased(pool, "a")
    async with held(pool, "INSERT ON task_steps"):
        asking = asyncio.create_task(permit(pool, task))
        await until_waiting(pool, 1)
        assert await tasks.adopt(pool, "a") == 0
    assert await asking
    assert await tasks.adopt(pool, "a") == 1


async def reap_one(pool: Pool) -> None:
    """A reaper passes over what is locked, and comes again."""
    while not await tasks.reap(pool):
        pass


async def test_who_has_lost_a_task_does_not_close_the_order_that_its_next_holder_waits_for(pool: Pool) -> None:
    old = await leased(pool)
    assert await permit(pool, old)
    assert await steps.submit(pool, old, "redraw", "video-1")
    await let_lease_run_out(pool, old)
    await tasks.reap(pool)
    assert not await steps.close(pool, old, "redraw", "video-1", State.REFUSED), "it waits for any worker"
    [new] = await claim(pool, "b")
    assert not await steps.close(pool, old, "redraw", "video-1", State.REFUSED)
    assert (await row(pool, new)).state is State.SUBMITTED
    assert await steps.close(pool, new, "redraw", "video-1", State.REFUSED)
    assert not await steps.close(pool, new, "redraw", "video-1", State.REFUSED), "it was closed"
    assert (await row(pool, new)).state is State.REFUSED
