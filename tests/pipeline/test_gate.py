"""The gate before a paid call, as the holder of a lease finds it; engines here have no workers, so no heartbeat."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from enhancer.domain.enhancements import EnhancementInput, EnhancementOutput
from enhancer.domain.tasks import Kind, Lease, Status, Task
from enhancer.pipeline.engine import Engine
from enhancer.pipeline.policy import Policy
from enhancer.service import PLANS
from enhancer.storage import steps
from enhancer.storage.database import Pool
from tests.fakes.openai import CHAT_TOKENS, FakeOpenAI
from tests.pipeline import pictures
from tests.pipeline.watching import claimed, ended, listening, points, put_back, reached, step_of
from tests.pipeline.workshop import Place, model_path, order


def engine_of(front: Place, *, repeats: int = 1) -> Engine:
    """An engine without workers, so without a heartbeat."""
    service = front.service
    policy = Policy({Kind.ENHANCEMENT: 600.0}, retry_delay=0.01, repeats=repeats)
    return Engine(service.pool, service.bus, service.tools, PLANS, policy, service.forecast)


async def begun_elsewhere(pool: Pool, task: Task, *, seconds_ago: float) -> None:
    """A call of the image model that a process began and did not live to end."""
    holder = await claimed(pool, "of the past", lease=0)
    assert await steps.permit(pool, await leased(pool, holder), "redraw", model="m", longest_call=60, repeats=1)
    await pool.execute(
        "UPDATE task_steps SET started_at = now() - make_interval(secs => $2) WHERE task_id = $1", task.id, seconds_ago
    )
    await pool.execute("UPDATE tasks SET status = 'pending', lease_until = NULL WHERE id = $1", task.id)


async def leased(pool: Pool, task: Task) -> Task:
    """The same, its lease good for a minute."""
    await pool.execute("UPDATE tasks SET lease_until = now() + interval '1 minute' WHERE id = $1", task.id)
    return task


async def test_a_lease_that_has_run_out_opens_no_gate(front: Place, openai: FakeOpenAI, pool: Pool) -> None:
    """As after a loop that was blocked for too long."""
    task = await order(front)
    with listening() as log:
        await engine_of(front).run(Lease(await claimed(pool, "slow", lease=0)))
    assert log.has("task.lease_lost")
    assert openai.calls == []
    assert await points(pool, task) == [5, 10, 15, 20, 25, 30]
    assert (await reached(pool, task, lambda _: True)).status is Status.PROCESSING  # the reaper's business


@pytest.mark.parametrize("repeats", [0, 1])
async def test_a_lease_that_has_run_out_does_not_condemn_a_call_that_may_be_repeated(
    front: Place, openai: FakeOpenAI, pool: Pool, repeats: int
) -> None:
    task = await order(front)
    await begun_elsewhere(pool, task, seconds_ago=3600)
    await engine_of(front, repeats=repeats).run(Lease(await claimed(pool, "slow", lease=0)))
    task = await reached(pool, task, lambda _: True)
    assert openai.calls == []
    assert (task.status, task.error_code) == ((Status.PENDING, None) if repeats else (Status.FAILED, "outcome_unknown"))


@pytest.mark.parametrize("repeats", [0, 1])
async def test_a_call_that_may_still_be_running_elsewhere_is_waited_for(
    front: Place, openai: FakeOpenAI, pool: Pool, repeats: int
) -> None:
    task = await order(front)
    await begun_elsewhere(pool, task, seconds_ago=30)
    await engine_of(front, repeats=repeats).run(Lease(await claimed(pool, "next")))
    task = await put_back(pool, task)
    assert openai.calls == []
    assert re.sub(r"\d+ s", "N s", task.message) == (
        "⏳ Waiting N s: An earlier call may still be running; it is waited for, so that nothing is paid for twice."
    )
    until = await pool.fetchval("SELECT run_at FROM tasks WHERE id = $1", task.id)
    assert 295 < (until - datetime.now(UTC)).total_seconds() < 305
    assert task.attempts == 1  # of the process that died


async def test_a_call_that_was_cut_off_elsewhere_is_not_made_again_when_so_set(
    front: Place, openai: FakeOpenAI, pool: Pool
) -> None:
    task = await order(front)
    await begun_elsewhere(pool, task, seconds_ago=3600)
    await engine_of(front, repeats=0).run(Lease(await claimed(pool, "next")))
    task = await ended(pool, task)
    assert (task.status, task.error_code) == (Status.FAILED, "outcome_unknown")
    assert openai.calls == []


async def test_a_result_that_another_worker_brings_home_is_used(front: Place, openai: FakeOpenAI, pool: Pool) -> None:
    task = await order(front)
    await begun_elsewhere(pool, task, seconds_ago=5)
    await front.service.files.write(model_path(task), pictures.redrawn())
    found = {"model_path": model_path(task), "model_size": [1536, 1024], "image_model": "m", "tokens_used": 7}
    await steps.finish(pool, task, "redraw", result=found, usage={})
    await engine_of(front).run(Lease(await claimed(pool, "next")))
    task = await ended(pool, task)
    assert task.status is Status.COMPLETED
    assert [call.kind for call in openai.calls] == ["chat"]
    assert EnhancementOutput.model_validate(task.output).tokens_used == 7 + CHAT_TOKENS


async def test_what_comes_before_a_call_may_fail_without_being_taken_for_one(
    front: Place, openai: FakeOpenAI, pool: Pool
) -> None:
    """A store that cannot be read when a task goes on elsewhere: no call was made, so none is in doubt."""
    task = await order(front)
    await engine_of(front).run(Lease(await claimed(pool, "first", lease=0)))  # to the gate, and no further
    original = await front.service.files.read(EnhancementInput.model_validate(task.input).original)
    await front.service.files.delete(EnhancementInput.model_validate(task.input).original)
    await pool.execute("UPDATE tasks SET status = 'pending', lease_until = NULL")
    await engine_of(front).run(Lease(await claimed(pool, "second")))
    assert await steps.get(pool, task.id, "redraw") is None
    await front.service.files.write(EnhancementInput.model_validate(task.input).original, original)
    await pool.execute("UPDATE tasks SET run_at = now()")
    await engine_of(front).run(Lease(await claimed(pool, "third")))
    assert (await ended(pool, task)).status is Status.COMPLETED
    assert (await step_of(pool, task, "redraw")).ambiguous == 0
