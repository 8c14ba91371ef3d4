"""
What a task's user may ask of it: statements on `tasks` that no lease is needed for.

They raise the fence where they speak for the task, so that no former holder takes their event for its own.
"""

from __future__ import annotations

from datetime import timedelta

from enhancer.domain.tasks import Event, Task
from enhancer.storage.database import Pool


async def request_cancel(pool: Pool, task_id: int) -> bool:
    """Ask the holder of a running task to end it. False: it is not running."""
    found = await pool.fetchval(
        """
        UPDATE tasks SET cancel_requested_at = coalesce(cancel_requested_at, now())
        WHERE id = $1 AND status = 'processing' RETURNING true
        """,
        task_id,
    )
    return bool(found)


async def cancel_waiting(pool: Pool, task: Task, event: Event, *, message: str) -> bool:
    """End a task that waits. False: it waits no more, or has said something since `task` was read."""
    found = await pool.fetchval(
        """
        WITH moved AS (
            UPDATE tasks
            SET status = 'cancelled', fence = fence + 1, message = $4, last_seq = $2, updated_at = now(),
                completed_at = now(),
                cancel_requested_at = coalesce(cancel_requested_at, now())
            WHERE id = $1 AND status = 'pending' AND last_seq = $2 - 1
            RETURNING id)
        INSERT INTO task_events (task_id, seq, data) SELECT id, $2, $3::json FROM moved
        RETURNING true
        """,
        task.id,
        event.seq,
        event.data,
        message,
    )
    return bool(found)


async def retry(pool: Pool, task: Task, event: Event, *, message: str, longest_call: float) -> bool:
    """
    Let a failed or cancelled task wait again, with all its attempts and what it has reached.

    Its former events go: a stream that replayed the old end would end there. Finished paid steps are kept. A call of
    unknown outcome counts as ambiguous and may be made again, but not within `longest_call` seconds of its start; an
    order that brought nothing is over, and is placed anew. A pause that was cut short by a cancellation is kept, too.
    False: the task is neither failed nor cancelled.
    """
    found = await pool.fetchval(
        """
        WITH moved AS (
            UPDATE tasks
            SET status = 'pending', fence = fence + 1, attempts = 0, error_code = NULL, error_message = NULL,
                completed_at = NULL, cancel_requested_at = NULL, started_at = NULL,
                message = $4, last_seq = $2, updated_at = now(),
                run_at = greatest(now(), run_at, (
                    SELECT max(started_at) + $5::interval FROM task_steps
                    WHERE task_id = $1 AND state IN ('started', 'ambiguous') AND provider_id IS NULL))
            WHERE id = $1 AND status IN ('failed', 'cancelled') AND last_seq = $2 - 1
            RETURNING id),
        steps AS (
            UPDATE task_steps SET state = 'refused', ambiguous = ambiguous + 1
            FROM moved WHERE task_id = moved.id AND state IN ('started', 'ambiguous')),
        forgotten AS (
            DELETE FROM task_events USING moved WHERE task_id = moved.id AND seq < $2)
        INSERT INTO task_events (task_id, seq, data) SELECT id, $2, $3::json FROM moved
        RETURNING true
        """,
        task.id,
        event.seq,
        event.data,
        message,
        timedelta(seconds=longest_call),
    )
    return bool(found)


async def delete(pool: Pool, task_id: int) -> bool:
    """Remove a task with its steps, calls and events. False: it is running, or gone already."""
    found = await pool.fetchval("DELETE FROM tasks WHERE id = $1 AND status <> 'processing' RETURNING true", task_id)
    return bool(found)
