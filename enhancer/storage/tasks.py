"""
The table `tasks`, which is the queue: rows with leases.

Whoever changes a running task shows its fence; a statement whose fence is old matches no row. What is told to
watchers is inserted into `task_events` by the same statement that changes the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from enhancer.domain.tasks import Event, Kind, Status, Task
from enhancer.errors import Conflict
from enhancer.storage.database import Connection, Pool

_COLUMNS = """
    id, user_id, kind, input, output, status, progress, message, last_seq, attempts, max_attempts, fence,
    deadline_at, cancel_requested_at, error_code, error_message, created_at, updated_at, started_at, completed_at
"""

CLAIMING = 0x656E6861  # "enha": the advisory lock of whoever claims


class CommitLost(ConnectionError):
    """The connection broke during a commit, which may have happened."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many tasks wait: of one user, and of all."""

    of_user: int
    of_all: int


@dataclass(frozen=True, slots=True)
class Queue:
    """The ids of the tasks of a kind that wait, the next first; how many of it are worked on."""

    waiting: list[int]
    running: int


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What a client calls its order, and a hash of the order itself."""

    name: str
    order_hash: bytes


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a heartbeat brings back: the tasks whose lease holds, and those that their user wants to cancel."""

    held: frozenset[int]
    cancelled: frozenset[int]


async def get(pool: Pool, task_id: int) -> Task | None:
    """The task, whoever it belongs to."""
    row = await pool.fetchrow(f"SELECT {_COLUMNS} FROM tasks WHERE id = $1", task_id)
    return _task(row) if row else None


async def several(pool: Pool, user_id: int, task_ids: Sequence[int]) -> list[Task]:
    """Those of the tasks that are the user's."""
    rows = await pool.fetch(
        f"SELECT {_COLUMNS} FROM tasks WHERE id = ANY($1::bigint[]) AND user_id = $2", task_ids, user_id
    )
    return [_task(row) for row in rows]


async def insert(
    pool: Pool,
    user_id: int,
    kind: Kind,
    order: Mapping[str, object],
    *,
    max_attempts: int,
    key: IdempotencyKey | None = None,
) -> Task | None:
    """
    Accept a task and count it; committed when it is returned.

    None: the user has no active subscription, has used up its quota of this month, or has a task of this key already.
    Nothing is counted then. Raises CommitLost when nobody can know whether there is a task now.
    """
    committing = False
    try:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            row = await _insert(connection, user_id, kind, order, max_attempts, key)
            if row is None:
                await transaction.rollback()
                return None
            committing = True
            await transaction.commit()
    except Exception as error:  # whatever the client raises: also when it gives the connection back
        if committing:
            raise CommitLost from error
        raise
    return _task(row)


async def _insert(
    connection: Connection,
    user_id: int,
    kind: Kind,
    order: Mapping[str, object],
    max_attempts: int,
    key: IdempotencyKey | None,
) -> asyncpg.Record | None:
    return await connection.fetchrow(
        f"""
        WITH counted AS (
            INSERT INTO task_usage AS used (user_id, month, tasks)
            SELECT user_id, date_trunc('month', now() AT TIME ZONE 'utc')::date, 1 FROM subscriptions
            WHERE user_id = $1 AND status = 'active' AND period_end > now() AND monthly_quota IS DISTINCT FROM 0
            ON CONFLICT (user_id, month) DO UPDATE SET tasks = used.tasks + 1
            WHERE used.tasks < coalesce((SELECT monthly_quota FROM subscriptions WHERE user_id = $1), 2147483647)
            RETURNING user_id)
        INSERT INTO tasks (user_id, kind, input, max_attempts, idempotency_key, order_hash)
        SELECT user_id, $2, $3, $4, $5, $6 FROM counted
        ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING {_COLUMNS}
        """,
        user_id,
        kind.value,
        order,
        max_attempts,
        key.name if key else None,
        key.order_hash if key else None,
    )


async def of_key(pool: Pool, user_id: int, key: IdempotencyKey) -> Task | None:
    """
    The task that was accepted with this key.

    Raises Conflict when it came with another order.
    """
    row = await pool.fetchrow(
        f"SELECT {_COLUMNS}, order_hash FROM tasks WHERE user_id = $1 AND idempotency_key = $2", user_id, key.name
    )
    if row is None:
        return None
    values = dict(row)
    if values.pop("order_hash") != key.order_hash:
        raise Conflict("This Idempotency-Key came with another order before.")
    return _task(values)


async def key_is_known(pool: Pool, user_id: int, name: str) -> bool:
    """Whether a task of the user was accepted with this Idempotency-Key, whatever was ordered."""
    found = await pool.fetchval("SELECT true FROM tasks WHERE user_id = $1 AND idempotency_key = $2", user_id, name)
    return bool(found)


