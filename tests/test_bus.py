from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from enhancer import bus as bus_module
from enhancer import embedded
from enhancer.bus import Bus

LIMIT = 60.0  # seconds after which a test has failed


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, message: str) -> None:
        self.heard.put_nowait(message)

    async def hears(self) -> str:
        """The next message."""
        async with asyncio.timeout(LIMIT):
            return await self.heard.get()


class Valkey:
    """A server of the test's own, at one address whenever it runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._pid = 0
        self.url = ""

    async def start(self) -> None:
        found = await self._stack.enter_async_context(embedded.servers(self._folder, database=False))
        assert found.redis_url is not None
        assert self.url in {"", found.redis_url}
        self.url = found.redis_url
        async with client(self.url) as redis:
            self._pid = (await redis.info("server"))["process_id"]

    async def stop(self) -> None:
        await self._stack.aclose()

    async def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        await self.stop()

    def freeze(self) -> None:
        """From now on it accepts connections, and answers nobody."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A server that runs and may be mistreated."""
    server = Valkey(tmp_path / "valkey")
    await server.start()
    yield server
    await server.stop()


def client(url: str) -> Redis:
    """A plain client, as other programs use."""
    return Redis.from_url(url, decode_responses=True)


async def until(condition: Callable[[], object]) -> None:
    """Until the condition holds; nobody tells of it."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def ready(bus: Bus, *names: str) -> None:
    """Until messages of the channels come to this bus, which may just be connecting."""
    await until(lambda: bus.connected)
    for name in names:
        assert await bus.confirmed(name, seconds=LIMIT)


def at_once(coroutine: Coroutine[object, object, bool]) -> bool:
    """What it returns if it has not to wait, else False."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return bool(end.value)
    coroutine.close()
    return False


def resumed(bus: Bus) -> asyncio.Event:
    """Set when the bus says that messages may have been missed."""
    event = asyncio.Event()
    bus.on_resume.append(event.set)
    return event


async def happens(event: asyncio.Event) -> None:
    """Wait for the event, and for the next after it."""
    async with asyncio.timeout(LIMIT):
        await event.wait()
    event.clear()


# -- with Redis


async def test_a_message_comes_to_every_listener_of_its_channel(bus: Bus) -> None:
    first, second, other = Ear(), Ear(), Ear()
    bus.listen("task:1", first)
    bus.listen("task:1", second)
    bus.listen("task:2", other)
    await ready(bus, "task:1", "task:2")
    await bus.publish("task:1", "Größe 图 🎨")
    await bus.publish("task:2", "the other")
    assert await first.hears() == await second.hears() == "Größe 图 🎨"
    assert await other.hears() == "the other"
    assert first.heard.empty()


async def test_messages_come_once_and_in_order(bus: Bus) -> None:
    ear = Ear()
    bus.listen("task:1", ear)
    await ready(bus, "task:1")
    for number in range(200):
        await bus.publish("task:1", str(number))
    assert [await ear.hears() for _ in range(200)] == [str(number) for number in range(200)]
    assert ear.heard.empty()


async def test_messages_that_are_sent_together_come_once_and_in_order(bus: Bus) -> None:
    ear = Ear()
    bus.listen("c", ear)
    await ready(bus, "c")
    await bus.publish("c", *(str(n) for n in range(10)))
    await bus.publish("c", "last")
    assert [await ear.hears() for _ in range(11)] == [*(str(n) for n in range(10)), "last"]


async def test_what_one_process_publishes_another_hears(bus: Bus, redis_url: str) -> None:
    ear, own = Ear(), Ear()
    async with Bus.open(redis_url) as other:
        other.listen("task:1", ear)
        bus.listen("task:1", own)
        await ready(other, "task:1")
        await ready(bus, "task:1")
        await bus.publish("task:1", "hello")
        assert await ear.hears() == await own.hears() == "hello"


async def test_other_programs_hear_and_are_heard(bus: Bus, redis_url: str) -> None:
    ear = Ear()
    bus.listen("task:1", ear)
    await ready(bus, "task:1")
    async with client(redis_url) as program, program.pubsub() as subscription:
        await subscription.subscribe("task:1")
        await subscription.get_message(timeout=LIMIT)
        await bus.publish("task:1", "to all")
        message = await subscription.get_message(timeout=LIMIT)
        await program.publish("task:1", "from outside")
    assert message is not None
    assert message["data"] == "to all"
    assert [await ear.hears(), await ear.hears()] == ["to all", "from outside"]


async def test_whoever_stopped_listening_hears_no_more(bus: Bus) -> None:
    leaving, staying = Ear(), Ear()
    stop = bus.listen("task:1", leaving)
    bus.listen("task:1", staying)
    await ready(bus, "task:1")
    stop()
    await bus.publish("task:1", "late")
    assert await staying.hears() == "late"
    assert leaving.heard.empty()


