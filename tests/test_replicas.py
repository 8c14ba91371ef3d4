"""Several processes on one PostgreSQL, one Redis and one store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from enhancer.settings import Settings
from enhancer.storage.database import Pool
from tests.conftest import Start, running
from tests.fakes.openai import FakeOpenAI, faults
from tests.lives import Customer, cancellations, eventually, now, told, with_models

NO_REDIS = SecretStr("redis://127.0.0.1:1")
POINTS = [5, 10, 15, 20, 25, 30, 50, 55, 60, 65, 70, 75, 90, 95, 100]


@pytest.fixture
def front(settings: Settings) -> Settings:
    """Settings of a replica that only serves."""
    return settings.model_copy(update={"replica": "front", "workers": 0})


@pytest.fixture
def back(settings: Settings, openai: FakeOpenAI) -> Settings:
    """Settings of a replica that works."""
    return with_models(settings, openai, replica="back")


async def test_a_task_is_accepted_by_one_worked_on_by_another_and_watched_at_both(
    front: Settings, back: Settings, start: Start, openai: FakeOpenAI
) -> None:
    held = openai.hold("edits")
    accepting, working = await start(front), await start(back.model_copy(update={"poll_interval": 600.0}))
    here = Customer(accepting)
    there = Customer(working, here.user)
    task_id = await here.accepted()
    async with here.stream(task_id) as one, there.stream(task_id) as other:
        await held.arrived()  # soon: the wake-up came by Redis
        held.release()
        seen = await one.rest()
        assert [event["progress"] for event in seen] == POINTS
        assert [event["id"] for event in seen] == list(range(1, 16))
        assert await other.rest() == seen
    assert (await here.status(task_id)).body["script"] == seen[-1]["script"]
    assert len((await here.calls(task_id)).body["calls"]) == 2


async def test_a_cancellation_reaches_the_replica_that_works_at_once(
    front: Settings, back: Settings, start: Start, openai: FakeOpenAI
) -> None:
    held = openai.hold("edits")
    accepting = await start(front)
    heard = cancellations((await start(back.model_copy(update={"lease": 600.0}))).service)
    me = Customer(accepting)
    task_id = await me.accepted()
    async with me.stream(task_id) as stream:
        await held.arrived()
        assert (await me.cancel(task_id)).body["status"] == "processing"
        async with asyncio.timeout(60):  # the heartbeat is 200 s away
            assert await heard.get() == str(task_id)
        held.release()
        events = await stream.rest()
    assert [(event["progress"], event["status"]) for event in events][-2:] == [(50, "processing"), (50, "cancelled")]


async def test_without_redis_a_cancellation_comes_with_the_heartbeat_and_streams_by_the_table(
    front: Settings, back: Settings, start: Start, openai: FakeOpenAI, pool: Pool
) -> None:
    held = openai.hold("edits")
    accepting = await start(front.model_copy(update={"redis_url": NO_REDIS}))
    await start(back.model_copy(update={"redis_url": NO_REDIS, "lease": 1.8}))
    me = Customer(accepting)
    task_id = await me.accepted()
    async with me.stream(task_id) as stream:
        await held.arrived()
        await me.cancel(task_id)
        for _ in range(2):  # of two renewals one began after the request
            await renewed(pool, task_id)
        held.release()
        events = await stream.rest()
    assert [(event["progress"], event["status"]) for event in events][-2:] == [(50, "processing"), (50, "cancelled")]
    assert openai.calls_of("chat") == []


async def test_an_order_sent_to_two_replicas_at_once_is_one_task(front: Settings, start: Start, pool: Pool) -> None:
    one, other = await start(front), await start(front.model_copy(update={"replica": "front-2"}))
    here = Customer(one)
    there = Customer(other, here.user)
    replies = await asyncio.gather(*(me.order(key="order-1") for me in (here, there) * 5))
    assert {(reply.status, reply.body["id"]) for reply in replies} == {(202, replies[0].body["id"])}
    assert await pool.fetchval("SELECT tasks FROM task_usage") == 1


async def test_a_task_started_again_at_two_replicas_at_once_starts_once(
    front: Settings, back: Settings, start: Start, openai: FakeOpenAI, pool: Pool
) -> None:
    openai.fail("chat", faults.refusal())
    here = Customer(await start(front))
    there = Customer(await start(back), here.user)
    task_id = await here.accepted()
    assert (await here.ended(task_id))["status"] == "failed"
    held = openai.hold("chat")
    replies = await asyncio.gather(here.retry(task_id), there.retry(task_id))
    assert sorted(reply.status for reply in replies) == [202, 409]
    await held.arrived()
    held.release()
    events = await here.events(task_id)
    assert [event["status"] for event in events].count("completed") == 1
    assert [event["message"] for event in events].count("🔁 Started again") == 1
    assert events == await there.events(task_id)
    assert (await now(pool, task_id)).attempts == 1
    assert (len(openai.calls_of("edits")), len(openai.calls_of("chat"))) == (1, 2)


async def test_a_task_removed_at_one_replica_ends_its_stream_at_the_other(front: Settings, start: Start) -> None:
    one, other = await start(front), await start(front.model_copy(update={"replica": "front-2"}))
    here = Customer(one)
    there = Customer(other, here.user)
    task_id = await here.accepted()
    await here.cancel(task_id)
    await here.retry(task_id)
    async with there.stream(task_id) as stream:
        await stream.until("🔁")
        assert (await here.delete(task_id)).status == 204
        assert [event["status"] for event in await stream.rest()] == ["cancelled"]
    assert (await there.status(task_id)).status == 404


async def test_a_rolling_restart_loses_nothing_and_pays_nothing_twice(
    front: Settings, back: Settings, start: Start, openai: FakeOpenAI, pool: Pool
) -> None:
    back = back.model_copy(update={"workers": 2, "user_running_limit": 10})
    me = Customer(await start(front))
    async with AsyncExitStack() as old, AsyncExitStack() as new:
        held = openai.hold("edits")
        await old.enter_async_context(running(back))
        ids = [await me.accepted() for _ in range(5)]
        await held.arrived(2)
        await new.enter_async_context(running(back.model_copy(update={"replica": "back-2"})))
        await held.arrived(4)
        again = await me.accepted()
        await me.cancel(again)
        leaving = asyncio.create_task(old.aclose())
        replies = await asyncio.gather(me.retry(again), me.retry(again))
        assert sorted(reply.status for reply in replies) == [202, 409]
        held.release()
        await leaving
        for task_id in (*ids, again):
            assert (await me.ended(task_id))["status"] == "completed"
    for task_id in (*ids, again):
        assert (await now(pool, task_id)).attempts == 1
        assert [call["outcome"] for call in (await me.calls(task_id)).body["calls"]] == ["done", "done"]
    for task_id in ids:
        assert [event["id"] for event in await told(pool, task_id)] == list(range(1, 16))
    assert (openai.billed("edits"), openai.billed("chat")) == (6, 6)


async def renewed(pool: Pool, task_id: int) -> None:
    """Return when the task's lease has been extended."""
    seen = await pool.fetchval("SELECT lease_until FROM tasks WHERE id = $1", task_id)

    async def look() -> bool:
        later = await pool.fetchval("SELECT lease_until > $2 FROM tasks WHERE id = $1", task_id, seen)
        return bool(later)

    await eventually(look)
