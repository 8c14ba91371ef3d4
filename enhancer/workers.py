"""
The pool of workers, and those who keep its leases: feeder, heartbeat and reaper.

PostgreSQL is the queue. The `asyncio.Queue` here only hands over what this process has leased, never more than it
has idle workers, so that losing it loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from enhancer import crash, metrics
from enhancer.domain.tasks import Kind, Lease, Task
from enhancer.storage import tasks
from enhancer.storage.database import UNREACHABLE, Pool

log = logging.getLogger(__name__)

FEEDER_ENDS = 5.0  # seconds that the last claim may take at a stop
CANCELLED_END = 10.0  # seconds for those that are cancelled; a server that hangs would hold them for ever


@dataclass(frozen=True, slots=True)
class Terms:
    """
    How tasks are leased.

    `name` of this replica; `sizes`: workers by the kind that they work on, so that long tasks of one kind leave the
    others their own; `per_user`: running tasks of one kind and user over all replicas; seconds for `lease`, `poll`,
    `grace` and the `time_limits` by kind.
    """

    name: str
    sizes: Mapping[Kind, int]
    per_user: int
    lease: float
    poll: float
    grace: float
    time_limits: Mapping[Kind, float]


class Workers:
    """
    Claims tasks and has them run.

    `run` works on one leased task and settles it; `abandon` fails one that has no attempt left.
    """

    def __init__(
        self,
        pool: Pool,
        terms: Terms,
        run: Callable[[Lease], Awaitable[None]],
        abandon: Callable[[Task], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._terms = terms
        self._run = run
        self._abandon = abandon
        self._queues: dict[Kind, asyncio.Queue[Lease]] = {kind: asyncio.Queue() for kind in terms.sizes}
        self._leases: set[Lease] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """
        Work until the block ends; then claim no more, give running tasks `grace` seconds, and release the rest.
        """
        adopted = await tasks.adopt(self._pool, self._terms.name)
        if adopted:
            log.info("tasks.adopted", extra={"count": adopted})
        keepers = [
            asyncio.create_task(self._rounds(keeper), name=keeper.__name__)
            for keeper in (self._feed, self._beat, self._reap)
        ]
        workers = [
            asyncio.create_task(self._work(queue), name=f"{kind.value}-{n}")
            for kind, queue in self._queues.items()
            for n in range(self._terms.sizes[kind])
        ]
        try:
            yield
        finally:
            try:
                await self._drain(feeder=keepers[0])
            finally:
                await _end(*workers, *keepers)

    def wake(self) -> None:
        """Look for work now: a task was accepted somewhere."""
        self._wake.set()

    def cancel(self, task_id: str) -> None:
        """A hint that a task shall be cancelled; the heartbeat would bring it later."""
        for lease in self._leases:
            if str(lease.task.id) == task_id:
                lease.cancelled = True

    async def _rounds(self, keeper: Callable[[], Awaitable[None]]) -> None:
        """A keeper's rounds: the database may be away for a while, and no fault may end them."""
        while not _cancelled() and not (self._stopping and keeper == self._feed):
            try:
                await keeper()
            except UNREACHABLE as error:
                log.warning("database.unreachable", extra={"error": type(error).__name__})
                await asyncio.sleep(self._terms.poll)
            except Exception:
                log.exception("keeper.failed", extra={"keeper": keeper.__name__})
                await asyncio.sleep(self._terms.poll)

    async def _feed(self) -> None:
        """Claim as much as there are idle workers, then wait for a wake-up or the next look."""
        self._wake.clear()
        for kind in self._queues:
            await self._claim(kind)
        await self._rest(self._terms.poll)

    async def _claim(self, kind: Kind) -> None:
        terms = self._terms
        idle = terms.sizes[kind] - sum(lease.task.kind is kind for lease in self._leases)
        if idle <= 0:
            return
        found = await tasks.claim(
            self._pool,
            terms.name,
            limit=idle,
            per_user=terms.per_user,
            lease=terms.lease,
            time_limits={kind: terms.time_limits[kind]},
        )
        if found:
            crash.point("after-claim")
        for task in found:
            lease = Lease(task, stopping=self._stopping, cancelled=task.cancel_requested_at is not None)
            self._leases.add(lease)
            self._queues[kind].put_nowait(lease)

    async def _rest(self, seconds: float) -> None:
        """Until a wake-up, or about `seconds`; not exactly, so that replicas spread."""
        try:
            async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):  # noqa: S311
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _work(self, queue: asyncio.Queue[Lease]) -> None:
        while not _cancelled():
            lease = await queue.get()
            metrics.BUSY.inc()
            try:
                await self._run(lease)
            except Exception:  # the lease will run out, and another attempt be made
                log.exception("worker.failed", extra={"task": lease.task.id})
            finally:
                metrics.BUSY.dec()
                self._leases.discard(lease)
                queue.task_done()
                self._wake.set()

    async def _beat(self) -> None:
        """Renew the leases every third of their length; learn what was lost and what shall be cancelled."""
        await asyncio.sleep(self._terms.lease / 3)
        await self._renew()

    async def _renew(self) -> None:
        held = _newest(self._leases)
        if not held:
            return
        fences = {task_id: lease.task.fence for task_id, lease in held.items()}
        renewal = await tasks.renew(self._pool, self._terms.name, fences, lease=self._terms.lease)
        for task_id in renewal.cancelled:
            held[task_id].cancelled = True
        lost = [task_id for task_id, lease in held.items() if task_id not in renewal.held and lease in self._leases]
        if lost:
            log.warning("lease.lost", extra={"tasks": sorted(lost)})

    async def _reap(self) -> None:
        """Put back what dead workers held; fail what has no attempt left."""
        await self._renew()  # first: after a time without the database our own leases have run out, too
        if reaped := await tasks.reap(self._pool):
            log.warning("tasks.reaped", extra={"count": reaped})
            self.wake()
        for task in await tasks.exhausted(self._pool):
            await self._abandon(task)
        await asyncio.sleep(self._terms.lease / 4 * random.uniform(0.8, 1.2))  # noqa: S311

    async def _drain(self, feeder: asyncio.Task[None]) -> None:
        """Claim no more, tell what runs or is about to, and give it its time."""
        self._stopping = True
        for lease in self._leases:
            lease.stopping = True
        self._wake.set()
        await asyncio.wait([feeder], timeout=FEEDER_ENDS)  # not cancelled: what it claims would be lost for a while
        try:
            async with asyncio.timeout(self._terms.grace):
                for queue in self._queues.values():
                    await queue.join()
        except TimeoutError:
            log.warning("workers.grace_over", extra={"tasks": sorted(lease.task.id for lease in self._leases)})


def _newest(leases: Iterable[Lease]) -> dict[int, Lease]:
    """Each task's lease of the highest fence: one that was lost may have come back while its worker still goes on."""
    return {lease.task.id: lease for lease in sorted(leases, key=lambda lease: lease.task.fence)}


def _cancelled() -> bool:
    """
    Whether this asyncio task was told to end.

    A connection that breaks while a statement is cancelled raises its own error in the cancellation's place.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _end(*running: asyncio.Task[None]) -> None:
    for task in running:
        task.cancel()
    _, hanging = await asyncio.wait(running, timeout=CANCELLED_END)
    if hanging:
        log.warning("workers.hang", extra={"count": len(hanging)})
