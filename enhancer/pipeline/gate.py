"""
The gate before calls of providers: at most one of a step, as far as anybody can know.

A call is committed before it is made, and its result before anything follows from it. Steps do not know the gate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from enhancer import crash, metrics
from enhancer.domain.tasks import Status
from enhancer.errors import ProviderError, ProviderRateLimited, StorageUnavailable
from enhancer.pipeline.plans import (
    CallInProgress,
    CancelRequested,
    Job,
    LeaseLost,
    OutcomeHeld,
    Provider,
    Result,
    ResultLost,
    Step,
    Wait,
    about,
)
from enhancer.pipeline.policy import LAST_WORDS, PATIENCE, Policy, to_the_end
from enhancer.storage import steps, tasks
from enhancer.storage.database import UNREACHABLE, Pool, patiently

log = logging.getLogger(__name__)

T = TypeVar("T")

FRESH = 5.0  # seconds for which a permit stays good whose answer was lost; a call's longest life has that to spare
PERMIT_LIFE = 10.0  # seconds after which others may soon take a call for dead that a frozen process has yet to make
SHORTEST_WAIT = 1.0  # seconds for a gate that opens any moment: its clock is PostgreSQL's, not ours


@dataclass(frozen=True, slots=True)
class Placed:
    """An order by the provider's id; `now`: it was placed by this holder of the task."""

    order: str
    now: bool


