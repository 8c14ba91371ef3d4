"""Reading `task_calls`, the ledger of calls of providers. It is written by the statements of storage.steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from enhancer.storage.database import Pool


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call of a provider.

    `outcome`: started (it may still be running, or nobody could say how it ended), done, refused or ambiguous.
    `usage` is what the provider said it counted.
    """

    step: str
    model: str
    billed: bool
    outcome: str
    usage: Mapping[str, object] | None
    started_at: datetime
    finished_at: datetime | None


async def of_task(pool: Pool, task_id: int) -> list[Call]:
    """The calls made for a task, the first first."""
    rows = await pool.fetch(
        """
        SELECT step, model, billed, outcome, usage, started_at, finished_at
        FROM task_calls WHERE task_id = $1 ORDER BY started_at, fence
        """,
        task_id,
    )
    return [Call(**row) for row in rows]
