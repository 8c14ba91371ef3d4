"""Cancel, retry, delete and the ledger, as callers and watchers see them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from enhancer.bus import Bus
from enhancer.domain.tasks import Status, Task
from enhancer.settings import Settings
from enhancer.storage import lifecycle, tasks
from enhancer.storage.database import Pool
from enhancer.web.hub import Frame, Hub
from tests.conftest import Running, Start, subscriber
from tests.fakes.openai import CHAT_TOKENS, IMAGE_TOKENS, FakeOpenAI, faults
from tests.lives import (
    Customer,
    cancellations,
    claim,
    claimed,
    finish,
    in_state,
    now,
    said,
    told,
    waiting,
    with_models,
)


@pytest.fixture
async def idle(settings: Settings, start: Start) -> Running:
    """A service that accepts tasks and works on none."""
    return await start(settings.model_copy(update={"workers": 0}))


@pytest.fixture
async def shop(settings: Settings, openai: FakeOpenAI, start: Start) -> Running:
    """A service whose models are the stand-in."""
    return await start(with_models(settings, openai))


async def owned(running: Running, status: Status) -> int:
    """The id of a task in a state, the service's own user's."""
    task = await in_state(running.service.pool, status)
    await running.service.pool.execute("UPDATE tasks SET user_id = $1 WHERE id = $2", running.user.id, task.id)
    return task.id


async def failed(shop: Running, openai: FakeOpenAI, *, language: str = "en") -> int:
    """The id of a task whose photo was rejected."""
    openai.fail("edits", faults.moderated())
    me = Customer(shop)
    task_id = await me.accepted(language=language)
    assert (await me.ended(task_id))["error_code"] == "provider_rejected_image"
    return task_id


def stored(running: Running) -> list[Path]:
    """The files in the store."""
    return [path for path in running.service.settings.uploads.rglob("*") if path.is_file()]


def kept(running: Running) -> list[Path]:
    """The files in the store, but for drafts, which go a little later."""
    return [path for path in stored(running) if path.parent.name != "previews"]


# -- whose task it is

ASK = (Customer.cancel, Customer.retry, Customer.delete, Customer.calls)


async def test_nobody_may_touch_what_is_not_theirs(idle: Running) -> None:
    pool = idle.service.pool
    other = Customer(idle, await subscriber(pool, "other@example.com"))
    for status in Status:
        task_id = await owned(idle, status)
        before = await now(pool, task_id)
        for ask in ASK:
            for unknown in (task_id, task_id + 1000, 2**63, 10**30):
                reply = await ask(other, unknown)
                assert (reply.status, reply.code) == (404, "not_found")
        assert await now(pool, task_id) == before


async def test_nobody_may_touch_anything_without_a_token(idle: Running) -> None:
    task_id = await owned(idle, Status.PENDING)
    path = f"/api/v1/ai/enhance-and-script/{task_id}"
    for method, what in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("GET", "/calls")):
        async with idle.http.request(method, path + what, headers={"Authorization": ""}) as answer:
            assert answer.status == 401


# -- cancel


async def test_a_waiting_task_is_cancelled_at_once(idle: Running) -> None:
    me = Customer(idle)
    task_id = await me.accepted()
    async with me.stream(task_id) as stream:
        reply = await me.cancel(task_id)
        assert (reply.status, reply.body["status"], reply.body["message"]) == (200, "cancelled", "🛑 Cancelled")
        [event] = await stream.rest()
    assert {name: event[name] for name in ("id", "progress", "status", "message")} == {
        "id": 1,
        "progress": 0,
        "status": "cancelled",
        "message": "🛑 Cancelled",
    }
    assert (await me.status(task_id)).body == reply.body
    async with me.stream(task_id, after=1) as stream:
        assert stream.status == 204


async def test_a_running_task_is_cancelled_a_little_later(shop: Running, openai: FakeOpenAI) -> None:
    held, hints = openai.hold("edits"), cancellations(shop.service)
    me = Customer(shop)
    task_id = await me.accepted()
    async with me.stream(task_id) as stream:
        await held.arrived()
        reply = await me.cancel(task_id)
        assert (reply.status, reply.body["status"]) == (200, "processing")
        assert await hints.get() == str(task_id)
        held.release()
        events = await stream.rest()
    assert [event["progress"] for event in events] == [5, 10, 15, 20, 25, 30, 50, 50]
    assert events[-1]["status"] == "cancelled"
    assert (await me.status(task_id)).body["status"] == "cancelled"
    assert len(kept(shop)) == 2  # the original, and the image that was paid for
    assert openai.calls_of("chat") == []


async def test_asking_twice_is_asking_once(idle: Running) -> None:
    me = Customer(idle)
    for status in (Status.PENDING, Status.PROCESSING):
        task_id = await owned(idle, status)
        first = await me.cancel(task_id)
        row = await now(idle.service.pool, task_id)
        again = await me.cancel(task_id)
        assert (first.status, again.status, again.body) == (200, 200, first.body)
        assert await now(idle.service.pool, task_id) == row
        assert row.cancel_requested_at is not None


async def test_what_has_ended_otherwise_cannot_be_cancelled(idle: Running) -> None:
    for status in (Status.COMPLETED, Status.FAILED):
        reply = await Customer(idle).cancel(await owned(idle, status))
        assert (reply.status, reply.code) == (409, "conflict")
        assert reply.body["detail"] == f"The task is {status.value} already."


async def test_who_waits_for_a_task_that_is_cancelled_is_told(shop: Running, openai: FakeOpenAI) -> None:
    held = openai.hold("edits")
    me = Customer(shop)
    ordered = asyncio.create_task(me.order(wait=True))
    await held.arrived()
    task_id = await shop.service.pool.fetchval("SELECT id FROM tasks")
    await me.cancel(task_id)
    held.release()
    reply = await ordered
    assert (reply.status, reply.code, reply.body["task_id"]) == (409, "conflict", task_id)


# -- retry


async def test_a_failed_task_starts_again_and_is_told_from_its_new_beginning(shop: Running, openai: FakeOpenAI) -> None:
    me = Customer(shop)
    task_id = await failed(shop, openai)
    held = openai.hold("edits")
    reply = await me.retry(task_id)
    assert (reply.status, reply.body["error_code"]) == (202, None)
    assert reply.body["status"] in {"pending", "processing"}  # a worker may be quick
    assert reply.headers["Location"].endswith(f"/api/v1/ai/enhance-and-script/{task_id}/status")
    async with me.stream(task_id) as stream:
        await held.arrived()
        events = await stream.until("🔁")
        held.release()
        events += await stream.rest()
    assert events[0]["message"] == "🔁 Started again"
    assert events == await me.events(task_id)
    assert [event["status"] for event in events] == ["processing"] * (len(events) - 1) + ["completed"]
    progress = [event["progress"] for event in events]
    assert progress == [30, 50, 55, 60, 65, 70, 75, 90, 95, 100]
    assert all(b["id"] == a["id"] + 1 for a, b in pairwise(events))
    assert events[0]["id"] == 8  # after seven of the former life
    assert (await me.status(task_id)).body["error_message"] is None


async def test_a_client_that_saw_the_old_end_gets_only_what_is_new(shop: Running, openai: FakeOpenAI) -> None:
    me = Customer(shop)
    task_id = await failed(shop, openai)
    async with me.stream(task_id, after=7) as stream:
        assert stream.status == 204
    await me.retry(task_id)
    for seen in (3, 7):
        events = await me.events(task_id, after=seen)
        assert (events[0]["message"], events[-1]["status"]) == ("🔁 Started again", "completed")
    assert [event["id"] for event in await me.events(task_id, after=10)] == list(range(11, events[-1]["id"] + 1))


async def test_a_cancelled_task_starts_again(idle: Running) -> None:
    me = Customer(idle)
    task_id = await me.accepted(language="zh-CN")
    assert (await me.cancel(task_id)).body["message"] == "🛑 已取消"
    reply = await me.retry(task_id)
    assert (reply.status, reply.body["status"], reply.body["message"]) == (202, "pending", "🔁 已重新开始")
    assert [event["id"] for event in await told(idle.service.pool, task_id)] == [2]
    assert (await me.cancel(task_id)).body["status"] == "cancelled"


async def test_a_task_that_did_not_fail_cannot_start_again(idle: Running) -> None:
    for status in (Status.PENDING, Status.PROCESSING, Status.COMPLETED):
        reply = await Customer(idle).retry(await owned(idle, status))
        assert (reply.status, reply.code) == (409, "conflict")
        assert reply.body["detail"].startswith(f"The task is {status.value};")


async def test_of_two_who_start_a_task_again_at_once_one_does(idle: Running) -> None:
    me = Customer(idle)
    for _ in range(5):
        task_id = await owned(idle, Status.FAILED)
        replies = await asyncio.gather(me.retry(task_id), me.retry(task_id))
        assert sorted(reply.status for reply in replies) == [202, 409]
        assert len(await told(idle.service.pool, task_id)) == 1


async def test_starting_again_needs_a_subscription(idle: Running) -> None:
    pool, me = idle.service.pool, Customer(idle)
    task_id = await owned(idle, Status.FAILED)
    await pool.execute("UPDATE subscriptions SET period_end = now() WHERE user_id = $1", me.user.id)
    reply = await me.retry(task_id)
    assert (reply.status, reply.code) == (402, "subscription_required")
    assert (await now(pool, task_id)).status is Status.FAILED


async def test_starting_again_is_not_counted_and_needs_no_quota(idle: Running) -> None:
    pool, me = idle.service.pool, Customer(idle)
    task_id = await me.accepted()
    await me.cancel(task_id)
    await pool.execute("UPDATE subscriptions SET monthly_quota = 1 WHERE user_id = $1", me.user.id)
    assert (await me.order()).status == 402
    assert (await me.retry(task_id)).status == 202
    assert await pool.fetchval("SELECT tasks FROM task_usage") == 1


# -- the hub, when a task starts again


class Onlooker:
    """A watcher that stays where it is."""

    def __init__(self) -> None:
        self.cursor = 0
        self.given: list[int] = []
        self.ended = asyncio.Event()

    def give(self, frames: Sequence[Frame]) -> None:
        """See Watcher."""
        self.given += [frame.seq for frame in frames]

    def end(self) -> None:
        """See Watcher."""
        self.ended.set()

    def tick(self, now: float) -> None:
        """See Watcher."""


async def begun(pool: Pool) -> Task:
    """A running task that has said something."""
    task = await claimed(pool)
    await tasks.advance(pool, task, said(task), progress=5, message="", output={})
    return await now(pool, task)


async def start_again(pool: Pool, task: Task) -> Task:
    """A task that has ended, waiting again."""
    assert await lifecycle.retry(pool, task, said(task, message="again"), message="", longest_call=0)
    return await now(pool, task)


@pytest.mark.parametrize("heard", [True, False])
async def test_who_comes_after_a_retry_does_not_get_the_end_that_others_got(pool: Pool, bus: Bus, heard: bool) -> None:
    async with Hub.open(pool, bus, poll=600) as hub:
        task = await begun(pool)
        old, new = Onlooker(), Onlooker()
        async with hub.watching(task, 0, old):
            task = await finish(pool, task, Status.FAILED)
            await bus.publish(task.channel, _published(task, "failed"))
            async with asyncio.timeout(60):
                await old.ended.wait()
            task = await start_again(pool, task)
            if heard:
                await bus.publish(task.channel, _published(task, "processing"))
            async with hub.watching(task, 0, new):
                assert new.given == [3]
                assert not new.ended.is_set()
        assert old.given == [1, 2]


async def test_who_comes_after_a_retry_that_nobody_heard_of_begins_with_it(pool: Pool, bus: Bus) -> None:
    async with Hub.open(pool, bus, poll=600) as hub:
        task = await begun(pool)
        old, new = Onlooker(), Onlooker()
        async with hub.watching(task, 0, old):
            task = await start_again(pool, await finish(pool, task, Status.FAILED))
            async with hub.watching(task, 0, new):
                assert new.given == [3]
                assert old.given == [1, 3]
                assert not old.ended.is_set()


async def test_who_watches_a_task_that_disappears_is_let_go_without_redis(pool: Pool) -> None:
    async with Bus.open("redis://127.0.0.1:1") as nowhere, Hub.open(pool, nowhere, poll=0.02) as hub:
        task = await in_state(pool, Status.PENDING)
        onlooker = Onlooker()
        async with hub.watching(task, 0, onlooker):
            await lifecycle.delete(pool, task.id)
            async with asyncio.timeout(60):
                await onlooker.ended.wait()
        assert onlooker.given == []


def _published(task: Task, status: str) -> str:
    return f'{{"progress": 30, "status": "{status}", "timestamp": 1.0, "seq": {task.last_seq}}}'


# -- delete


async def test_a_finished_task_goes_with_everything(shop: Running) -> None:
    pool, me = shop.service.pool, Customer(shop)
    task_id = await me.accepted()
    short = await me.ended(task_id)
    assert len(kept(shop)) == 4  # the original, the model's image, the version for video, and its small copy
    for table in ("task_steps", "task_calls", "task_events"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") > 0
    reply = await me.delete(task_id)
    assert (reply.status, reply.body) == (204, None)
    assert stored(shop) == []
    for table in ("tasks", "task_steps", "task_calls", "task_events"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    for again in (me.status, me.calls, me.cancel, me.retry, me.delete):
        assert (await again(task_id)).status == 404
    async with me.stream(task_id) as stream:
        assert stream.status == 404
    link = short["enhanced_image_url"].partition("/uploads/")[2]
    async with shop.http.get(f"/uploads/{link}") as answer:
        assert answer.status == 404


async def test_what_does_not_run_can_be_removed(idle: Running) -> None:
    for status in (Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELLED):
        task_id = await owned(idle, status)
        assert (await Customer(idle).delete(task_id)).status == 204
        assert await tasks.get(idle.service.pool, task_id) is None


async def test_what_runs_cannot_be_removed(shop: Running, openai: FakeOpenAI) -> None:
    held = openai.hold("edits")
    me = Customer(shop)
    task_id = await me.accepted()
    await held.arrived()
    reply = await me.delete(task_id)
    assert (reply.status, reply.code, reply.body["detail"]) == (
        409,
        "conflict",
        "The task is running; cancel it first.",
    )
    assert len(stored(shop)) == 1
    await me.cancel(task_id)
    held.release()
    assert (await me.ended(task_id))["status"] == "cancelled"
    assert (await me.delete(task_id)).status == 204
    assert stored(shop) == []


async def test_who_watches_a_task_that_is_removed_sees_it_cancelled(idle: Running) -> None:
    me = Customer(idle)
    task_id = await me.accepted()
    await me.cancel(task_id)
    await me.retry(task_id)
    async with me.stream(task_id) as stream:
        await stream.until("🔁")
        assert (await me.delete(task_id)).status == 204
        assert [event["status"] for event in await stream.rest()] == ["cancelled"]


# -- the ledger


async def test_the_ledger_shows_every_call_with_what_it_counted(shop: Running, openai: FakeOpenAI) -> None:
    me = Customer(shop)
    task_id = await failed(shop, openai)
    openai.fail("edits", faults.status(503))
    await me.retry(task_id)
    await me.ended(task_id)
    reply = await me.calls(task_id)
    assert reply.status == 200
    assert [(call["step"], call["model"], call["outcome"], call["usage"]) for call in reply.body["calls"]] == [
        ("redraw", "gpt-image-2.5-flare", "refused", None),
        ("redraw", "gpt-image-2.5-flare", "refused", None),
        ("redraw", "gpt-image-2.5-flare", "done", {"total_tokens": IMAGE_TOKENS}),
        ("write", "gpt-6-luna", "done", {"total_tokens": CHAT_TOKENS}),
    ]
    for call in reply.body["calls"]:
        assert call["billed"] is True
        assert call["started_at"] <= call["finished_at"]
        assert call["finished_at"].endswith("Z")
    assert (await me.status(task_id)).body["tokens_used"] == IMAGE_TOKENS + CHAT_TOKENS


async def test_a_call_that_runs_and_one_of_unknown_outcome_are_called_so(shop: Running, openai: FakeOpenAI) -> None:
    openai.fail("edits", faults.html())
    held = openai.hold("edits")
    me = Customer(shop)
    task_id = await me.accepted()
    await held.arrived()
    [call] = (await me.calls(task_id)).body["calls"]
    assert (call["outcome"], call["finished_at"], call["usage"]) == ("started", None, None)
    held.release()
    await me.ended(task_id)
    [call] = (await me.calls(task_id)).body["calls"]
    assert call["outcome"] == "ambiguous"


async def test_the_studio_is_in_the_ledger_too_and_costs_nothing(settings: Settings, start: Start) -> None:
    me = Customer(await start(settings))
    task_id = await me.accepted()
    await me.ended(task_id)
    made = (await me.calls(task_id)).body["calls"]
    assert [(call["step"], call["model"], call["billed"], call["outcome"]) for call in made] == [
        ("redraw", "offline-studio", False, "done"),
        ("write", "offline-studio", False, "done"),
    ]


# -- limits


async def test_a_user_with_enough_waiting_is_asked_to_wait(settings: Settings, start: Start) -> None:
    place = await start(settings.model_copy(update={"workers": 0, "user_pending_limit": 2}))
    pool, me = place.service.pool, Customer(place)
    other = Customer(place, await subscriber(pool, "other@example.com"))
    ended = await me.accepted()
    await me.cancel(ended)
    for _ in range(2):
        await waiting(pool, me.user.id)
    for reply in (await me.order(), await me.order(wait=True), await me.retry(ended)):
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (429, "too_many_requests", "10")
    assert len(stored(place)) == 1
    assert (await other.order()).status == 202
    await claim(pool)
    assert (await me.order()).status == 202


async def test_a_full_queue_is_full_for_everybody(settings: Settings, start: Start) -> None:
    place = await start(settings.model_copy(update={"workers": 0, "queue_limit": 2}))
    pool, me = place.service.pool, Customer(place)
    ended = await owned(place, Status.FAILED)
    for _ in range(2):
        await waiting(pool)
    for reply in (await me.order(), await me.order(wait=True), await me.retry(ended)):
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "queue_full", "10")
    assert stored(place) == []
    await claim(pool)
    assert (await me.order()).status == 202
