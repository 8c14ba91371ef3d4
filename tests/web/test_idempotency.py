"""An order that is sent again, with its Idempotency-Key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from enhancer.settings import Settings
from tests.conftest import Running, Start, running, subscriber
from tests.fakes.openai import FakeOpenAI, faults
from tests.lives import Customer, Reply, small_photo, with_models

REPLAYED = "Idempotent-Replayed"


@pytest.fixture
async def idle(settings: Settings, start: Start) -> Running:
    """A service that accepts tasks and works on none."""
    return await start(settings.model_copy(update={"workers": 0}))


@pytest.fixture
async def shop(settings: Settings, openai: FakeOpenAI, start: Start) -> Running:
    """A service whose models are the stand-in."""
    return await start(with_models(settings, openai))


def originals(running: Running) -> list[Path]:
    """The stored photos."""
    return list(running.service.settings.uploads.glob("user_*/originals/*"))


async def kept(running: Running) -> tuple[int, int, int]:
    """How many tasks there are, how many were counted, and how many photos are stored."""
    pool = running.service.pool
    rows = await pool.fetchval("SELECT count(*) FROM tasks")
    return rows, await pool.fetchval("SELECT coalesce(sum(tasks), 0) FROM task_usage"), len(originals(running))


def ids(replies: Iterable[Reply]) -> set[int]:
    return {reply.body["id"] for reply in replies}


async def test_an_order_that_is_sent_again_is_the_same_task(idle: Running) -> None:
    me = Customer(idle)
    first = await me.order(key="order-1")
    again = await me.order(key="order-1", user_description="", duration="4", language="en")  # what is the default, too
    assert (first.status, again.status) == (202, 202)
    assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert {**again.body, "stream_url": ""} == {**first.body, "stream_url": ""}
    assert await kept(idle) == (1, 1, 1)


async def test_orders_without_a_key_or_with_other_keys_are_other_tasks(idle: Running) -> None:
    me = Customer(idle)
    replies = [await me.order(key=key) for key in (None, None, "a", "A", "a b", "~!\"'\\;")]
    assert len(ids(replies)) == 6
    assert await kept(idle) == (6, 6, 6)


async def test_a_key_does_not_bring_the_task_of_another_order(idle: Running) -> None:
    me = Customer(idle)
    first = await me.order(key="order-1")
    others = [
        await me.order(key="order-1", user_description="A cup"),
        await me.order(key="order-1", duration="8"),
        await me.order(key="order-1", language="zh"),
        await me.order(small_photo("red"), key="order-1"),
        await me.order(small_photo("red"), key="order-1", wait=True),
    ]
    for reply in others:
        assert (reply.status, reply.code) == (409, "conflict")
        assert reply.body["detail"] == "This Idempotency-Key came with another order before."
    assert await kept(idle) == (1, 1, 1)
    assert (await me.order(key="order-1")).body["id"] == first.body["id"]


async def test_everybody_has_keys_of_their_own(idle: Running) -> None:
    me, other = Customer(idle), Customer(idle, await subscriber(idle.service.pool, "other@example.com"))
    mine, theirs = await me.order(key="order-1"), await other.order(key="order-1")
    assert (theirs.status, theirs.headers.get(REPLAYED)) == (202, None)
    assert mine.body["id"] != theirs.body["id"]
    assert (await other.order(key="order-1")).body["user_id"] == other.user.id
    assert await kept(idle) == (2, 2, 2)


@pytest.mark.parametrize("quota", [None, 1])
async def test_fifty_of_one_order_at_once_are_one_task(idle: Running, quota: int | None) -> None:
    me = Customer(idle)
    await idle.service.pool.execute("UPDATE subscriptions SET monthly_quota = $1", quota)
    replies = await asyncio.gather(*(me.order(key="order-1") for _ in range(50)))
    assert [reply.status for reply in replies] == [202] * 50
    assert [reply.headers.get(REPLAYED) for reply in replies].count(None) == 1
    assert len(ids(replies)) == 1
    assert await kept(idle) == (1, 1, 1)


async def test_different_orders_with_one_key_at_once_are_one_task_and_conflicts(idle: Running) -> None:
    me = Customer(idle)
    replies = await asyncio.gather(*(me.order(key="order-1", user_description=str(n)) for n in range(10)))
    assert sorted(reply.status for reply in replies) == [202] + [409] * 9
    assert await kept(idle) == (1, 1, 1)


async def test_a_task_that_is_there_needs_no_room(settings: Settings, start: Start) -> None:
    place = await start(settings.model_copy(update={"workers": 0, "user_pending_limit": 1}))
    me = Customer(place)
    first = await me.order(key="order-1")
    for change, status in (
        ("SELECT 'one task may wait'", 429),
        ("UPDATE subscriptions SET monthly_quota = 1", 402),
        ("UPDATE subscriptions SET period_end = now()", 402),
        ("DELETE FROM subscriptions", 402),
    ):
        await place.service.pool.execute(change)
        assert (await me.order(key="order-2")).status == status
        again = await me.order(key="order-1")
        assert (again.status, again.body["id"], again.headers[REPLAYED]) == (202, first.body["id"], "true")


async def test_a_key_must_be_a_name(idle: Running) -> None:
    for key in ("", "x" * 256, "clé", "订单", "a\tb"):
        for wait in (False, True):
            reply = await Customer(idle).order(key=key, wait=wait)
            assert (reply.status, reply.code) == (422, "invalid_request")
            assert [error["field"] for error in reply.body["errors"]] == ["Idempotency-Key"]
    assert await kept(idle) == (0, 0, 0)
    assert (await Customer(idle).order(key="x" * 255)).status == 202


async def test_who_is_not_signed_in_learns_nothing_about_keys(idle: Running) -> None:
    headers = {"Authorization": "", "Idempotency-Key": ""}
    async with idle.http.post("/api/v1/ai/enhance-and-script-async", headers=headers) as answer:
        assert answer.status == 401


async def test_an_order_that_was_refused_has_not_used_its_key(idle: Running) -> None:
    me = Customer(idle)
    assert (await me.order(b"no photo", key="order-1")).status == 415
    assert (await me.order(small_photo()[:-50], key="order-1")).status == 422
    assert (await me.order(key="order-1", duration="5")).status == 422
    assert await kept(idle) == (0, 0, 0)
    reply = await me.order(key="order-1")
    assert (reply.status, reply.headers.get(REPLAYED)) == (202, None)


async def test_a_cancelled_task_keeps_its_key_and_a_removed_one_does_not(idle: Running) -> None:
    me = Customer(idle)
    first = await me.order(key="order-1")
    await me.cancel(first.body["id"])
    again = await me.order(key="order-1")
    assert (again.status, again.body["id"], again.body["status"]) == (202, first.body["id"], "cancelled")
    await me.delete(first.body["id"])
    other = await me.order(key="order-1")
    assert (other.status, other.headers.get(REPLAYED)) == (202, None)
    assert other.body["id"] != first.body["id"]


# -- the call that waits


async def test_sent_again_while_it_runs_the_waiting_call_waits_for_the_same_result(
    shop: Running, openai: FakeOpenAI
) -> None:
    me = Customer(shop)
    held = openai.hold("edits")
    first = await me.order(key="order-1")
    await held.arrived()
    waited = [asyncio.create_task(me.order(key="order-1", wait=True)) for _ in range(2)]
    held.release()
    for again in await asyncio.gather(*waited):
        assert (again.status, again.headers[REPLAYED]) == (200, "true")
        assert (again.body["id"], again.body["status"]) == (first.body["id"], "completed")
        assert again.body["script"]
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)


async def test_a_finished_order_is_answered_by_its_result(shop: Running, openai: FakeOpenAI) -> None:
    me = Customer(shop)
    first = await me.order(key="order-1", wait=True)
    assert (first.status, first.headers.get(REPLAYED)) == (200, None)
    again = await me.order(key="order-1", wait=True)
    assert (again.status, again.headers[REPLAYED], again.body["script"]) == (200, "true", first.body["script"])
    later = await me.order(key="order-1")
    assert (later.status, later.headers[REPLAYED], later.body["status"]) == (202, "true", "completed")
    assert openai.billed("edits") == 1


async def test_a_failed_order_is_answered_by_its_failure(shop: Running, openai: FakeOpenAI) -> None:
    openai.fail("edits", faults.moderated())
    me = Customer(shop)
    first = await me.order(key="order-1", wait=True)
    assert (first.status, first.code, first.headers.get(REPLAYED)) == (422, "provider_rejected_image", None)
    again = await me.order(key="order-1", wait=True)
    assert (again.status, again.headers[REPLAYED], again.body) == (422, "true", first.body)


# -- a commit whose answer is lost


class Forgetful:
    """A way to PostgreSQL on which the connection of the next commit breaks before its answer comes back."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._running = set[asyncio.Task[None]]()
        self.armed = False

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For asyncio.start_server."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
        back = asyncio.create_task(self._carry(from_server, writer))
        try:
            while data := await reader.read(65536):
                if self.armed and b"COMMIT" in data:
                    self.armed = False
                    back.cancel()
                    to_server.write(data)
                    await from_server.readuntil(b"COMMIT\0")
                    return
                to_server.write(data)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for end in (writer, to_server):
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@asynccontextmanager
async def forgetful(settings: Settings) -> AsyncIterator[tuple[Forgetful, Settings]]:
    """Such a way to the settings' database, and settings that lead along it."""
    assert settings.database_url is not None
    address = urlsplit(settings.database_url.get_secret_value())
    [folder] = parse_qs(address.query)["host"]
    way = Forgetful(f"{folder}/.s.PGSQL.5432")
    server = await asyncio.start_server(way.connected, "127.0.0.1", 0)
    there = f"{address.netloc.rpartition('@')[0]}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    url = urlunsplit(address._replace(netloc=there, query="sslmode=disable"))
    try:
        yield way, settings.model_copy(update={"database_url": SecretStr(url)})
    finally:
        server.close()
        await way.close()


async def test_an_order_whose_commit_was_not_heard_of_is_whole_when_it_is_sent_again(
    settings: Settings, openai: FakeOpenAI, start: Start
) -> None:
    async with forgetful(settings) as (way, behind), running(behind.model_copy(update={"workers": 0})) as front:
        me = Customer(front)
        way.armed = True
        first = await me.order(key="order-1")
        assert (first.status, first.code) == (503, "storage_unavailable")
        again = await me.order(key="order-1")
        assert (again.status, again.headers[REPLAYED]) == (202, "true")
        assert await kept(front) == (1, 1, 1)
        place = await start(with_models(settings, openai))
        assert (await Customer(place, front.user).ended(again.body["id"]))["status"] == "completed"
