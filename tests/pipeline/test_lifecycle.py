"""What is called, paid and kept when a user cancels, tries again or removes a task; and who is held back."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from enhancer import service as services
from enhancer.bus import Bus
from enhancer.domain.tasks import Status, Task
from enhancer.errors import NotFound
from enhancer.pipeline.orders import WAKE
from enhancer.service import Service
from enhancer.settings import Settings
from enhancer.storage import calls, lifecycle, steps, tasks
from enhancer.storage.database import Pool
from tests.fakes.openai import FakeOpenAI, faults
from tests.lives import cancellations, claim, eventually, new_user, now, small_photo, told, waiting, with_models

REDRAWN = "✅ Image enhanced (1536x1024)"


@pytest.fixture
def paid(settings: Settings, openai: FakeOpenAI) -> Settings:
    """Settings of a service whose models are the stand-in."""
    return with_models(settings, openai)


@dataclass(frozen=True)
class Shop:
    """A service that nobody reaches by HTTP, and a user."""

    service: Service
    user: int


Start = Callable[[Settings], Awaitable[Shop]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts services; they stop, the last first, at the test's end."""
    async with AsyncExitStack() as stack:

        async def begin(settings: Settings) -> Shop:
            return await stack.enter_async_context(running(settings))

        yield begin


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Shop]:
    """A service with these settings."""
    async with services.running(settings) as service:
        yield Shop(service, await new_user(service.pool))


async def order(place: Shop) -> Task:
    """A task that was accepted."""
    photo = io.BytesIO(small_photo())
    accepted = await place.service.orders.enhancement(
        place.user, photo, user_description="A cup", duration=4, language="en"
    )
    return accepted.task


async def reached(pool: Pool, task: Task, *statuses: Status) -> Task:
    """The task, once it is in one of these states."""

    async def look() -> Task | None:
        found = await now(pool, task)
        return found if found.status in statuses else None

    return await eventually(look)


async def ended(pool: Pool, task: Task) -> Task:
    return await reached(pool, task, Status.COMPLETED, Status.FAILED, Status.CANCELLED)


async def put_back(pool: Pool, task: Task) -> Task:
    """The task, once it has been claimed and waits again."""

    async def look() -> Task | None:
        found = await now(pool, task)
        return found if found.status is Status.PENDING and found.fence else None

    return await eventually(look)


async def spoken(pool: Pool, task: Task) -> list[str]:
    """What the task's events say."""
    return [event.get("message") or event["error"] for event in await told(pool, task.id)]


async def step_of(pool: Pool, task: Task, step: str = "redraw") -> steps.StepRow:
    found = await steps.get(pool, task.id, step)
    assert found is not None
    return found


async def outcomes(pool: Pool, task: Task) -> list[tuple[str, str]]:
    """The ledger."""
    return [(call.step, call.outcome) for call in await calls.of_task(pool, task.id)]


def model_path(task: Task) -> str:
    """Where the model's image is kept."""
    return f"user_{task.user_id}/enhanced/model_{task.input['key']}.jpg"


# -- cancel


