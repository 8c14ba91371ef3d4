"""Processes that are killed, frozen or stopped in the middle of their work, and what becomes of it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from signal import SIGCONT, SIGSTOP

import aiohttp
import pytest
from pydantic import SecretStr

from enhancer.domain.enhancements import EnhancementOutput
from enhancer.domain.tasks import Status, Task
from enhancer.settings import Settings
from enhancer.storage import tasks
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from tests.fakes.openai import CHAT_TOKENS, FakeOpenAI, Hold
from tests.fakes.videos import KEY, FakeVideos, Says
from tests.pipeline import pictures
from tests.pipeline.processes import Process, serving
from tests.pipeline.watching import (
    blocked,
    ended,
    eventually,
    listening,
    locked,
    outlive,
    points,
    put_back,
    reached,
    step_of,
)
from tests.pipeline.workshop import ALL_POINTS, Place, Start, order


async def kill_in_statement(process: Process, pool: Pool, statement: str) -> None:
    """SIGKILL while this statement waits for a lock, and never is committed."""
    connection = await blocked(pool, statement)
    await process.kill()
    await pool.execute("SELECT pg_terminate_backend($1, 5000)", connection)


@asynccontextmanager
async def killed_while_it_records(
    settings: Settings, pool: Pool, front: Place, held: Hold, table: str, statement: str
) -> AsyncIterator[Task]:
    """A task whose process got the held call's result, and died while it changed a table."""
    async with serving(settings, replica="one") as process:
        task = await order(front)
        await held.arrived()
        async with locked(pool, task, table):
            held.release()
            await kill_in_statement(process, pool, statement)
        yield task


async def test_a_task_outlives_the_process_that_accepted_it(
    paid: Settings, front: Place, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    form = aiohttp.FormData({"user_description": "A lamp", "language": "en"})
    form.add_field("file", io.BytesIO(pictures.landscape()), filename="lamp.jpg")
    headers = {"Authorization": f"Bearer {front.service.tokens.account(front.user.id)}"}
    async with serving(paid, workers=0) as process, aiohttp.ClientSession(headers=headers) as http:
        url = f"{process.url}/api/v1/ai/enhance-and-script-async"
        async with http.post(url, data=form) as response:
            assert response.status == 202
            accepted = (await response.json())["id"]
        await process.kill()
    await start(paid)
    task = await tasks.get(pool, accepted)
    assert task is not None
    task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)


