"""PostgreSQL that goes away, comes back, or answers too late; and services that stop meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from enhancer import embedded, workers
from enhancer import service as services
from enhancer.domain.tasks import Status, Task
from enhancer.pipeline import engine, gate, policy
from enhancer.settings import Settings
from enhancer.storage import database, steps
from enhancer.storage.database import Pool
from enhancer.storage.steps import State
from tests.conftest import make_settings
from tests.fakes.openai import FakeOpenAI, Hold, faults
from tests.pipeline.cable import Cable, laid
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
    told,
)
from tests.pipeline.workshop import ALL_POINTS, Place, model_path, opened, order, with_models

KEEPERS = {"_feed", "_reap", "_beat"}
NAMES = KEEPERS | {f"worker-{number}" for number in range(4)}


@pytest.fixture
async def wired(paid: Settings) -> AsyncIterator[tuple[Cable, Settings]]:
    """A cable to PostgreSQL, and settings of a service behind it."""
    async with laid(paid) as (cable, settings):
        yield cable, settings


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[AsyncExitStack]:
    """A service without HTTP. What is given may be closed before the block's end."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(services.running(settings))
        yield stack


# PostgreSQL away while a call is paid for


@pytest.mark.parametrize("kind", ["edits", "chat"])
async def test_a_paid_result_is_kept_until_the_database_is_back(
    front: Place, wired: tuple[Cable, Settings], openai: FakeOpenAI, pool: Pool, kind: str
) -> None:
    cable, behind = wired
    held = openai.hold("edits" if kind == "edits" else "chat")
    task = await order(front)
    async with working(behind):
        await held.arrived()
        cable.cut()
        with listening() as log:
            held.release()
            await log.says("storage.unreachable", times=3)  # which says that the result is here
        assert len(openai.calls) == (1 if kind == "edits" else 2)  # nothing else is paid for meanwhile
        cable.mend()
        task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
    assert await points(pool, task) == ALL_POINTS


async def test_a_crash_of_the_database_in_a_paid_call_costs_nothing(
    tmp_path: Path, openai: FakeOpenAI, redis_url: str
) -> None:
    """The real one: a backend that dies takes all connections with it, and PostgreSQL starts anew."""
    held = openai.hold("edits")
    async with embedded.servers(tmp_path / "own", redis=False, durable=False) as own:
        address = SecretStr(str(own.database_url))
        await make_durable(str(own.database_url))
        usual = make_settings(database_url=address, redis_url=redis_url, data_dir=tmp_path / "data")
        async with opened(with_models(usual, openai)) as place:
            pool = place.service.pool
            task = await order(place)
            await held.arrived()
            bystander = await asyncpg.connect(str(own.database_url))
            os.kill(await pool.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
            await eventually(lambda: is_closed(bystander))
            held.release()
            task = await database.patiently(lambda: ended(pool, task), seconds=60)
            assert (task.status, task.attempts) == (Status.COMPLETED, 1)
            assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
            assert await points(pool, task) == ALL_POINTS


async def make_durable(url: str) -> None:
    """Commits that a crash of PostgreSQL does not take back, as they are when no test has chosen speed."""
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER DATABASE enhancer SET synchronous_commit = on")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def is_closed(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return connection.is_closed()


async def test_an_image_outlives_the_patience_of_who_paid_for_it(
    front: Place,
    wired: tuple[Cable, Settings],
    openai: FakeOpenAI,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "PATIENCE", 0.1)
    cable, behind = wired
    held = openai.hold("edits")
    task = await order(front)
    async with working(behind):
        await held.arrived()
        cable.cut()
        with listening() as log:
            held.release()
            await log.says("task.error")
            cable.mend()
            task = await ended(pool, task)
            assert log.has("call.recovered")
    assert (task.status, task.attempts) == (Status.COMPLETED, 2)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)


async def test_work_goes_on_without_redis(front: Place, paid: Settings, pool: Pool) -> None:
    task = await order(front)
    async with working(paid.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})):
        task = await ended(pool, task)
    assert task.status is Status.COMPLETED
    assert await points(pool, task) == ALL_POINTS


# commits whose answers are lost


async def lose_the_answer(cable: Cable, pool: Pool, task: Task, held: Hold, statement: str) -> None:
    """Let the held call go; the next change of the task's row is committed, and its answer never comes."""
    async with locked(pool, task):
        held.release()
        await blocked(pool, statement)
        cable.mute()
        before = await reached(pool, task, lambda _: True)
    await reached(pool, task, lambda found: found.last_seq > before.last_seq)
    cable.cut()
    cable.unmute()
    cable.mend()


