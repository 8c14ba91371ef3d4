from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel

from enhancer import embedded
from enhancer.domain.tasks import Kind, Status
from enhancer.settings import Settings
from enhancer.web import hub, streams
from enhancer.web.models import EnhancementProgressEvent
from tests.conftest import Running, Start, photo
from tests.fakes.openai import FakeOpenAI, faults
from tests.web import sse, story
from tests.web.forms import STREAM, accept, address, form, token
from tests.web.people import member
from tests.web.relay import relayed
from tests.web.sse import Client
from tests.web.story import POINTS, Story
from tests.web.waiting import locked, until, until_locked_out

pytestmark = pytest.mark.usefixtures("quiet")

IDS = [str(number) for number in range(1, 16)]


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub looks after its watchers all the time."""
    monkeypatch.setattr(hub, "TICK", 0.01)


def watch(
    running: Running,
    task_id: int,
    *,
    last_id: str | bytes | None = None,
    query: str = "",
    version: str = "1.1",
    receive_buffer: int | None = None,
) -> AbstractAsyncContextManager[Client]:
    """The task's stream, with its owner's token."""
    return sse.connect(
        address(running),
        STREAM.format(task_id) + query,
        token=token(running),
        last_id=last_id,
        version=version,
        receive_buffer=receive_buffer,
    )


async def tale(running: Running) -> Story:
    """A task of the service's user, told by the test."""
    return await story.begin(running.service.pool, running.service.bus, running.user.id)


async def ended_tale(running: Running) -> Story:
    told = await tale(running)
    await told.tell_all()
    return told


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0


async def until_streams(count: int) -> None:
    """Return once so many streams are open."""
    await until(lambda: sample("enhancer_streams") == count)


# -- what a watcher sees


async def test_a_real_task_is_seen_from_its_first_point_to_its_last(shop: Running, openai: FakeOpenAI) -> None:
    held = openai.hold("edits")
    task = await accept(shop.http, form(photo("chelsea.png"), user_description="A cat", duration="8"))
    async with watch(shop, task["id"]) as client:
        begun = await client.take(6)
        assert [event.json["progress"] for event in begun] == [5, 10, 15, 20, 25, 30]
        held.release()
        events = begun + await client.rest()
    assert [event.id for event in events] == IDS
    assert {event.name for event in events} == {"message"}
    assert [event.json["message"] for event in events] == [
        "🚀 Enhancement task started",
        "📖 Reading original image...",
        "✅ Image loaded (0.24MB)",
        "📐 Detecting image orientation...",
        "✅ Orientation: landscape (1280x720)",
        "🎨 Enhancing image with gpt-image-2.5-flare...",
        "✅ Image enhanced (1536x1024)",
        "📐 Resizing for video requirements...",
        "✅ Image resized for video (1280x720)",
        "💾 Saving enhanced image...",
        "✅ Enhanced image saved",
        "🤖 Generating advertising script with gpt-6-luna...",
        f"✅ Script generated ({len(events[-1].json['script'])} characters)",
        "💾 Saving results...",
        "🎉 Enhancement completed successfully!",
    ]
    assert [event.json["progress"] for event in events] == list(POINTS)


async def test_events_have_the_keys_that_clients_were_promised(shop: Running) -> None:
    task = await accept(shop.http)
    async with watch(shop, task["id"]) as client:
        *events, last = await client.rest()
    for event in events:
        assert list(event.json) == ["progress", "message", "status", "queue_position", "eta_seconds", "timestamp"]
        assert event.json["status"] == "processing"
    assert set(last.json) == {
        *("progress", "status", "message", "enhanced_image_url", "script", "product_analysis", "timestamp")
    }
    assert last.json["status"] == "completed"
    times = [event.json["timestamp"] for event in [*events, last]]
    assert times == sorted(times)
    assert all(isinstance(EnhancementProgressEvent.model_validate_json(event.data), BaseModel) for event in events)


async def test_a_failure_is_the_last_event(shop: Running, openai: FakeOpenAI) -> None:
    openai.fail("edits", faults.moderated())
    task = await accept(shop.http)
    async with watch(shop, task["id"]) as client:
        last = (await client.rest())[-1]
    assert set(last.json) == {"progress", "status", "error", "error_code", "timestamp"}
    assert (last.json["progress"], last.json["status"]) == (-1, "failed")
    assert last.json["error_code"] == "provider_rejected_image"


