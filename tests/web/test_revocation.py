from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession

from enhancer import epochs
from enhancer.domain.tasks import Status
from enhancer.settings import Settings
from enhancer.storage import users
from tests.conftest import Running, Start
from tests.web import sse, story
from tests.web.forms import LOGIN, STATUS, STREAM, accept, address, token
from tests.web.people import PASSWORD, member
from tests.web.waiting import until

pytestmark = pytest.mark.usefixtures("quiet")


async def revoke(running: Running) -> None:
    await running.service.epochs.revoke(running.service.bus, running.user.id)


@dataclass(frozen=True)
class Ways:
    """The three kinds of tokens that lead to a task."""

    account: str
    stream_url: str
    file_url: str


async def ways(running: Running) -> tuple[int, Ways]:
    """A new task, and the ways to it."""
    task = await accept(running.http)
    file = running.service.link(task["original_image_path"].removeprefix("/uploads/"))
    return task["id"], Ways(token(running), task["stream_url"], file)


async def statuses(running: Running, task_id: int, given: Ways) -> list[int]:
    """What they open: the status, the stream, the file."""
    targets = [
        (STATUS.format(task_id), {"Authorization": f"Bearer {given.account}"}),
        *((url[url.index("/", 8) :], {}) for url in (given.stream_url, given.file_url)),
    ]
    found = []
    async with ClientSession() as stranger:
        for path, headers in targets:
            async with stranger.get(running.http.make_url(path), headers=headers) as answer:
                found.append(answer.status)
    return found


async def test_a_revocation_ends_every_token_of_the_user(idle: Running) -> None:
    task_id, given = await ways(idle)
    assert await statuses(idle, task_id, given) == [200, 200, 200]
    await revoke(idle)
    assert await statuses(idle, task_id, given) == [401, 401, 401]


async def test_who_signs_in_again_gets_tokens_and_links_that_work(idle: Running) -> None:
    await revoke(idle)
    async with idle.http.post(LOGIN, json={"email": idle.user.email, "password": PASSWORD}) as answer:
        fresh = (await answer.json())["access_token"]
    idle.http.session.headers["Authorization"] = f"Bearer {fresh}"
    task_id, given = await ways(idle)
    assert await statuses(idle, task_id, given) == [200, 200, 200]


async def test_a_revocation_ends_open_streams_and_nobody_else_s(idle: Running) -> None:
    pool, bus = idle.service.pool, idle.service.bus
    other = await member(pool, "other@example.com")
    theirs = await story.begin(pool, bus, other.id)
    mine = await story.begin(pool, bus, idle.user.id)
    their_token = idle.service.tokens.account(other.id)
    async with (
        sse.connect(address(idle), STREAM.format(mine.task.id), token=token(idle)) as my_client,
        sse.connect(address(idle), STREAM.format(theirs.task.id), token=their_token) as their_client,
    ):
        await my_client.comment()
        await their_client.comment()
        await revoke(idle)
        assert await my_client.rest() == []
        await theirs.tell_all()
        assert [event.data for event in await their_client.rest()] == theirs.data


async def test_another_process_hears_of_a_revocation_at_once(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "FRESH", 3600.0)
    one, other = [await start(settings.model_copy(update={"workers": 0})) for _ in range(2)]
    task = await story.pending(one.service.pool, one.user.id)
    await until(lambda: other.service.bus.connected)
    mine = token(one)
    async with sse.connect(address(other), STREAM.format(task.id), token=mine) as client:
        await client.comment()
        await revoke(one)
        assert await client.rest() == []
    async with other.http.get(STATUS.format(task.id), headers={"Authorization": f"Bearer {mine}"}) as answer:
        assert answer.status == 401


async def test_without_redis_a_revocation_is_found_in_the_table(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "FRESH", 0.1)
    monkeypatch.setattr("enhancer.web.audience.FRESH", 0.1)
    idle = await start(settings.model_copy(update={"workers": 0}))
    task = await story.pending(idle.service.pool, idle.user.id)
    async with sse.connect(address(idle), STREAM.format(task.id), token=token(idle)) as client:
        await client.comment()
        await users.revoke(idle.service.pool, idle.user.id)  # nobody rings
        assert await client.rest() == []


async def test_links_that_a_worker_makes_are_of_the_owner_s_epoch(shop: Running) -> None:
    await revoke(shop)
    await shop.service.epochs.current(shop.user.id)
    shop.http.session.headers["Authorization"] = f"Bearer {token(shop)}"
    task = await accept(shop.http)
    async with sse.connect(address(shop), STREAM.format(task["id"]), token=token(shop)) as client:
        *_, last = await client.rest()
    assert json.loads(last.data)["status"] == Status.COMPLETED
    link = json.loads(last.data)["enhanced_image_url"]
    async with ClientSession() as stranger, stranger.get(shop.http.make_url(link[link.index("/", 8) :])) as answer:
        assert answer.status == 200
