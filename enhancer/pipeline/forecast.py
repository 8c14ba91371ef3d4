"""
How long a task will take yet, and how many come before it.

What steps took is kept here, by model, for their medians: read from the ledger at the start and now and then, and
learnt from what this process does meanwhile. Steps that nobody is paid for count as instant until they are known.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.errors import ProviderError
from enhancer.pipeline.plans import Plan, Step, Tools
from enhancer.storage import calls, tasks
from enhancer.storage.database import UNREACHABLE, Pool

log = logging.getLogger(__name__)

REMEMBERED = 50  # of the latest times of a step
RECENT = 200  # tasks whose calls are read
RELEARN = 300.0  # seconds
FRESH = 1.0  # seconds for which the order of the waiting tasks is taken as known
REST = 10  # times as long as a reading took must pass as well: 70 ms where 10,000 wait
LONGEST_LOOK = 1.0  # seconds
SHORTLY = 0.1  # seconds that must pass in any case, also when a task is asked for that is not in it


@dataclass(frozen=True, slots=True)
class Outlook:
    """
    What is known of a task's future.

    `position` among the waiting tasks of its kind, 1: the next; None: it does not wait. `seconds` to its end; None:
    nobody knows.
    """

    position: int | None
    seconds: float | None


class Forecast:
    """Knows the medians and the queues. `sizes`: this process's workers, by the kind that they work on."""

    def __init__(
        self, pool: Pool, plans: Mapping[Kind, Plan], tools: Tools, sizes: Mapping[Kind, int] | None = None
    ) -> None:
        self._pool = pool
        self._plans = plans
        self._tools = tools
        self._sizes = sizes or {}
        self._took: defaultdict[tuple[Kind, str, str], deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._medians: dict[tuple[Kind, str, str], float] = {}
        self._places: dict[int, int] = {}
        self._running: dict[Kind, int] = {}
        self._read_at = float("-inf")
        self._rest = 0.0
        self._reading = asyncio.Lock()

    @asynccontextmanager
    async def learning(self) -> AsyncIterator[None]:
        """Read the ledger now, and again from time to time until the block ends."""
        keeper = asyncio.create_task(self._relearn_forever(), name="forecast")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def learn(self, kind: Kind, step: Step, seconds: float) -> None:
        """A step was done in this time."""
        self._add((kind, step.name, self._model(step)), seconds)

    def remaining(self, kind: Kind, progress: int, output: Mapping[str, object]) -> float | None:
        """
        Seconds that a task which has just reached this point will work yet; None: nobody knows.

        Of an order that is waited for, what the provider says is made counts as done.
        """
        total = 0.0
        for step in self._plans[kind].steps:
            if progress >= step.reaches:
                continue
            seconds = self._medians.get((kind, step.name, self._model(step)), None if step.provider else 0.0)
            if seconds is None:
                return None
            percent = output.get("percent")
            if step.wait and progress >= step.wait.placed and isinstance(percent, int | float):
                seconds *= 1 - percent / 100
            total += seconds
        return round(total, 1)

    async def look(self, *wanted: Task) -> None:
        """
        Read the order of the waiting tasks, when one of these waits and what is known of it is old.

        It never fails: an answer that has more to say does not depend on it.
        """
        waiting = [task for task in wanted if task.status is Status.PENDING]
        if waiting and self._stale(waiting):
            async with self._reading:
                if self._stale(waiting):
                    await self._read()

    async def _read(self) -> None:
        began = _now()
        try:
            async with asyncio.timeout(LONGEST_LOOK):
                queues = await tasks.queues(self._pool)
        except UNREACHABLE as error:
            log.warning("database.unreachable", extra={"error": type(error).__name__})
        else:
            self._places = {
                task_id: place for each in queues.values() for place, task_id in enumerate(each.waiting, start=1)
            }
            self._running = {kind: each.running for kind, each in queues.items()}
        self._read_at, self._rest = began, REST * (_now() - began)

    def outlook(self, task: Task) -> Outlook:
        """What is known of a task; `look` comes before, where it shall be of now."""
        if task.status.final:
            return Outlook(None, None)
        work = self.remaining(task.kind, task.progress, task.output)
        if task.status is Status.PENDING:
            position = self._places.get(task.id)
            return Outlook(position, None if position is None else self._with_wait(task.kind, position, work))
        spent = max(0.0, (datetime.now(UTC) - task.updated_at).total_seconds())
        return Outlook(None, None if work is None else round(max(0.0, work - spent), 1))

    def _with_wait(self, kind: Kind, position: int, work: float | None) -> float | None:
        """A task's own work, and its turn: those before it take as long as one of its kind, by all who work now."""
        usual = self.remaining(kind, -1, {})
        if work is None or usual is None:
            return None
        running = self._running.get(kind, 0)
        hands = max(running, self._sizes.get(kind, 0), 1)
        ahead = max(0, position - (hands - running))
        return round(work + ahead / hands * usual, 1)

    def _stale(self, waiting: list[Task]) -> bool:
        age = _now() - self._read_at
        if age <= self._rest:
            return False
        return age > FRESH or (age > SHORTLY and any(task.id not in self._places for task in waiting))

    def _model(self, step: Step) -> str:
        """The name that its calls have in the ledger; "" when nobody is called, or nobody is there."""
        try:
            return step.provider(self._tools).model if step.provider else ""
        except ProviderError:
            return ""

    def _add(self, key: tuple[Kind, str, str], seconds: float) -> None:
        took = self._took[key]
        took.append(seconds)
        self._medians[key] = statistics.median(took)

    async def _relearn_forever(self) -> None:
        while True:
            try:
                await self.relearn()
            except UNREACHABLE as error:
                log.warning("database.unreachable", extra={"error": type(error).__name__})
            except Exception:  # nobody waits for it
                log.exception("forecast.failed")
            await asyncio.sleep(RELEARN)

    async def relearn(self) -> None:
        """Take the ledger's word for what calls took, instead of what was known of them."""
        found = await calls.recent(self._pool, tasks=RECENT)
        for key in {(call.kind, call.step, call.model) for call in found}:
            self._took.pop(key, None)
        for call in reversed(found):  # the latest last
            self._add((call.kind, call.step, call.model), call.seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
