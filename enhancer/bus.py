"""
The bell: messages between processes by Redis pub/sub.

Nothing that counts lives here. A message that is lost is found in PostgreSQL by whoever was waiting for it, so
publishing never fails and listeners learn when they may have missed something.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

QUIET = 10.0  # seconds without a message before the subscription's connection is asked whether it lives
PUBLISH = 0.5  # seconds that a message is offered: the task that publishes it wants to go on
REST = 5.0  # seconds of not publishing after Redis failed, unless the subscription comes back before
KEPT = 900  # seconds for which what was shown is kept for those who come late, if nobody forgets it before
LINGER = 5.0  # seconds that a channel without listeners stays subscribed: the next listener often comes at once

Listener = Callable[[str], None]
"""Called on the loop with each message of a channel; must not block."""

GONE = (RedisError, OSError)

T = TypeVar("T")


def live(channel: str) -> str:
    """
    The channel beside a task's own on which passing things are shown.

    Programs that subscribe to the task's own, or to all by a pattern, hear numbered events there and nothing else.
    """
    return f"live:{channel}"


@dataclass(eq=False)
class _Channel:
    """A channel that somebody listens to. `confirmed`: from here on the server sends us its messages."""

    name: str
    listeners: list[Listener] = field(default_factory=list)
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)


class Bus:
    """
    One subscription for the whole process, fanned out to listeners.

    One task owns the subscription's connection, from its opening to its end: the client library reconnects and
    resubscribes in silence otherwise, and what was sent meanwhile is lost without a sign. Here a broken connection
    is given up, all channels are subscribed again on a new one, and `on_resume` is called once that is confirmed.
    """

    def __init__(self, url: str) -> None:
        # retries are ours (see above); publishing must not hold a task up for long
        self._redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), decode_responses=True, socket_timeout=2, socket_connect_timeout=2
        )
        self._channels: dict[str, _Channel] = {}
        self._shown: dict[str, dict[str, str]] = {}
        self._changed = asyncio.Event()
        self._resting_until = 0.0
        self._closing = False
        self.connected = False
        self.on_resume: list[Callable[[], None]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Bus]:
        """A bus that is running. Redis need not be there yet."""
        bus = cls(url)
        reader = asyncio.create_task(bus._run(), name="bus")
        try:
            yield bus
        finally:
            bus._closing = True
            while not reader.done():  # the client's wait_for loses a cancellation that comes as it ends (before 3.12)
                reader.cancel()
                await asyncio.wait([reader], timeout=0.1)
            with contextlib.suppress(*GONE):
                await bus._redis.aclose()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            return bool(await self._redis.ping())
        except GONE:
            return False

    async def publish(self, channel: str, *messages: str) -> None:
        """
        Ring the bell, once for each message; when Redis is away, for the listeners of this process alone.

        They may get a message twice while it is not sure whether Redis took it.
        """
        taken = await self._asked(lambda: self._publish(channel, messages)) is not None
        if not (taken and self.connected):
            for message in messages:
                self._deliver(channel, message)

    async def show(self, channel: str, kind: str, message: str) -> None:
        """
        Let those who watch the channel see something that passes, on `live(channel)`.

        The latest of a kind is kept for who comes later, see `shown`. Like `publish` it never fails.
        """
        self._shown.setdefault(channel, {})[kind] = message
        taken = await self._asked(lambda: self._show(channel, kind, message)) is not None
        if not (taken and self.connected):
            self._deliver(live(channel), message)

    async def shown(self, channel: str) -> list[str]:
        """The latest message of each kind that was shown on the channel, by this process or another."""
        if kept := self._shown.get(channel):
            return list(kept.values())
        found = await self._asked(lambda: self._redis.hvals(_kept(channel))) or []
        return [message for message in found if isinstance(message, str)]

    async def forget(self, channel: str) -> None:
        """What this process showed there is not worth seeing any more."""
        if self._shown.pop(channel, None):
            await self._asked(lambda: self._redis.delete(_kept(channel)))

    def listen(self, name: str, listener: Listener) -> Callable[[], None]:
        """
        Call `listener` with each message of the channel; returns what ends that.

        Messages come from the moment that `confirmed` returns true.
        """
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name)
            self._changed.set()
        channel.listeners.append(listener)

        def stop() -> None:
            channel.listeners.remove(listener)
            if not channel.listeners:
                asyncio.get_running_loop().call_later(LINGER, self._changed.set)

        return stop

    async def confirmed(self, name: str, *, seconds: float) -> bool:
        """Wait until the channel's messages come to us; False when Redis is away or takes longer than `seconds`."""
        channel = self._channels[name]
        if channel.confirmed.is_set():
            return True
        if not self.connected:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await channel.confirmed.wait()
        return channel.confirmed.is_set()

    async def _publish(self, channel: str, messages: Sequence[str]) -> bool:
        if len(messages) == 1:
            await self._redis.publish(channel, messages[0])
            return True
        async with self._redis.pipeline(transaction=False) as together:
            for message in messages:
                together.publish(channel, message)
            await together.execute()
        return True

    async def _show(self, channel: str, kind: str, message: str) -> bool:
        async with self._redis.pipeline(transaction=False) as together:
            together.hset(_kept(channel), kind, message)
            together.expire(_kept(channel), KEPT)
            together.publish(live(channel), message)
            await together.execute()
        return True

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What Redis answers; None when it is away."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._resting_until:
            return None
        try:
            async with asyncio.timeout(PUBLISH):
                try:
                    return await ask()
                except RedisConnectionError:  # the connection may have broken while it lay in the pool
                    return await ask()
        except GONE as error:
            self._resting_until = loop.time() + REST
            log.warning("bus.unreachable", extra={"error": type(error).__name__})
            return None

    def _deliver(self, name: str, message: str) -> None:
        channel = self._channels.get(name)
        for listener in list(channel.listeners) if channel else ():
            try:
                listener(message)
            except Exception:
                log.exception("bus.listener_failed", extra={"channel": name})

    async def _run(self) -> None:
        """Keep a subscription open until the bus closes."""
        pause = 0.05
        while True:
            began = asyncio.get_running_loop().time()
            try:
                async with self._redis.pubsub() as pubsub:
                    await _Subscription(self, pubsub).run()
            except* GONE as errors:
                log.warning("bus.disconnected", extra={"error": type(errors.exceptions[0]).__name__})
            except* Exception:  # a fault of ours must not end the streams of the whole process
                log.exception("bus.failed")
            finally:
                self._disconnected()
            if self._closing:  # a task group that is failing swallows its cancellation (before Python 3.13)
                return
            lasted = asyncio.get_running_loop().time() - began
            pause = 0.05 if lasted > 1 else min(pause * 2, 2.0)
            await asyncio.sleep(pause)

    def _disconnected(self) -> None:
        self.connected = False
        for channel in self._channels.values():
            channel.confirmed.clear()


