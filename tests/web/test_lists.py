"""Lists over HTTP: pages, cursors, states, and whatever else is sent in their place."""

from __future__ import annotations

from typing import Any

import pytest

from enhancer.domain.tasks import Kind
from tests.conftest import Running
from tests.web import story
from tests.web.forms import accept, form
from tests.web.people import member
from tests.web.test_enhancements import TASK
from tests.web.waiting import until_found

pytestmark = pytest.mark.usefixtures("quiet")

LIST = "/api/v1/ai/enhance-and-script"


async def listed(running: Running, *query: tuple[str, str]) -> Any:
    async with running.http.get(LIST, params=list(query)) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        return await answer.json()


def ids(page: Any) -> list[int]:
    return [item["id"] for item in page["items"]]


async def test_whoever_has_ordered_nothing_gets_an_empty_page(idle: Running) -> None:
    assert await listed(idle) == {"items": [], "next_cursor": None}


async def test_a_list_shows_whole_tasks_of_the_caller_alone(idle: Running) -> None:
    pool = idle.service.pool
    task = await accept(idle.http)
    await story.pending(pool, (await member(pool, "other@example.com")).id)
    [item] = (await listed(idle))["items"]
    assert set(item) == TASK
    assert {name: item[name] for name in TASK - {"stream_url"}} == {name: task[name] for name in TASK - {"stream_url"}}


async def test_pages_follow_each_other_without_a_gap(idle: Running) -> None:
    pool = idle.service.pool
    mine = [(await story.pending(pool, idle.user.id)).id for _ in range(7)][::-1]
    first = await listed(idle, ("limit", "3"))
    newer = await story.pending(pool, idle.user.id)  # comes before the first page, and moves nothing
    second = await listed(idle, ("limit", "3"), ("cursor", first["next_cursor"]))
    third = await listed(idle, ("limit", "3"), ("cursor", second["next_cursor"]))
    assert [*ids(first), *ids(second), *ids(third)] == mine
    assert third["next_cursor"] is None
    assert str(mine[2]) not in first["next_cursor"]
    assert ids(await listed(idle, ("limit", "7")))[0] == newer.id
    assert (await listed(idle, ("limit", "8")))["next_cursor"] is None


async def test_a_list_shows_the_states_that_are_asked_for(idle: Running) -> None:
    pool, bus = idle.service.pool, idle.service.bus
    running = (await story.begin(pool, bus, idle.user.id)).task
    ended = await story.begin(pool, bus, idle.user.id)
    await ended.finish()
    waiting = await story.pending(pool, idle.user.id)
    assert ids(await listed(idle)) == [waiting.id, ended.task.id, running.id]
    assert ids(await listed(idle, ("status", "processing"))) == [running.id]
    assert ids(await listed(idle, ("status", "pending"), ("status", "completed"))) == [waiting.id, ended.task.id]
    assert ids(await listed(idle, ("status", "failed"), ("status", "failed"))) == []


async def test_another_kind_is_not_in_the_list(idle: Running) -> None:
    task = await story.pending(idle.service.pool, idle.user.id)
    await idle.service.pool.execute("UPDATE tasks SET kind = $2 WHERE id = $1", task.id, Kind.VIDEO.value)
    assert ids(await listed(idle)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", value) for value in ("0", "101", "-1", "", "ten", "1e2", "٣", "9" * 500)),
        *(("status", value) for value in ("", "done", "COMPLETED", "pending,failed", "pending\x00")),
        *(
            ("cursor", value)
            for value in ("1", "=" * 11, "AAAAAAAAAAA", "__________8", "a" * 12, "é" * 11, "x" * 5000, "'; DROP TABLE")
        ),
    ],
)
async def test_what_no_list_has_is_refused(idle: Running, name: str, value: str) -> None:
    async with idle.http.get(LIST, params={name: value}) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (422, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == [name]


async def test_a_cursor_may_stand_for_a_task_that_is_gone(idle: Running) -> None:
    pool = idle.service.pool
    mine = [(await story.pending(pool, idle.user.id)).id for _ in range(3)]
    first = await listed(idle, ("limit", "2"))
    await pool.execute("DELETE FROM tasks WHERE id = $1", mine[1])
    assert ids(await listed(idle, ("cursor", first["next_cursor"]))) == [mine[0]]


async def test_nobody_sees_a_list_without_a_token(idle: Running) -> None:
    token = idle.service.tokens.account(idle.user.id)
    for path in (LIST, f"{LIST}?token={token}"):
        async with idle.http.get(path, headers={"Authorization": ""}) as answer:
            assert answer.status == 401


async def test_a_finished_task_has_a_small_image_for_lists(enhancer: Running) -> None:
    task = await accept(enhancer.http, form())
    assert task["thumbnail_url"] is None
    await until_found(enhancer.service.pool, "SELECT status = 'completed' FROM tasks WHERE id = $1", task["id"])
    [item] = (await listed(enhancer))["items"]
    link = item["thumbnail_url"].removeprefix(enhancer.service.settings.public_url)
    async with enhancer.http.get(link, headers={"Authorization": ""}) as answer:
        assert (answer.status, answer.content_type) == (200, "image/jpeg")
        assert len(await answer.read()) < 40_000
