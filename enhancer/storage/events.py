"""Reading `task_events`: what the streams replay. Events are written by the statements of storage.tasks."""

from __future__ import annotations

from collections.abc import Sequence

from enhancer.domain.tasks import Event
from enhancer.storage.database import Pool


async def after(pool: Pool, task_id: int, seq: int) -> list[Event]:
    """The events of a task after `seq` (0: all), in order."""
    rows = await pool.fetch(
        "SELECT seq, data FROM task_events WHERE task_id = $1 AND seq > $2 ORDER BY seq", task_id, seq
    )
    return [Event(row["seq"], row["data"]) for row in rows]


async def heads(pool: Pool, task_ids: Sequence[int]) -> dict[int, int]:
    """The number of the last event of each of the tasks; a task that is gone is missing."""
    rows = await pool.fetch("SELECT id, last_seq FROM tasks WHERE id = ANY($1::bigint[])", task_ids)
    return {row["id"]: row["last_seq"] for row in rows}