async def test_a_commit_whose_answer_is_lost_is_neither_repeated_nor_told_twice(
    front: Place, wired: tuple[Cable, Settings], openai: FakeOpenAI, pool: Pool
) -> None:
    cable, behind = wired
    held = openai.hold("chat")
    task = await order(front)
    async with working(behind):
        await held.arrived()
        await lose_the_answer(cable, pool, task, held, "WITH moved AS")
        task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert await points(pool, task) == ALL_POINTS
    assert len(openai.calls) == 2


async def test_a_result_whose_commit_is_not_answered_is_kept_once(
    front: Place, wired: tuple[Cable, Settings], openai: FakeOpenAI, pool: Pool
) -> None:
    cable, behind = wired
    held = openai.hold("chat")
    task = await order(front)
    async with working(behind):
        await held.arrived()
        async with locked(pool, task, "task_steps"):
            held.release()
            await blocked(pool, "WITH called AS")
            cable.mute()
        await eventually(lambda: is_done(pool, task, "write"))
        cable.cut()
        cable.unmute()
        cable.mend()
        task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert await points(pool, task) == ALL_POINTS
    assert openai.billed("chat") == 1


async def is_done(pool: Pool, task: Task, step: str) -> bool:
    return (await step_of(pool, task, step)).state is State.DONE


async def test_a_time_limit_that_passes_during_a_commit_fails_the_task_after_what_was_committed(
    front: Place, wired: tuple[Cable, Settings], openai: FakeOpenAI, pool: Pool
) -> None:
    cable, behind = wired
    openai.fail("chat", faults.rate_limited("600"))
    task = await order(front)
    async with working(behind):
        await put_back(pool, task)
    held = openai.hold("chat")
    await outlive(pool, task)
    async with working(behind.model_copy(update={"task_timeout": 1.5})):  # little is left to do
        await held.arrived()
        async with locked(pool, task):
            held.release()
            await blocked(pool, "WITH moved AS")
            cable.mute()
            connections = cable.connections
        await reached(pool, task, lambda found: found.progress == 95)
        await cable.connected(connections)  # the client asks the server to give the statement up
        cable.unmute()
        task = await ended(pool, task)
    assert (task.status, task.error_code, task.progress) == (Status.FAILED, "timeout", 95)
    assert (await points(pool, task))[-3:] == [90, 95, -1]


async def test_a_permit_whose_answer_is_lost_is_used_and_is_no_call_in_doubt(
    front: Place, wired: tuple[Cable, Settings], openai: FakeOpenAI, pool: Pool
) -> None:
    cable, behind = wired
    await pool.execute(HOLD_PERMITS)
    task = await order(front)
    async with pool.acquire() as holder:
        await holder.execute("SELECT pg_advisory_lock(7)")
        async with working(behind.model_copy(update={"ambiguous_calls": "hold"})):
            await blocked(pool, "WITH own AS")
            cable.mute()
            await holder.execute("SELECT pg_advisory_unlock(7)")
            await eventually(lambda: steps.get(pool, task.id, "redraw"))
            assert openai.calls == []
            cable.cut()
            cable.unmute()
            cable.mend()
            task = await ended(pool, task)
    row = await step_of(pool, task, "redraw")
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert (row.calls, row.ambiguous) == (1, 0)
    assert await points(pool, task) == ALL_POINTS