async def listed(
    pool: Pool, user_id: int, kind: Kind, statuses: Sequence[Status], *, before: int, limit: int
) -> list[Task]:
    """
    Up to `limit` of a user's tasks in these states whose id is below `before`, the newest first.

    Each state is read from its own stretch of the index, so that a rare one costs no more than a common one.
    """
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM tasks WHERE id IN (
            SELECT found.id FROM unnest($3::text[]) AS wanted (status) CROSS JOIN LATERAL (
                SELECT t.id FROM tasks AS t
                WHERE t.user_id = $1 AND t.kind = $2 AND t.status = wanted.status AND -t.id > -$4::bigint
                ORDER BY -t.id LIMIT $5) AS found
            ORDER BY found.id DESC LIMIT $5)
        ORDER BY id DESC
        """,
        user_id,
        kind.value,
        [status.value for status in statuses],
        before,
        limit,
    )
    return [_task(row) for row in rows]


async def room(pool: Pool, user_id: int) -> Room:
    """How many tasks are waiting now."""
    [row] = await pool.fetch(
        """
        SELECT count(*) FILTER (WHERE user_id = $1) AS of_user, count(*) AS of_all
        FROM tasks WHERE status = 'pending'
        """,
        user_id,
    )
    return Room(row["of_user"], row["of_all"])


async def queues(pool: Pool) -> dict[Kind, Queue]:
    """
    Who waits, by kind, in the order of `claim` if one after another were claimed and nobody came or went meanwhile.

    Those whose pause has not ended come last.
    """
    rows = await pool.fetch(
        """
        WITH load AS (
            SELECT kind, user_id, count(*) AS n FROM tasks WHERE status = 'processing' GROUP BY kind, user_id),
        ranked AS (
            SELECT t.id, t.kind, t.run_at, t.run_at > now() AS pausing, coalesce(load.n, 0) + row_number() OVER (
                PARTITION BY t.kind, t.user_id, t.run_at > now() ORDER BY t.run_at, t.id) AS slot
            FROM tasks AS t LEFT JOIN load USING (kind, user_id) WHERE t.status = 'pending'),
        waiting AS (
            SELECT kind, array_agg(id ORDER BY pausing, slot, run_at, id) AS ids FROM ranked GROUP BY kind),
        busy AS (
            SELECT kind, sum(n)::int AS n FROM load GROUP BY kind)
        SELECT kind, coalesce(ids, '{}') AS waiting, coalesce(n, 0) AS running FROM waiting FULL JOIN busy USING (kind)
        """
    )
    return {Kind(row["kind"]): Queue(row["waiting"], row["running"]) for row in rows}


async def claim(
    pool: Pool, worker: str, *, limit: int, per_user: int, lease: float, time_limits: Mapping[Kind, float]
) -> list[Task]:
    """
    Lease up to `limit` waiting tasks of the kinds in `time_limits`, in the order of max-min fairness among users.

    `per_user` caps what one user has running of these kinds over all replicas; `lease` and the time limits are
    seconds. Claims come one after another, each seeing what the one before took: two that overlap can go past the cap
    together. The window is chosen first and locked after: SKIP LOCKED under the LIMIT would let the cap slide.
    """
    async with pool.acquire() as connection, connection.transaction():
        # a process that is frozen here must not keep the others from claiming
        await connection.execute(
            "SELECT pg_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '5s', true)", CLAIMING
        )
        rows = await connection.fetch(
            f"""
            WITH RECURSIVE load AS (
                SELECT user_id, count(*)::int AS n FROM tasks WHERE status = 'processing' AND kind = ANY($5)
                GROUP BY user_id),
            waiting (user_id) AS (  -- from one user to the next in the index, however many tasks each has
                (SELECT user_id FROM tasks WHERE status = 'pending' ORDER BY user_id LIMIT 1)
                UNION ALL
                SELECT (SELECT t.user_id FROM tasks AS t WHERE t.status = 'pending' AND t.user_id > waiting.user_id
                        ORDER BY t.user_id LIMIT 1)
                FROM waiting WHERE waiting.user_id IS NOT NULL),
            ranked AS (
                SELECT q.id, q.run_at, coalesce(load.n, 0) + q.nth AS slot
                FROM waiting LEFT JOIN load USING (user_id) CROSS JOIN LATERAL (
                    SELECT x.*, row_number() OVER (ORDER BY run_at, id) AS nth FROM (
                        SELECT id, run_at FROM tasks
                        WHERE user_id = waiting.user_id AND status = 'pending' AND run_at <= now() AND kind = ANY($5)
                          AND attempts < max_attempts
                        ORDER BY run_at, id LIMIT greatest($3 - coalesce(load.n, 0), 0)) AS x) AS q),
            picked AS MATERIALIZED (
                SELECT t.id FROM tasks AS t
                WHERE t.id = ANY(ARRAY(SELECT id FROM ranked ORDER BY slot, run_at, id LIMIT $2))
                  AND t.status = 'pending'
                FOR UPDATE OF t SKIP LOCKED),
            claimed AS (
                UPDATE tasks AS t
                SET status = 'processing', attempts = attempts + 1, fence = fence + 1, worker = $1,
                    lease_until = now() + $4::interval,
                    deadline_at = now() + make_interval(secs => ($6::float8[])[array_position($5, t.kind)]),
                    started_at = coalesce(started_at, now()), updated_at = now()
                WHERE t.id = ANY(ARRAY(SELECT id FROM picked))
                RETURNING t.*)
            SELECT {_COLUMNS} FROM claimed ORDER BY run_at, id
            """,
            worker,
            limit,
            per_user,
            timedelta(seconds=lease),
            [kind.value for kind in time_limits],
            list(time_limits.values()),
        )
    return [_task(row) for row in rows]


async def renew(pool: Pool, worker: str, leases: Mapping[int, int], *, lease: float) -> Renewal:
    """The heartbeat: extend the leases {task: fence} by `lease` seconds, up to that much past the deadline."""
    rows = await pool.fetch(
        """
        UPDATE tasks AS t SET lease_until = least(now() + $4::interval, deadline_at + $4::interval)
        FROM unnest($2::bigint[], $3::bigint[]) AS mine (id, fence)
        WHERE t.id = mine.id AND t.fence = mine.fence AND t.status = 'processing' AND t.worker = $1
        RETURNING t.id, t.cancel_requested_at IS NOT NULL AS cancelled
        """,
        worker,
        list(leases.keys()),
        list(leases.values()),
        timedelta(seconds=lease),
    )
    return Renewal(frozenset(row["id"] for row in rows), frozenset(row["id"] for row in rows if row["cancelled"]))


async def advance(
    pool: Pool, task: Task, *events: Event, progress: int, message: str, output: Mapping[str, object]
) -> bool:
    """
    Record progress, what was found out and one or more events, in one statement: all of them, or none.

    The first event's `seq` is the one after the task's last. True: recorded, now or by an earlier try of the same
    holder whose answer was lost. False: the lease is lost; whoever holds it now speaks for the task.
    """
    recorded = await pool.fetchval(
        """
        WITH moved AS (
            UPDATE tasks
            SET progress = greatest(progress, $5), message = $6, last_seq = $8, updated_at = now(),
                output = CASE WHEN $7::jsonb = '{}' THEN output ELSE output || $7 END  -- else it is stored anew
            WHERE id = $1 AND fence = $2 AND status = 'processing' AND last_seq = $3 - 1
            RETURNING id)
        INSERT INTO task_events (task_id, seq, data)
        SELECT id, $3 + told.nth - 1, told.data::json FROM moved, unnest($4::text[]) WITH ORDINALITY AS told (data, nth)
        RETURNING true
        """,
        task.id,
        task.fence,
        events[0].seq,
        [event.data for event in events],
        progress,
        message,
        output,
        events[-1].seq,
    )
    return bool(recorded) or await _spoken(pool, task, events[-1])


async def finish(
    pool: Pool,
    task: Task,
    event: Event,
    status: Status,
    *,
    progress: int,
    message: str,
    output: Mapping[str, object],
    error: tuple[str, str] | None = None,
) -> bool:
    """
    End the task: completed, failed (with `error`: its code and sentence) or cancelled, with its last event.

    True and False as `advance` returns them.
    """
    recorded = await pool.fetchval(
        """
        WITH moved AS (
            UPDATE tasks
            SET status = $5, progress = greatest(progress, $6), message = $7,
                output = CASE WHEN $8::jsonb = '{}' THEN output ELSE output || $8 END,
                error_code = $9, error_message = $10, last_seq = $3, worker = NULL, lease_until = NULL,
                updated_at = now(), completed_at = now()
            WHERE id = $1 AND fence = $2 AND status = 'processing' AND last_seq = $3 - 1
            RETURNING id)
        INSERT INTO task_events (task_id, seq, data) SELECT id, $3, $4::json FROM moved
        RETURNING true
        """,
        task.id,
        task.fence,
        event.seq,
        event.data,
        status.value,
        progress,
        message,
        output,
        *(error or (None, None)),
    )
    return bool(recorded) or await _spoken(pool, task, event)


async def put_back(
    pool: Pool,
    task: Task,
    *,
    seconds: float,
    event: Event | None = None,
    message: str | None = None,
    refund: bool = False,
) -> bool:
    """
    Let the task wait for `seconds`, then for any worker: after a failure that may pass, or at a stop.

    `refund`: the attempt does not count. `event` is told to watchers. True and False as `advance` returns them.
    """
    recorded = await pool.fetchval(
        """
        WITH moved AS (
            UPDATE tasks
            SET status = 'pending', run_at = now() + $3::interval, worker = NULL, lease_until = NULL,
                attempts = attempts - $4::int, updated_at = now(),
                last_seq = coalesce($5::int, last_seq), message = coalesce($7, message)
            WHERE id = $1 AND fence = $2 AND status = 'processing' AND last_seq = coalesce($5::int - 1, last_seq)
            RETURNING id),
        told AS (
            INSERT INTO task_events (task_id, seq, data)
            SELECT id, $5::int, $6::json FROM moved WHERE $5::int IS NOT NULL)
        SELECT true FROM moved
        """,
        task.id,
        task.fence,
        timedelta(seconds=seconds),
        int(refund),
        event and event.seq,
        event and event.data,
        message,
    )
    return bool(recorded) or (event is not None and await _spoken(pool, task, event))


async def adopt(pool: Pool, worker: str) -> int:
    """At a start: put back what this worker's former incarnation held; how many tasks."""
    return await _put_back_all(pool, "worker = $1", worker)


