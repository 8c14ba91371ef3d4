from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from enhancer import bus as buses
from enhancer.bus import Bus
from enhancer.domain.tasks import Status, Task
from enhancer.storage import database, tasks
from enhancer.storage.database import Pool
from enhancer.web import hub as hubs
from enhancer.web.hub import Ending, Frame, Hub, chunk
from tests.web import story
from tests.web.people import member
from tests.web.relay import Relay, relayed
from tests.web.story import Story
from tests.web.waiting import locked, until, until_locked_out

pytestmark = pytest.mark.usefixtures("quiet")


class Follower:
    """A watcher that remembers what it was given."""

    def __init__(self) -> None:
        self.cursor = 0
        self.frames: list[Frame] = []
        self.gifts = 0
        self.over = False
        self.disturbed = False
        self._changed = asyncio.Event()

    @property
    def seqs(self) -> list[int]:
        return [frame.seq for frame in self.frames]

    def give(self, frames: Sequence[Frame]) -> None:
        self.disturbed |= self.over
        self.gifts += 1
        self.frames += frames
        self._changed.set()

    def end(self) -> None:
        self.over = True
        self._changed.set()

    def tick(self, now: float) -> None:
        pass

    async def reach(self, seq: int) -> list[int]:
        """The numbers of all events so far, once there is this one."""
        async with asyncio.timeout(60):
            while not self.frames or self.frames[-1].seq < seq:
                self._changed.clear()
                await self._changed.wait()
        return self.seqs

    async def ended(self) -> list[int]:
        """The numbers of all events, at the end."""
        async with asyncio.timeout(60):
            while not self.over:
                self._changed.clear()
                await self._changed.wait()
        return self.seqs


@pytest.fixture
async def hub(pool: Pool, bus: Bus) -> AsyncIterator[Hub]:
    async with Hub.open(pool, bus, poll=0.05) as running:
        yield running


@pytest.fixture
async def user_id(pool: Pool) -> int:
    return (await member(pool, "watcher@example.com")).id


@pytest.fixture
async def told(pool: Pool, bus: Bus, user_id: int) -> Story:
    return await story.begin(pool, bus, user_id)


async def now(told: Story) -> Task:
    """The task's row as a stream would find it."""
    task = await tasks.get(told.pool, told.task.id)
    assert task is not None
    return task