async def test_before_during_and_after_the_task_everybody_sees_the_same(idle: Running) -> None:
    told = await tale(idle)
    async with watch(idle, told.task.id) as early:
        for progress in POINTS[:7]:
            await told.tell(progress)
        async with watch(idle, told.task.id) as late:
            await told.tell_all()
            seen = [await early.rest(), await late.rest()]
    async with watch(idle, told.task.id) as after:
        seen.append(await after.rest())
    for events in seen:
        assert [event.id for event in events] == told.ids == IDS
        assert [event.data for event in events] == told.data, "not the bytes that were recorded"


async def test_a_client_that_comes_back_gets_what_it_has_not_seen(idle: Running) -> None:
    told = await ended_tale(idle)
    for seen in range(15):
        async with watch(idle, told.task.id, last_id=str(seen)) as client:
            assert [event.id for event in await client.rest()] == IDS[seen:]
        async with watch(idle, told.task.id, query=f"?last_event_id={seen}") as client:
            assert [event.id for event in await client.rest()] == IDS[seen:]


async def test_a_client_that_comes_back_in_the_middle_follows_on(idle: Running) -> None:
    told = await tale(idle)
    seen: list[str] = []
    last_id = None
    for progress in POINTS[:-1]:
        async with watch(idle, told.task.id, last_id=last_id) as client:
            await told.tell(progress)
            seen += [event.id for event in await client.take(1)]
            last_id = client.last_id
            client.abort()
    async with watch(idle, told.task.id, last_id=last_id) as client:
        await told.finish()
        seen += [event.id for event in await client.rest()]
    assert seen == IDS


async def test_the_header_goes_before_the_query(idle: Running) -> None:
    told = await ended_tale(idle)
    async with watch(idle, told.task.id, last_id="12", query="?last_event_id=3") as client:
        assert [event.id for event in await client.rest()] == ["13", "14", "15"]


HOSTILE: list[str | bytes] = [
    "-1",
    "+1",
    "1.5",
    "0x1",
    "abc",
    "1,2",
    "1;DROP TABLE tasks",
    "１２",
    "16",
    "9" * 18,
    "9" * 19,
    "9" * 5000,
    "null",
    b"\xff\xfe",
]


async def test_an_odd_last_event_id_means_from_the_start(idle: Running) -> None:
    told = await ended_tale(idle)
    for odd in HOSTILE:
        async with watch(idle, told.task.id, last_id=odd) as client:
            assert [event.id for event in await client.rest()] == IDS, odd
    for odd in ("-1", "abc", "%00", "%ff", "1%0a", "%F0%9F%9A%80"):
        async with watch(idle, told.task.id, query=f"?last_event_id={odd}") as client:
            assert [event.id for event in await client.rest()] == IDS, odd


async def test_who_has_seen_the_end_is_told_to_stop(idle: Running) -> None:
    told = await ended_tale(idle)
    for last_id, query in (("15", ""), (None, "?last_event_id=15")):
        async with watch(idle, told.task.id, last_id=last_id, query=query) as client:
            assert client.status == 204
            assert "content-type" not in client.headers


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
async def test_the_response_ends_with_the_task(idle: Running, status: Status) -> None:
    told = await tale(idle)
    async with watch(idle, told.task.id) as client:
        await told.tell(5)
        await told.finish(status, error=("internal", "It broke.") if status is Status.FAILED else None)
        assert [event.json["status"] for event in await client.rest()] == ["processing", status.value]
    await until_streams(0)


# -- the first bytes, and the quiet ones


async def test_the_first_bytes_come_at_once(idle: Running) -> None:
    waiting = await story.pending(idle.service.pool, idle.user.id)
    async with watch(idle, waiting.id) as client:
        assert await client.comment() == "connected"
        assert client.retry == [2000]
        assert client.status == 200
        assert client.headers["content-type"] == "text/event-stream"
        assert client.headers["cache-control"] == "no-cache, no-transform"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.headers["connection"] == "close"
        assert "content-length" not in client.headers


async def test_silence_is_broken_by_comments(brisk: None, idle: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.02)
    told = await tale(idle)
    async with watch(idle, told.task.id) as modern, watch(idle, told.task.id, version="1.0") as old:
        for client in (modern, old):
            assert [await client.comment() for _ in range(4)] == ["connected", "", "", ""]
        await told.tell_all()
        for client in (modern, old):
            assert [event.id for event in await client.rest()] == IDS


async def test_comments_come_only_after_a_time_of_silence(brisk: None, idle: Running) -> None:
    told = await tale(idle)
    async with watch(idle, told.task.id) as client:
        await client.comment()
        await asyncio.sleep(0.05)  # the hub looks after its watchers meanwhile
        await told.tell_all()
        await client.rest()
        assert client.comments == ["connected"]


