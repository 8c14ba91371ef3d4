"""Orders that are waited for, as the engine meets them; nobody else holds a lease here."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

import pytest

from enhancer.domain.tasks import Kind, Lease, Status, Task
from enhancer.errors import (
    OrderFailed,
    OrderLost,
    ProviderBadAnswer,
    ProviderRateLimited,
    ProviderUnavailable,
)
from enhancer.pipeline.engine import Engine
from enhancer.pipeline.lifecycle import Lifecycle
from enhancer.pipeline.policy import Policy
from enhancer.providers import Rendering
from enhancer.service import PLANS
from enhancer.storage import calls, steps, tasks
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from tests.pipeline import pictures
from tests.pipeline.cinema import Cinema, at
from tests.pipeline.watching import eventually, listening, messages, reached, step_of, told
from tests.pipeline.workshop import Place

LIMIT = 600.0  # seconds


def engine(place: Place, cinema: Cinema, *, limit: float = LIMIT) -> Engine:
    """An engine whose renderer is the cinema."""
    service = place.service
    policy = Policy({Kind.VIDEO: limit}, retry_delay=0.01, repeats=1)
    return Engine(service.pool, service.bus, replace(service.tools, videos=cinema), PLANS, policy, service.forecast)


async def order(place: Place, **over: Any) -> Task:
    given = {"enhancement_id": None, "prompt": "A lamp", "duration": 4, "language": "en", **over}
    accepted = await place.service.orders.video(place.user.id, io.BytesIO(pictures.landscape()), **given)
    return accepted.task


async def claim(place: Place, task: Task) -> Lease:
    """The task in the hands of the next holder, whenever it was to be tried again."""
    await place.service.pool.execute("UPDATE tasks SET run_at = now() WHERE id = $1", task.id)
    [claimed] = await tasks.claim(
        place.service.pool, "w", limit=1, per_user=9, lease=600, time_limits={Kind.VIDEO: LIMIT}
    )
    assert claimed.id == task.id
    return Lease(claimed)


async def run(place: Place, cinema: Cinema, task: Task, *, limit: float = LIMIT) -> Task:
    """The task after one attempt."""
    await engine(place, cinema, limit=limit).run(await claim(place, task))
    return await reached(place.service.pool, task, lambda _: True)


async def points(pool: Pool, task: Task) -> list[tuple[int, int | None]]:
    """What the events tell: step and percentage."""
    return [(event["step"], event["progress"]) for event in await told(pool, task)]


async def outcomes(pool: Pool, task: Task) -> list[str]:
    return [call.outcome for call in await calls.of_task(pool, task.id)]


async def test_an_order_is_placed_once_and_told_as_it_gets_on(front: Place, pool: Pool) -> None:
    cinema = Cinema(*at(0, 3, 40, 41, 62, 99))
    task = await run(front, cinema, await order(front))
    assert task.status is Status.COMPLETED
    assert (cinema.orders, set(cinema.looked), cinema.withdrawn) == (["order-1"], {"order-1"}, [])
    rendering = [(5, 0), (5, 40), (5, 62), (5, 99)]
    before, after = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)], [(6, 100), (7, 100), (8, 100), (9, 100)]
    assert await points(pool, task) == [*before, *rendering, *after]
    assert (await step_of(pool, task, "render")).state is State.DONE
    assert await outcomes(pool, task) == ["done"]


async def test_an_order_that_says_nothing_of_itself_is_told_once(front: Place, pool: Pool) -> None:
    cinema = Cinema(*at(None, None, None))
    task = await run(front, cinema, await order(front, language="zh"))
    assert [point for point in await points(pool, task) if point[0] == 5] == [(5, None)]
    assert "🎬 正在渲染视频…" in await messages(pool, task)


async def test_an_order_that_runs_backwards_is_not_told_backwards(front: Place, pool: Pool) -> None:
    task = await run(front, Cinema(*at(50, 10, 55)), await order(front))
    assert [percent for step, percent in await points(pool, task) if step == 5] == [50, 55]


@pytest.mark.parametrize(
    "error",
    [
        ProviderUnavailable(retry_after=0),
        ProviderRateLimited(retry_after=0),
        ProviderBadAnswer(retry_after=0),
    ],
    ids=lambda error: error.code,
)
async def test_a_look_that_fails_says_nothing_of_the_order(front: Place, pool: Pool, error: Exception) -> None:
    cinema = Cinema(error, error, *at(50), error, Rendering(done=True))
    task = await run(front, cinema, await order(front))
    assert (task.status, task.attempts, cinema.orders) == (Status.COMPLETED, 1, ["order-1"])


async def test_an_order_that_fails_fails_the_task_and_a_retry_orders_anew(front: Place, pool: Pool) -> None:
    cinema = Cinema(*at(62)[:1], OrderFailed("It was too dark."))
    task = await run(front, cinema, await order(front))
    assert (task.status, task.error_code, task.error_message) == (
        Status.FAILED,
        "provider_refused",
        "It was too dark.",
    )
    assert (cinema.orders, cinema.withdrawn) == (["order-1"], [])
    assert (await points(pool, task))[-1] == (-1, 62)
    cinema.shows = [Rendering(done=True)]
    await front.service.lifecycle.retry(task)
    task = await run(front, cinema, task)
    assert (task.status, cinema.orders, cinema.looked[-1]) == (Status.COMPLETED, ["order-1", "order-2"], "order-2")
    assert await outcomes(pool, task) == ["refused", "done"]


async def let_go(place: Place, cinema: Cinema, **over: Any) -> Task:
    """A task whose order is placed, and that nobody holds: its process has stopped."""
    task = await order(place, **over)
    lease = await claim(place, task)
    running = asyncio.create_task(engine(place, cinema).run(lease))
    await eventually(lambda: is_at(place.service.pool, task, 5))
    lease.stopping = True
    await running
    return await reached(place.service.pool, task, lambda _: True)


async def test_who_holds_the_task_later_asks_for_the_same_order(front: Place, pool: Pool) -> None:
    cinema = Cinema(Rendering(done=False, percent=30, retry_after=600))
    task = await let_go(front, cinema)
    assert (await step_of(pool, task, "render")).state is State.SUBMITTED
    cinema.shows = [*at(30, 34, 80)]
    task = await run(front, cinema, task)
    assert (task.status, task.attempts, cinema.orders) == (Status.COMPLETED, 1, ["order-1"])
    assert [percent for step, percent in await points(pool, task) if step == 5] == [30, 80]
    assert await outcomes(pool, task) == ["done"]


async def is_at(pool: Pool, task: Task, step: int) -> bool:
    found = await tasks.get(pool, task.id)
    return found is not None and found.progress == step


async def test_a_cancel_tells_the_provider(front: Place, pool: Pool) -> None:
    cinema = Cinema(Rendering(done=False, retry_after=600))
    task = await order(front)
    lease = await claim(front, task)
    running = asyncio.create_task(engine(front, cinema).run(lease))
    await eventually(lambda: is_at(pool, task, 5))
    lease.cancelled = True
    await running
    task = await reached(pool, task, lambda _: True)
    assert (task.status, cinema.withdrawn) == (Status.CANCELLED, ["order-1"])
    assert await outcomes(pool, task) == ["ambiguous"]  # it may have been billed
    cinema.shows = [Rendering(done=True)]
    await front.service.lifecycle.retry(task)
    task = await run(front, cinema, task)
    assert (task.status, cinema.orders) == (Status.COMPLETED, ["order-1", "order-2"])


async def test_a_cancel_of_a_task_that_nobody_holds_tells_the_provider(front: Place, pool: Pool) -> None:
    cinema = Cinema(Rendering(done=False, retry_after=600))
    task = await let_go(front, cinema)
    service = front.service
    lifecycle = Lifecycle(service.pool, service.bus, replace(service.tools, videos=cinema), PLANS, longest_call=60)
    assert (await lifecycle.cancel(task)).status is Status.CANCELLED
    assert cinema.withdrawn == ["order-1"]
    assert await outcomes(pool, task) == ["ambiguous"]


async def test_the_time_limit_tells_the_provider(front: Place, pool: Pool) -> None:
    cinema = Cinema(Rendering(done=False, retry_after=600))
    task = await run(front, cinema, await let_go(front, cinema), limit=0.5)
    assert (task.status, task.error_code, cinema.withdrawn) == (Status.FAILED, "timeout", ["order-1"])


async def test_a_provider_that_cannot_hear_it_delays_no_end(front: Place, pool: Pool) -> None:
    class Deaf(Cinema):
        async def withdraw(self, order: str) -> None:
            raise ProviderUnavailable

    cinema = Deaf(Rendering(done=False, retry_after=600))
    task = await let_go(front, cinema)
    with listening() as log:
        task = await run(front, cinema, task, limit=0.5)
        assert log.has("order.not_withdrawn")
    assert task.error_code == "timeout"


async def test_a_paid_order_that_is_lost_fails_the_task(front: Place, pool: Pool) -> None:
    cinema = Cinema(OrderLost())
    task = await run(front, cinema, await order(front))
    assert (task.status, task.error_code, cinema.orders) == (Status.FAILED, "provider_unavailable", ["order-1"])
    assert await outcomes(pool, task) == ["ambiguous"]


async def test_an_order_that_cost_nothing_and_is_lost_is_placed_anew(front: Place, pool: Pool) -> None:
    cinema = Cinema(*at(80)[:1], OrderLost(), billed=False)
    task = await run(front, cinema, await order(front))
    assert (task.status, task.message[:1]) == (Status.PENDING, "⏳")
    cinema.shows = [*at(20)]
    task = await run(front, cinema, task)
    assert (task.status, task.attempts, cinema.orders) == (Status.COMPLETED, 2, ["order-1", "order-2"])
    shown = [step for step, _ in await points(pool, task)]
    assert shown == sorted(shown)


async def test_a_file_that_is_no_video_fails_the_task(front: Place, pool: Pool) -> None:
    cinema = Cinema(sends=b"<html>" * 1000)
    task = await run(front, cinema, await order(front))
    assert (task.status, task.error_code, cinema.orders) == (Status.FAILED, "provider_bad_answer", ["order-1"])
    assert (await points(pool, task))[-2:] == [(6, 100), (-1, 100)]


async def test_a_video_that_cannot_be_fetched_now_is_fetched_by_another_attempt(front: Place, pool: Pool) -> None:
    cinema = Cinema(sends=ProviderUnavailable())
    task = await run(front, cinema, await order(front))
    assert task.status is Status.PENDING
    cinema.sends = None
    task = await run(front, cinema, task)
    assert (task.status, task.attempts, cinema.orders) == (Status.COMPLETED, 2, ["order-1"])


async def test_an_order_whose_task_was_cancelled_meanwhile_is_withdrawn(front: Place, pool: Pool) -> None:
    """The lease was lost while the provider took the order, and the user has no use for it any more."""
    task = await order(front)

    class Slow(Cinema):
        async def order(self, brief: Any) -> str:
            await tasks.put_back(pool, lease.task, seconds=0)
            [waiting] = [await tasks.get(pool, task.id)]
            assert waiting is not None
            await front.service.lifecycle.cancel(waiting)
            return await super().order(brief)

    cinema, lease = Slow(), await claim(front, task)
    await engine(front, cinema).run(lease)
    assert cinema.withdrawn == ["order-1"]
    assert (await reached(pool, task, lambda _: True)).status is Status.CANCELLED


async def test_nobody_orders_twice_when_the_answer_of_the_first_is_late(front: Place, pool: Pool) -> None:
    """The lease was lost while the provider took the order; the next holder finds its id."""
    task = await order(front)

    class Slow(Cinema):
        async def order(self, brief: Any) -> str:
            if not self.briefs:
                self.briefs.append(brief)
                await tasks.put_back(pool, lease.task, seconds=0)
            return self.orders[0]

    cinema, lease = Slow(), await claim(front, task)
    await engine(front, cinema).run(lease)
    assert (await steps.get(pool, task.id, "render")).provider_id == "order-1"  # type: ignore[union-attr]
    task = await run(front, cinema, task)
    assert (task.status, cinema.orders, cinema.withdrawn) == (Status.COMPLETED, ["order-1"], [])