async def test_a_listener_may_stop_while_it_is_called(bus: Bus) -> None:
    staying = Ear()
    stops: list[Callable[[], None]] = []
    stops.append(bus.listen("task:1", lambda _: stops.pop()()))
    bus.listen("task:1", staying)
    await ready(bus, "task:1")
    for message in ("first", "second"):
        await bus.publish("task:1", message)
        assert await staying.hears() == message
    assert stops == []


async def test_a_listener_that_fails_disturbs_nobody(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: str) -> None:
        raise ValueError(message)

    ear = Ear()
    bus.listen("task:1", fail)
    bus.listen("task:1", ear)
    await ready(bus, "task:1")
    resume = resumed(bus)
    for message in ("first", "second"):
        await bus.publish("task:1", message)
        assert await ear.hears() == message
    assert bus.connected
    assert not resume.is_set()
    assert [record.getMessage() for record in caplog.records] == ["bus.listener_failed"] * 2


async def test_a_channel_that_is_left_is_given_up_and_can_be_had_again(
    bus: Bus, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LINGER", 0.0)
    async with client(redis_url) as redis:
        for round_number in range(3):
            ear = Ear()
            stop = bus.listen("task:1", ear)
            await ready(bus, "task:1")
            await bus.publish("task:1", f"round {round_number}")
            assert await ear.hears() == f"round {round_number}"
            stop()
            async with asyncio.timeout(LIMIT):
                while dict(await redis.pubsub_numsub("task:1")) != {"task:1": 0}:
                    pass


async def test_a_listener_that_returns_soon_finds_the_channel_still_subscribed(bus: Bus) -> None:
    stop = bus.listen("task:1", Ear())
    await ready(bus, "task:1")
    stop()
    ear = Ear()
    bus.listen("task:1", ear)
    assert await bus.confirmed("task:1", seconds=0)
    await bus.publish("task:1", "hello")
    assert await ear.hears() == "hello"


async def test_listeners_that_come_and_go_while_channels_change_hear_all(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LINGER", 0.0)

    async def come_and_go(number: int) -> None:
        name = f"task:{number % 5}"
        ear = Ear()
        stop = bus.listen(name, ear)
        await ready(bus, name)
        await bus.publish(name, str(number))
        while await ear.hears() != str(number):
            pass
        stop()

    for _ in range(5):
        await asyncio.gather(*(come_and_go(number) for number in range(20)))


async def test_a_thousand_channels(bus: Bus, redis_url: str) -> None:
    ears = {f"task:{number}": Ear() for number in range(1_000)}
    for name, ear in ears.items():
        bus.listen(name, ear)
    await ready(bus, *ears)
    async with client(redis_url) as redis, redis.pipeline() as pipeline:
        for name in ears:
            pipeline.publish(name, name)
        await pipeline.execute()
    for name, ear in ears.items():
        assert await ear.hears() == name


async def test_redis_answers_a_ping(bus: Bus) -> None:
    assert await bus.ping()


# -- when Redis goes and comes


async def test_without_redis_a_process_hears_itself_and_waits_for_nothing(valkey: Valkey) -> None:
    await valkey.stop()
    async with Bus.open(valkey.url) as bus:
        ear = Ear()
        bus.listen("task:1", ear)
        async with asyncio.timeout(LIMIT):
            for number in range(1_000):
                await bus.publish("task:1", str(number))
                assert ear.heard.get_nowait() == str(number)
            assert not await bus.confirmed("task:1", seconds=10 * LIMIT)
        assert not bus.connected
        assert not await bus.ping()


async def test_redis_may_come_after_the_bus(valkey: Valkey) -> None:
    await valkey.stop()
    async with Bus.open(valkey.url) as bus:
        ear, resume = Ear(), resumed(bus)
        bus.listen("task:1", ear)
        await bus.publish("task:1", "nobody there")
        assert await ear.hears() == "nobody there"
        await valkey.start()
        await happens(resume)
        assert await bus.confirmed("task:1", seconds=0)
        await bus.publish("task:1", "somebody there")
        assert await ear.hears() == "somebody there"
        assert await bus.ping()


async def test_a_bus_without_listeners_connects_too(redis_url: str) -> None:
    async with Bus.open(redis_url) as bus:
        await until(lambda: bus.connected)


async def test_after_a_restart_of_redis_every_channel_is_back_before_anybody_is_told(valkey: Valkey) -> None:
    ears = {f"task:{number}": Ear() for number in range(100)}
    confirmed: list[bool] = []
    async with Bus.open(valkey.url) as bus, client(valkey.url) as other:
        for name, ear in ears.items():
            bus.listen(name, ear)
        await ready(bus, *ears)
        resume = resumed(bus)
        bus.on_resume.append(lambda: confirmed.extend(at_once(bus.confirmed(name, seconds=LIMIT)) for name in ears))
        await valkey.kill()
        await until(lambda: not bus.connected)
        assert not await bus.confirmed("task:0", seconds=0)
        await valkey.start()
        await happens(resume)
        assert confirmed == [True] * len(ears)
        for name, ear in ears.items():
            await other.publish(name, name)
            assert await ear.hears() == name


async def test_a_connection_that_breaks_is_replaced_and_told_of(bus: Bus, redis_url: str) -> None:
    ear, resume = Ear(), resumed(bus)
    bus.listen("task:1", ear)
    await ready(bus, "task:1")
    async with client(redis_url) as redis:
        for message in ("first", "second", "third"):
            resume.clear()
            await redis.client_kill_filter(_type="pubsub")
            await happens(resume)
            await redis.publish("task:1", message)
            assert await ear.hears() == message


async def test_a_message_that_redis_did_not_take_is_heard_at_home(valkey: Valkey) -> None:
    async with Bus.open(valkey.url) as bus:
        ear = Ear()
        bus.listen("task:1", ear)
        await ready(bus, "task:1")
        await bus.publish("task:1", "before")
        assert await ear.hears() == "before"
        await valkey.kill()
        for message in ("at the end", "after the end"):
            await bus.publish("task:1", message)
            assert await ear.hears() == message


async def test_a_message_that_redis_refuses_is_heard_at_home(valkey: Valkey) -> None:
    async with Bus.open(valkey.url) as bus, client(valkey.url) as redis:
        ear = Ear()
        bus.listen("task:1", ear)
        await ready(bus, "task:1")
        await redis.acl_setuser("default", enabled=True, commands=["-publish"])
        for message in ("refused", "not even sent"):
            await bus.publish("task:1", message)
            assert await ear.hears() == message
        assert bus.connected


async def test_a_connection_that_broke_in_the_pool_loses_no_message(bus: Bus, redis_url: str) -> None:
    async with Bus.open(redis_url) as other, client(redis_url) as redis:
        ear = Ear()
        other.listen("task:1", ear)
        await ready(other, "task:1")
        for message in ("the last", "and another last"):
            await bus.publish("task:2", "fills the pool")
            await redis.client_kill_filter(_type="normal", skipme=True)
            await bus.publish("task:1", message)
            assert await ear.hears() == message


async def test_a_redis_that_hangs_holds_up_one_message_and_not_the_next(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "PUBLISH", 0.05)
    monkeypatch.setattr(bus_module, "REST", 600.0)
    monkeypatch.setattr(bus_module, "QUIET", 600.0)
    async with Bus.open(valkey.url) as bus:
        ear = Ear()
        bus.listen("task:1", ear)
        await ready(bus, "task:1")
        valkey.freeze()
        try:
            for number in range(100):
                await bus.publish("task:1", str(number))
                assert await ear.hears() == str(number)
            assert bus.connected, "so it is not the subscription that told of it"
        finally:
            valkey.thaw()


async def test_once_redis_is_back_messages_go_to_all_processes_at_once(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "REST", 60.0)
    async with Bus.open(valkey.url) as bus, Bus.open(valkey.url) as other:
        ear, own = Ear(), Ear()
        other.listen("task:1", ear)
        bus.listen("task:1", own)
        await ready(bus, "task:1")
        await ready(other, "task:1")
        both = resumed(bus), resumed(other)
        await valkey.kill()
        await bus.publish("task:1", "lost to others")
        assert await own.hears() == "lost to others"
        await valkey.start()
        for resume in both:
            await happens(resume)
        await bus.publish("task:1", "for all")
        assert await ear.hears() == await own.hears() == "for all"


async def test_a_redis_that_falls_silent_is_noticed(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "QUIET", 0.1)
    async with Bus.open(valkey.url) as bus:
        ear = Ear()
        bus.listen("task:1", ear)
        await ready(bus, "task:1")
        resume = resumed(bus)
        valkey.freeze()
        try:
            await until(lambda: not bus.connected)
            await bus.publish("task:1", "at home")
            assert await ear.hears() == "at home"
        finally:
            valkey.thaw()
        await happens(resume)
        await bus.publish("task:1", "everywhere")
        assert await ear.hears() == "everywhere"


async def test_a_quiet_redis_that_lives_is_left_in_peace(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "QUIET", 0.02)
    async with Bus.open(valkey.url) as bus, client(valkey.url) as redis:
        bus.listen("task:1", Ear())
        await ready(bus, "task:1")
        resume = resumed(bus)
        async with asyncio.timeout(LIMIT):
            while (await redis.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"] < 5:
                pass
        assert bus.connected
        assert not resume.is_set()


@pytest.mark.parametrize("turns", range(8))
async def test_a_bus_ends_in_whatever_moment_its_connection_breaks(redis_url: str, turns: int) -> None:
    async with client(redis_url) as redis, asyncio.timeout(LIMIT):
        for _ in range(10):
            async with Bus.open(redis_url) as bus:
                bus.listen("task:1", Ear())
                await ready(bus, "task:1")
                await redis.client_kill_filter(_type="pubsub")
                for _ in range(turns):
                    await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(30))
async def test_a_bus_ends_in_whatever_moment_it_connects(redis_url: str, turns: int) -> None:
    async with asyncio.timeout(LIMIT):
        for _ in range(10):
            async with Bus.open(redis_url):
                for _ in range(turns):
                    await asyncio.sleep(0)
