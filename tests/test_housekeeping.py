"""What has had its time goes, and nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from enhancer import housekeeping
from enhancer.domain.tasks import Status, Task
from enhancer.housekeeping import BATCH, LOCK, Housekeeping
from enhancer.pipeline.enhancement import PLAN
from enhancer.settings import Settings
from enhancer.storage import lifecycle, tasks
from enhancer.storage.database import Pool
from enhancer.storage.files import Files
from tests.conftest import Start
from tests.lives import Customer, eventually, in_state, new_user, now

DAY = 86400.0  # seconds
KEY = "abc_def-GHI123456789xy"  # as secrets.token_urlsafe makes them


@pytest.fixture
def keeping(pool: Pool, files: Files) -> Housekeeping:
    """What keeps tasks for ten days."""
    return Housekeeping(pool, files, PLAN.files, days=10)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of the store."""
    return tmp_path / "uploads"


def put(store: Path, paths: Iterable[str], *, days: float = 0) -> list[Path]:
    """Files that were changed so many days ago."""
    made = []
    for path in paths:
        file = store / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (then := time.time() - days * DAY, then))
        made.append(file)
    return made


def left(store: Path) -> set[str]:
    """What is in the store."""
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


async def ended(pool: Pool, *, days: float, status: Status = Status.COMPLETED) -> Task:
    """A task that ended so many days ago."""
    task = await in_state(pool, status)
    await pool.execute("UPDATE tasks SET completed_at = now() - $2 * interval '1 day' WHERE id = $1", task.id, days)
    return await now(pool, task)


# -- tasks


