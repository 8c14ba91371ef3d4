"""What a running step shows: drafts and words, which pass and are not counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from enhancer.bus import Bus, live
from enhancer.domain.tasks import encode
from enhancer.pipeline import previews, screen
from enhancer.settings import Settings
from tests.conftest import Running, Start
from tests.fakes.openai import FakeOpenAI
from tests.web import sse, story
from tests.web.forms import STREAM, accept, address, stored, token
from tests.web.sse import Client, Event
from tests.web.story import Story
from tests.web.waiting import until

pytestmark = pytest.mark.usefixtures("quiet")


def named(events: list[Event], name: str) -> list[Any]:
    return [event.json for event in events if event.name == name]


def numbered(events: list[Event]) -> list[str]:
    return [event.id for event in events if event.name == "message"]


async def everything(client: Client) -> list[Event]:
    """All events up to the end, the named ones included."""
    events = []
    while event := await client.any_event():
        events.append(event)
    return events


async def show(bus: Bus, told: Story, kind: str, **data: object) -> None:
    """As the screen does."""
    await bus.show(told.task.channel, kind, encode({"event": kind, "after": len(told.events), "data": data}))


async def opened(running: Running, told: Story, at: int) -> None:
    """Return once what is shown for a task is listened to."""
    for progress in story.POINTS[: story.POINTS.index(at) + 1][len(told.events) :]:
        await told.tell(progress)


async def test_drafts_and_words_of_a_model_reach_the_watcher(shop: Running, openai: FakeOpenAI) -> None:
    drawing, writing = openai.pause("edits", after=1), openai.pause("chat", after=40)
    task = await accept(shop.http)
    async with sse.connect(address(shop), STREAM.format(task["id"]), token=token(shop)) as client:
        events = await client.until("preview")
        [preview] = named(events, "preview")
        assert set(preview) == {"image_url", "step", "timestamp"}
        assert preview["step"] == "redraw"
        link = preview["image_url"].removeprefix(shop.service.settings.public_url)
        async with shop.http.get(link, headers={"Authorization": ""}) as answer:
            assert (answer.status, answer.content_type) == (200, "image/jpeg")
        async with sse.connect(address(shop), STREAM.format(task["id"]), token=token(shop)) as late:
            assert named(await late.until("preview"), "preview") == [preview]
        drawing.release()
        events += await client.until("script")
        first = named(events, "script")[0]
        assert set(first) == {"script", "timestamp"}
        async with sse.connect(address(shop), STREAM.format(task["id"]), token=token(shop)) as late:
            seen = await late.until("script")
            assert named(seen, "preview") == []
        writing.release()
        events += await everything(client)
    last = events[-1].json
    assert all(last["script"].startswith(words["script"]) for words in named(events, "script"))
    assert numbered(events) == [str(number) for number in range(1, 16)]
    assert await shop.service.pool.fetchval("SELECT count(*) FROM task_events WHERE task_id = $1", task["id"]) == 15
    assert await shop.service.bus.shown(f"enhancement:{task['id']}") == []


async def test_the_studio_shows_its_work_too(enhancer: Running) -> None:
    task = await accept(enhancer.http)
    async with sse.connect(address(enhancer), STREAM.format(task["id"]), token=token(enhancer)) as client:
        events = await everything(client)
    assert len(named(events, "preview")) >= 1
    assert named(events, "script")[-1]["script"] == json.loads(events[-1].data)["script"]
    assert numbered(events) == [str(number) for number in range(1, 16)]


async def test_drafts_go_soon_after_their_task(
    enhancer: Running, openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "GRACE", 0.0)
    monkeypatch.setattr(previews, "SWEEP", 0.05)
    task = await accept(enhancer.http)
    async with sse.connect(address(enhancer), STREAM.format(task["id"]), token=token(enhancer)) as client:
        await everything(client)
    await enhancer.service.tools.previews._sweep(everything=True)
    await until(lambda: not [path for path in stored(enhancer) if path.parent.name == "previews"])


async def test_another_replica_s_show_is_seen_here_also_late(with_models: Settings, start: Start) -> None:
    idle = with_models.model_copy(update={"workers": 0})
    here, there = await start(idle), await start(idle)
    told = await story.begin(there.service.pool, there.service.bus, here.user.id)
    await opened(there, told, 30)
    await show(there.service.bus, told, "preview", n=1)
    async with sse.connect(address(here), STREAM.format(told.task.id), token=token(here)) as client:
        assert named(await client.until("preview"), "preview") == [{"n": 1}]
        await show(there.service.bus, told, "preview", n=2)
        assert named(await client.until("preview"), "preview") == [{"n": 2}]
        async with sse.connect(address(here), STREAM.format(told.task.id), token=token(here)) as late:
            assert named(await late.until("preview"), "preview") == [{"n": 2}]
            await told.tell(50)
            async with sse.connect(address(here), STREAM.format(told.task.id), token=token(here)) as later:
                await told.tell_all()
                for watcher in (client, late, later):
                    assert named(await everything(watcher), "preview") == []


async def test_without_redis_those_who_watch_here_still_see(
    settings: Settings, start: Start, unused_tcp_port: int
) -> None:
    given = {"redis_url": f"redis://127.0.0.1:{unused_tcp_port}/0", "poll_interval": 0.05}
    running = await start(Settings.model_validate({**settings.model_dump(), **given}))
    task = await accept(running.http)
    async with sse.connect(address(running), STREAM.format(task["id"]), token=token(running)) as client:
        events = await everything(client)
    assert named(events, "script")
    assert numbered(events) == [str(number) for number in range(1, 16)]


async def test_what_redis_does_to_shows_is_not_seen(idle: Running, redis_url: str) -> None:
    told = await story.begin(idle.service.pool, idle.service.bus, idle.user.id)
    async with sse.connect(address(idle), STREAM.format(told.task.id), token=token(idle)) as client:
        await opened(idle, told, 30)
        await client.take(6)
        odd = [{"event": "Preview", "after": 6, "data": {"a": 1}}, {"event": "preview", "after": "6", "data": {"a": 1}}]
        odd += [{"event": "preview", "after": 6, "data": []}, {"event": "preview", "after": 6, "data": {}}]
        odd += [{"event": "a\nid: 9", "after": 6, "data": {"a": 1}}, {"event": 7, "after": 6, "data": {"a": 1}}]
        odd += [{"event": "preview", "after": 5, "data": {"stale": 1}}, {"after": 6}]
        lone = '{"event": "preview", "after": 6, "data": {"x": "\\ud800"}}'
        garbage = [
            "",
            "no JSON",
            "[]",
            "null",
            "[" * 100_000,
            lone,
            '{"event": "preview", "after": 6, "data": {"x": NaN}}',
        ]
        await story.shout(redis_url, live(told.task.channel), *garbage, *(json.dumps(message) for message in odd))
        await show(idle.service.bus, told, "script", script="Grüße\n图")
        [event] = await client.until("script")
        assert event.json == {"script": "Grüße\n图"}
        await told.tell_all()
        assert numbered(await everything(client)) == [str(number) for number in range(7, 16)]


async def test_a_program_that_subscribes_to_a_task_hears_numbered_events_alone(
    enhancer: Running, redis_url: str
) -> None:
    heard: list[str] = []
    async with Bus.open(redis_url) as ear:
        await until(lambda: ear.connected)
        number = 1 + (await enhancer.service.pool.fetchval("SELECT coalesce(max(id), 0) FROM tasks") or 0)
        ear.listen(f"enhancement:{number}", heard.append)
        assert await ear.confirmed(f"enhancement:{number}", seconds=30)
        assert (await accept(enhancer.http))["id"] == number
        await until(lambda: heard and json.loads(heard[-1])["status"] == "completed")
    assert [json.loads(message)["seq"] for message in heard] == list(range(1, 16))


async def test_no_more_than_four_a_second_are_shown(bus: Bus) -> None:
    clock = 100.0
    shown = screen.Screen(bus, "enhancement:77", lambda: clock)
    heard: list[str] = []
    bus.listen(live("enhancement:77"), heard.append)
    await until(lambda: bus.connected)
    assert await bus.confirmed(live("enhancement:77"), seconds=30)
    async with shown.lit(after=3):
        for number in range(4):
            shown._recent.append(clock - 0.9)
            shown.show("script", {"script": str(number)})
        assert shown._free_at() == pytest.approx(clock + 0.1)
    assert heard == []  # four in this second already, so not even the last words
    clock += 1
    async with shown.lit(after=3):
        shown.show("script", {"script": "first"})
        await until(lambda: len(heard) == 1)
        shown.show("script", {"script": "second"})
        shown.show("script", {"script": "last"})
    await until(lambda: len(heard) == 2)
    assert [json.loads(message)["data"]["script"] for message in heard] == ["first", "last"]
    assert await bus.shown("enhancement:77") == []


async def test_a_show_that_fails_is_nobody_s_business(bus: Bus) -> None:
    shown = screen.Screen(bus, "enhancement:78")
    tried: list[int] = []

    async def broken() -> dict[str, object]:
        tried.append(1)
        raise OSError("no room")

    async with shown.lit(after=3):
        shown.show("preview", broken)
        await until(lambda: tried)
        shown.show("script", {"script": "words"})
    assert await bus.shown("enhancement:78") == []
