"""What a user may ask of a task that exists: cancel it, try it again, remove it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from enhancer.bus import Bus
from enhancer.domain.tasks import Event, Kind, Status, Task
from enhancer.errors import Conflict, NotFound
from enhancer.pipeline import messages
from enhancer.pipeline.orders import WAKE
from enhancer.pipeline.plans import Plan, Tools, event, published
from enhancer.pipeline.waiting import withdraw
from enhancer.storage import lifecycle, tasks
from enhancer.storage.database import Pool

log = logging.getLogger(__name__)

CANCEL = "enhancer:cancel"
"""The channel on which replicas learn that a running task, whose id is the message, shall be cancelled."""

ROUNDS = 5  # times that a task may change between our look and our statement


class Lifecycle:
    """Cancel, retry and delete, for every kind that has a plan. `longest_call` in seconds: of any provider."""

    def __init__(self, pool: Pool, bus: Bus, tools: Tools, plans: Mapping[Kind, Plan], *, longest_call: float) -> None:
        self._pool = pool
        self._bus = bus
        self._tools = tools
        self._plans = plans
        self._longest_call = longest_call

    async def cancel(self, task: Task) -> Task:
        """
        End a task: at once while it waits, else at the next gate or after the call that is in flight.

        The task as it stands then. Asking again changes nothing. Raises Conflict when it has ended otherwise.
        """
        for _ in range(ROUNDS):
            if task.status is Status.CANCELLED:
                return task
            if task.status.final:
                raise Conflict(f"The task is {task.status.value} already.")
            if await lifecycle.request_cancel(self._pool, task.id):
                await self._bus.publish(CANCEL, str(task.id))
                return await self._now(task)
            if await self._cancel_waiting(task):
                return await self._now(task)
            task = await self._now(task)
        raise Conflict("The task is changing right now; ask again.")

    async def retry(self, task: Task) -> Task:
        """
        Let a failed or cancelled task wait again; what was paid for is kept.

        Raises Conflict in any other state.
        """
        message = messages.phrase("restarted", _language(task))
        told = event(self._plan(task), task.output, task.last_seq + 1, task.progress, message, Status.PROCESSING)
        if not await lifecycle.retry(self._pool, task, told, message=message, longest_call=self._longest_call):
            status = (await self._now(task)).status.value
            raise Conflict(f"The task is {status}; only failed and cancelled ones can be tried again.")
        await self._tell(task, told)
        await self._bus.publish(WAKE, str(task.id))
        log.info("task.retried", extra={"task": task.id, "kind": task.kind.value})
        return await self._now(task)

    async def delete(self, task: Task) -> None:
        """Remove a task and its files; who watches it is told that it is cancelled. Raises Conflict while it runs."""
        if not task.status.final:
            await self._cancel_waiting(task)
        if not await lifecycle.delete(self._pool, task.id):
            await self._now(task)
            raise Conflict("The task is running; cancel it first.")
        for path in self._plan(task).files(task):
            await self._tools.files.delete(path)
        await self._tools.previews.remove(task)
        log.info("task.deleted", extra={"task": task.id, "kind": task.kind.value})

    async def _cancel_waiting(self, task: Task) -> bool:
        message = messages.phrase("cancelled", _language(task))
        told = event(self._plan(task), task.output, task.last_seq + 1, task.progress, message, Status.CANCELLED)
        ended = await lifecycle.cancel_waiting(self._pool, task, told, message=message)
        if ended:
            await self._tell(task, told)
            await withdraw(self._pool, self._plan(task), self._tools, await self._now(task))
        return ended

    async def _now(self, task: Task) -> Task:
        """Raises NotFound."""
        current = await tasks.get(self._pool, task.id)
        if current is None:
            raise NotFound("There is no such task.")
        return current

    async def _tell(self, task: Task, told: Event) -> None:
        await self._bus.publish(task.channel, published(told))

    def _plan(self, task: Task) -> Plan:
        return self._plans[task.kind]


def _language(task: Task) -> str:
    return str(task.input.get("language", messages.FALLBACK))
