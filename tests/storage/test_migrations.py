from __future__ import annotations

import asyncio

import asyncpg
import pytest

from enhancer.domain.tasks import Kind, Status
from enhancer.storage import database, migrations, tasks
from enhancer.storage.database import Pool
from tests.storage import claim, event, new_user, order

EVERY_NUMBER = [number for number, _, _ in migrations.known()]


@pytest.fixture
async def empty(pool: Pool) -> Pool:
    """A database in which nothing was made yet."""
    await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return pool


async def relations(pool: Pool) -> set[str]:
    """The tables and views that there are."""
    rows = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
    )
    return {row["relname"] for row in rows}


async def columns(pool: Pool, relation: str) -> dict[str, str]:
    """The names and types of a relation's columns."""
    rows = await pool.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
        relation,
    )
    return {row["column_name"]: row["data_type"] for row in rows}


def test_migrations_are_numbered_from_one_and_no_number_comes_twice() -> None:
    assert EVERY_NUMBER[0] == 1
    assert sorted(set(EVERY_NUMBER)) == EVERY_NUMBER


async def test_an_empty_database_gets_everything(empty: Pool) -> None:
    assert await migrations.pending(empty) == EVERY_NUMBER
    assert await migrations.apply(empty) == EVERY_NUMBER
    assert await migrations.pending(empty) == []
    expected = {"users", "subscriptions", "task_usage", "tasks", "task_steps", "task_events"}
    assert await relations(empty) >= expected | {"enhancement_tasks", "videos", "schema_migrations"}


async def test_applying_again_does_nothing(empty: Pool) -> None:
    await migrations.apply(empty)
    before = await empty.fetch("SELECT * FROM schema_migrations")
    assert await migrations.apply(empty) == []
    assert await empty.fetch("SELECT * FROM schema_migrations") == before


async def test_of_many_that_start_at_once_one_applies(empty: Pool, database_url: str) -> None:
    async with database.connect(database_url, size=4) as other:
        applied = await asyncio.gather(*(migrations.apply(pool) for pool in (empty, other) * 4))
    assert sorted(applied) == [[]] * 7 + [EVERY_NUMBER]
    assert await migrations.pending(empty) == []


async def test_a_migration_that_fails_leaves_nothing(empty: Pool) -> None:
    await empty.execute("CREATE TABLE videos (mine text)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrations.apply(empty)
    assert await relations(empty) == {"videos"}
    assert await migrations.pending(empty) == EVERY_NUMBER
    await empty.execute("DROP TABLE videos")
    assert await migrations.apply(empty) == EVERY_NUMBER


async def test_a_schema_of_a_newer_version_is_left_alone(pool: Pool) -> None:
    await pool.execute("INSERT INTO schema_migrations (number, name) VALUES (9999, 'from the future')")
    assert await migrations.pending(pool) == []
    assert await migrations.apply(pool) == []


async def test_people_find_enhancements_under_the_names_they_know(pool: Pool) -> None:
    found = await columns(pool, "enhancement_tasks")
    assert (
        found.items()
        >= {
            "id": "bigint",
            "user_id": "bigint",
            "original_image_path": "text",
            "user_description": "text",
            "enhanced_image_url": "text",
            "script": "text",
            "product_analysis": "text",
            "status": "text",
            "error_message": "text",
            "tokens_used": "integer",
            "processing_time": "double precision",
            "created_at": "timestamp with time zone",
            "updated_at": "timestamp with time zone",
            "completed_at": "timestamp with time zone",
        }.items()
    )


async def test_people_find_videos_under_the_names_they_know(pool: Pool) -> None:
    found = await columns(pool, "videos")
    assert found.items() >= {"id": "bigint", "user_id": "bigint", "step": "smallint", "status": "text"}.items()
    assert {"video_url", "processing_time", "created_at", "updated_at", "completed_at"} <= found.keys()


async def test_an_enhancement_is_shown_with_what_was_ordered_and_found(pool: Pool) -> None:
    user = await new_user(pool)
    ordered = {"original": "user_1/originals/a.jpg", "user_description": "茶", "duration": 4, "language": "zh"}
    found = {"enhanced_path": "user_1/enhanced/a.jpg", "script": "s", "product_analysis": "p", "tokens_used": 12}
    await tasks.insert(pool, user, Kind.ENHANCEMENT, ordered, max_attempts=4)
    [task] = await claim(pool)
    await pool.execute("UPDATE tasks SET started_at = now() - interval '2 seconds'")
    await tasks.finish(pool, task, event(task), Status.COMPLETED, progress=100, message="end", output=found)
    [shown] = await pool.fetch("SELECT * FROM enhancement_tasks")
    assert {
        "id": task.id,
        "user_id": user,
        "original_image_path": "/uploads/user_1/originals/a.jpg",
        "user_description": "茶",
        "duration": 4,
        "language": "zh",
        "enhanced_image_url": "/uploads/user_1/enhanced/a.jpg",
        "script": "s",
        "product_analysis": "p",
        "tokens_used": 12,
        "status": "completed",
        "progress": 100,
        "error_message": None,
    }.items() <= dict(shown).items()
    assert 2 <= shown["processing_time"] < 60


async def test_a_task_that_waits_is_shown_with_what_there_is(pool: Pool) -> None:
    await order(pool)
    [shown] = await pool.fetch("SELECT * FROM enhancement_tasks")
    assert (shown["status"], shown["tokens_used"], shown["processing_time"]) == ("pending", 0, None)
    assert shown["enhanced_image_url"] is None


async def test_a_video_is_shown_by_its_step_and_the_provider_s_percentage(pool: Pool) -> None:
    user = await new_user(pool)
    await tasks.insert(pool, user, Kind.VIDEO, {"enhancement_id": 7, "prompt": "p", "duration": 8}, max_attempts=4)
    [task] = await claim(pool)
    found = {"percent": 62, "video_path": "user_1/videos/a.mp4", "thumbnail_path": "user_1/videos/a.jpg"}
    await tasks.advance(pool, task, event(task), progress=5, message="", output=found)
    [shown] = await pool.fetch("SELECT * FROM videos")
    assert {
        "enhancement_id": 7,
        "prompt": "p",
        "duration": 8,
        "step": 5,
        "progress": 62,
        "video_url": "/uploads/user_1/videos/a.mp4",
        "thumbnail_url": "/uploads/user_1/videos/a.jpg",
    }.items() <= dict(shown).items()


async def test_each_view_shows_its_own_kind(pool: Pool) -> None:
    enhancement, video = await order(pool), await order(pool, kind=Kind.VIDEO)
    assert await pool.fetchval("SELECT array_agg(id) FROM enhancement_tasks") == [enhancement.id]
    assert await pool.fetchval("SELECT array_agg(id) FROM videos") == [video.id]
