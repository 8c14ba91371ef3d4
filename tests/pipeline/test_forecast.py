"""What is told of the time to come: the place among those that wait, and the seconds left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.pipeline.forecast import Forecast
from enhancer.service import PLANS
from enhancer.storage import tasks
from enhancer.storage.database import Pool
from tests import storage
from tests.pipeline.watching import ended, told
from tests.pipeline.workshop import Place, order

REDRAW, WRITE = (
    next(step for step in PLANS[Kind.ENHANCEMENT].steps if step.name == name) for name in ("redraw", "write")
)
RENDER = next(step for step in PLANS[Kind.VIDEO].steps if step.wait)


@pytest.fixture
def forecast(front: Place) -> Forecast:
    """That of a process which knows nothing yet, and works on two enhancements at once."""
    return Forecast(front.service.pool, PLANS, front.service.tools, {Kind.ENHANCEMENT: 2})


async def waiting(pool: Pool, kind: Kind = Kind.ENHANCEMENT) -> list[int]:
    found = (await tasks.queues(pool)).get(kind)
    return found.waiting if found else []


async def test_the_queue_is_in_the_order_in_which_tasks_are_claimed(pool: Pool) -> None:
    assert await tasks.queues(pool) == {}
    users = [await storage.new_user(pool) for _ in range(3)]
    made = [await storage.order(pool, users[number]) for number in (0, 0, 0, 1, 0, 1, 2)]
    await storage.order(pool, users[0], kind=Kind.VIDEO)
    [running] = await storage.claim(pool)
    assert running.id == made[0].id
    queue = await waiting(pool)
    assert queue == [made[number].id for number in (3, 6, 1, 5, 2, 4)]
    assert (await tasks.queues(pool))[Kind.ENHANCEMENT].running == 1
    video = await waiting(pool, Kind.VIDEO)
    assert len(video) == 1
    claimed = [(await tasks.claim(pool, "a", limit=1, per_user=100, lease=60, time_limits={Kind.ENHANCEMENT: 600}))[0]]
    assert claimed[0].id == queue[0]


async def test_who_pauses_comes_last(pool: Pool) -> None:
    user = await storage.new_user(pool)
    first, second = [await storage.order(pool, user) for _ in range(2)]
    [task] = await storage.claim(pool)
    await tasks.put_back(pool, task, seconds=600)
    assert await waiting(pool) == [second.id, first.id]


def test_nobody_knows_before_the_first_call(forecast: Forecast) -> None:
    assert forecast.remaining(Kind.ENHANCEMENT, 0, {}) is None
    forecast.learn(Kind.ENHANCEMENT, REDRAW, 30.0)
    assert forecast.remaining(Kind.ENHANCEMENT, 30, {}) is None
    assert forecast.remaining(Kind.ENHANCEMENT, 90, {}) == 0  # nothing is left that anybody is asked for


def test_what_is_left_is_the_sum_of_the_medians(forecast: Forecast) -> None:
    for seconds in (20.0, 30.0, 400.0):
        forecast.learn(Kind.ENHANCEMENT, REDRAW, seconds)
    forecast.learn(Kind.ENHANCEMENT, WRITE, 5.0)
    forecast.learn(Kind.ENHANCEMENT, PLANS[Kind.ENHANCEMENT].steps[-1], 0.5)
    assert [forecast.remaining(Kind.ENHANCEMENT, at, {}) for at in (0, 30, 50, 75, 90, 100)] == [
        35.5,
        35.5,
        5.5,
        5.5,
        0.5,
        0,
    ]


def test_of_an_order_what_is_made_counts_as_done(front: Place) -> None:
    forecast = Forecast(front.service.pool, PLANS, front.service.tools)
    forecast.learn(Kind.VIDEO, RENDER, 80.0)
    known = front.service.tools.videos is not None
    assert forecast.remaining(Kind.VIDEO, 5, {"percent": 75}) == (20.0 if known else None)


async def test_a_start_knows_what_the_ledger_has(enhancer: Place, pool: Pool) -> None:
    for _ in range(2):
        await ended(pool, await order(enhancer))
    forecast = Forecast(pool, PLANS, enhancer.service.tools)
    await forecast.relearn()
    first = forecast.remaining(Kind.ENHANCEMENT, 0, {})
    assert first is not None
    assert first > 0
    await forecast.relearn()  # which does not count them twice
    assert forecast.remaining(Kind.ENHANCEMENT, 0, {}) == first
    other = replace(enhancer.service.tools, images=Renamed())  # type: ignore[arg-type]
    stranger = Forecast(pool, PLANS, other)
    await stranger.relearn()
    assert stranger.remaining(Kind.ENHANCEMENT, 0, {}) is None


class Renamed:
    """A model that nobody has seen at work."""

    model = "another"


async def test_events_tell_the_time_left(enhancer: Place, pool: Pool) -> None:
    await ended(pool, await order(enhancer))
    *running, last = await told(pool, await ended(pool, await order(enhancer)))
    left = [event["eta_seconds"] for event in running]
    assert None not in left
    assert left == sorted(left, reverse=True)
    assert {event["queue_position"] for event in running} == {None}
    assert "eta_seconds" not in last


async def test_a_waiting_task_has_a_place_and_one_at_work_has_none(forecast: Forecast, pool: Pool) -> None:
    forecast.learn(Kind.ENHANCEMENT, REDRAW, 30.0)
    forecast.learn(Kind.ENHANCEMENT, WRITE, 10.0)
    user = await storage.new_user(pool)
    mine = [await storage.order(pool, user) for _ in range(5)]
    await forecast.look(*mine)
    seen = [forecast.outlook(task) for task in mine]
    assert [each.position for each in seen] == [1, 2, 3, 4, 5]
    assert [each.seconds for each in seen] == [40, 40, 60, 80, 100]  # two at once
    [running] = await storage.claim(pool)
    at_work = forecast.outlook(running)
    assert at_work.position is None
    assert at_work.seconds is not None
    assert 0 <= at_work.seconds <= 40
    over = replace(running, status=Status.COMPLETED)
    assert (forecast.outlook(over).position, forecast.outlook(over).seconds) == (None, None)


async def test_a_task_that_has_just_come_is_looked_for(
    forecast: Forecast, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enhancer.pipeline.forecast.SHORTLY", 0.0)
    monkeypatch.setattr("enhancer.pipeline.forecast.REST", 0)
    user = await storage.new_user(pool)

    async def place(task: Task) -> int | None:
        await forecast.look(task)
        return forecast.outlook(task).position

    assert await place(await storage.order(pool, user)) == 1
    assert await place(await storage.order(pool, user)) == 2
