"""
The hub: gives every watcher each event of its task once, in order.

The events of a watched task are kept here as they were sent, from the first; a watcher is a cursor into that list.
The list grows by what the bus brings. Whatever the bus may have missed is read from the table: before the first
watcher is served, when a number is skipped, after Redis was away, and now and then in any case, because a last
message that is lost leaves no gap.

What a running step shows (drafts, words) passes by on a channel of its own. The latest of each kind is given to who
comes late, until the task's next event puts it out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import operator
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from enhancer import metrics
from enhancer.bus import Bus, live
from enhancer.domain.tasks import FINAL, Event, Status, Task, encode
from enhancer.storage import events
from enhancer.storage.database import UNREACHABLE, Pool

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at all watchers
RECONCILE = 15.0  # seconds between two comparisons with the table while the bus works
CONFIRMATION = 2.0  # seconds that a new channel may take to be subscribed before the table alone has to do
AT_ONCE = 256  # watchers served before other work on the loop gets its turn


@dataclass(frozen=True, slots=True)
class Frame:
    """
    An event as bytes: `text` in the event stream's format, `chunk` the same framed for HTTP/1.1.

    Of a named event, which has no number, `seq` is that of the event after which it was shown.
    """

    seq: int
    text: bytes
    chunk: bytes
    final: bool


class Watcher(Protocol):
    """
    Somebody who follows a task. Its methods are called on the loop, must not block and must not raise.

    `cursor`: the number of the last event that it was given.
    """

    cursor: int

    def give(self, frames: Sequence[Frame]) -> None:
        """Take the next events."""

    def end(self) -> None:
        """Nothing more will come: the last event was given, or the hub closes."""

    def tick(self, now: float) -> None:
        """About once a second: time for a heartbeat, or to notice that nobody listens."""


@dataclass(eq=False, slots=True)
class _Channel:
    """
    A watched task.

    `users` counts watchers that are served and those that still wait to be. `stale`: the table has more than we have.
    `shown`: the latest named event of each kind.
    """

    task_id: int
    name: str
    frames: list[Frame] = field(default_factory=list)
    shown: dict[str, Frame] = field(default_factory=dict)
    watchers: set[Watcher] = field(default_factory=set)
    users: int = 0
    stale: bool = False
    loading: asyncio.Task[None] | None = None
    catching_up: asyncio.Task[None] | None = None
    serving: asyncio.Task[None] | None = None
    looking: asyncio.Task[None] | None = None
    unlisten: Callable[[], None] | None = None
    unlisten_live: Callable[[], None] | None = None

    @property
    def head(self) -> int:
        """The number of the last event."""
        return self.frames[-1].seq if self.frames else 0

    def append(self, event: Event) -> None:
        """Take an event that is newer. A task that is tried again, whose former events are gone, begins a new list."""
        if event.seq > self.head:
            if self.ended or event.seq > self.head + 1:
                self.frames.clear()
            self.frames.append(_frame(event))
            if self.shown:
                self.shown = {kind: frame for kind, frame in self.shown.items() if frame.seq >= event.seq}

    @property
    def ended(self) -> bool:
        return bool(self.frames) and self.frames[-1].final


class Hub:
    """Events from the bus and the table to watchers. `poll`: seconds between looks at the table without Redis."""

    def __init__(self, pool: Pool, bus: Bus, *, poll: float) -> None:
        self._pool = pool
        self._bus = bus
        self._poll = poll
        self.watchers = 0  # those included that wait for their first events
        self._channels: dict[str, _Channel] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._resumed = asyncio.Event()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: Pool, bus: Bus, *, poll: float) -> AsyncIterator[Hub]:
        """A hub at work. At the end its watchers are told to end, too."""
        hub = cls(pool, bus, poll=poll)
        bus.on_resume.append(hub._resumed.set)
        for keeper in (hub._tick, hub._reconcile_forever):
            hub._start(keeper())
        try:
            yield hub
        finally:
            hub.close()
            bus.on_resume.remove(hub._resumed.set)
            for task in list(hub._running):
                task.cancel()
            await asyncio.gather(*hub._running, return_exceptions=True)

    def close(self) -> None:
        """End all watchers now, and those at once that are still to come."""
        self._closed = True
        for channel in list(self._channels.values()):
            if channel.loading:
                channel.loading.cancel()
            for watcher in list(channel.watchers):
                watcher.end()
            channel.watchers.clear()

    @asynccontextmanager
    async def watching(self, task: Task, after: int, watcher: Watcher) -> AsyncIterator[None]:
        """
        Give `watcher` the events after the number `after`, then those to come, for as long as the block lasts.

        Raises what storage.events.after raises.
        """
        watcher.cursor = after
        channel = self._channels.get(task.channel)
        if channel is None and task.status.final:  # nothing is to come: no need to listen
            _serve(watcher, [_frame(event) for event in await events.after(self._pool, task.id, 0)])
            watcher.end()
            yield
            return
        channel = channel or self._open(task)
        channel.users += 1
        self.watchers += 1
        try:
            await self._loaded(channel)
            behind = task.last_seq > channel.head  # something was not heard; what is here may be of a former life
            if behind:
                await self._read(channel)
            channel.watchers.add(watcher)
            self._serve_all(channel, channel.watchers if behind else [watcher])
            if channel.shown and not channel.ended:
                watcher.give(list(channel.shown.values()))
            if self._closed:
                watcher.end()
            yield
        finally:
            channel.watchers.discard(watcher)
            channel.users -= 1
            self.watchers -= 1
            if not channel.users:
                self._close(channel)

    # -- a channel's life

    def _open(self, task: Task) -> _Channel:
        channel = self._channels[task.channel] = _Channel(task.id, task.channel)
        channel.unlisten = self._bus.listen(channel.name, lambda message: self._receive(channel, message))
        channel.unlisten_live = self._bus.listen(live(channel.name), lambda message: self._glimpse(channel, message))
        channel.loading = self._start(self._load(channel))
        if task.status is Status.PROCESSING:
            channel.looking = self._start(self._look_up(channel))
        return channel

    def _close(self, channel: _Channel) -> None:
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
        for unlisten in (channel.unlisten, channel.unlisten_live):
            if unlisten:
                unlisten()
        for task in (channel.loading, channel.catching_up, channel.serving, channel.looking):
            if task:
                task.cancel()

    async def _load(self, channel: _Channel) -> None:
        """Subscribed first, then read: nothing can fall between."""
        await self._bus.confirmed(channel.name, seconds=CONFIRMATION)
        await self._read(channel)
        channel.loading = None

    async def _loaded(self, channel: _Channel) -> None:
        """
        Wait for the first reading, but not past the closing of the hub.

        Raises what the reading raised. A waiter that leaves does not end it for the others.
        """
        loading = channel.loading
        if loading and not self._closed:
            await asyncio.wait([loading])
            if not loading.cancelled():
                loading.result()

    async def _read(self, channel: _Channel) -> None:
        for event in await events.after(self._pool, channel.task_id, channel.head):
            channel.append(event)

    def _receive(self, channel: _Channel, message: str) -> None:
        event = _heard(message)
        if event is None or event.seq <= channel.head:
            return
        if event.seq > channel.head + 1:
            self._catch_up(channel)
            return
        channel.append(event)
        self._serve_all(channel, channel.watchers)

    def _catch_up(self, channel: _Channel) -> None:
        """Read the table once more; when that is asked for during a reading, once after it."""
        channel.stale = True
        if channel.catching_up is None or channel.catching_up.done():
            channel.catching_up = self._start(self._refresh(channel))

    async def _refresh(self, channel: _Channel) -> None:
        await self._loaded(channel)
        while channel.stale:
            channel.stale = False
            await self._read(channel)
            self._serve_all(channel, channel.watchers)

    # -- what passes

    async def _look_up(self, channel: _Channel) -> None:
        """What was shown before anybody watched here; what is heard meanwhile is newer."""
        await self._bus.confirmed(live(channel.name), seconds=CONFIRMATION)
        for message in await self._bus.shown(channel.name):
            self._glimpse(channel, message, kept=True)

    def _glimpse(self, channel: _Channel, message: str, *, kept: bool = False) -> None:
        told = _seen(message)
        if told is None:
            return
        kind, frame = told
        if channel.ended or frame.seq < channel.head or (kept and kind in channel.shown):
            return
        channel.shown[kind] = frame
        if len(channel.watchers) > AT_ONCE:
            self._start(self._show_crowd(channel, kind, frame))
            return
        for watcher in list(channel.watchers):
            watcher.give([frame])

    async def _show_crowd(self, channel: _Channel, kind: str, frame: Frame) -> None:
        for number, watcher in enumerate(list(channel.watchers)):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
                if channel.shown.get(kind) is not frame:  # something newer is on its way
                    return
            if watcher in channel.watchers:
                watcher.give([frame])

    # -- serving

    def _serve_all(self, channel: _Channel, watchers: Iterable[Watcher]) -> None:
        """Bring watchers up to the end of the list; a crowd is served in turns with other work."""
        if channel.serving and not channel.serving.done():
            return  # it goes on until everybody has everything
        waiting = list(watchers)
        for watcher in waiting[:AT_ONCE]:
            self._serve_one(channel, watcher)
        if len(waiting) > AT_ONCE:
            channel.serving = self._start(self._serve_crowd(channel))

    async def _serve_crowd(self, channel: _Channel) -> None:
        while behind := [w for w in channel.watchers if channel.ended or w.cursor < channel.head]:
            for number, watcher in enumerate(behind):
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
                if watcher in channel.watchers:  # it may have left meanwhile
                    self._serve_one(channel, watcher)

    def _serve_one(self, channel: _Channel, watcher: Watcher) -> None:
        _serve(watcher, channel.frames)
        if channel.ended:
            channel.watchers.discard(watcher)
            watcher.end()

    # -- rounds

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = asyncio.get_running_loop().time()
            for channel in list(self._channels.values()):
                for watcher in list(channel.watchers):
                    watcher.tick(now)

    async def _reconcile_forever(self) -> None:
        while True:
            self._resumed.clear()
            try:
                await self._reconcile()
            except UNREACHABLE as error:
                log.warning("database.unreachable", extra={"error": type(error).__name__})
            except Exception:  # one fault must not end the comparisons of all streams
                log.exception("hub.failed")
            await self._rest()

    async def _rest(self) -> None:
        """Until Redis has come back or RECONCILE has passed; without Redis, `poll` is enough."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() - began < (RECONCILE if self._bus.connected else self._poll):
            try:
                async with asyncio.timeout(min(self._poll, RECONCILE)):
                    await self._resumed.wait()
                    return
            except TimeoutError:
                pass

    async def _reconcile(self) -> None:
        """Compare what was given with what the table has."""
        watched = {channel.task_id: channel for channel in self._channels.values() if not channel.loading}
        if not watched:
            return
        heads = await events.heads(self._pool, list(watched))
        for task_id, channel in watched.items():
            if task_id not in heads:  # deleted meanwhile
                for watcher in list(channel.watchers):
                    watcher.end()
            elif heads[task_id] > channel.head:
                self._catch_up(channel)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):  # the next comparison tries again
            log.warning("hub.failed", extra={"error": type(error).__name__})