@pytest.fixture
def far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found by comparing with the table now and then."""
    monkeypatch.setattr(hubs, "RECONCILE", 600)


# -- once and in order


async def test_an_event_is_framed_once_for_everybody(hub: Hub, told: Story) -> None:
    event = await told.tell(5, message="héllo 🚀")
    one, two = Follower(), Follower()
    async with hub.watching(told.task, 0, one), hub.watching(told.task, 0, two):
        assert one.frames == two.frames
        assert one.frames[0] is two.frames[0]
    text = f"id: 1\ndata: {event.data}\n\n".encode()
    assert one.frames == [Frame(1, text, b"%x\r\n" % len(text) + text + b"\r\n", final=False)]
    assert chunk(b"ab") == b"2\r\nab\r\n"


async def test_a_finished_task_needs_no_channel(hub: Hub, told: Story, bus: Bus) -> None:
    await told.tell_all()
    follower = Follower()
    async with hub.watching(await now(told), 13, follower):
        assert await follower.ended() == [14, 15]
        assert told.task.channel not in bus._channels
        assert hub.watchers == 0


async def test_a_task_that_ended_just_before_is_told_to_its_end(hub: Hub, told: Story) -> None:
    before = await now(told)
    await told.tell_all()
    follower = Follower()
    async with hub.watching(before, 0, follower):
        assert await follower.ended() == list(range(1, 16))


async def test_events_that_come_while_the_table_is_read_are_not_lost(
    far_apart: None, hub: Hub, told: Story, pool: Pool
) -> None:
    await told.tell(5)
    follower = Follower()
    async with AsyncExitStack() as stack:
        async with locked(pool, "task_events"):
            entering = asyncio.create_task(stack.enter_async_context(hub.watching(told.task, 0, follower)))
            await until_locked_out(pool)
            telling = asyncio.create_task(told.tell_all())
        await asyncio.gather(entering, telling)
        assert await follower.ended() == list(range(1, 16))


async def test_the_table_is_read_when_the_channel_is_subscribed_and_not_before(
    far_apart: None, pool: Pool, redis_url: str, told: Story
) -> None:
    follower = Follower()
    async with AsyncExitStack() as stack:
        relay, url = await stack.enter_async_context(relayed(redis_url))
        slow = await stack.enter_async_context(Bus.open(url))
        await until(lambda: slow.connected)
        hub = await stack.enter_async_context(Hub.open(pool, slow, poll=600))
        await until(lambda: hub._resumed.is_set() is False)
        relay.hold()
        entering = asyncio.create_task(stack.enter_async_context(hub.watching(told.task, 0, follower)))
        await until(lambda: told.task.channel in slow._channels)
        await told.tell(5)  # nobody is subscribed who could hear it
        relay.release()
        await entering
        assert await follower.reach(1) == [1]


async def test_a_hundred_gaps_are_a_few_readings(
    far_apart: None, hub: Hub, told: Story, pool: Pool, redis_url: str
) -> None:
    follower = Follower()
    async with hub.watching(told.task, 0, follower):
        for _ in range(100):
            await told.tell(5, heard=False)
        async with locked(pool, "task_events"):
            await story.shout(redis_url, told.task.channel, *(told.message(event) for event in told.events[1:]))
            await until_locked_out(pool)
            channel = hub._channels[told.task.channel]
            await until(lambda: channel.stale)
            assert len(hub._running) == 3, "the two keepers and one reading"
        assert await follower.reach(100) == list(range(1, 101))
        assert follower.gifts <= 2


async def test_who_comes_later_brings_news_that_the_bus_has_lost(far_apart: None, hub: Hub, told: Story) -> None:
    early, late = Follower(), Follower()
    async with hub.watching(told.task, 0, early):
        await told.tell(5)
        await early.reach(1)
        await told.tell(10, heard=False)
        async with hub.watching(await now(told), 0, late):
            assert await late.reach(2) == [1, 2]
            assert await early.reach(2) == [1, 2]


async def test_the_last_one_to_leave_and_the_next_to_come(hub: Hub, told: Story) -> None:
    await told.tell(5)
    for number in range(2, 6):
        follower = Follower()
        async with hub.watching(told.task, number - 2, follower):
            await told.tell(10)
            assert await follower.reach(number) == [number - 1, number]


async def test_coming_and_going_at_once_loses_nothing(hub: Hub, told: Story) -> None:
    async def follow(patience: int) -> list[int]:
        follower = Follower()
        async with hub.watching(told.task, 0, follower):
            return await follower.reach(patience)

    async with asyncio.TaskGroup() as group:
        following = [group.create_task(follow(1 + number % 15)) for number in range(60)]
        await told.tell_all()
    for number, watched in enumerate(following):
        seqs = watched.result()
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= 1 + number % 15


# -- a crowd


async def test_a_crowd_is_served_in_turns_and_completely(hub: Hub, told: Story) -> None:
    crowd = [Follower() for _ in range(3 * hubs.AT_ONCE + 7)]
    async with AsyncExitStack() as stack:
        for follower in crowd:
            await stack.enter_async_context(hub.watching(told.task, 0, follower))
        assert hub.watchers == len(crowd)
        await told.tell_all()
        for follower in crowd:
            assert await follower.ended() == list(range(1, 16))
    assert hub.watchers == 0


async def test_other_work_gets_its_turn_while_a_crowd_is_served(
    far_apart: None, hub: Hub, told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "AT_ONCE", 10)
    crowd = [Follower() for _ in range(95)]
    served: list[int] = []
    async with AsyncExitStack() as stack:
        for follower in crowd:
            await stack.enter_async_context(hub.watching(told.task, 0, follower))
        hub._receive(hub._channels[told.task.channel], told.message(await told.tell(5, heard=False)))
        while not all(follower.seqs for follower in crowd):
            served.append(sum(bool(follower.seqs) for follower in crowd))
            await asyncio.sleep(0)
    assert served[0] == 10
    assert all(later - earlier <= 10 for earlier, later in pairwise(served))
    assert all(follower.seqs == [1] for follower in crowd)


async def test_who_comes_while_a_crowd_is_served_is_served_too(
    far_apart: None, hub: Hub, told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "AT_ONCE", 1)
    async with AsyncExitStack() as stack:
        crowd = [Follower() for _ in range(20)]
        for follower in crowd:
            await stack.enter_async_context(hub.watching(told.task, 0, follower))
        channel = hub._channels[told.task.channel]
        for event in [await told.tell(5, heard=False), await told.finish(heard=False)]:
            hub._receive(channel, told.message(event))
        late = Follower()
        await stack.enter_async_context(hub.watching(told.task, 0, late))
        for follower in [*crowd, late]:
            assert await follower.ended() == [1, 2]


async def test_who_left_a_crowd_gets_nothing_more(
    far_apart: None, hub: Hub, told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "AT_ONCE", 1)
    crowd = [Follower() for _ in range(20)]
    async with AsyncExitStack() as stack:
        for follower in crowd:
            await stack.enter_async_context(hub.watching(told.task, 0, follower))
        hub._receive(hub._channels[told.task.channel], told.message(await told.tell(5, heard=False)))
        await asyncio.sleep(0)
        hub.close()
        for _ in crowd:
            await asyncio.sleep(0)
    assert not any(follower.disturbed for follower in crowd)
    assert 0 < sum(bool(follower.seqs) for follower in crowd) < len(crowd)


# -- what goes wrong


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[tuple[Relay, Pool]]:
    """The database by a line that can be cut."""
    async with relayed(database_url) as (relay, url), database.connect(url, size=5) as pool:
        yield relay, pool


async def test_without_postgresql_nobody_is_left_waiting(
    line: tuple[Relay, Pool], bus: Bus, told: Story, caplog: pytest.LogCaptureFixture
) -> None:
    relay, pool = line
    await told.tell(5)
    await relay.cut()
    async with Hub.open(pool, bus, poll=0.05) as hub:
        results = await asyncio.gather(*(_follow(hub, told.task, Follower()) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(result, database.UNREACHABLE) for result in results), results
        assert (hub.watchers, hub._channels) == (0, {})
        await relay.mend()
        follower = Follower()
        await _follow(hub, told.task, follower)
        assert follower.seqs == [1]
    gc.collect()  # an error that nobody looked at would be reported now


async def test_watchers_go_on_when_postgresql_is_back(
    far_apart: None, line: tuple[Relay, Pool], bus: Bus, told: Story, caplog: pytest.LogCaptureFixture
) -> None:
    relay, pool = line
    async with Hub.open(pool, bus, poll=0.05) as hub:
        follower = Follower()
        async with hub.watching(told.task, 0, follower):
            await told.tell(5)
            await follower.reach(1)
            await relay.cut()
            await told.tell(10, heard=False)
            await told.tell(15)  # a gap that cannot be read
            await until(lambda: "hub.failed" in caplog.text)
            await relay.mend()
            await told.tell(20)
            assert await follower.reach(4) == [1, 2, 3, 4]


async def test_a_fault_does_not_end_the_comparisons(
    hub: Hub, told: Story, monkeypatch: pytest.MonkeyPatch, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hubs, "RECONCILE", 0.02)
    follower = Follower()
    async with hub.watching(told.task, 0, follower):
        await pool.execute("ALTER TABLE tasks RENAME COLUMN last_seq TO last")
        await until(lambda: "hub.failed" in caplog.text)
        await pool.execute("ALTER TABLE tasks RENAME COLUMN last TO last_seq")
        await told.tell(5, heard=False)
        assert await follower.reach(1) == [1]
    caplog.clear()


async def test_comparisons_become_frequent_when_redis_goes_away(
    database_url: str, pool: Pool, bus: Bus, redis_url: str, told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "RECONCILE", 600)
    async with relayed(redis_url) as (relay, url), Bus.open(url) as fragile, Hub.open(pool, fragile, poll=0.02) as hub:
        follower = Follower()
        await until(lambda: fragile.connected)
        async with hub.watching(told.task, 0, follower):
            for number in range(1, 4):  # the last ones surely not by the reading that follows a connection
                await told.tell(5)
                await follower.reach(number)
            await relay.cut()
            await told.tell(10)
            assert await follower.reach(4) == [1, 2, 3, 4]


# -- the end


async def test_closing_ends_everybody_also_those_who_wait_or_come_later(
    hub: Hub, told: Story, bus: Bus, pool: Pool, user_id: int
) -> None:
    other = await story.begin(pool, bus, user_id)
    watching, waiting, late = Follower(), Follower(), Follower()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hub.watching(told.task, 0, watching))
        async with locked(pool, "task_events"):
            entering = asyncio.create_task(stack.enter_async_context(hub.watching(other.task, 0, waiting)))
            await until_locked_out(pool)
            hub.close()
            await entering
            await stack.enter_async_context(hub.watching(other.task, 0, late))
            assert [follower.over for follower in (watching, waiting, late)] == [True, True, True]


async def test_a_hub_that_is_gone_leaves_nothing_on_the_bus(
    pool: Pool, bus: Bus, told: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buses, "LINGER", 0)
    follower = Follower()
    async with Hub.open(pool, bus, poll=0.05) as hub:
        await _follow(hub, told.task, follower)
    await until(lambda: not bus._channels)
    assert bus.on_resume == []


async def test_nothing_is_left_when_everybody_has_left(hub: Hub, told: Story, bus: Bus, pool: Pool) -> None:
    await asyncio.sleep(0)
    tasks_before = len(asyncio.all_tasks())
    crowd = [Follower() for _ in range(300)]
    gone = [weakref.ref(follower) for follower in crowd]
    async with AsyncExitStack() as stack:
        for number, follower in enumerate(crowd):
            await stack.enter_async_context(hub.watching(told.task, 0, follower))
            if number % 100 == 0:
                await told.tell(5)
    entering = asyncio.create_task(_follow(hub, told.task, Follower()))
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert (hub.watchers, hub._channels) == (0, {})
    await until(lambda: len(hub._running) == 2 and len(asyncio.all_tasks()) <= tasks_before)
    del crowd, follower, stack
    gc.collect()
    assert [reference() for reference in gone] == [None] * 300


async def test_who_gives_up_while_waiting_takes_nobody_along(hub: Hub, told: Story, pool: Pool) -> None:
    await told.tell(5)
    patient = Follower()
    async with AsyncExitStack() as stack:
        async with locked(pool, "task_events"):
            hasty = asyncio.create_task(_follow(hub, told.task, Follower()))
            entering = asyncio.create_task(stack.enter_async_context(hub.watching(told.task, 0, patient)))
            await until_locked_out(pool)
            hasty.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hasty
        await entering
        assert await patient.reach(1) == [1]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED])
async def test_who_waits_only_for_the_end_gets_it(hub: Hub, told: Story, status: Status) -> None:
    ending = Ending()
    async with hub.watching(told.task, 0, ending):
        await told.tell(5)
        await ending.wait(0.01)
        waiting = asyncio.create_task(ending.wait(600))
        await told.finish(status)
        async with asyncio.timeout(60):
            await waiting


async def _follow(hub: Hub, task: Task, follower: Follower) -> None:
    async with hub.watching(task, 0, follower):
        pass
