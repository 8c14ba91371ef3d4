"""One stream for several tasks: each event of each once, whoever reconnects, and whatever is sent as an id."""

from __future__ import annotations

from typing import Any

import pytest

from enhancer.bus import live
from enhancer.domain.tasks import Status, encode
from enhancer.errors import Unauthenticated
from enhancer.web.keys import HUB
from tests.conftest import Running
from tests.web import sse, story
from tests.web.forms import STREAM, accept, address, token
from tests.web.people import member
from tests.web.story import POINTS, Story

pytestmark = pytest.mark.usefixtures("quiet")

EVENTS = "/api/v1/events"


async def tales(running: Running, count: int) -> list[Story]:
    return [await story.begin(running.service.pool, running.service.bus, running.user.id) for _ in range(count)]


def names(told: list[Story]) -> str:
    return ",".join(each.task.channel for each in told)


def watch(running: Running, told: list[Story], **given: Any) -> Any:
    return sse.connect(address(running), f"{EVENTS}?tasks={names(told)}", token=token(running), **given)


def parted(events: list[sse.Event]) -> dict[str, list[dict[str, Any]]]:
    """The events of each task, without its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        data = event.json
        found.setdefault(data.pop("task"), []).append(data)
    return found


def whole(told: list[Story]) -> dict[str, list[dict[str, Any]]]:
    return {each.task.channel: [sse.Event("", data).json for data in each.data] for each in told}


async def test_each_event_of_each_task_comes_once_and_the_end_comes_after_all(idle: Running) -> None:
    told = await tales(idle, 3)
    await told[0].tell_all()
    await told[1].tell(5)
    async with watch(idle, told) as client:
        assert client.headers["content-type"].startswith("text/event-stream")
        seen = await client.take(len(POINTS) + 1)
        for progress in POINTS[1:-1]:
            await told[1].tell(progress)
            await told[2].tell(POINTS[len(told[2].events)])
        await told[2].finish(Status.FAILED, error=("internal", "over"))
        await told[1].finish()
        seen += await client.rest()
    assert parted(seen) == whole(told)
    assert seen[-1].id == ",".join(f"{each.task.channel}={len(each.events)}" for each in told)
    async with watch(idle, told, last_id=seen[-1].id) as client:
        assert client.status == 204


async def test_who_reconnects_anywhere_gets_the_rest_of_each(idle: Running) -> None:
    told = await tales(idle, 2)
    for progress in POINTS[:4]:
        for each in told:
            await each.tell(progress)
    async with watch(idle, told) as client:
        before = await client.take(8)
    for number, event in enumerate(before, start=1):
        async with watch(idle, told, last_id=event.id) as client:
            after = await client.take(8 - number)
        assert parted(before[:number] + after) == whole(told)
    await told[0].finish()
    async with watch(idle, told, last_id=before[-1].id) as client:
        rest = await client.take(1)
        await told[1].tell_all()
        rest += await client.rest()
    assert parted(before + rest) == whole(told)


async def test_what_is_shown_says_whose_it_is_and_has_no_id(idle: Running) -> None:
    told = await tales(idle, 2)
    async with watch(idle, told) as client:
        for each in told:
            await each.tell(5)
        await client.take(2)
        shown = encode({"event": "script", "after": 1, "data": {"script": "Grüße"}})
        await idle.service.bus.show(told[1].task.channel, "script", shown)
        [event] = await client.until("script")
        assert event.json == {"script": "Grüße", "task": told[1].task.channel}
    assert live(told[1].task.channel) == f"live:{told[1].task.channel}"


@pytest.mark.parametrize(
    "odd", ["x", "1", "=", "enhancement:1", "enhancement:1=x", "enhancement:1=-1", "a=1,,", "enhancement:1=99999999999"]
)
async def test_an_odd_id_means_from_the_beginning(idle: Running, odd: str) -> None:
    told = await tales(idle, 1)
    await told[0].tell_all()
    for last_id in (odd, odd.replace("enhancement:1", told[0].task.channel), f"{odd}," * 100):
        async with watch(idle, told, last_id=last_id) as client:
            assert parted(await client.rest()) == whole(told)


async def test_another_task_in_the_id_is_passed_over(idle: Running) -> None:
    told = await tales(idle, 2)
    for each in told:
        await each.tell(5)
    last_id = f"video:77=3,{told[1].task.channel}=1"
    async with watch(idle, told, last_id=last_id) as client:
        assert list(parted(await client.take(1))) == [told[0].task.channel]


@pytest.mark.parametrize(
    "tasks",
    [
        *("", "1", "enhancement", "enhancement:", "enhancement:0", "enhancement:01", "dream:1", "enhancement:1,"),
        *("a" * 3000, "enhancement:1;video:2", ",".join(f"enhancement:{number}" for number in range(1, 34))),
    ],
)
async def test_what_names_no_tasks_is_refused(idle: Running, tasks: str) -> None:
    async with idle.http.get(EVENTS, params={"tasks": tasks}) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["errors"][0]["field"]) == (422, "tasks")
    async with idle.http.post(f"{EVENTS}/link", json={"tasks": tasks.split(",")}) as answer:
        assert answer.status == 422


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"tasks": "enhancement:1"}', '{"tasks": [1]}', '{"tasks": []}']
)
async def test_an_order_that_is_none_is_refused(idle: Running, body: str) -> None:
    async with idle.http.post(f"{EVENTS}/link", data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 422


async def test_all_tasks_must_be_the_caller_s(idle: Running) -> None:
    told = await tales(idle, 1)
    other = await member(idle.service.pool, "other@example.com")
    theirs = await story.begin(idle.service.pool, idle.service.bus, other.id)
    mine = told[0].task
    for name in (theirs.task.channel, f"video:{mine.id}", f"enhancement:{10**17}"):
        async with idle.http.get(EVENTS, params={"tasks": f"{mine.channel},{name}"}) as answer:
            assert answer.status == 404
        async with idle.http.post(f"{EVENTS}/link", json={"tasks": [mine.channel, name]}) as answer:
            assert answer.status == 404


async def test_a_link_opens_its_stream_and_no_other(idle: Running) -> None:
    told = await tales(idle, 2)
    async with idle.http.post(f"{EVENTS}/link", json={"tasks": names(told).split(",")}) as answer:
        assert answer.status == 200
        link = (await answer.json())["stream_url"].removeprefix(idle.service.settings.public_url)
    for each in told:
        await each.tell_all()
    async with sse.connect(address(idle), link) as client:
        assert parted(await client.rest()) == whole(told)
    fewer = link.replace(names(told), told[0].task.channel)
    for target in (fewer, f"{EVENTS}?tasks={names(told)}"):
        async with sse.connect(address(idle), target) as client:
            assert client.status == 401
    with pytest.raises(Unauthenticated):
        idle.service.tokens.read_account(link.partition("token=")[2])


async def test_tasks_at_work_are_followed_with_their_own_streams_beside(enhancer: Running) -> None:
    mine = [await accept(enhancer.http) for _ in range(2)]
    together = ",".join(f"enhancement:{task['id']}" for task in mine)
    target = f"{EVENTS}?tasks={together}"
    async with sse.connect(address(enhancer), target, token=token(enhancer)) as client:
        found = parted(await client.rest())
    for task in mine:
        async with sse.connect(address(enhancer), STREAM.format(task["id"]), token=token(enhancer)) as alone:
            assert [event.json for event in await alone.rest()] == found[f"enhancement:{task['id']}"]


async def test_a_deleted_task_ends_its_part_alone(idle: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enhancer.web.hub.RECONCILE", 0.05)
    told = await tales(idle, 2)
    async with watch(idle, told) as client:
        await told[0].tell(5)
        await client.take(1)
        await idle.service.pool.execute("DELETE FROM tasks WHERE id = $1", told[0].task.id)
        await told[1].tell_all()
        rest = await client.rest()
    assert list(parted(rest)) == [told[1].task.channel]


async def test_the_stream_ends_when_the_service_does(idle: Running) -> None:
    told = await tales(idle, 2)
    async with watch(idle, told) as client:
        await told[0].tell(5)
        await client.take(1)
        idle.http.server.app[HUB].close()  # type: ignore[attr-defined]
        assert await client.rest() == []