async def test_a_running_task_ends_after_the_call_in_flight_whose_result_is_kept(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    place = await start(paid)
    hints = cancellations(place.service)
    task = await order(place)
    await held.arrived()
    assert (await place.service.lifecycle.cancel(task)).status is Status.PROCESSING
    assert await hints.get() == str(task.id)
    held.release()
    task = await ended(pool, task)
    assert (task.status, task.error_code) == (Status.CANCELLED, None)
    assert (await spoken(pool, task))[-2:] == [REDRAWN, "🛑 Cancelled"]  # by the hint: the heartbeat is 20 s away
    assert (await step_of(pool, task)).result is not None
    assert await place.service.files.read(model_path(task))
    assert await outcomes(pool, task) == [("redraw", "done")]
    assert openai.calls_of("chat") == []


async def test_the_heartbeat_brings_a_cancellation_that_nobody_hinted_at(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    task = await order(await start(paid.model_copy(update={"lease": 1.8})))
    await held.arrived()
    assert await lifecycle.request_cancel(pool, task.id)
    seen = await pool.fetchval("SELECT lease_until FROM tasks WHERE id = $1", task.id)
    for _ in range(2):  # of two renewals one began after the request
        seen = await eventually(
            lambda seen=seen: pool.fetchval(  # type: ignore[misc]
                "SELECT lease_until FROM tasks WHERE id = $1 AND lease_until > $2", task.id, seen
            )
        )
    held.release()
    task = await ended(pool, task)
    assert task.status is Status.CANCELLED
    assert (await spoken(pool, task))[-2:] == [REDRAWN, "🛑 Cancelled"]


async def test_the_gate_stops_a_cancelled_task_of_which_nobody_told_its_worker(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    task = await order(await start(paid))
    await held.arrived()
    assert await lifecycle.request_cancel(pool, task.id)
    held.release()
    task = await ended(pool, task)
    assert (task.status, task.progress) == (Status.CANCELLED, 75)
    assert openai.calls_of("chat") == []
    assert await outcomes(pool, task) == [("redraw", "done")]


@pytest.mark.parametrize("fault", [faults.status(503), faults.rate_limited("3600")], ids=["503", "429"])
async def test_a_task_whose_call_fails_after_the_cancellation_does_not_wait_for_another(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, fault: faults.Fault
) -> None:
    openai.fail("edits", fault)
    held = openai.hold("edits")
    place = await start(paid)
    hints = cancellations(place.service)
    task = await order(place)
    await held.arrived()
    await place.service.lifecycle.cancel(task)
    assert await hints.get() == str(task.id)
    held.release()
    assert (await ended(pool, task)).status is Status.CANCELLED
    assert await outcomes(pool, task) == [("redraw", "refused")]


async def test_a_task_that_waits_for_the_provider_is_cancelled_at_once(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.rate_limited("3600"))
    place = await start(paid)
    task = await put_back(pool, await order(place))
    cancelled = await place.service.lifecycle.cancel(task)
    assert (cancelled.status, cancelled.progress, cancelled.attempts) == (Status.CANCELLED, 30, 0)


async def test_a_cancelled_task_whose_process_stops_is_ended_by_the_next_without_a_call(
    paid: Settings, openai: FakeOpenAI, pool: Pool
) -> None:
    held = openai.hold("edits")
    async with running(paid.model_copy(update={"shutdown_grace": 0.0})) as place:
        task = await order(place)
        await held.arrived()
        await place.service.lifecycle.cancel(task)
    assert (await now(pool, task)).status is Status.PENDING
    held.release()
    async with running(paid):
        assert (await ended(pool, task)).status is Status.CANCELLED
    assert len(openai.calls_of("edits")) == 1


async def test_a_cancelled_task_is_told_of_on_its_channel_and_asking_again_says_nothing_more(
    settings: Settings, start: Start, bus: Bus
) -> None:
    place = await start(settings.model_copy(update={"workers": 0}))
    task = await order(place)
    heard = asyncio.Queue[str]()
    bus.listen(task.channel, heard.put_nowait)
    assert await bus.confirmed(task.channel, seconds=60)
    first = await place.service.lifecycle.cancel(task)
    assert await place.service.lifecycle.cancel(task) == first
    assert await place.service.lifecycle.cancel(first) == first
    await bus.publish(task.channel, "over")
    async with asyncio.timeout(60):
        [event] = await told(place.service.pool, task.id)
        assert '"status": "cancelled"' in (said := await heard.get())
        assert f'"timestamp": {event["timestamp"]}, "seq": 1}}' in said
        assert await heard.get() == "over"


async def test_cancelling_while_the_workers_look_ends_every_task_once(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fast = True
    place = await start(paid.model_copy(update={"workers": 8, "user_running_limit": 50}))
    original = f"user_{place.user}/originals/original_shared.jpg"
    await place.service.files.write(original, small_photo())
    begun = []
    for number in range(50):
        task = await waiting(pool, place.user, original=original)
        begun.append(task)
        await place.service.bus.publish(WAKE, str(task.id))
        for _ in range(number):  # each round a little later
            await asyncio.sleep(0)
        await place.service.lifecycle.cancel(task)
    for task in begun:
        found = await ended(pool, task)
        events = await told(pool, task.id)
        assert found.status is Status.CANCELLED
        assert [event["id"] for event in events] == list(range(1, found.last_seq + 1))
        assert [event["status"] for event in events].count("cancelled") == 1
        assert events[-1]["status"] == "cancelled"
    assert openai.calls_of("chat") == []


# -- retry


async def test_a_rejected_photo_can_be_tried_again(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.moderated())
    place = await start(paid)
    task = await ended(pool, await order(place))
    assert task.error_code == "provider_rejected_image"
    assert (await place.service.lifecycle.retry(task)).error_code is None
    task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert await outcomes(pool, task) == [("redraw", "refused"), ("redraw", "done"), ("write", "done")]
    assert (await step_of(pool, task)).ambiguous == 0


async def test_what_was_paid_for_is_not_called_again(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("chat", faults.refusal())
    place = await start(paid)
    task = await ended(pool, await order(place))
    assert (task.status, task.progress) == (Status.FAILED, 75)
    await place.service.lifecycle.retry(task)
    assert (await ended(pool, task)).status is Status.COMPLETED
    assert (len(openai.calls_of("edits")), len(openai.calls_of("chat"))) == (1, 2)


async def test_a_task_cancelled_after_its_image_goes_on_from_there(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    place = await start(paid)
    task = await order(place)
    await held.arrived()
    await place.service.lifecycle.cancel(task)
    held.release()
    task = await ended(pool, task)
    await place.service.lifecycle.retry(task)
    task = await ended(pool, task)
    assert (task.status, task.cancel_requested_at) == (Status.COMPLETED, None)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)


async def test_a_task_that_is_tried_again_has_all_its_attempts(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.status(503), times=3)
    place = await start(paid.model_copy(update={"max_retries": 1}))
    task = await ended(pool, await order(place))
    assert (task.status, task.attempts) == (Status.FAILED, 2)
    await place.service.lifecycle.retry(task)
    task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 2)
    assert [call.status for call in openai.calls_of("edits")] == [503, 503, 503, 200]


async def test_a_call_of_unknown_outcome_is_not_repeated_while_it_may_be_running(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.dropped())
    place = await start(paid.model_copy(update={"ambiguous_calls": "hold"}))
    task = await ended(pool, await order(place))
    assert task.error_code == "outcome_unknown"
    first = await step_of(pool, task)
    await place.service.lifecycle.retry(task)
    longest = timedelta(seconds=place.service.tools.images.longest_call)
    assert await pool.fetchval("SELECT run_at FROM tasks") == first.started_at + longest
    await pool.execute("UPDATE tasks SET run_at = now()")  # so much later
    assert (await ended(pool, task)).status is Status.COMPLETED
    step = await step_of(pool, task)
    assert (step.calls, step.ambiguous) == (2, 1)
    assert openai.billed("edits") == 2
    assert await outcomes(pool, task) == [("redraw", "ambiguous"), ("redraw", "done"), ("write", "done")]


async def test_an_image_that_a_dead_process_stored_is_found_after_a_cancellation(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    front = await start(paid.model_copy(update={"workers": 0}))
    task = await order(front)
    dead = await claim(pool, "dead")
    assert await steps.permit(pool, dead, "redraw", model="m", longest_call=0, repeats=1)
    await front.service.files.write(model_path(task), small_photo("red"))
    await tasks.adopt(pool, "dead")
    await front.service.lifecycle.cancel(task)
    await front.service.lifecycle.retry(await now(pool, task))
    await pool.execute("UPDATE tasks SET run_at = now()")
    await start(paid)
    assert (await ended(pool, task)).status is Status.COMPLETED
    assert openai.calls_of("edits") == []
    assert await outcomes(pool, task) == [("redraw", "done"), ("write", "done")]


async def test_an_old_task_that_is_tried_again_may_wait_for_the_provider_like_a_new_one(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.moderated())
    openai.fail("edits", faults.rate_limited("0"))
    place = await start(paid)
    task = await ended(pool, await order(place))
    await pool.execute(
        "UPDATE tasks SET created_at = created_at - interval '1 day', started_at = now() - interval '1 day'"
    )
    await place.service.lifecycle.retry(task)
    task = await ended(pool, task)
    assert task.status is Status.COMPLETED
    assert task.processing_time is not None
    assert task.processing_time < 60


# -- delete


async def test_nobody_mourns_a_task_that_is_removed_under_a_worker_that_lost_it(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    held = openai.hold("edits")
    place = await start(paid)
    task = await order(place)
    await held.arrived()
    await pool.execute(
        "UPDATE tasks SET status = 'pending', lease_until = NULL, worker = NULL, run_at = now() + interval '1 hour'"
    )
    await place.service.lifecycle.delete(await now(pool, task))
    held.release()

    async def noticed() -> bool:
        return any(record.message == "task.lease_lost" for record in caplog.records)

    await eventually(noticed)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 0


async def test_what_is_gone_is_not_found_rather_than_running(settings: Settings, start: Start) -> None:
    place = await start(settings.model_copy(update={"workers": 0}))
    task = await order(place)
    results = await asyncio.gather(*(place.service.lifecycle.delete(task) for _ in range(5)), return_exceptions=True)
    assert results.count(None) == 1
    assert all(isinstance(result, NotFound) for result in results if result is not None)
    for ask in (place.service.lifecycle.cancel, place.service.lifecycle.retry):
        with pytest.raises(NotFound):
            await ask(task)


# -- a provider that limits the rate


async def test_a_limited_route_is_left_alone_by_all_tasks_of_the_process(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    place = await start(paid.model_copy(update={"max_retries": 0}))
    openai.fail("chat", faults.refusal())
    other = await ended(pool, await order(place))
    openai.fail("edits", faults.rate_limited("1.5"))
    first = await put_back(pool, await order(place))
    second = await put_back(pool, await order(place))
    [refused] = openai.calls_of("edits")[1:]
    for task in (first, second):
        assert (task.attempts, task.progress) == (0, 30)
        assert task.message.startswith("⏳ Waiting ")
        assert task.message.endswith(" s: The provider limits the rate of requests.")
    assert await outcomes(pool, second) == []

    await place.service.lifecycle.retry(other)  # its script is another route
    assert (await ended(pool, other)).status is Status.COMPLETED
    assert not any(said.startswith("⏳") for said in await spoken(pool, other))
    for task in (first, second):
        task = await ended(pool, task)
        assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    later = openai.calls_of("edits")[2:]
    assert [call.status for call in later] == [200, 200]
    assert min(call.started for call in later) >= refused.ended + 1.5


# -- fairness


async def test_who_has_one_task_need_not_wait_for_two_hundred_of_another(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    place = await start(paid.model_copy(update={"workers": 2, "shutdown_grace": 0.1}))
    original = f"user_{place.user}/originals/original_shared.jpg"
    await place.service.files.write(original, small_photo())
    one = openai.hold("edits")
    await waiting(pool, place.user, original=original)
    await one.arrived()
    others = openai.hold("edits")
    for _ in range(199):
        await waiting(pool, place.user, original=original)
    await others.arrived()
    only = await waiting(pool, await new_user(pool), original=original)
    one.release()
    await others.arrived(2)
    assert (await now(pool, only)).status is Status.PROCESSING
    assert await pool.fetchval("SELECT count(*) FROM tasks WHERE status = 'pending'") == 198