async def test_a_process_that_dies_in_a_paid_call_is_followed_by_one_call_more(
    paid: Settings, front: Place, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    task = await order(front)
    async with serving(paid, replica="one") as process:
        await held.arrived()
        await process.kill()
    await start(paid)
    task = await put_back(pool, task)
    assert task.message.startswith("⏳ Waiting ")
    assert (await step_of(pool, task, "redraw")).calls == 1
    held.release()
    await outlive(pool, task)
    task = await ended(pool, task)
    row = await step_of(pool, task, "redraw")
    assert task.status is Status.COMPLETED
    assert (row.calls, row.ambiguous) == (2, 1)
    assert (openai.billed("edits"), openai.billed("chat")) == (2, 1)
    assert [point for point in await points(pool, task) if point != 30] == [at for at in ALL_POINTS if at != 30]


async def test_an_image_that_is_stored_when_its_process_dies_is_not_paid_for_again(
    paid: Settings, front: Place, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    async with killed_while_it_records(paid, pool, front, held, "task_steps", "WITH called AS") as task:
        assert (await step_of(pool, task, "redraw")).state is State.STARTED
        with listening() as log:
            await start(paid)
            task = await ended(pool, task)
    assert log.has("call.recovered")
    assert (task.status, task.attempts) == (Status.COMPLETED, 2)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
    assert (await step_of(pool, task, "redraw")).ambiguous == 0
    assert await points(pool, task) == ALL_POINTS
    assert EnhancementOutput.model_validate(task.output).tokens_used == CHAT_TOKENS  # those of the image are lost


@pytest.mark.parametrize("kind", ["edits", "chat"])
async def test_a_result_that_is_recorded_when_its_process_dies_is_not_paid_for_again(
    paid: Settings, front: Place, openai: FakeOpenAI, start: Start, pool: Pool, kind: str
) -> None:
    held = openai.hold("edits" if kind == "edits" else "chat")
    async with killed_while_it_records(paid, pool, front, held, "tasks", "WITH moved AS") as task:
        assert (await reached(pool, task, lambda _: True)).progress == (30 if kind == "edits" else 75)
        await start(paid)
        task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 2)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
    assert await points(pool, task) == ALL_POINTS


async def test_a_frozen_process_loses_its_task_and_its_paid_result_is_kept(
    paid: Settings, front: Place, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    task = await order(front)
    async with serving(paid, replica="one", lease=1, poll_interval=600) as process:
        await held.arrived()
        process.send(SIGSTOP)
        await start(paid.model_copy(update={"replica": "two", "lease": 1.0}))
        task = await put_back(pool, task)  # by the other, which finds that a call may be running
        assert task.fence == 2
        held.release()
        process.send(SIGCONT)
        await eventually(lambda: is_done(pool, task))
        await outlive(pool, task)
        task = await ended(pool, task)
    assert (task.status, task.fence) == (Status.COMPLETED, 3)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
    assert [point for point in await points(pool, task) if point != 30] == [at for at in ALL_POINTS if at != 30]


async def is_done(pool: Pool, task: Task) -> bool:
    return (await step_of(pool, task, "redraw")).state is State.DONE


async def test_a_stop_under_load_charges_nobody_and_ends_in_time(
    paid: Settings, front: Place, openai: FakeOpenAI, pool: Pool
) -> None:
    held = openai.hold("edits")
    added = [await order(front) for _ in range(6)]
    async with serving(paid, replica="one", shutdown_grace=0.2, user_running_limit=3) as process:
        await held.arrived(3)
        assert await process.stop() == 0
    found = [await reached(pool, task, lambda _: True) for task in added]
    assert {(task.status, task.attempts) for task in found} == {(Status.PENDING, 0)}
    assert [task.fence for task in found] == [1, 1, 1, 0, 0, 0]


async def test_two_processes_of_one_name_pay_once(
    paid: Settings, front: Place, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    """A rolling restart: the new one adopts what the old one still works on, and the fence decides."""
    held = openai.hold("edits")
    task = await order(front)
    with listening() as log:
        await start(paid)
        await held.arrived()
        await start(paid)
        task = await put_back(pool, task)
        assert task.fence == 2
        held.release()
        await log.says("task.lease_lost")
        await pool.execute("UPDATE tasks SET run_at = now()")
        task = await ended(pool, task)
    assert (task.status, task.fence) == (Status.COMPLETED, 3)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)


@pytest.fixture
async def renderer() -> AsyncIterator[FakeVideos]:
    """A server of videos that takes no time."""
    async with FakeVideos() as fake:
        fake.tell(Says("completed", 100))
        yield fake


async def test_a_process_that_dies_before_it_has_kept_the_id_of_an_order_is_met_with_care(
    paid: Settings, front: Place, renderer: FakeVideos, start: Start, pool: Pool
) -> None:
    given = {"video_base_url": renderer.url, "video_api_key": SecretStr(KEY)}
    photo = io.BytesIO(pictures.landscape())
    order = {"enhancement_id": None, "prompt": "A lamp", "duration": 4, "language": "en"}
    task = (await front.service.orders.video(front.user.id, photo, **order)).task  # type: ignore[arg-type]
    async with serving(paid, replica="one", enhancer_crash_at="after-call", **given) as process:
        await process.ended()
    assert (renderer.billed, (await step_of(pool, task, "render")).state) == (1, State.STARTED)
    await start(paid.model_copy(update=given))
    task = await put_back(pool, task)  # it waits until no order can be under way
    await outlive(pool, task)
    task = await ended(pool, task, seconds=60)
    row = await step_of(pool, task, "render")
    assert (task.status, renderer.billed, row.ambiguous) == (Status.COMPLETED, 2, 1)
