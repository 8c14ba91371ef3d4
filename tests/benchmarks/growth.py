"""
What a million finished tasks behind change: claim, status, list, attaching a stream.

    python -m tests.benchmarks.growth [--tasks 1000000] [--quick] [--json] [--save]

About 4 minutes and 5 GB of disk for a million; --quick: 100,000 and less than a minute. The server itself makes the
rows (15 events a task), with the live ones of a hundred users among them, so that the first figures are from tables
that are nearly empty and the second from full ones. Statements are timed as the service makes them, one at a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable
from typing import TypeVar

import asyncpg

from enhancer.domain.tasks import Event, Kind, Status
from enhancer.storage import database, events, migrations, tasks
from enhancer.storage.database import Pool
from tests.benchmarks import figures, stage
from tests.benchmarks.figures import Figures, percentile

T = TypeVar("T")

USERS = 100
BACKLOG = 1000  # waiting tasks, over all users
EVENTS = 15  # a task
LIMITS = {Kind.ENHANCEMENT: 600.0}
EVENT = '{"progress": 50, "message": "✅ Image enhanced", "status": "processing", "timestamp": 1764000000.123}'
NAMES = {
    "claim": "claim a task",
    "finish": "finish a task",
    "insert": "accept a task",
    "status": "a task by its id",
    "events": "attach a stream: all events of a task",
    "list": "a user's newest 20 tasks",
    "room": "is there room in the queue",
}


async def people(pool: Pool) -> None:
    """Users with a subscription, and the backlog."""
    await pool.execute(
        """
        WITH made AS (
            INSERT INTO users (email, password_hash) SELECT 'u' || n || '@example.com', '-'
            FROM generate_series(1, $1) AS n RETURNING id)
        INSERT INTO subscriptions (user_id, plan, status, period_end)
        SELECT id, 'pro', 'active', now() + interval '1 year' FROM made
        """,
        USERS,
    )
    await pool.execute(
        """
        INSERT INTO tasks (user_id, kind, input, max_attempts)
        SELECT 1 + n % $1, 'enhancement', jsonb_build_object('key', md5(n::text), 'original', 'o'), 4
        FROM generate_series(1, $2) AS n
        """,
        USERS,
        BACKLOG,
    )
    await pool.execute("VACUUM ANALYZE")


async def fill(url: str, count: int) -> float:
    """Seconds that it took to put so many finished tasks and their events behind the living."""
    began = time.perf_counter()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            """
            SET session_replication_role = replica;  -- no look at the foreign key for every event
            SET synchronous_commit = off;
            SET maintenance_work_mem = '1GB';
            ALTER TABLE task_events DROP CONSTRAINT task_events_pkey;
            """
        )
        made = await connection.fetchval(
            f"""
            WITH made AS (
                INSERT INTO tasks (user_id, kind, input, output, status, progress, message, last_seq, attempts,
                                   max_attempts, fence, started_at, completed_at, created_at, updated_at)
                SELECT 1 + n % {USERS}, 'enhancement', jsonb_build_object('key', md5(n::text), 'original', 'o'),
                       jsonb_build_object('script', repeat(md5(n::text), 10), 'enhanced_path', md5(n::text)),
                       'completed', 100, '🎉 Enhancement completed successfully!', {EVENTS}, 1, 4, 1, at, at, at, at
                FROM generate_series(1, $1) AS n, LATERAL (SELECT now() - n * interval '5 seconds' AS at) AS t
                RETURNING 1)
            SELECT count(*) FROM made
            """,
            count,
        )
        await connection.execute(
            f"""
            INSERT INTO task_events (task_id, seq, data)
            SELECT t.id, n, $1::json FROM tasks AS t, generate_series(1, {EVENTS}) AS n WHERE t.output <> '{{}}'
            """,
            EVENT,
        )
        await connection.execute("ALTER TABLE task_events ADD PRIMARY KEY (task_id, seq)")
        await connection.execute("VACUUM ANALYZE")
        assert made == count
    finally:
        await connection.close()
    return time.perf_counter() - began


async def measure(pool: Pool, times: int) -> Figures:
    """Milliseconds of each statement, p50 and p99; every turn leaves the backlog as it was."""
    taken: dict[str, list[float]] = {name: [] for name in NAMES}

    async def timed(name: str, statement: Awaitable[T]) -> T:
        began = time.perf_counter()
        result = await statement
        taken[name].append((time.perf_counter() - began) * 1000)
        return result

    done = await pool.fetch("SELECT id FROM tasks WHERE status = 'completed' ORDER BY random() LIMIT $1", times)
    known = [row["id"] for row in done] or [1]
    for turn in range(times):
        user, task_id = 1 + turn % USERS, known[turn % len(known)]
        order = {"key": "k", "original": "o"}
        await timed("insert", tasks.insert(pool, user, Kind.ENHANCEMENT, order, max_attempts=4))
        claim = tasks.claim(pool, "benchmark", limit=1, per_user=2, lease=600.0, time_limits=LIMITS)
        for task in await timed("claim", claim):
            last = Event(task.last_seq + 1, '{"status": "completed"}')
            end = tasks.finish(pool, task, last, Status.COMPLETED, progress=100, message="", output={})
            await timed("finish", end)
        await timed("status", tasks.get(pool, task_id))
        await timed("events", events.after(pool, task_id, 0))
        await timed("room", tasks.room(pool, user))
        newest = tasks.listed(pool, user, Kind.ENHANCEMENT, list(Status), before=2**62, limit=20)
        await timed("list", newest)
    return {
        name: {"p50_ms": round(percentile(each, 0.5), 3), "p99_ms": round(percentile(each, 0.99), 3)}
        for name, each in taken.items()
    }


async def run(count: int, times: int) -> Figures:
    """Nearly empty tables, then full ones."""
    async with stage.servers() as servers:
        url = await servers.new_database("growth")
        async with database.connect(url, size=2) as pool:
            await migrations.apply(pool)
            await people(pool)
            await measure(pool, 50)  # warms up
            empty = await measure(pool, times)
            seconds = await fill(url, count)
            print(f"filled in {seconds:.0f} s", file=sys.stderr)
            size = await pool.fetchval("SELECT pg_database_size(current_database()) / 1e9")
            await measure(pool, 50)
            full = await measure(pool, times)
        return {"tasks": count, "filled_s": round(seconds), "gb": round(float(size), 2), "empty": empty, "full": full}


def text(found: Figures) -> str:
    """The table."""
    rows = []
    for name, title in NAMES.items():
        empty, full = found["empty"][name], found["full"][name]
        ratio = full["p50_ms"] / empty["p50_ms"]
        rows.append([title, empty["p50_ms"], full["p50_ms"], f"{ratio:.2f}", empty["p99_ms"], full["p99_ms"]])
    head = ["statement", "empty, p50 ms", "full, p50 ms", "ratio", "empty, p99 ms", "full, p99 ms"]
    behind = f"{found['tasks']:,} finished tasks and {found['tasks'] * EVENTS:,} events behind, {found['gb']} GB"
    return f"{behind}\n\n{figures.table(head, rows)}"


def main() -> None:
    """See the module."""
    parser = figures.arguments(__doc__, rounds=1)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    given = parser.parse_args()
    found = figures.run(run(100_000 if given.quick else given.tasks, 200 if given.quick else 1000))
    figures.tell("growth", {"results": found}, text(found), given)


if __name__ == "__main__":
    main()