async def test_http_1_0_gets_the_events_without_chunks(idle: Running) -> None:
    told = await tale(idle)
    async with watch(idle, told.task.id, version="1.0") as client:
        assert client.status == 200
        assert "transfer-encoding" not in client.headers
        await told.tell_all()
        assert [(event.id, event.data) for event in await client.rest()] == list(zip(IDS, told.data, strict=True))


# -- who may watch


async def test_a_stream_s_own_token_opens_it_and_no_other(idle: Running) -> None:
    task, other = [await story.pending(idle.service.pool, idle.user.id) for _ in range(2)]
    scoped = idle.service.tokens.stream(idle.user.id, task.channel)
    for task_id, given, status in (
        (task.id, scoped, 200),
        (other.id, scoped, 401),
        (task.id, token(idle), 200),
        (task.id, "", 401),
        (task.id, "nonsense", 401),
        (task.id, idle.service.tokens.stream(idle.user.id, Kind.VIDEO.channel(task.id)), 401),
    ):
        async with sse.connect(address(idle), f"{STREAM.format(task_id)}?token={given}") as client:
            assert client.status == status, given


async def test_the_address_in_the_answer_opens_the_stream_as_it_is(idle: Running) -> None:
    task = await accept(idle.http)
    target = task["stream_url"].removeprefix(idle.service.settings.public_url)
    async with sse.connect(address(idle), target) as client:
        assert client.status == 200
        assert await client.comment() == "connected"


async def test_what_is_not_there_and_what_is_not_mine_look_the_same(idle: Running) -> None:
    stranger = await member(idle.service.pool, "stranger@example.com")
    theirs = await story.pending(idle.service.pool, stranger.id)
    film = await story.pending(idle.service.pool, idle.user.id)
    await idle.service.pool.execute("UPDATE tasks SET kind = 'video' WHERE id = $1", film.id)
    bodies = []
    for task_id in (theirs.id, film.id, 0, 999_999, 2**63 - 1, 2**63, 10**19 - 1):
        async with watch(idle, task_id) as client:
            assert client.status == 404
            bodies.append(await client.body())
    assert len(set(bodies)) == 1
    async with sse.connect(address(idle), STREAM.format("1" * 20), token=token(idle)) as client:
        assert client.status == 404


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_a_stream_is_only_to_be_got(idle: Running, method: str) -> None:
    task = await story.pending(idle.service.pool, idle.user.id)
    async with sse.connect(address(idle), STREAM.format(task.id), token=token(idle), method=method) as client:
        assert client.status == 405
        assert client.headers["allow"] == "GET"


# -- many


async def test_fifty_watchers_of_one_task_all_see_everything(shop: Running, openai: FakeOpenAI) -> None:
    held = openai.hold("edits")
    task = await accept(shop.http)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(watch(shop, task["id"])) for _ in range(50)]
        held.release()
        seen = await asyncio.gather(*(client.rest() for client in clients))
    assert [event.id for event in seen[0]] == IDS
    assert all(events == seen[0] for events in seen)


async def test_watchers_of_many_tasks_see_their_own(idle: Running) -> None:
    tales = [await tale(idle) for _ in range(20)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(watch(idle, told.task.id)) for told in tales for _ in range(2)]
        await asyncio.gather(*(told.tell_all() for told in tales))
        seen = await asyncio.gather(*(client.rest() for client in clients))
    assert [[event.data for event in events] for events in seen] == [told.data for told in tales for _ in range(2)]


async def test_more_streams_than_allowed_are_asked_to_come_back_later(settings: Settings, start: Start) -> None:
    running = await start(settings.model_copy(update={"workers": 0, "max_streams": 2}))
    told = await tale(running)
    async with watch(running, told.task.id), watch(running, told.task.id) as second:
        for version in ("1.1", "1.0"):
            async with watch(running, told.task.id, version=version) as third:
                assert third.status == 200, "any other answer would close a browser's EventSource for good"
                assert await third.rest() == []
                assert third.retry == [15000]
        await told.tell_all()
        assert [event.id for event in await second.rest()] == IDS
    await until_streams(0)
    async with watch(running, told.task.id) as again:
        assert [event.id for event in await again.rest()] == IDS
    gc.collect()  # a stream's task that nobody waited for would be reported now


# -- clients that do not behave


