from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from enhancer.storage import database
from enhancer.storage.database import Pool

EVERYBODY_ELSE = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def test_json_goes_in_and_comes_out_as_values(pool: Pool) -> None:
    value = {"text": '茶 🍵 \\u0000 "quoted"', "list": [1, 2.5, None, True], "nested": {"a": {}}}
    assert await pool.fetchval("SELECT $1::jsonb", value) == value
    assert await pool.fetchval("SELECT $1::jsonb ->> 'text'", value) == value["text"]


async def test_a_transaction_that_was_left_open_ends_with_the_use_of_its_connection(database_url: str) -> None:
    async with database.connect(database_url, size=1) as pool:
        async with pool.acquire() as connection:
            await connection.transaction().start()
            await connection.execute("SELECT pg_advisory_xact_lock(1), set_config('lock_timeout', '5s', true)")
        held = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert await pool.fetchval("SELECT current_setting('lock_timeout')") == "0"
        assert await pool.fetchval(held) == 0


async def test_a_pool_grows_to_its_size_and_no_further(database_url: str) -> None:
    async with database.connect(database_url, size=3) as pool:
        held = [await pool.acquire() for _ in range(3)]
        assert pool.get_size() == 3
        assert pool.get_idle_size() == 0
        waiting = asyncio.create_task(pool.fetchval("SELECT 1"))
        await pool.release(held.pop())
        assert await waiting == 1
        assert pool.get_size() == 3
        for connection in held:
            await pool.release(connection)


async def test_nobody_at_the_address_is_told_as_unreachable() -> None:
    with pytest.raises(database.UNREACHABLE):
        async with database.connect(f"postgresql://x@127.0.0.1:{free_port()}/x", size=2):
            pass


async def test_a_database_that_is_not_there_is_told_as_refused(database_url: str) -> None:
    with pytest.raises(database.REFUSED):
        async with database.connect(urlunsplit(urlsplit(database_url)._replace(path="/nowhere")), size=2):
            pass


async def test_a_role_that_may_not_log_in_is_told_as_refused(database_url: str) -> None:
    parts = urlsplit(database_url)
    stranger = parts._replace(netloc=f"stranger:wrong@{parts.netloc.rpartition('@')[2]}")
    with pytest.raises(database.REFUSED):
        async with database.connect(urlunsplit(stranger), size=2):
            pass


async def test_a_statement_is_tried_again_after_the_server_dropped_the_connection(
    pool: Pool, database_url: str
) -> None:
    async with database.connect(database_url, size=1) as victim:
        async with victim.acquire() as connection:
            await pool.execute(f"SELECT pg_terminate_backend(pid, 10000) {EVERYBODY_ELSE}")
            with pytest.raises(database.UNREACHABLE):
                await connection.fetchval("SELECT 1")
        assert await database.patiently(lambda: victim.fetchval("SELECT 2"), seconds=10) == 2


async def test_a_statement_cut_off_in_its_middle_is_told_as_unreachable(pool: Pool, database_url: str) -> None:
    async with database.connect(database_url, size=1) as victim:
        running = asyncio.create_task(victim.execute("SELECT pg_sleep(600)"))
        async with asyncio.timeout(60):
            while not await pool.fetchval(
                f"SELECT count(pg_terminate_backend(pid)) {EVERYBODY_ELSE} AND state = 'active'"
            ):
                pass
        with pytest.raises(database.UNREACHABLE):
            await running


async def test_patience_brings_the_answer_once_it_comes() -> None:
    failures = iter([ConnectionRefusedError(), TimeoutError(), asyncpg.CannotConnectNowError()])

    async def operation() -> str:
        for failure in failures:
            raise failure
        return "answer"

    assert await database.patiently(operation, seconds=60) == "answer"


async def test_patience_ends_with_the_last_error() -> None:
    tries = []

    async def operation() -> None:
        tries.append(1)
        raise ConnectionRefusedError(f"try {len(tries)}")

    with pytest.raises(ConnectionRefusedError, match=r"^try [23]$"):
        await database.patiently(operation, seconds=0.2)


async def test_a_statement_that_can_never_work_is_tried_once(pool: Pool) -> None:
    async with asyncio.timeout(60):
        with pytest.raises(asyncpg.UndefinedColumnError):
            await database.patiently(lambda: pool.execute("SELECT nonsense"), seconds=600)


@pytest.mark.parametrize("url", ["mysql://somewhere/x", "nonsense", "postgresql://somewhere:port/x"])
async def test_an_address_that_is_none_is_tried_once(url: str) -> None:
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        with pytest.raises(ValueError, match=r"invalid"):
            await database.patiently(lambda: stack.enter_async_context(database.connect(url, size=2)), seconds=600)


async def test_patience_can_be_cancelled_in_a_statement_whose_connection_breaks_then() -> None:
    running, tries = asyncio.Event(), []

    async def operation() -> None:
        tries.append(1)
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionResetError from None

    patient = asyncio.create_task(database.patiently(operation, seconds=60))
    await running.wait()
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient
    assert len(tries) == 1


async def test_patience_can_be_cancelled() -> None:
    tried = asyncio.Event()

    async def operation() -> None:
        tried.set()
        raise ConnectionRefusedError

    patient = asyncio.create_task(database.patiently(operation, seconds=60))
    await tried.wait()
    patient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await patient