class Ending:
    """A watcher that only waits for the end of a task."""

    def __init__(self) -> None:
        self.cursor = 0
        self._ended = asyncio.Event()

    def give(self, frames: Sequence[Frame]) -> None:
        """See Watcher."""

    def end(self) -> None:
        """See Watcher."""
        self._ended.set()

    def tick(self, now: float) -> None:
        """See Watcher."""

    async def wait(self, seconds: float) -> None:
        """Until the task has ended, or `seconds` have passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass


def chunk(data: bytes) -> bytes:
    """Data framed for HTTP/1.1's chunked transfer coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _heard(message: str) -> Event | None:
    """The event in a message of the bus; None: it is nothing that this service publishes."""
    try:
        data = json.loads(message)
        seq, _ = data.pop("seq"), Status(data["status"])
        text = encode(data)
        text.encode()
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    return Event(seq, text) if type(seq) is int else None


_KIND = re.compile(r"[a-z]{1,20}")


def _seen(message: str) -> tuple[str, Frame] | None:
    """The kind and the frame of a named event in a message of a live channel; None: it is nothing of ours."""
    try:
        told = json.loads(message)
        kind, after, data = told["event"], told["after"], told["data"]
        if not (_KIND.fullmatch(kind) and type(after) is int and isinstance(data, dict) and data):
            return None
        text = f"event: {kind}\ndata: {encode(data)}\n\n".encode()
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    return kind, Frame(after, text, chunk(text), final=False)


def _frame(event: Event) -> Frame:
    text = f"id: {event.seq}\ndata: {event.data}\n\n".encode()
    return Frame(event.seq, text, chunk(text), json.loads(event.data).get("status") in FINAL)


_seq = operator.attrgetter("seq")


def _serve(watcher: Watcher, frames: Sequence[Frame]) -> None:
    if new := frames[bisect_right(frames, watcher.cursor, key=_seq) :]:
        watcher.cursor = new[-1].seq
        metrics.EVENTS.inc(len(new))
        watcher.give(new)
