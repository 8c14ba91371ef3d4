"""Reading a user's tasks page by page."""

from __future__ import annotations

from enhancer.domain.tasks import Kind, Status
from enhancer.storage import tasks
from enhancer.storage.database import Pool
from tests.storage import claim, event, new_user, order

END = 2**63 - 1


async def ids(
    pool: Pool, user: int, *statuses: Status, kind: Kind = Kind.ENHANCEMENT, before: int = END, limit: int = 100
) -> list[int]:
    found = await tasks.listed(pool, user, kind, statuses or list(Status), before=before, limit=limit)
    return [task.id for task in found]


async def test_a_user_s_tasks_of_a_kind_are_listed_the_newest_first(pool: Pool) -> None:
    user, other = await new_user(pool), await new_user(pool)
    mine = [(await order(pool, user)).id for _ in range(5)]
    await order(pool, other)
    video = await order(pool, user, kind=Kind.VIDEO)
    assert await ids(pool, user) == mine[::-1]
    assert await ids(pool, user, kind=Kind.VIDEO) == [video.id]
    assert await ids(pool, await new_user(pool)) == []


async def test_a_page_goes_on_below_an_id(pool: Pool) -> None:
    user = await new_user(pool)
    mine = [(await order(pool, user)).id for _ in range(5)]
    assert await ids(pool, user, limit=2) == mine[:2:-1]
    assert await ids(pool, user, before=mine[3], limit=2) == [mine[2], mine[1]]
    assert await ids(pool, user, before=mine[0]) == []


async def test_states_are_merged_in_the_order_of_the_ids(pool: Pool) -> None:
    user = await new_user(pool)
    mine = [(await order(pool, user)).id for _ in range(4)]
    for task in await claim(pool, limit=3):
        if task.id != mine[1]:
            await tasks.finish(pool, task, event(task), Status.COMPLETED, progress=100, message="", output={})
    assert await ids(pool, user, Status.COMPLETED) == [mine[2], mine[0]]
    assert await ids(pool, user, Status.PROCESSING, Status.PENDING) == [mine[3], mine[1]]
    assert await ids(pool, user, Status.FAILED) == []
    assert await ids(pool, user, Status.COMPLETED, Status.PENDING, limit=2) == [mine[3], mine[2]]


async def test_no_page_reads_more_of_the_table_than_it_shows(pool: Pool) -> None:
    """A rare state among many tasks: every row comes by the index, whichever states are wanted."""
    user = await new_user(pool)
    await pool.execute(
        """
        INSERT INTO tasks (user_id, kind, input, max_attempts, status, completed_at)
        SELECT $1, 'enhancement', '{}', 4, 'completed', now() FROM generate_series(1, 20000)
        """,
        user,
    )
    failed = await order(pool, user)
    await pool.execute("UPDATE tasks SET status = 'cancelled', completed_at = now() WHERE id = $1", failed.id)
    await pool.execute("ANALYZE tasks")
    assert await ids(pool, user, Status.CANCELLED, limit=20) == [failed.id]
    plan = "\n".join(
        row[0]
        for row in await pool.fetch(
            """
            EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM tasks WHERE id IN (
                SELECT found.id FROM unnest($1::text[]) AS wanted (status) CROSS JOIN LATERAL (
                    SELECT t.id FROM tasks AS t
                    WHERE t.user_id = $2 AND t.kind = 'enhancement' AND t.status = wanted.status AND -t.id > -$3::bigint
                    ORDER BY -t.id LIMIT 21) AS found
                ORDER BY found.id DESC LIMIT 21)
            ORDER BY id DESC
            """,
            [status.value for status in Status],
            user,
            END,
        )
    )
    assert "using tasks_listed" in plan
    assert "Seq Scan" not in plan
    assert "Rows Removed" not in plan