HOLD_PERMITS = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN new; END $$;
CREATE TRIGGER hold BEFORE INSERT ON task_steps FOR EACH ROW EXECUTE FUNCTION hold();
"""


# stops


async def test_a_call_that_ends_within_the_grace_time_is_kept(
    front: Place, paid: Settings, openai: FakeOpenAI, pool: Pool
) -> None:
    held = openai.hold("edits")
    task = await order(front)
    async with working(paid) as stack:
        await held.arrived()
        stop = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0)  # its first step, which tells the workers
        held.release()
        await stop
    task = await reached(pool, task, lambda _: True)
    assert (task.status, task.progress, task.attempts) == (Status.PENDING, 50, 0)
    assert (await step_of(pool, task, "redraw")).state is State.DONE
    async with working(paid):
        task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
    assert await points(pool, task) == ALL_POINTS


async def test_calls_that_do_not_end_within_the_grace_time_are_let_go_without_a_charge(
    front: Place, paid: Settings, openai: FakeOpenAI, pool: Pool
) -> None:
    held = openai.hold("edits")
    added = [await order(front) for _ in range(3)]  # a user has two running at most
    async with working(paid.model_copy(update={"shutdown_grace": 0.1})):
        await held.arrived(2)
    states = [await reached(pool, task, lambda _: True) for task in added]
    assert [(task.status, task.attempts) for task in states] == [(Status.PENDING, 0)] * 3
    assert [(await step_of(pool, task, "redraw")).state for task in added[:2]] == [State.AMBIGUOUS] * 2
    held.release()
    async with working(paid):
        for task in added[:2]:
            await reached(pool, task, lambda found: found.message.startswith("⏳ Waiting"))
            await outlive(pool, task)
        done = [await ended(pool, task) for task in added]
    assert [(task.status, task.attempts) for task in done] == [(Status.COMPLETED, 1)] * 3
    assert [(await step_of(pool, task, "redraw")).ambiguous for task in added] == [1, 1, 0]
    assert len(openai.calls_of("edits")) == 5


async def test_a_result_that_is_being_recorded_when_the_grace_time_ends_is_kept(
    front: Place, paid: Settings, openai: FakeOpenAI, pool: Pool
) -> None:
    held = openai.hold("chat")
    task = await order(front)
    with listening() as log:
        async with working(paid.model_copy(update={"shutdown_grace": 0.1})) as stack:
            await held.arrived()
            async with locked(pool, task, "task_steps"):
                held.release()
                await blocked(pool, "WITH called AS")
                stop = asyncio.create_task(stack.aclose())
                await log.says("workers.grace_over")
                await eventually(nobody_keeps)  # everybody is cancelled
                await blocked(pool, "WITH called AS")
            await stop
    assert await is_done(pool, task, "write")
    async with working(paid):
        task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Last words that tests can wait for."""
    for module in (engine, gate, policy):
        monkeypatch.setattr(module, "LAST_WORDS", 0.3)
    monkeypatch.setattr(workers, "CANCELLED_END", 1.5)
    monkeypatch.setattr(workers, "FEEDER_ENDS", 0.3)


async def is_stored(settings: Settings, task: Task) -> bool:
    return (settings.uploads / model_path(task)).exists()


async def nobody_works() -> bool:
    return not NAMES & {running.get_name() for running in asyncio.all_tasks()}


async def nobody_keeps() -> bool:
    return not KEEPERS & {running.get_name() for running in asyncio.all_tasks()}


@pytest.mark.parametrize(("way", "released"), [("cut", False), ("cut", True), ("mute", True)])
async def test_a_stop_ends_in_time_though_the_database_is_away(
    front: Place,
    wired: tuple[Cable, Settings],
    openai: FakeOpenAI,
    pool: Pool,
    hasty: None,
    way: str,
    released: bool,
) -> None:
    cable, behind = wired
    held = openai.hold("edits")
    task = await order(front)
    async with working(behind.model_copy(update={"shutdown_grace": 0.2})) as stack:
        await held.arrived()
        cable.cut() if way == "cut" else cable.mute()
        if released:  # the result comes home, and nobody can take it down
            held.release()
            await eventually(lambda: is_stored(behind, task))
        async with asyncio.timeout(60):
            await stack.aclose()
    await eventually(nobody_works)
    cable.unmute()
    cable.mend()
    task = await reached(pool, task, lambda _: True)
    assert task.status is Status.PROCESSING
    async with working(behind):  # the same replica, which takes up what it left
        task = await ended(pool, task) if released else await put_back(pool, task)
    assert openai.billed("edits") <= 1


async def test_a_stop_in_a_storm_of_failures_leaves_nothing_behind(
    front: Place, wired: tuple[Cable, Settings], pool: Pool, hasty: None
) -> None:
    """The connection breaks at each statement; the feeder, the heartbeat and the reaper must end all the same."""
    cable, behind = wired
    async with working(behind.model_copy(update={"shutdown_grace": 0.0, "poll_interval": 0.01, "lease": 0.05})):
        cable.cut()
        with listening() as log:
            await log.says("database.unreachable", times=9)
    assert await nobody_works()
    assert await told(pool, await order(front)) == []