async def reap(pool: Pool) -> int:
    """Put back the tasks whose lease has run out; how many."""
    return await _put_back_all(pool, "lease_until < now()")


async def exhausted(pool: Pool) -> list[Task]:
    """
    Claim those waiting tasks that have no attempt left, to be failed by the caller.

    A task that kills its process is charged at its claim, so that it ends here.
    """
    rows = await pool.fetch(
        f"""
        UPDATE tasks SET status = 'processing', fence = fence + 1, lease_until = now() + interval '1 minute'
        WHERE id IN (SELECT id FROM tasks WHERE status = 'pending' AND attempts >= max_attempts
                     FOR UPDATE SKIP LOCKED)
        RETURNING {_COLUMNS}
        """
    )
    return [_task(row) for row in rows]


async def expired(pool: Pool, *, days: float, limit: int) -> list[Task]:
    """Up to `limit` tasks that ended more than `days` ago, the oldest first."""
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM tasks WHERE completed_at < now() - $1::interval ORDER BY completed_at LIMIT $2
        """,
        timedelta(days=days),
        limit,
    )
    return [_task(row) for row in rows]


async def known_keys(pool: Pool, pairs: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those of the (user, key) pairs that a task has in its input; see EnhancementInput.key."""
    rows = await pool.fetch(
        """
        SELECT t.user_id, t.input ->> 'key' AS key FROM tasks AS t
        JOIN unnest($1::bigint[], $2::text[]) AS pair (user_id, key)
          ON t.user_id = pair.user_id AND t.input ->> 'key' = pair.key
        """,
        [user for user, _ in pairs],
        [key for _, key in pairs],
    )
    return {(row["user_id"], row["key"]) for row in rows}


