"""
The one engine: runs a task's plan under a lease, and settles how that ended.

Everything that watchers learn is committed before it is published. Calls of providers pass the gate (pipeline/gate.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from enhancer import crash, metrics
from enhancer.bus import Bus
from enhancer.domain.tasks import Event, Kind, Lease, Status, Task
from enhancer.errors import (
    InternalError,
    OutcomeUnknown,
    ProviderRateLimited,
    StorageUnavailable,
    TaskError,
    TimeLimitExceeded,
)
from enhancer.pipeline import messages
from enhancer.pipeline.forecast import Forecast
from enhancer.pipeline.gate import Gate
from enhancer.pipeline.plans import (
    CallInProgress,
    CancelRequested,
    Job,
    LeaseLost,
    Plan,
    Result,
    Step,
    Stopping,
    Tools,
    about,
    event,
    published,
)
from enhancer.pipeline.policy import LAST_WORDS, Policy, to_the_end
from enhancer.pipeline.screen import Screen
from enhancer.pipeline.waiting import Waiting, withdraw
from enhancer.storage import tasks
from enhancer.storage.database import UNREACHABLE, Pool, patiently

log = logging.getLogger(__name__)

LONGEST_WAIT = 6 * 3600.0  # seconds a task may be held back by rate limits before it fails


class Engine:
    """Runs tasks of the kinds it has plans for."""

    def __init__(
        self, pool: Pool, bus: Bus, tools: Tools, plans: Mapping[Kind, Plan], policy: Policy, forecast: Forecast
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._tools = tools
        self._plans = plans
        self._policy = policy
        self._forecast = forecast
        self._gate = Gate(pool, policy)
        self._waiting = Waiting(self._gate, self._advance)

    async def run(self, lease: Lease) -> None:
        """
        Work on a leased task until it is finished, put back, or lost to another worker.

        Cancelled from outside, it lets the task go at once, without a charge.
        """
        job = self._job(lease)
        try:
            await self._work_in_time(job)
        except LeaseLost:
            log.warning("task.lease_lost", extra=about(job.task))
        except CancelRequested:
            await self._cancelled(job)
        except Stopping:
            await to_the_end(self._release(job))
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
            log.exception("task.error", extra=about(job.task))
            await self._failed(job, InternalError())
        finally:
            job.close()
            self._tools.previews.ended(job.task)

    async def abandon(self, task: Task) -> None:
        """Fail a task that has no attempt left: every process that worked on it died."""
        sentence = "The task stopped the service each time it was tried, and was given up."
        await self._fail(self._job(Lease(task)), InternalError(sentence))

    def _job(self, lease: Lease) -> Job:
        task = lease.task
        screen = Screen(self._bus, task.channel)
        return Job(lease, self._plans[task.kind], self._tools, dict(task.output), task.progress, task.last_seq, screen)

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
        """Run the steps that are left; that one is done and the next begins is recorded together."""
        plan = job.plan
        job.check()
        reached = [plan.opens] if job.progress < plan.opens or not job.last_seq else []
        result = Result()
        for step in plan.steps:
            if job.progress >= step.reaches:
                continue
            if step.begins is not None and job.progress < step.begins and job.wanted:
                reached.append(step.begins)
            if reached:
                await self._advance(job, *reached, result=result)
            job.check()
            result = await self._done(job, step)
            reached = [step.reaches]
            if step is plan.steps[-1]:
                await self._complete(job, result)

    async def _done(self, job: Job, step: Step) -> Result:
        began = asyncio.get_running_loop().time()
        result = await self._brought(job, step)
        if job.task.fence == 1:  # later holders find things done already
            self._forecast.learn(job.task.kind, step, asyncio.get_running_loop().time() - began)
        return result

    async def _brought(self, job: Job, step: Step) -> Result:
        if step.provider is None:
            return await step.run(job)
        provider = step.provider(self._tools)
        if step.wait is None:
            return await self._gate.call(job, step, provider)
        return await self._waiting.made(job, step, step.wait, provider)

    # -- what is recorded, then told

    async def _advance(self, job: Job, *points: int, result: Result | None = None) -> None:
        """
        One or more points of the scale are reached; one that is passed again does not lower the progress.

        Raises LeaseLost.
        """
        found = result.found if result else {}
        job.output |= found
        marks = [(max(point, job.progress), self._message(job, point)) for point in points]
        told = [
            self._event(job, reached, message, Status.PROCESSING, self._ahead(job, reached), nth=nth)
            for nth, (reached, message) in enumerate(marks)
        ]
        last, message = marks[-1]
        await self._record(
            job,
            told,
            lambda: tasks.advance(self._pool, job.task, *told, progress=last, message=message, output=found),
        )
        job.progress = last
        for reached, text in marks:
            log.info("task.progress", extra={**about(job.task), "progress": reached, "text": text})

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
        await self._withdraw(job)
        sentence = messages.reason(error.code, str(error), job.language)
        more = {"error": sentence, "error_code": error.code}
        await self._finish(job, Status.FAILED, sentence, shown=-1, more=more, error=(error.code, sentence))

    async def _cancelled(self, job: Job) -> None:
        await self._withdraw(job)
        await self._finish(job, Status.CANCELLED, messages.phrase("cancelled", job.language))

    async def _withdraw(self, job: Job) -> None:
        """What is on order for a task that ends without it."""
        await self._policy.patiently(job, lambda: withdraw(self._pool, job.plan, self._tools, job.task))

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
                [told],
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
            log.warning("task.lease_lost", extra=about(job.task))
            return
        metrics.finished(job.task, status)
        ended = {**about(job.task), "progress": reached, "text": message, "status": status.value}
        log.info("task.finished", extra=ended | ({"error_code": error[0]} if error else {}))

    async def _record(self, job: Job, told: Sequence[Event], statement: Callable[[], Awaitable[bool]]) -> None:
        """Commit, then publish. Raises LeaseLost."""
        if not await self._policy.patiently(job, statement):
            raise LeaseLost
        job.last_seq = told[-1].seq
        await self._bus.publish(job.task.channel, *map(published, told))

    # -- failures that may pass

    async def _failed(self, job: Job, error: TaskError) -> None:
        """Another attempt, or the end."""
        await self._catch_up(job)
        task = job.task
        held = isinstance(error, OutcomeUnknown) and not self._policy.repeats
        if held or not error.retry or task.attempts >= task.max_attempts:
            await self._fail(job, error)
            return
        pause = self._policy.pause(task.attempts, getattr(error, "retry_after", None))
        words = {"retry": task.attempts, "retries": task.max_attempts - 1}
        await self._put_back(job, "retrying", error, pause, refund=False, **words)

    async def _catch_up(self, job: Job) -> None:
        """A statement that was cut off may have been committed all the same: what follows comes after its event."""
        row = await self._policy.patiently(job, lambda: tasks.get(self._pool, job.task.id))
        if row and row.fence == job.task.fence:
            job.progress, job.last_seq = row.progress, row.last_seq

    async def _limited(self, job: Job, error: ProviderRateLimited) -> None:
        """A rate limit is nobody's failure: the attempt does not count, for some hours."""
        age = (datetime.now(UTC) - (job.task.started_at or job.task.created_at)).total_seconds()
        pause = self._policy.pause(1, error.retry_after)
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
        told = self._event(job, job.progress, message, Status.PROCESSING, self._ahead(job, job.progress, seconds))
        try:
            await self._record(
                job,
                [told],
                lambda: tasks.put_back(
                    self._pool, job.task, seconds=seconds, event=told, message=message, refund=refund
                ),
            )
        except LeaseLost:
            log.warning("task.lease_lost", extra=about(job.task))
            return
        log.warning("task.put_back", extra={**about(job.task), "progress": job.progress, "text": message})

    async def _release(self, job: Job) -> None:
        """At a stop: any process may go on with the task at once, and the attempt does not count."""
        try:
            async with asyncio.timeout(LAST_WORDS):
                await patiently(
                    lambda: tasks.put_back(self._pool, job.task, seconds=0, refund=True), seconds=LAST_WORDS
                )
        except UNREACHABLE:  # the lease will run out
            log.warning("task.not_released", extra=about(job.task))
        else:
            log.info("task.released", extra=about(job.task))

    # -- words

    def _message(self, job: Job, at: int) -> str:
        return messages.point(job.task.kind, at, job.language, job.plan.words(job))

    def _ahead(self, job: Job, progress: int, pause: float = 0.0) -> Mapping[str, object]:
        """What an event tells of the time to come; a task that is worked on has no place in the queue."""
        seconds = self._forecast.remaining(job.task.kind, progress, job.output)
        return {"queue_position": None, "eta_seconds": None if seconds is None else round(seconds + pause, 1)}

    def _event(
        self,
        job: Job,
        progress: int,
        message: str,
        status: Status,
        more: Mapping[str, object] | None = None,
        *,
        nth: int = 0,
    ) -> Event:
        """The next event of the task, or the one after `nth` others that are told with it."""
        return event(job.plan, job.output, job.last_seq + 1 + nth, progress, message, status, more)
