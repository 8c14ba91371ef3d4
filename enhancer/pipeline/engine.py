"""
The one engine: runs a task's plan under a lease, and settles how that ended.

Everything that watchers learn is committed before it is published. Paid calls pass one gate, `_paid`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from enhancer import crash, metrics
from enhancer.bus import Bus
from enhancer.domain.tasks import Event, Kind, Lease, Status, Task
from enhancer.errors import (
    InternalError,
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    StorageUnavailable,
    TaskError,
    TimeLimitExceeded,
)
from enhancer.pipeline import messages
from enhancer.pipeline.plans import (
    CallInProgress,
    CancelRequested,
    Job,
    LeaseLost,
    OutcomeHeld,
    Plan,
    Provider,
    Result,
    ResultLost,
    Step,
    Stopping,
    Tools,
    event,
    published,
)
from enhancer.storage import steps, tasks
from enhancer.storage.database import UNREACHABLE, Pool, patiently

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_WAIT = 6 * 3600.0  # seconds a task may be held back by rate limits before it fails
LONGEST_PAUSE = 300.0  # seconds between two attempts at most, unless the provider asks for more
PATIENCE = 300.0  # seconds that a finished piece of work waits for PostgreSQL or the store to come back
LAST_WORDS = 3.0  # seconds that a task which is cancelled may take to record what must not be lost
FRESH = 5.0  # seconds for which a permit stays good whose answer was lost; a call's longest life has that to spare
PERMIT_LIFE = 10.0  # seconds after which others may soon take a call for dead that a frozen process has yet to make
SHORTEST_WAIT = 1.0  # seconds for a gate that opens any moment: its clock is PostgreSQL's, not ours


@dataclass(frozen=True, slots=True)
class Policy:
    """
    How failures are met.

    `time_limits` and `retry_delay` in seconds; `repeats`: how often a paid call of unknown outcome is made again.
    """

    time_limits: Mapping[Kind, float]
    retry_delay: float
    repeats: int


class Engine:
    """Runs tasks of the kinds it has plans for."""

    def __init__(self, pool: Pool, bus: Bus, tools: Tools, plans: Mapping[Kind, Plan], policy: Policy) -> None:
        self._pool = pool
        self._bus = bus
        self._tools = tools
        self._plans = plans
        self._policy = policy
        self._held_back_until: dict[str, float] = {}  # by step, in the loop's time

    async def run(self, lease: Lease) -> None:
        """
        Work on a leased task until it is finished, put back, or lost to another worker.

        Cancelled from outside, it lets the task go at once, without a charge.
        """
        job = self._job(lease)
        try:
            await self._work_in_time(job)
        except LeaseLost:
            log.warning("task.lease_lost", extra=_about(job.task))
        except CancelRequested:
            await self._cancelled(job)
        except Stopping:
            await _to_the_end(self._release(job))
        except asyncio.CancelledError:
            await self._release(job)
            raise
        except CallInProgress as error:
            await self._put_back(job, "waiting", error, error.seconds, refund=True)
        except ProviderRateLimited as error:
            await self._limited(job, error)
        except TaskError as error:
            await self._failed(job, error)
        except StorageUnavailable as error:
            await self._failed(job, InternalError(str(error)))
        except Exception:  # a task must not kill its worker
            log.exception("task.error", extra=_about(job.task))
            await self._failed(job, InternalError())

    async def abandon(self, task: Task) -> None:
        """Fail a task that has no attempt left: every process that worked on it died."""
        sentence = "The task stopped the service each time it was tried, and was given up."
        await self._fail(self._job(Lease(task)), InternalError(sentence))

    def _job(self, lease: Lease) -> Job:
        task = lease.task
        return Job(lease, self._plans[task.kind], self._tools, dict(task.output), task.progress, task.last_seq)

    async def _work_in_time(self, job: Job) -> None:
        """Raises TimeLimitExceeded when the kind's time limit ends it."""
        try:
            async with asyncio.timeout(self._policy.time_limits[job.task.kind]) as limit:
                await self._work(job)
        except TimeoutError as error:
            if limit.expired():
                raise TimeLimitExceeded from None
            raise InternalError from error

    async def _work(self, job: Job) -> None:
        plan = job.plan
        job.check()
        if job.progress < plan.opens:
            await self._advance(job, plan.opens)
        for step in plan.steps:
            if job.progress >= step.reaches:
                continue
            job.check()
            if job.progress < step.begins:
                await self._advance(job, step.begins)
            result = await (self._paid(job, step, step.provider(self._tools)) if step.provider else step.run(job))
            if step is plan.steps[-1]:
                await self._complete(job, result)
            else:
                await self._advance(job, step.reaches, result)

    # -- the gate

    async def _paid(self, job: Job, step: Step, provider: Provider) -> Result:
        """Run a step that calls a provider: at most once, as far as anybody can know."""
        if job.task.fence > 1 and (kept := await self._patiently(job, lambda: self._earlier(job, step))):
            return kept
        self._check_rate(step)
        if step.prepare:
            await step.prepare(job)
        job.check()
        crash.point("before-gate")
        if kept := await self._passed(job, step, provider):
            return kept
        result = await self._called(job, step, provider)
        crash.point("after-store")
        kept = await _to_the_end(self._keep(job, step, result))
        crash.point("after-done")
        return kept

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

        if not await self._patiently(job, ask):
            kept = await self._refused_by_gate(job, step, provider, first_asked)
            if kept:
                return kept
        crash.point("after-gate")
        if _now() - asked > PERMIT_LIFE:
            await self._settle(job, step, steps.State.REFUSED, seconds=PATIENCE)
            raise CallInProgress(SHORTEST_WAIT)
        return None

    async def _called(self, job: Job, step: Step, provider: Provider) -> Result:
        """The call itself; how it ended without a result is recorded before that is raised."""
        try:
            with metrics.call(step.name, provider.model):
                return await step.run(job)
        except ProviderError as error:
            if isinstance(error, ProviderRateLimited):
                self._hold_back(step, error)
            await _to_the_end(self._settle(job, step, steps.State(error.billing), seconds=PATIENCE))
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
        until = asyncio.get_running_loop().time() + self._pause(1, error.retry_after)
        self._held_back_until[step.name] = max(until, self._held_back_until.get(step.name, 0.0))

    async def _earlier(self, job: Job, step: Step) -> Result | None:
        """What an earlier holder of the task brought home: a result it recorded, or one it could only store."""
        row = await steps.get(self._pool, job.task.id, step.name)
        if row is None:
            return None
        if row.result is not None:
            return Result(row.result)
        if step.recover and (recovered := await step.recover(job)):
            log.info("call.recovered", extra={**_about(job.task), "step": step.name})
            return await self._keep(job, step, recovered)
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
        remaining = provider.longest_call - (datetime.now(UTC) - row.started_at).total_seconds()
        repeatable = not provider.billed or row.ambiguous < self._policy.repeats
        if repeatable or (row.state is steps.State.STARTED and remaining > 0):
            raise CallInProgress(max(remaining, SHORTEST_WAIT))
        raise OutcomeHeld

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
            log.warning("call.not_settled", extra={**_about(job.task), "step": step.name})

    # -- what is recorded, then told

    async def _advance(self, job: Job, progress: int, result: Result | None = None) -> None:
        """A point of the scale is reached. Raises LeaseLost."""
        found = result.found if result else {}
        job.output |= found
        message = self._message(job, progress)
        told = self._event(job, progress, message, Status.PROCESSING)
        await self._record(
            job,
            told,
            lambda: tasks.advance(self._pool, job.task, told, progress=progress, message=message, output=found),
        )
        job.progress = progress
        log.info("task.progress", extra={**_about(job.task), "progress": progress, "text": message})

    async def _complete(self, job: Job, result: Result) -> None:
        crash.point("before-finish")
        job.output |= result.found
        top = job.plan.scale.top
        await self._finish(
            job,
            Status.COMPLETED,
            self._message(job, top),
            progress=top,
            more=job.plan.closing(job),
            output=result.found,
        )

    async def _fail(self, job: Job, error: TaskError) -> None:
        sentence = messages.reason(error.code, str(error), job.language)
        more = {"error": sentence, "error_code": error.code}
        await self._finish(job, Status.FAILED, sentence, shown=-1, more=more, error=(error.code, sentence))

    async def _cancelled(self, job: Job) -> None:
        await self._finish(job, Status.CANCELLED, messages.phrase("cancelled", job.language))

    async def _finish(
        self,
        job: Job,
        status: Status,
        message: str,
        *,
        progress: int | None = None,
        shown: int | None = None,
        more: Mapping[str, object] | None = None,
        output: Mapping[str, object] | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        """The end of the task. `shown`: the event's progress, where it differs from the row's."""
        reached = job.progress if progress is None else progress
        told = self._event(job, reached if shown is None else shown, message, status, more or {})
        try:
            await self._record(
                job,
                told,
                lambda: tasks.finish(
                    self._pool,
                    job.task,
                    told,
                    status,
                    progress=reached,
                    message=message,
                    output=output or {},
                    error=error,
                ),
            )
        except LeaseLost:
            log.warning("task.lease_lost", extra=_about(job.task))
            return
        metrics.finished(job.task, status)
        about = {**_about(job.task), "progress": reached, "text": message, "status": status.value}
        log.info("task.finished", extra=about | ({"error_code": error[0]} if error else {}))

    async def _record(self, job: Job, told: Event, statement: Callable[[], Awaitable[bool]]) -> None:
        """Commit, then publish. Raises LeaseLost."""
        if not await self._patiently(job, statement):
            raise LeaseLost
        job.last_seq = told.seq
        await self._bus.publish(job.task.channel, published(told))

    async def _patiently(self, job: Job, statement: Callable[[], Awaitable[T]]) -> T:
        return await patiently(statement, seconds=self._policy.time_limits[job.task.kind])

    # -- failures that may pass

    async def _failed(self, job: Job, error: TaskError) -> None:
        """Another attempt, or the end."""
        await self._catch_up(job)
        task = job.task
        held = isinstance(error, OutcomeUnknown) and not self._policy.repeats
        if held or not error.retry or task.attempts >= task.max_attempts:
            await self._fail(job, error)
            return
        pause = self._pause(task.attempts, getattr(error, "retry_after", None))
        words = {"retry": task.attempts, "retries": task.max_attempts - 1}
        await self._put_back(job, "retrying", error, pause, refund=False, **words)

    async def _catch_up(self, job: Job) -> None:
        """A statement that was cut off may have been committed all the same: what follows comes after its event."""
        row = await self._patiently(job, lambda: tasks.get(self._pool, job.task.id))
        if row and row.fence == job.task.fence:
            job.progress, job.last_seq = row.progress, row.last_seq

    async def _limited(self, job: Job, error: ProviderRateLimited) -> None:
        """A rate limit is nobody's failure: the attempt does not count, for some hours."""
        age = (datetime.now(UTC) - (job.task.started_at or job.task.created_at)).total_seconds()
        pause = self._pause(1, error.retry_after)
        if age + pause > LONGEST_WAIT:
            await self._fail(job, error)
        else:
            await self._put_back(job, "waiting", error, pause, refund=True)

    async def _put_back(
        self, job: Job, phrase: str, error: TaskError, seconds: float, *, refund: bool, **words: int
    ) -> None:
        """To the waiting tasks for `seconds`, and say so; a task that shall be cancelled need not wait for that."""
        if job.lease.cancelled:
            await self._cancelled(job)
            return
        reason = messages.reason(error.code, str(error), job.language)
        message = messages.phrase(phrase, job.language, seconds=seconds, reason=reason, **words)
        told = self._event(job, job.progress, message, Status.PROCESSING)
        try:
            await self._record(
                job,
                told,
                lambda: tasks.put_back(
                    self._pool, job.task, seconds=seconds, event=told, message=message, refund=refund
                ),
            )
        except LeaseLost:
            log.warning("task.lease_lost", extra=_about(job.task))
            return
        log.warning("task.put_back", extra={**_about(job.task), "progress": job.progress, "text": message})

    async def _release(self, job: Job) -> None:
        """At a stop: any process may go on with the task at once, and the attempt does not count."""
        try:
            async with asyncio.timeout(LAST_WORDS):
                await patiently(
                    lambda: tasks.put_back(self._pool, job.task, seconds=0, refund=True), seconds=LAST_WORDS
                )
        except UNREACHABLE:  # the lease will run out
            log.warning("task.not_released", extra=_about(job.task))
        else:
            log.info("task.released", extra=_about(job.task))

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Seconds: doubled each time, a quarter more or less by chance, never less than the provider asked for."""
        pause = min(self._policy.retry_delay * 2.0 ** (attempt - 1), LONGEST_PAUSE)
        return max(pause * random.uniform(0.75, 1.25), asked or 0.0)  # noqa: S311

    # -- words

    def _message(self, job: Job, at: int) -> str:
        return messages.point(job.task.kind, at, job.language, job.plan.words(job))

    def _event(
        self, job: Job, progress: int, message: str, status: Status, more: Mapping[str, object] | None = None
    ) -> Event:
        """The next event of the task."""
        return event(job.plan, job.last_seq + 1, progress, message, status, more)


async def _to_the_end(work: Coroutine[object, object, T]) -> T:
    """What `work` returns; cancelled meanwhile, it has LAST_WORDS seconds more before the cancellation is raised."""
    running = asyncio.create_task(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running], timeout=LAST_WORDS)
        raise
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _about(task: Task) -> dict[str, object]:
    return {"task": task.id, "kind": task.kind.value}