class Gate:
    """Where every call of a provider passes."""

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self._pool = pool
        self._policy = policy
        self._held_back_until: dict[str, float] = {}  # by step, in the loop's time

    async def call(self, job: Job, step: Step, provider: Provider) -> Result:
        """Run a step that calls a provider: at most once, as far as anybody can know."""
        if job.task.fence > 1 and (kept := await self._policy.patiently(job, lambda: self._earlier(job, step))):
            return kept
        if kept := await self._opened(job, step, provider):
            return kept
        result = await self._called(job, step, provider, step.run)
        crash.point("after-store")
        return await self.keep(job, step, result)

    async def order(self, job: Job, step: Step, wait: Wait, provider: Provider) -> Placed | Result:
        """
        Place the order of a step that is waited for, unless an earlier holder of the task has.

        A Result: somebody has brought home already what was ordered.
        """
        if job.task.fence > 1 and (found := await self._policy.patiently(job, lambda: self._ordered(job, step))):
            return found
        if kept := await self._opened(job, step, provider):
            return kept
        order = await self._called(job, step, provider, wait.place)
        crash.point("after-call")
        if not await to_the_end(self._submitted(job, step, order)):
            await wait.withdraw(job.tools, order)
            raise LeaseLost
        log.info("order.placed", extra={**about(job.task), "step": step.name, "model": provider.model})
        crash.point("after-order")
        return Placed(order, now=True)

    async def keep(self, job: Job, step: Step, result: Result) -> Result:
        """Record what a step brought; the result that counts. Raises LeaseLost."""
        kept = await to_the_end(self._keep(job, step, result))
        crash.point("after-done")
        return kept

    async def close(self, job: Job, step: Step, order: str, state: steps.State) -> None:
        """Record that an order has ended without a result."""
        await self._policy.patiently(job, lambda: steps.close(self._pool, job.task, step.name, order, state))

    async def _opened(self, job: Job, step: Step, provider: Provider) -> Result | None:
        """All that comes before a call. None: it may be made now."""
        self._check_rate(step)
        if step.prepare:
            await step.prepare(job)
        job.check()
        crash.point("before-gate")
        return await self._passed(job, step, provider)

    async def _passed(self, job: Job, step: Step, provider: Provider) -> Result | None:
        """
        Ask the gate. None: the call may be made now; else the result that somebody brought home meanwhile.

        A permit that is old when it could be used is given back. Raises CallInProgress, OutcomeHeld, CancelRequested
        or LeaseLost.
        """
        first_asked = asked = _now()

        async def ask() -> bool:
            nonlocal asked
            asked = _now()
            return await steps.permit(
                self._pool,
                job.task,
                step.name,
                model=provider.model,
                longest_call=provider.longest_call,
                repeats=self._policy.repeats,
                billed=provider.billed,
            )

        if not await self._policy.patiently(job, ask):
            kept = await self._refused_by_gate(job, step, provider, first_asked)
            if kept:
                return kept
        crash.point("after-gate")
        if _now() - asked > PERMIT_LIFE:
            await self._settle(job, step, steps.State.REFUSED, seconds=PATIENCE)
            raise CallInProgress(SHORTEST_WAIT)
        return None

    async def _called(self, job: Job, step: Step, provider: Provider, call: Callable[[Job], Awaitable[T]]) -> T:
        """The call itself; how it ended without a result is recorded before that is raised."""
        try:
            with metrics.call(step.name, provider.model):
                async with job.screen.lit(after=job.last_seq):
                    return await call(job)
        except ProviderError as error:
            if isinstance(error, ProviderRateLimited):
                self._hold_back(step, error)
            await to_the_end(self._settle(job, step, steps.State(error.billing), seconds=PATIENCE))
            raise
        except BaseException as error:
            await self._settle(job, step, steps.State.AMBIGUOUS, seconds=LAST_WORDS)
            if isinstance(error, StorageUnavailable) and provider.billed:
                raise ResultLost from error
            raise

    def _check_rate(self, step: Step) -> None:
        """A provider that limits the rate limits it for all tasks of this process. Raises ProviderRateLimited."""
        remaining = self._held_back_until.get(step.name, 0.0) - asyncio.get_running_loop().time()
        if remaining > 0:
            raise ProviderRateLimited(retry_after=remaining)

    def _hold_back(self, step: Step, error: ProviderRateLimited) -> None:
        until = asyncio.get_running_loop().time() + self._policy.pause(1, error.retry_after)
        self._held_back_until[step.name] = max(until, self._held_back_until.get(step.name, 0.0))

    async def _earlier(self, job: Job, step: Step) -> Result | None:
        """What an earlier holder of the task brought home: a result it recorded, or one it could only store."""
        row = await steps.get(self._pool, job.task.id, step.name)
        if row is None:
            return None
        if row.result is not None:
            return Result(row.result)
        if step.recover and (recovered := await step.recover(job)):
            log.info("call.recovered", extra={**about(job.task), "step": step.name})
            return await self._keep(job, step, recovered)
        return None

    async def _ordered(self, job: Job, step: Step) -> Placed | Result | None:
        """What an earlier holder of the task has ordered, or brought home."""
        row = await steps.get(self._pool, job.task.id, step.name)
        if row and row.result is not None:
            return Result(row.result)
        if row and row.state is steps.State.SUBMITTED and row.provider_id:
            return Placed(row.provider_id, now=False)
        return None

    async def _refused_by_gate(self, job: Job, step: Step, provider: Provider, asked: float) -> Result | None:
        """
        Find out why, and what follows: a result after all, a wait, or the end.

        None: it was not. The permit was committed, its answer lost, and nothing has been sent yet. `asked`: when the
        gate was first asked.
        """
        row = await steps.get(self._pool, job.task.id, step.name)
        current = await tasks.get(self._pool, job.task.id)
        if current is None or current.fence != job.task.fence or current.status is not Status.PROCESSING:
            raise LeaseLost
        if current.cancel_requested_at:
            raise CancelRequested
        if row is None or row.state is steps.State.REFUSED:  # so it is the lease that has run out
            raise LeaseLost
        if row.result is not None:
            return Result(row.result)
        begun_by_us = row.state is steps.State.STARTED and row.started_at > job.task.updated_at  # which is our claim
        if begun_by_us and _now() - asked < FRESH:
            return None
        if row.state is steps.State.SUBMITTED:  # by an earlier holder, a moment ago
            raise CallInProgress(SHORTEST_WAIT)
        remaining = provider.longest_call - (datetime.now(UTC) - row.started_at).total_seconds()
        repeatable = not provider.billed or row.ambiguous < self._policy.repeats
        if repeatable or (row.state is steps.State.STARTED and remaining > 0):
            raise CallInProgress(max(remaining, SHORTEST_WAIT))
        raise OutcomeHeld

    async def _submitted(self, job: Job, step: Step, order: str) -> bool:
        """Keep the id of an order, however long PostgreSQL is away. False: nobody will ask for it."""
        return await patiently(lambda: steps.submit(self._pool, job.task, step.name, order), seconds=PATIENCE)

    async def _keep(self, job: Job, step: Step, result: Result) -> Result:
        """Record a result that was paid for, however long PostgreSQL is away. Raises LeaseLost."""
        found = await patiently(
            lambda: steps.finish(self._pool, job.task, step.name, result=result.found, usage=result.usage),
            seconds=PATIENCE,
        )
        if found is None:  # the lease was lost, and the task deleted since
            raise LeaseLost
        return Result(found, result.usage)

    async def _settle(self, job: Job, step: Step, state: steps.State, *, seconds: float) -> None:
        """Record how a call ended without a result. One that stays `started` is met with the same care as ambiguous."""
        try:
            async with asyncio.timeout(seconds):
                await patiently(lambda: steps.settle(self._pool, job.task, step.name, state), seconds=seconds)
        except UNREACHABLE:
            log.warning("call.not_settled", extra={**about(job.task), "step": step.name})


def _now() -> float:
    return asyncio.get_running_loop().time()
