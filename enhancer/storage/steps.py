"""The table `task_steps`: the gate before paid calls, and the checkpoint of their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from enhancer.domain.tasks import Task
from enhancer.storage.database import Pool


class State(StrEnum):
    """
    Where a paid step stands.

    started: a call may be running. submitted: the provider gave an id to ask for. refused: the last call was not
    accepted. ambiguous: nobody can know whether it was. done: the result is kept.
    """

    STARTED = "started"
    SUBMITTED = "submitted"
    REFUSED = "refused"
    AMBIGUOUS = "ambiguous"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of `task_steps`."""

    state: State
    calls: int
    ambiguous: int
    provider_id: str | None
    result: Mapping[str, object] | None
    started_at: datetime


async def get(pool: Pool, task_id: int, step: str) -> StepRow | None:
    """How far the step is; None when it was never begun."""
    row = await pool.fetchrow(
        """
        SELECT state, calls, ambiguous, provider_id, result, started_at
        FROM task_steps WHERE task_id = $1 AND step = $2
        """,
        task_id,
        step,
    )
    if row is None:
        return None
    return StepRow(
        State(row["state"]), row["calls"], row["ambiguous"], row["provider_id"], row["result"], row["started_at"]
    )


async def permit(
    pool: Pool, task: Task, step: str, *, model: str, longest_call: float, repeats: int, billed: bool = True
) -> bool:
    """
    The gate: whether the holder of the lease may call the provider now. True is committed, and the call is in the
    ledger, before it is returned; a lease gets it once for a step.

    A call that was cut off is repeated only once it is older than `longest_call` seconds, so that nobody is still
    in it, and at most `repeats` times (0: never). Calls that are not `billed` leave no ambiguity behind.
    """
    row = await pool.fetchrow(
        """
        WITH own AS (
            SELECT id, fence FROM tasks
            WHERE id = $1 AND fence = $2 AND status = 'processing'
              AND cancel_requested_at IS NULL AND lease_until > now()
            FOR SHARE),
        permitted AS (
            INSERT INTO task_steps (task_id, step, state, fence, model)
            SELECT id, $3, 'started', fence, $6 FROM own
            ON CONFLICT (task_id, step) DO UPDATE
            SET state = 'started', fence = excluded.fence, model = excluded.model, calls = task_steps.calls + 1,
                started_at = now(), finished_at = NULL, provider_id = NULL,
                ambiguous = task_steps.ambiguous + (task_steps.state <> 'refused' AND $7)::int
            WHERE task_steps.fence < excluded.fence
              AND (task_steps.state = 'refused'
                   OR (task_steps.state IN ('started', 'ambiguous') AND task_steps.provider_id IS NULL
                       AND (NOT $7 OR (task_steps.started_at < now() - $4::interval AND task_steps.ambiguous < $5))))
            RETURNING task_id, step, fence, model)
        INSERT INTO task_calls (task_id, step, fence, model, billed)
        SELECT task_id, step, fence, model, $7 FROM permitted
        RETURNING true
        """,
        task.id,
        task.fence,
        step,
        timedelta(seconds=longest_call),
        repeats,
        model,
        billed,
    )
    return row is not None


async def submit(pool: Pool, task: Task, step: str, provider_id: str) -> bool:
    """
    Keep the id of an order that was just placed: whoever holds the task from now on asks for it, and orders no more.

    The lease may be lost, the order is there all the same. False: nobody will ask for it, because the task has ended
    or another holder has ordered anew.
    """
    kept = await pool.fetchval(
        """
        UPDATE task_steps AS s SET state = 'submitted', provider_id = $4
        FROM tasks AS t
        WHERE s.task_id = $1 AND s.step = $2 AND s.fence = $3 AND t.id = s.task_id AND t.completed_at IS NULL
          AND (s.state IN ('started', 'ambiguous') OR (s.state = 'submitted' AND s.provider_id = $4))
        RETURNING true
        """,
        task.id,
        step,
        task.fence,
        provider_id,
    )
    return bool(kept)


async def close(pool: Pool, task: Task, step: str, provider_id: str, state: State) -> bool:
    """
    Record how an order ended that brought no result: refused, or ambiguous when it may have been billed.

    False: it was not open any more, or the task is another's by now, who goes on with the order.
    """
    closed = await pool.fetchval(
        """
        WITH closed AS (
            UPDATE task_steps SET state = $4, finished_at = now()
            WHERE task_id = $1 AND step = $2 AND provider_id = $3 AND state = 'submitted'
              AND EXISTS (SELECT FROM tasks WHERE id = $1 AND fence = $5 AND status <> 'pending')
            RETURNING fence),
        written AS (
            UPDATE task_calls AS c SET outcome = $4, finished_at = now() FROM closed
            WHERE c.task_id = $1 AND c.step = $2 AND c.fence = closed.fence AND c.outcome <> 'done')
        SELECT true FROM closed
        """,
        task.id,
        step,
        provider_id,
        state.value,
        task.fence,
    )
    return bool(closed)


async def finish(
    pool: Pool, task: Task, step: str, *, result: Mapping[str, object], usage: Mapping[str, object]
) -> Mapping[str, object] | None:
    """
    Keep the result and the usage; the result that counts is returned, which is the first that anybody kept.

    No fence is asked: the result of a worker that has lost its lease was paid for all the same. A holder that has made
    no call itself found what the last one brought. None: the task is gone.
    """
    kept: Mapping[str, object] | None = await pool.fetchval(
        """
        WITH called AS (
            UPDATE task_calls SET outcome = 'done', usage = $4, finished_at = now()
            WHERE task_id = $1 AND step = $2 AND outcome <> 'done' AND fence = (
                SELECT max(fence) FROM task_calls WHERE task_id = $1 AND step = $2 AND fence <= $5))
        UPDATE task_steps
        SET state = 'done', result = coalesce(result, $3), usage = coalesce(usage, $4),
            finished_at = coalesce(finished_at, now())
        WHERE task_id = $1 AND step = $2
        RETURNING result
        """,
        task.id,
        step,
        result,
        usage,
        task.fence,
    )
    return kept


async def settle(pool: Pool, task: Task, step: str, state: State) -> None:
    """Record how the call of this lease ended without a result: refused or ambiguous."""
    await pool.execute(
        """
        WITH called AS (
            UPDATE task_calls SET outcome = $4, finished_at = now()
            WHERE task_id = $1 AND step = $2 AND fence = $3 AND outcome = 'started')
        UPDATE task_steps SET state = $4, finished_at = now()
        WHERE task_id = $1 AND step = $2 AND fence = $3 AND state = 'started'
        """,
        task.id,
        step,
        task.fence,
        state.value,
    )
