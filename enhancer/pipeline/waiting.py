"""Orders that a provider takes and has ready later: placed once, asked for until they are made, then collected."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from enhancer.domain.tasks import Task
from enhancer.errors import OrderFailed, OrderLost, ProviderError
from enhancer.pipeline.gate import Gate
from enhancer.pipeline.plans import Job, OrderGone, Plan, Provider, Result, Step, Tools, Wait, about
from enhancer.storage import steps
from enhancer.storage.database import Pool

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0  # seconds between two looks, unless the provider says when it wants to be asked
LONGEST_PAUSE = 10.0  # seconds
SHORTEST_PAUSE = 0.1  # seconds, whatever the provider says
GROWTH = 1.5
GLANCE = 0.25  # seconds after which a pause notices that the task shall end
PER_MARK = 5  # per cent: an order is told to get on when it has passed another mark, so 21 times at most
FAREWELL = 10.0  # seconds that a provider may take to hear that nobody wants an order any more


class Advance(Protocol):
    """See Engine._advance."""

    async def __call__(self, job: Job, *points: int, result: Result | None = None) -> None:
        """Points of the scale are reached."""


class Waiting:
    """
    Waits for orders. `advance` records and tells a point of the plan.

    An order's id is stored before the first look, so whoever holds the task later goes on with the same order.
    """

    def __init__(self, gate: Gate, advance: Advance) -> None:
        self._gate = gate
        self._advance = advance

    async def made(self, job: Job, step: Step, wait: Wait, provider: Provider) -> Result:
        """
        Order, wait, collect and keep.

        Raises OrderFailed when the provider gave the order up, and OrderLost or OrderGone when it knows it no more:
        it is closed then, and OrderLost, where nothing was billed, lets another attempt order anew.
        """
        placed = await self._gate.order(job, step, wait, provider)
        if isinstance(placed, Result):
            return placed
        try:
            if placed.now or job.progress < wait.placed:
                await self._advance(job, wait.placed, result=Result({"percent": 0}))
            return await self._brought(job, step, wait, placed.order)
        except OrderFailed:
            await self._gate.close(job, step, placed.order, steps.State.REFUSED)
            raise
        except OrderLost as error:
            await self._gate.close(job, step, placed.order, _without_result(provider))
            if provider.billed:
                raise OrderGone from error
            raise

    async def _brought(self, job: Job, step: Step, wait: Wait, order: str) -> Result:
        await self._until_made(job, wait, order)
        await self._advance(job, wait.made, result=Result({"percent": 100}))
        await self._advance(job, wait.collected, result=await wait.collect(job, order))
        result = await step.run(job)
        return await self._gate.keep(job, step, result)

    async def _until_made(self, job: Job, wait: Wait, order: str) -> None:
        """Look again and again. That a question is not answered says nothing of the order: the time limit ends that."""
        pause = FIRST_PAUSE
        told = _mark(job.output.get("percent")) if job.progress >= wait.making else -1
        while True:
            job.check()
            try:
                seen = await wait.look(job, order)
            except (OrderFailed, OrderLost):
                raise
            except ProviderError as error:
                log.warning("order.not_seen", extra={**about(job.task), "error": error.code})
                hint = error.retry_after
            else:
                if seen.done:
                    return
                if (mark := _mark(seen.percent)) > told:
                    percent = None if seen.percent is None else int(seen.percent)
                    await self._advance(job, wait.making, result=Result({"percent": percent}))
                    told = mark
                hint = seen.retry_after
            await _rest(job, pause if hint is None else max(hint, SHORTEST_PAUSE))
            pause = min(pause * GROWTH, LONGEST_PAUSE)


async def withdraw(pool: Pool, plan: Plan, tools: Tools, task: Task) -> None:
    """Tell providers that nobody wants what is on order for a task that ends. One that cannot hear it is logged."""
    for step in plan.steps:
        if step.wait is None or step.provider is None:
            continue
        row = await steps.get(pool, task.id, step.name)
        if row is None or row.state is not steps.State.SUBMITTED or row.provider_id is None:
            continue
        try:
            without = _without_result(step.provider(tools))
            if not await steps.close(pool, task, step.name, row.provider_id, without):
                continue  # whoever has the task now waits for it
            async with asyncio.timeout(FAREWELL):
                await step.wait.withdraw(tools, row.provider_id)
        except (ProviderError, TimeoutError) as error:
            log.warning("order.not_withdrawn", extra={**about(task), "error": type(error).__name__})
        else:
            log.info("order.withdrawn", extra={**about(task), "step": step.name})


def _without_result(provider: Provider) -> steps.State:
    return steps.State.AMBIGUOUS if provider.billed else steps.State.REFUSED


def _mark(percent: object) -> int:
    """The last mark that was passed; 0 when the provider does not say."""
    return int(percent) // PER_MARK if isinstance(percent, int | float) else 0


async def _rest(job: Job, seconds: float) -> None:
    """Raises Stopping or CancelRequested when the work should not go on."""
    ends = asyncio.get_running_loop().time() + seconds
    while (remaining := ends - asyncio.get_running_loop().time()) > 0:
        job.check()
        await asyncio.sleep(min(remaining, GLANCE))
