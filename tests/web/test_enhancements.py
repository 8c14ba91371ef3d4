from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse

from enhancer.domain.tasks import Event, Status, encode
from enhancer.errors import ProviderError, TaskError
from enhancer.settings import Settings
from enhancer.web.errors import TASK_STATUSES
from tests.conftest import Running, Start, photo
from tests.fakes.openai import FakeOpenAI, faults
from tests.web import story
from tests.web.forms import ASYNC, STATUS, SYNC, accept, address, form, part, request, stored
from tests.web.relay import relayed
from tests.web.waiting import until, until_found

pytestmark = pytest.mark.usefixtures("quiet")

TASK = {
    *("id", "user_id", "original_image_path", "user_description", "duration", "language", "enhanced_image_url"),
    *("script", "product_analysis", "status", "progress", "message", "error_message", "error_code", "tokens_used"),
    *("processing_time", "image_model", "script_model", "created_at", "updated_at", "completed_at", "status_url"),
    *("stream_url", "thumbnail_url", "queue_position", "eta_seconds"),
}
SHORT = {
    *("id", "status", "progress", "message", "enhanced_image_url", "script", "product_analysis", "tokens_used"),
    *("processing_time", "error_message", "error_code", "updated_at", "queue_position", "eta_seconds"),
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
PROBLEM = {"type", "title", "status", "detail", "code"}


async def status(running: Running, task_id: int) -> Any:
    async with running.http.get(STATUS.format(task_id)) as answer:
        assert answer.status == 200
        return await answer.json()


async def finished(running: Running, task_id: int) -> Any:
    """The short task once it is over."""
    await until_found(running.service.pool, "SELECT completed_at IS NOT NULL FROM tasks WHERE id = $1", task_id)
    return await status(running, task_id)


# -- the asynchronous call


async def test_an_upload_is_accepted_with_the_whole_task(idle: Running) -> None:
    base = idle.service.settings.public_url
    fields = {"user_description": "A cat, 一只猫 🐈", "duration": "12", "language": "zh-CN"}
    data = form(filename="../../etc/passwd", **fields)  # type: ignore[arg-type]
    async with idle.http.post(ASYNC, data=data) as answer:
        task = await answer.json()
        assert answer.status == 202
        assert answer.content_type == "application/json"
        assert answer.headers["Location"] == task["status_url"] == base + STATUS.format(task["id"])
        assert answer.headers["Cache-Control"] == "no-store"
    assert set(task) == TASK
    assert (task["user_id"], task["status"], task["progress"], task["message"]) == (idle.user.id, "pending", 0, "")
    assert {name: task[name] for name in fields} == fields | {"duration": 12}
    assert (task["tokens_used"], task["processing_time"], task["completed_at"]) == (0, None, None)
    assert TIME.fullmatch(task["created_at"])
    assert task["created_at"] == task["updated_at"]
    for name in ("enhanced_image_url", "script", "product_analysis", "error_message", "error_code"):
        assert task[name] is None
    assert task["image_model"]
    assert task["script_model"]
    [original] = stored(idle)
    assert original.read_bytes() == photo("chelsea.png")
    assert task["original_image_path"] == f"/uploads/{original.relative_to(idle.service.settings.uploads)}"


async def test_a_task_can_be_asked_for_again_as_it_was_answered(idle: Running) -> None:
    accepted = await accept(idle.http)
    async with idle.http.get(STATUS.format(accepted["id"]).removesuffix("/status")) as answer:
        assert answer.status == 200
        task = await answer.json()
    assert task.pop("stream_url").startswith(accepted.pop("stream_url").split("?")[0])
    assert task == accepted


async def test_what_is_not_said_has_a_default(idle: Running) -> None:
    task = await accept(idle.http, form())
    assert (task["user_description"], task["duration"], task["language"]) == ("", 4, "en")


@pytest.mark.parametrize(
    "description", ["x" * 4000, "猫" * 4000, "🐈" * 4000, "two\r\nlines\tand a tab", "'; DROP TABLE"]
)
async def test_a_description_comes_back_as_it_was_sent(idle: Running, description: str) -> None:
    assert (await accept(idle.http, form(user_description=description)))["user_description"] == description


async def test_an_empty_field_is_what_its_default_is_not(idle: Running) -> None:
    async with idle.http.post(ASYNC, data=form(user_description="", duration="", language="")) as answer:
        assert answer.status == 422
        assert [error["field"] for error in (await answer.json(content_type=None))["errors"]] == [
            "duration",
            "language",
        ]


async def test_the_status_follows_the_task(shop: Running, openai: FakeOpenAI) -> None:
    held = openai.hold("edits")
    task = await accept(shop.http)
    await held.arrived()
    short = await status(shop, task["id"])
    assert set(short) == SHORT
    assert (short["status"], short["progress"]) == ("processing", 30)
    assert short["message"] == "🎨 Enhancing image with gpt-image-2.5-flare..."
    assert short["processing_time"] >= 0
    held.release()
    short = await finished(shop, task["id"])
    assert set(short) == SHORT
    assert (short["status"], short["progress"]) == ("completed", 100)
    assert short["tokens_used"] > 0
    assert TIME.fullmatch(short["updated_at"])


# -- the synchronous call


async def test_who_waits_gets_the_finished_task(shop: Running) -> None:
    async with shop.http.post(SYNC, data=form(duration="8", language="zh")) as answer:
        assert answer.status == 200
        task = await answer.json()
    assert set(task) == TASK
    assert (task["status"], task["progress"], task["error_code"]) == ("completed", 100, None)
    for name in ("created_at", "updated_at", "completed_at"):
        assert TIME.fullmatch(task[name]), name
    assert task["script"]
    assert task["product_analysis"]
    assert isinstance(task["processing_time"], float)
    assert isinstance(task["tokens_used"], int)
    assert (task["image_model"], task["script_model"]) == ("gpt-image-2.5-flare", "gpt-6-luna")
    link = task["enhanced_image_url"].removeprefix(shop.service.settings.public_url)
    async with shop.http.get(link, headers={"Authorization": ""}) as image:
        assert (image.status, image.content_type) == (200, "image/jpeg")


async def test_who_has_waited_long_enough_is_sent_to_the_status(
    with_models: Settings, start: Start, openai: FakeOpenAI
) -> None:
    shop = await start(with_models.model_copy(update={"sync_wait": 0.05}))
    held = openai.hold("chat")
    async with shop.http.post(SYNC, data=form()) as answer:
        assert answer.status == 202
        task = await answer.json()
        assert answer.headers["Location"] == task["status_url"]
    assert set(task) == TASK
    assert task["completed_at"] is None
    held.release()
    assert (await finished(shop, task["id"]))["status"] == "completed"


async def failed(answer: ClientResponse, code: str) -> Any:
    body = await answer.json(content_type=None)
    assert answer.content_type == "application/problem+json"
    assert body["code"] == code
    assert set(body) == PROBLEM | {"task_id"}
    assert body["status"] == answer.status
    return body


@pytest.mark.parametrize(
    ("fault", "code", "number"),
    [
        (faults.moderated(), "provider_rejected_image", 422),
        (faults.status(401), "provider_refused", 502),
        (faults.status(503), "provider_unavailable", 502),
        (faults.not_an_image(), "provider_bad_answer", 502),
        (faults.dropped(), "outcome_unknown", 502),
    ],
)
async def test_a_provider_s_failure_is_told_to_who_waits(
    with_models: Settings, start: Start, openai: FakeOpenAI, fault: faults.Fault, code: str, number: int
) -> None:
    shop = await start(with_models.model_copy(update={"max_retries": 0, "ambiguous_calls": "hold"}))
    openai.fail("edits", fault, times=3)
    async with shop.http.post(SYNC, data=form()) as answer:
        assert answer.status == number
        body = await failed(answer, code)
    assert (await status(shop, body["task_id"]))["error_code"] == code


async def test_a_time_limit_is_told_to_who_waits(with_models: Settings, start: Start, openai: FakeOpenAI) -> None:
    shop = await start(with_models.model_copy(update={"task_timeout": 0.3}))
    openai.hold("edits")
    async with shop.http.post(SYNC, data=form()) as answer:
        assert answer.status == 504
        await failed(answer, "timeout")


def codes(family: type[TaskError]) -> set[str]:
    return {family.code}.union(*(codes(child) for child in family.__subclasses__()))


FAILURES = sorted(codes(TaskError) | codes(ProviderError) | {"a_code_of_the_future"})


async def test_every_failure_has_its_status(idle: Running) -> None:
    expected = {"provider_rejected_image": 422, "timeout": 504, "internal": 500}
    for code in FAILURES:
        async with sync_call(idle) as calling:
            told = await story.claim(idle.service.pool, idle.service.bus)
            await told.finish(Status.FAILED, error=(code, "A sentence for people."))
            answer = await calling
            assert answer.status == expected.get(code, 502), code
            body = await failed(answer, code)
            assert (body["detail"], body["task_id"]) == ("A sentence for people.", told.task.id)
    assert set(TASK_STATUSES) <= {*FAILURES, "conflict"}


async def test_a_cancelled_task_is_a_conflict(idle: Running) -> None:
    async with sync_call(idle) as calling:
        told = await story.claim(idle.service.pool, idle.service.bus)
        await told.finish(Status.CANCELLED)
        answer = await calling
        assert answer.status == 409
        await failed(answer, "conflict")


@asynccontextmanager
async def sync_call(running: Running) -> AsyncIterator[asyncio.Task[ClientResponse]]:
    """A synchronous call whose task waits in the table."""
    http = running.http
    calling = asyncio.create_task(http.session.post(http.make_url(SYNC), data=form()))
    await story.arrives(running.service.pool)
    yield calling
    (await calling).release()


async def test_a_task_stays_accepted_when_postgresql_goes_away_meanwhile(settings: Settings, start: Start) -> None:
    assert settings.database_url
    async with relayed(settings.database_url.get_secret_value()) as (relay, url):
        running = await start(Settings.model_validate({**settings.model_dump(), "database_url": url, "workers": 0}))
        async with sync_call(running) as calling:
            told = await story.claim(running.service.pool, running.service.bus)
            last = Event(1, encode({"progress": -1, "status": "failed"}))
            await until(lambda: told.task.channel in running.service.bus._channels)
            await relay.cut()
            await running.service.bus.publish(told.task.channel, told.message(last))
            answer = await calling
            assert answer.status == 202
            assert (await answer.json())["id"] == told.task.id
        await relay.mend()


# -- clients that go away


async def test_who_hangs_up_while_waiting_cancels_nothing(shop: Running, openai: FakeOpenAI) -> None:
    held = openai.hold("edits")
    await send_and_vanish(shop, SYNC)
    await held.arrived()
    held.release()
    assert (await finished(shop, 1))["status"] == "completed"


async def test_who_does_not_wait_for_the_answer_has_ordered_all_the_same(shop: Running) -> None:
    await send_and_vanish(shop, ASYNC)
    assert (await finished(shop, 1))["status"] == "completed"


async def send_and_vanish(running: Running, path: str) -> None:
    """A whole order whose sender is gone when its row is there."""
    body = part("file", photo("chelsea.png"), filename="x.png") + b"--XX--\r\n"
    _, writer = await asyncio.open_connection(*address(running))
    writer.write(request(running, body, path=path))
    await writer.drain()
    await until_found(running.service.pool, "SELECT count(*) FROM tasks")
    writer.transport.abort()