class _Subscription:
    """One connection's life: subscribes to what is wanted, hands out what comes, ends with an error."""

    def __init__(self, bus: Bus, pubsub: PubSub) -> None:
        self._bus = bus
        self._pubsub = pubsub
        self._subscribed: set[str] = set()
        self._awaited: Counter[str] = Counter()  # confirmations that have not come yet
        self._resumed = False
        self._heard = False

    async def run(self) -> None:
        await self._pubsub.connect()  # type: ignore[no-untyped-call]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(), name="bus.read")
            group.create_task(self._follow(), name="bus.follow")
            group.create_task(self._watch(), name="bus.watch")

    async def _read(self) -> None:
        while not _cancelled():
            self._receive(await self._pubsub.get_message(timeout=None))

    async def _follow(self) -> None:
        """Subscribe to what is wanted, let go of what is not, whenever that changes."""
        bus = self._bus
        while not _cancelled():
            bus._changed.clear()
            for name in [name for name, channel in bus._channels.items() if not channel.listeners]:
                del bus._channels[name]
            wanted = set(bus._channels)
            new, old = wanted - self._subscribed, self._subscribed - wanted
            self._subscribed = wanted
            if new:
                self._awaited.update(new)
                await self._pubsub.subscribe(*new)
            if old:
                await self._pubsub.unsubscribe(*old)
            if not self._resumed and not wanted:
                self._resume()
            if not _cancelled():
                await bus._changed.wait()

    async def _watch(self) -> None:
        """Ask a quiet connection whether it lives."""
        while not _cancelled():
            self._heard = False
            await asyncio.sleep(QUIET)
            if self._heard:
                continue
            await self._pubsub.ping()
            if _cancelled():
                return
            await asyncio.sleep(QUIET)
            if not self._heard:
                raise TimeoutError("Redis does not answer")

    def _receive(self, message: dict[str, str] | None) -> None:
        self._heard = True
        if message is None:
            return
        if message["type"] == "message":
            self._bus._deliver(message["channel"], message["data"])
        elif message["type"] == "subscribe":
            self._confirm(message["channel"])

    def _confirm(self, name: str) -> None:
        self._awaited[name] -= 1
        if self._awaited[name] < 0:
            raise ConnectionError("subscribed again behind our back: messages may be lost")
        if self._awaited[name] == 0:
            del self._awaited[name]
            if name in self._bus._channels:
                self._bus._channels[name].confirmed.set()
        if not self._resumed and not self._awaited:
            self._resume()

    def _resume(self) -> None:
        self._resumed = self._bus.connected = True
        self._bus._resting_until = 0.0
        log.info("bus.connected", extra={"channels": len(self._subscribed)})
        for callback in self._bus.on_resume:
            callback()


def _cancelled() -> bool:
    """
    Whether this asyncio task was told to end.

    The client's wait_for loses a cancellation that comes as it ends (before Python 3.12), and a group cancels once.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _kept(channel: str) -> str:
    """The key under which the latest of what is shown on a channel is kept."""
    return f"shown:{channel}"