async def test_tasks_that_ended_long_ago_go_with_their_files_and_events(
    keeping: Housekeeping, pool: Pool, store: Path
) -> None:
    for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
        put(store, PLAN.files(await ended(pool, days=10.01, status=status)))
    assert len(left(store)) == 18
    assert await keeping.round() == (3, 0)
    assert left(store) == set()
    for table in ("tasks", "task_events", "task_steps", "task_calls"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await keeping.round() == (0, 0)


async def test_younger_tasks_and_those_that_have_not_ended_stay(keeping: Housekeeping, pool: Pool, store: Path) -> None:
    kept = [await ended(pool, days=9.99), await in_state(pool, Status.PROCESSING), await in_state(pool, Status.PENDING)]
    await pool.execute(
        "UPDATE tasks SET created_at = now() - interval '1 year', updated_at = now() - interval '1 year'"
    )
    for task in kept:
        put(store, PLAN.files(task), days=300)
    before = left(store)
    assert await keeping.round() == (0, 0)
    assert left(store) == before
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 3


async def test_what_was_used_stays_counted(keeping: Housekeeping, pool: Pool) -> None:
    await ended(pool, days=20)
    await keeping.round()
    assert await pool.fetchval("SELECT tasks FROM task_usage") == 1


async def test_zero_days_keep_everything(pool: Pool, files: Files, store: Path) -> None:
    task = await ended(pool, days=10_000)
    put(store, PLAN.files(task))
    assert await Housekeeping(pool, files, PLAN.files, days=0).round() == (0, 0)
    assert len(left(store)) == 6
    assert await now(pool, task) == task


async def test_there_may_be_more_than_are_looked_at_together(keeping: Housekeeping, pool: Pool, store: Path) -> None:
    user = await new_user(pool)
    put(store, (f"user_{user}/originals/original_old-task-number-{n:06}.jpg" for n in range(2 * BATCH + 1)), days=20)
    await pool.execute(
        """
        INSERT INTO tasks (user_id, kind, input, status, max_attempts, completed_at)
        SELECT $1, 'enhancement',
               jsonb_build_object('key', key, 'original', format('user_%s/originals/original_%s.jpg', $1::bigint, key),
                                  'user_description', '', 'duration', 4, 'language', 'en'),
               'completed', 4, now() - interval '20 days'
        FROM generate_series(0, $2) AS n, LATERAL (SELECT 'old-task-number-' || to_char(n, 'FM000000') AS key) AS keys
        """,
        user,
        2 * BATCH,
    )
    young = await ended(pool, days=1)
    assert await keeping.round() == (2 * BATCH + 1, 0)
    assert left(store) == set()
    assert await now(pool, young) == young


# -- files


async def test_files_that_no_task_knows_go_after_a_day(keeping: Housekeeping, pool: Pool, store: Path) -> None:
    task = await in_state(pool, Status.PENDING)
    known = put(store, PLAN.files(task), days=30)
    young = put(store, [f"user_1/originals/original_{KEY}.jpg"], days=0.9)
    put(store, [f"user_1/originals/original_{KEY}.png", f"user_{task.user_id}/enhanced/enhanced_{KEY}.jpg"], days=1.1)
    assert await keeping.round() == (0, 2)
    assert left(store) == {str(path.relative_to(store)) for path in [*known, *young]}


async def test_a_file_is_known_only_to_its_own_user(keeping: Housekeeping, pool: Pool, store: Path) -> None:
    task = await in_state(pool, Status.PENDING)
    put(store, [f"user_{task.user_id + 1}/originals/original_{task.input['key']}.jpg"], days=2)
    assert await keeping.round() == (0, 1)


async def test_drafts_that_a_crash_left_behind_go_after_an_hour(keeping: Housekeeping, store: Path) -> None:
    put(store, [f"user_1/previews/preview_{KEY}.jpg"], days=1.1 / 24)
    young = put(store, [f"user_1/previews/preview_{KEY}.png"], days=0.9 / 24)
    assert await keeping.round() == (0, 1)
    assert left(store) == {str(path.relative_to(store)) for path in young}


async def test_what_is_not_ours_is_left_alone(keeping: Housekeeping, store: Path) -> None:
    put(
        store,
        [".check-12", "notes.txt", "user_1/readme.md", "user_1/originals/short_key.jpg", f"elsewhere/a/b_{KEY}.jpg"],
        days=400,
    )
    before = left(store)
    assert await keeping.round() == (0, 0)
    assert left(store) == before


async def test_files_left_behind_by_a_crash_during_a_removal_are_found(
    keeping: Housekeeping, pool: Pool, store: Path
) -> None:
    task = await ended(pool, days=1)
    put(store, PLAN.files(task), days=2)
    await lifecycle.delete(pool, task.id)  # and then the process died
    assert await keeping.round() == (0, 6)
    assert left(store) == set()


async def test_there_may_be_more_strays_than_are_looked_at_together(
    keeping: Housekeeping, pool: Pool, store: Path
) -> None:
    known = await in_state(pool, Status.PENDING)
    put(store, PLAN.files(known), days=3)
    put(store, (f"user_7/enhanced/model_{n:022}.jpg" for n in range(2 * BATCH + 1)), days=3)
    assert await keeping.round() == (0, 2 * BATCH + 1)
    assert len(left(store)) == 6


async def test_an_accepted_photo_is_never_a_stray(settings: Settings, start: Start) -> None:
    place = await start(settings.model_copy(update={"workers": 0}))
    await Customer(place).accepted()
    [original] = [path for path in place.service.settings.uploads.rglob("*") if path.is_file()]
    os.utime(original, (0, 0))
    assert await Housekeeping(place.service.pool, place.service.files, PLAN.files, days=10).round() == (0, 0)
    assert original.exists()


# -- rounds


async def test_of_two_replicas_one_makes_the_round(pool: Pool, files: Files, keeping: Housekeeping) -> None:
    await ended(pool, days=20)
    async with pool.acquire() as other:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)
        assert await keeping.round() == (0, 0)
        await other.execute("SELECT pg_advisory_unlock($1)", LOCK)
    for _ in range(20):
        await ended(pool, days=20)
    both = await asyncio.gather(keeping.round(), Housekeeping(pool, files, PLAN.files, days=10).round())
    assert sum(removed for removed, _ in both) == 21
    assert (0, 0) in both


async def test_a_round_that_is_cut_off_does_not_keep_the_others_from_theirs(keeping: Housekeeping, pool: Pool) -> None:
    task = await ended(pool, days=20)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", task.id)
        making = asyncio.create_task(keeping.round())

        async def blocked() -> bool:
            found = await pool.fetchval("SELECT true FROM pg_locks WHERE NOT granted LIMIT 1")
            return bool(found)

        await eventually(blocked)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
    assert await keeping.round() == (1, 0)


async def test_a_service_makes_rounds_by_itself(
    settings: Settings, start: Start, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PERIOD", 0.02)
    task = await ended(pool, days=100)
    place = await start(settings)
    stray = put(place.service.settings.uploads, [f"user_1/originals/original_{KEY}.jpg"], days=2)

    async def gone() -> bool:
        return await tasks.get(pool, task.id) is None and not any(path.exists() for path in stray)

    await eventually(gone)
