"""Videos through the whole service, rendered by the stand-in for a server of `/v1/videos`."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from enhancer.domain.tasks import Status, Task
from enhancer.domain.videos import VideoOutput
from enhancer.settings import Settings
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from tests.fakes.videos import FakeVideos, Says, faults, film
from tests.pipeline import pictures
from tests.pipeline.processes import serving
from tests.pipeline.watching import ended, messages, reached, step_of, told
from tests.pipeline.workshop import Place, Start, opened

NEVER = Says("in_progress", 40, headers={"openai-poll-after-ms": "100"})


def says(status: str, progress: object = None) -> Says:
    """A word of a server that wants to be asked again at once."""
    return Says(status, progress, headers={"openai-poll-after-ms": "0"})


@pytest.fixture
async def fake() -> AsyncIterator[FakeVideos]:
    async with FakeVideos(film=film((1280, 720), 4)) as fake:
        fake.tell(says("queued", 0), says("in_progress", 50), says("completed", 100))
        yield fake


@pytest.fixture
def rented(settings: Settings, fake: FakeVideos) -> Settings:
    """Settings of services whose videos come from the stand-in."""
    given = {"video_base_url": fake.url, "video_api_key": SecretStr(fake.key), "video_model": "wan-2.2"}
    return settings.model_copy(update={**given, "poll_interval": 0.05, "replica": "one"})


@pytest.fixture
async def place(rented: Settings, start: Start) -> Place:
    """A service that works."""
    return await start(rented)


async def order(place: Place) -> Task:
    accepted = await place.service.orders.video(
        place.user.id,
        io.BytesIO(pictures.landscape()),
        enhancement_id=None,
        prompt="A lamp that is lit",
        duration=4,
        language="en",
    )
    return accepted.task


async def points(pool: Pool, task: Task) -> list[tuple[int, int | None]]:
    """What the events tell: step and percentage."""
    return [(event["step"], event["progress"]) for event in await told(pool, task)]


def rendering(task: Task) -> bool:
    """The provider has begun."""
    return task.progress >= 5


def only(fake: FakeVideos) -> str:
    """The id of the one order that there was, which is the one of all calls."""
    [order] = {call.video for call in fake.calls if call.video}
    assert len(fake.calls_of("order")) == fake.billed == 1
    return order


async def test_a_video_is_ordered_once_and_kept_as_it_came(place: Place, fake: FakeVideos, pool: Pool) -> None:
    task = await ended(pool, await order(place))
    assert task.status is Status.COMPLETED
    assert await points(pool, task) == [
        *((step, 0) for step in range(5)),
        (5, 0),
        (5, 50),
        *((step, 100) for step in range(6, 10)),
    ]
    found = VideoOutput.model_validate(task.output)
    assert (found.width, found.height, found.frames, found.video_model) == (1280, 720, 96, "wan-2.2")
    assert found.video_path is not None
    assert await place.service.files.read(found.video_path) == fake.film
    [call] = fake.calls_of("order")
    assert (call.fields["prompt"], call.fields["seconds"]) == ("A lamp that is lit", "4")
    assert call.fields["input_reference"] == "frame.jpg image/jpeg 1280x720"
    assert (await step_of(pool, task, "render")).provider_id == only(fake)
    assert fake.withdrawn == []


async def test_a_server_with_words_of_its_own_and_a_bad_moment_is_understood(
    place: Place, fake: FakeVideos, pool: Pool
) -> None:
    fake.omit = {"progress", "error", "model"}
    fake.tell(says("pending"), says("processing"), says("processing"), says("succeeded"))
    fake.fail("look", faults.status(500, headers={"Retry-After": "0"}))
    fake.fail("look", faults.html())
    fake.fail("content", faults.truncated())
    task = await ended(pool, await order(place))
    assert task.status is Status.COMPLETED
    assert [percent for step, percent in await points(pool, task) if step == 5] == [None]
    assert fake.calls_of("look")[0].outcome == "status 500"
    only(fake)


async def test_a_server_that_cannot_take_the_order_now_gets_it_later(
    place: Place, fake: FakeVideos, pool: Pool
) -> None:
    fake.fail("order", faults.status(500))
    task = await ended(pool, await order(place))
    assert (task.status, task.attempts) == (Status.COMPLETED, 2)
    assert [call.outcome for call in fake.calls_of("order")] == ["status 500", "answered"]
    assert fake.billed == 1
    assert any(message.startswith("⏳ Retrying") for message in await messages(pool, task))


async def test_a_video_that_the_server_gives_up_fails_in_its_words(place: Place, fake: FakeVideos, pool: Pool) -> None:
    fake.tell(says("processing"), Says("failed", more={"error": {"code": "oom", "message": "Out of memory."}}))
    task = await ended(pool, await order(place))
    assert (task.status, task.error_code) == (Status.FAILED, "provider_refused")
    assert task.error_message == "The provider could not make the video. It said: Out of memory."
    last = (await told(pool, task))[-1]
    assert (last["step"], last["error_code"]) == (-1, "provider_refused")
    only(fake)
    fake.tell(says("completed", 100))
    await place.service.lifecycle.retry(task)
    assert (await reached(pool, task, lambda found: found.status is Status.COMPLETED)).error_code is None
    assert fake.billed == 2


async def test_a_video_that_the_safety_system_stops_says_so(place: Place, fake: FakeVideos, pool: Pool) -> None:
    fake.tell(Says("failed", more={"error": {"code": "moderation_blocked", "message": "No."}}))
    assert (await ended(pool, await order(place))).error_code == "provider_rejected_image"


async def test_a_page_instead_of_a_film_fails_the_task(place: Place, fake: FakeVideos, pool: Pool) -> None:
    fake.film = b"<html>" * 1000
    assert (await ended(pool, await order(place))).error_code == "provider_bad_answer"
    only(fake)


async def test_a_film_of_another_length_fails_the_task(place: Place, fake: FakeVideos, pool: Pool) -> None:
    fake.film = film((1280, 720), 2)
    assert (await ended(pool, await order(place))).error_code == "provider_bad_answer"
    only(fake)


async def test_the_time_limit_tells_the_server(rented: Settings, start: Start, fake: FakeVideos, pool: Pool) -> None:
    fake.tell(NEVER)
    async with opened(rented) as place:
        task = await reached(pool, await order(place), rendering)
    await start(rented.model_copy(update={"video_timeout": 1.0}))
    task = await ended(pool, task)
    assert (task.status, task.error_code) == (Status.FAILED, "timeout")
    await fake.arrived("withdraw")
    assert fake.withdrawn == [only(fake)]


async def test_a_cancel_tells_the_server(place: Place, fake: FakeVideos, pool: Pool) -> None:
    fake.tell(NEVER)
    task = await reached(pool, await order(place), rendering)
    await place.service.lifecycle.cancel(task)
    assert (await ended(pool, task)).status is Status.CANCELLED
    await fake.arrived("withdraw")
    assert fake.withdrawn == [only(fake)]


async def test_a_process_that_dies_while_it_waits_is_followed_by_looks_at_the_same_order(
    rented: Settings, start: Start, fake: FakeVideos, pool: Pool
) -> None:
    fake.tell(NEVER)
    front = await start(rented.model_copy(update={"workers": 0, "replica": "front"}))
    task = await order(front)
    async with serving(
        rented, replica="one", video_base_url=rented.video_base_url, video_api_key=rented.video_api_key
    ) as process:
        await reached(pool, task, rendering)
        await process.kill()
    asked = len(fake.calls_of("look"))
    fake.tell(says("in_progress", 80), says("completed", 100))
    await start(rented)
    task = await ended(pool, task)
    assert (task.status, (await step_of(pool, task, "render")).state) == (Status.COMPLETED, State.DONE)
    assert len(fake.calls_of("look")) > asked
    assert (await points(pool, task))[-5:] == [(5, 80), *((step, 100) for step in range(6, 10))]
    assert fake.withdrawn == []
    only(fake)


async def test_a_server_that_forgot_the_order_is_not_paid_again(place: Place, fake: FakeVideos, pool: Pool) -> None:
    fake.tell(NEVER)
    task = await reached(pool, await order(place), rendering)
    fake.lose()
    task = await ended(pool, task)
    assert (task.status, task.error_code) == (Status.FAILED, "provider_unavailable")
    only(fake)
