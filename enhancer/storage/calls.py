"""Reading `task_calls`, the ledger of calls of providers. It is written by the statements of storage.steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from enhancer.domain.tasks import Kind
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


@dataclass(frozen=True, slots=True)
class Took:
    """How long a call took that brought a result, `seconds`."""

    kind: Kind
    step: str
    model: str
    seconds: float


async def recent(pool: Pool, *, tasks: int) -> list[Took]:
    """The calls of so many tasks that were completed last, at the first attempt; the latest task first."""
    rows = await pool.fetch(
        """
        SELECT t.kind, c.step, c.model, extract(epoch FROM c.finished_at - c.started_at)::float8 AS seconds
        FROM (SELECT id, kind, completed_at FROM tasks
              WHERE completed_at IS NOT NULL ORDER BY completed_at DESC LIMIT $1) AS t
        JOIN task_calls AS c ON c.task_id = t.id
        WHERE c.outcome = 'done' AND c.fence = 1 ORDER BY t.completed_at DESC
        """,
        tasks,
    )
    return [Took(Kind(row["kind"]), row["step"], row["model"], row["seconds"]) for row in rows]


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