async def waiting(pool: Pool) -> dict[Status, int]:
    """How many tasks there are in the states that are not final."""
    rows = await pool.fetch(
        "SELECT status, count(*) AS n FROM tasks WHERE status IN ('pending', 'processing') GROUP BY status"
    )
    return {Status.PENDING: 0, Status.PROCESSING: 0} | {Status(row["status"]): row["n"] for row in rows}


async def _put_back_all(pool: Pool, condition: str, *arguments: object) -> int:
    rows = await pool.fetch(
        f"""
        UPDATE tasks SET status = 'pending', run_at = now(), worker = NULL, lease_until = NULL, updated_at = now()
        WHERE id IN (SELECT id FROM tasks WHERE status = 'processing' AND {condition} FOR UPDATE SKIP LOCKED)
        RETURNING id
        """,
        *arguments,
    )
    return len(rows)


async def _spoken(pool: Pool, task: Task, event: Event) -> bool:
    """Whether this holder's event is there already: only the holder of a fence writes events under it."""
    return bool(
        await pool.fetchval(
            "SELECT true FROM tasks WHERE id = $1 AND fence = $2 AND last_seq >= $3", task.id, task.fence, event.seq
        )
    )


def _task(row: asyncpg.Record | dict[str, Any]) -> Task:
    return Task(**{**row, "kind": Kind(row["kind"]), "status": Status(row["status"])})
