"""Tasks whose life a test tells itself, as a worker would: each event committed, then published."""

from __future__ import annotations

import time
from collections.abc import Mapping

from redis.asyncio import Redis

from enhancer.bus import Bus
from enhancer.domain.enhancements import EnhancementInput
from enhancer.domain.tasks import Event, Kind, Status, Task, encode
from enhancer.storage import tasks
from enhancer.storage.database import Pool
from tests.web.waiting import until_found

POINTS = (5, 10, 15, 20, 25, 30, 50, 55, 60, 65, 70, 75, 90, 95, 100)


class Story:
    """One task and its teller, who holds its lease."""

    def __init__(self, pool: Pool, bus: Bus, task: Task) -> None:
        self.pool = pool
        self.bus = bus
        self.task = task
        self.events: list[Event] = []

    @property
    def ids(self) -> list[str]:
        """Of the events told so far."""
        return [str(event.seq) for event in self.events]

    @property
    def data(self) -> list[str]:
        """Of the events told so far."""
        return [event.data for event in self.events]

    async def tell(self, progress: int, *, heard: bool = True, message: str = "") -> Event:
        """The next event. `heard`: whether it is published, too."""
        event = self._next({"progress": progress, "message": message or f"at {progress}", "status": "processing"})
        text = message or f"at {progress}"
        assert await tasks.advance(self.pool, self.task, event, progress=progress, message=text, output={})
        return await self._told(event, heard=heard)

    async def finish(
        self,
        status: Status = Status.COMPLETED,
        *,
        heard: bool = True,
        error: tuple[str, str] | None = None,
        output: Mapping[str, object] | None = None,
    ) -> Event:
        """The last event."""
        progress = {Status.COMPLETED: 100, Status.FAILED: -1}.get(status, 42)
        event = self._next({"progress": progress, "message": "over", "status": status.value})
        assert await tasks.finish(
            self.pool, self.task, event, status, progress=100, message="over", output=output or {}, error=error
        )
        return await self._told(event, heard=heard)

    async def tell_all(self, *, heard: bool = True) -> None:
        """Every point that has not been told yet, and the end."""
        for progress in POINTS[len(self.events) : -1]:
            await self.tell(progress, heard=heard)
        await self.finish(heard=heard)

    def message(self, event: Event) -> str:
        """What is published for an event."""
        return f'{event.data[:-1]}, "seq": {event.seq}}}'

    def _next(self, data: Mapping[str, object]) -> Event:
        return Event(len(self.events) + 1, encode({**data, "timestamp": round(time.time(), 3)}))

    async def _told(self, event: Event, *, heard: bool) -> Event:
        self.events.append(event)
        if heard:
            await self.bus.publish(self.task.channel, self.message(event))
        return event


async def pending(pool: Pool, user_id: int) -> Task:
    """A task that waits."""
    order = EnhancementInput(key="k", original="o.jpg", user_description="", duration=4, language="en")
    task = await tasks.insert(pool, user_id, Kind.ENHANCEMENT, order.model_dump(), max_attempts=3)
    assert task is not None
    return task


async def claim(pool: Pool, bus: Bus) -> Story:
    """The story of the task that waits longest."""
    [task] = await tasks.claim(pool, "teller", limit=1, per_user=10_000, lease=600, time_limits={Kind.ENHANCEMENT: 600})
    return Story(pool, bus, task)


async def begin(pool: Pool, bus: Bus, user_id: int) -> Story:
    """The story of a new task."""
    await pending(pool, user_id)
    return await claim(pool, bus)


async def shout(redis_url: str, channel: str, *messages: str) -> None:
    """Publish anything at all."""
    async with Redis.from_url(redis_url) as redis:
        for message in messages:
            await redis.publish(channel, message)


async def arrives(pool: Pool) -> None:
    """Return once a task waits in the table."""
    await until_found(pool, "SELECT count(*) FROM tasks WHERE status = 'pending'")