async def test_who_never_reads_is_dropped_and_harms_nobody(idle: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEND_BUFFER", 16 * 1024)
    dropped = sample("enhancer_streams_dropped_total")
    told = await tale(idle)
    async with watch(idle, told.task.id, receive_buffer=4096) as stuck, watch(idle, told.task.id) as healthy:
        while sample("enhancer_streams_dropped_total") == dropped:
            await told.tell(5, message="x" * 8000)
            await healthy.take(1)
        assert len(told.events) < 20, "the kernel holds little for a client that does not read"
        assert sample("enhancer_streams") == 1
        await told.finish()
        assert (await healthy.rest())[-1].id == told.ids[-1]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await stuck.rest()
        last_id = stuck.last_id
    async with watch(idle, told.task.id, last_id=last_id) as again:
        assert [event.id for event in await again.rest()] == told.ids[int(last_id or 0) :]


async def test_a_long_past_is_replayed_to_who_reads_it(idle: Running) -> None:
    told = await tale(idle)
    for _ in range(60):
        await told.tell(5, message="x" * 10_000)
    async with watch(idle, told.task.id) as client:
        await client.take(60)
        await told.finish()
        assert [event.id for event in await client.rest()] == ["61"]


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_who_leaves_is_noticed_without_a_word(
    brisk: None, idle: Running, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    told = await tale(idle)
    caplog.set_level(logging.WARNING)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(watch(idle, told.task.id)) for _ in range(20)]
        await until_streams(20)
        for number, client in enumerate(clients):
            if how == "abort":
                client.abort()
            else:
                await client.close()
            if number == 10:
                await told.tell(5)
        await until_streams(0)
    gc.collect()
    assert caplog.records == []


async def test_who_leaves_before_the_answer_is_no_error(
    brisk: None, idle: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    told = await tale(idle)
    about = f"Host: test\r\nAuthorization: Bearer {token(idle)}\r\n\r\n"
    async with locked(idle.service.pool, "tasks"):
        for count in range(1, 6):
            _, writer = await asyncio.open_connection(*address(idle))
            writer.write(f"GET {STREAM.format(told.task.id)} HTTP/1.1\r\n{about}".encode())
            await until_locked_out(idle.service.pool, count)
            writer.transport.abort()
    async with watch(idle, told.task.id) as client:
        assert await client.comment() == "connected"
    await until_streams(0)
    gc.collect()
    assert caplog.records == []


# -- Redis and PostgreSQL away


class Valkey:
    """A Valkey of the test's own that comes back where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self.url = ""

    async def start(self) -> None:
        running = await self._stack.enter_async_context(embedded.servers(self._folder, database=False))
        self.url = str(running.redis_url)

    async def stop(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def moody(settings: Settings, valkey: Valkey, start: Start) -> Running:
    """An idle service on a Valkey that the test stops and starts."""
    given = {**settings.model_dump(), "redis_url": valkey.url, "workers": 0, "poll_interval": 0.05}
    return await start(Settings.model_validate(given))


async def connected(running: Running) -> None:
    await until(lambda: running.service.bus.connected)


async def test_a_restart_of_redis_loses_and_doubles_nothing(moody: Running, valkey: Valkey) -> None:
    told = await tale(moody)
    async with watch(moody, told.task.id) as client:
        await told.tell(5)
        await client.take(1)
        await valkey.stop()
        for progress in POINTS[1:5]:
            await told.tell(progress)
        await told.tell(30, heard=False)  # by another process, which could not ring the bell
        await client.take(5)
        await valkey.start()
        await connected(moody)
        await told.tell(50, heard=False)
        await told.tell_all()
        assert [event.data for event in await client.rest()] == told.data[6:]


async def test_an_event_that_was_lost_in_a_restart_is_found_when_redis_is_back(
    moody: Running, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RECONCILE", 600)
    told = await tale(moody)
    async with watch(moody, told.task.id) as client:
        await told.tell(5)
        await client.take(1)
        await valkey.stop()
        await told.tell(10, heard=False)
        await valkey.start()
        await client.take(1)
        await connected(moody)
        await told.tell_all()
        assert [event.id for event in await client.rest()] == IDS[2:]


async def test_without_redis_streams_live_from_the_table(
    settings: Settings, start: Start, unused_tcp_port: int
) -> None:
    given = {"redis_url": f"redis://127.0.0.1:{unused_tcp_port}/0", "workers": 0, "poll_interval": 0.05}
    here, there = [await start(Settings.model_validate({**settings.model_dump(), **given})) for _ in range(2)]
    told = await story.begin(there.service.pool, there.service.bus, here.user.id)
    async with watch(here, told.task.id) as client:
        assert await client.comment() == "connected"
        await told.tell_all()
        assert [event.data for event in await client.rest()] == told.data


async def test_what_redis_does_to_messages_is_not_seen(idle: Running, redis_url: str) -> None:
    told = await tale(idle)
    channel = told.task.channel
    async with watch(idle, told.task.id) as client:
        await told.tell(5)
        await client.take(1)
        garbage = ["", "no JSON", "[]", "null", "7", '"seq"', "{", "[" * 100_000, '{"seq": 2}']
        odd = [f'{{"seq": {seq}, "status": "processing"}}' for seq in ('"2"', "2.0", "true", "-1", "0", "null")]
        worse = ['{"seq": 2, "status": "dreaming"}', '{"seq": 2, "status": "failed", "x": NaN}', '{"seq": 1e999}']
        lone = '{"seq": 2, "status": "failed", "x": "\\ud800"}'
        await story.shout(redis_url, channel, *garbage, *odd, *worse, lone)
        first = told.message(told.events[0])
        late = await told.tell(10, heard=False)
        await story.shout(redis_url, channel, first, told.message(late), told.message(late), first)
        skipped = await told.tell(15, heard=False)
        await told.tell(20)  # and with it the one before, from the table
        await story.shout(redis_url, channel, told.message(skipped))
        assert [event.data for event in await client.take(3)] == told.data[1:4]
        lost = [await told.tell(progress, heard=False) for progress in POINTS[4:8]]
        await story.shout(redis_url, channel, *(told.message(event) for event in reversed(lost)))
        await told.tell_all()
        assert [event.data for event in await client.rest()] == told.data[4:]


async def test_a_lost_last_message_is_found_all_the_same(idle: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "RECONCILE", 0.05)
    told = await tale(idle)
    async with watch(idle, told.task.id) as client:
        await told.tell(5)
        await client.take(1)
        await told.finish(heard=False)
        assert [event.id for event in await client.rest()] == ["2"]


async def test_another_replica_s_task_is_watched_here(with_models: Settings, start: Start, openai: FakeOpenAI) -> None:
    there = await start(with_models)
    here = await start(with_models.model_copy(update={"workers": 0}))
    held = openai.hold("edits")
    task = await accept(here.http)
    async with (
        watch(here, task["id"]) as client,
        sse.connect(address(there), STREAM.format(task["id"]), token=token(here)) as other,
    ):
        held.release()
        events = await client.rest()
        assert [event.id for event in events] == IDS
        assert await other.rest() == events


async def test_the_stream_of_a_deleted_task_ends(idle: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "RECONCILE", 0.05)
    task = await story.pending(idle.service.pool, idle.user.id)
    async with watch(idle, task.id) as client:
        assert await client.comment() == "connected"
        await idle.service.pool.execute("DELETE FROM tasks WHERE id = $1", task.id)
        assert await client.rest() == []
    async with watch(idle, task.id) as client:
        assert client.status == 404


async def test_a_stream_that_cannot_begin_ends_so_that_its_client_comes_back(
    settings: Settings, start: Start, idle: Running
) -> None:
    told = await tale(idle)
    assert settings.database_url
    async with relayed(settings.database_url.get_secret_value()) as (relay, url):
        running = await start(Settings.model_validate({**settings.model_dump(), "database_url": url, "workers": 0}))
        target = f"{STREAM.format(told.task.id)}?token={token(idle)}"
        async with locked(idle.service.pool, "task_events"), sse.connect(address(running), target) as client:
            assert await client.comment() == "connected"
            await until_locked_out(idle.service.pool)
            await relay.cut()
            assert await client.rest() == []
        await relay.mend()


async def test_streams_outlive_a_restart_of_postgresql(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch, idle: Running
) -> None:
    monkeypatch.setattr(hub, "RECONCILE", 0.05)
    assert settings.database_url
    async with relayed(settings.database_url.get_secret_value()) as (relay, url):
        given = {**settings.model_dump(), "database_url": url, "workers": 0}
        running = await start(Settings.model_validate(given))
        told = await story.begin(idle.service.pool, idle.service.bus, running.user.id)
        async with watch(running, told.task.id) as client:
            await told.tell(5)
            await client.take(1)
            await relay.cut()
            for progress in POINTS[1:4]:
                await told.tell(progress, heard=progress == 20)
            await relay.mend()
            await told.tell_all()
            assert [event.id for event in await client.rest()] == IDS[1:]
