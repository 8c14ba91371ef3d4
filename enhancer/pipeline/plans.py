"""
What a plan is made of.

A kind of task is data: a scale, the steps that rise on it, and what its events tell. The engine knows no kind.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol

from enhancer.domain.tasks import Event, Kind, Lease, Status, Task, encode
from enhancer.errors import InternalError, OrderLost, OutcomeUnknown, StorageUnavailable, TaskError
from enhancer.pipeline.previews import Previews
from enhancer.pipeline.screen import Payload, Screen
from enhancer.providers import Images, Rendering, Scripts, Videos
from enhancer.storage.database import patiently
from enhancer.storage.files import Files

STORE_PATIENCE = 120.0  # seconds


class Scale(NamedTuple):
    """What progress is called in the kind's events, and where it ends."""

    field: str
    top: int


class Provider(Protocol):
    """What the gate asks of a provider; see providers.Images."""

    model: str
    billed: bool
    longest_call: float


@dataclass(frozen=True, slots=True)
class Tools:
    """
    What steps work with.

    `videos`: None when this process has nobody who renders. `link`: a file's path -> its signed address.
    """

    files: Files
    previews: Previews
    images: Images
    scripts: Scripts
    videos: Videos | None
    link: Callable[[str], str]


@dataclass(slots=True, eq=False)
class Job:
    """
    A task while it is worked on.

    `output` is what the row holds plus what steps have found since; `progress` and `last_seq` likewise. `kept` holds
    bytes by their path, so that the step after need not read what the step before has just written; `large` holds
    open temporary files in the same way, for what should not be in memory.
    """

    lease: Lease
    plan: Plan
    tools: Tools
    output: dict[str, object]
    progress: int
    last_seq: int
    screen: Screen
    kept: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, BinaryIO] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The row as it was when it was claimed."""
        return self.lease.task

    @property
    def language(self) -> str:
        """The BCP 47 language of messages."""
        return str(self.task.input.get("language", "en"))

    async def read(self, path: str) -> bytes:
        """A file's bytes, from memory when this job has written or read them."""
        if path not in self.kept:
            self.kept[path] = await self.tools.files.read(path)
        return self.kept[path]

    async def write(self, path: str, data: bytes) -> None:
        """
        Store a file and keep its bytes for the steps that follow.

        The bytes may have been paid for, so a store that fails is tried again for STORE_PATIENCE seconds. Then
        raises StorageUnavailable.
        """
        self.kept[path] = data
        await self._store(path, data)

    async def write_large(self, path: str) -> None:
        """Store what `large` holds under this path. Raises as `write` does."""
        await self._store(path, self.large[path])

    def close(self) -> None:
        """Let go of the temporary files."""
        while self.large:
            self.large.popitem()[1].close()

    async def _store(self, path: str, data: bytes | BinaryIO) -> None:
        async def write() -> None:
            if not isinstance(data, bytes):
                data.seek(0)
            await self.tools.files.write(path, data)

        await patiently(write, seconds=STORE_PATIENCE, errors=(StorageUnavailable,))

    def show(self, kind: str, payload: Payload) -> None:
        """Let watchers see something that passes (see Screen): it never fails, and takes no time."""
        self.screen.show(kind, payload)

    @property
    def wanted(self) -> bool:
        """Whether the work should go on."""
        return not (self.lease.cancelled or self.lease.stopping)

    def check(self) -> None:
        """Raises Stopping or CancelRequested when the work should not go on."""
        if self.lease.cancelled:
            raise CancelRequested
        if self.lease.stopping:
            raise Stopping


@dataclass(frozen=True, slots=True)
class Result:
    """What a step found out, merged into the task's output; `usage` is what a provider counted."""

    found: Mapping[str, object] = field(default_factory=dict)
    usage: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """
    How a step is done whose provider takes an order and has it ready later.

    `place` orders, and brings the provider's id for it; `look` asks how far it is; `collect` fetches what was made;
    `withdraw` tells the provider that nobody wants it any more. The points that are told meanwhile: `placed`, `making`
    (again and again, with the provider's percentage), `made` and `collected`.
    """

    place: Callable[[Job], Awaitable[str]]
    look: Callable[[Job, str], Awaitable[Rendering]]
    collect: Callable[[Job, str], Awaitable[Result]]
    withdraw: Callable[[Tools, str], Awaitable[None]]
    placed: int
    making: int
    made: int
    collected: int


@dataclass(frozen=True, slots=True)
class Step:
    """
    A part of a plan, from one point of the scale to another; `begins` is None when its beginning is not told.

    A step that was done is skipped when the task goes on elsewhere, so what later steps need of it must be in its
    Result or in the store. With `provider` its call passes the gate: `prepare` comes before it, so that what fails
    there is not taken for a call; `recover` finds a result that was stored by a process that could not say so. With
    `wait` the call is an order, and `run` keeps what was collected.
    """

    name: str
    begins: int | None
    reaches: int
    run: Callable[[Job], Awaitable[Result]]
    provider: Callable[[Tools], Provider] | None = None
    prepare: Callable[[Job], Awaitable[None]] | None = None
    recover: Callable[[Job], Awaitable[Result | None]] | None = None
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How a kind of task is done. `opens` is the first point; the last step reaches the top of the scale.

    `words`: the values that the messages name. `closing`: what the last event tells beside the message. `files`: the
    paths of all that may be stored for a task. `beside`: what every event tells beside its point, from a task's output.
    """

    kind: Kind
    scale: Scale
    opens: int
    steps: tuple[Step, ...]
    words: Callable[[Job], Mapping[str, object]]
    closing: Callable[[Job], Mapping[str, object]]
    files: Callable[[Task], Sequence[str]]
    beside: Callable[[Mapping[str, object]], Mapping[str, object]] = lambda output: {}


def event(
    plan: Plan,
    output: Mapping[str, object],
    seq: int,
    at: int,
    message: str,
    status: Status,
    more: Mapping[str, object] | None = None,
) -> Event:
    """An event of the plan's kind; `output` is the task's. A failed one speaks by its `error` alone."""
    data: dict[str, object] = {plan.scale.field: at, **plan.beside(output)}
    if status is not Status.FAILED:
        data["message"] = message
    data |= {"status": status.value, **(more or {}), "timestamp": round(time.time(), 3)}
    return Event(seq, encode(data))


def published(told: Event) -> str:
    """An event as it is published: its JSON, with the number."""
    return f'{told.data[:-1]}, "seq": {told.seq}}}'


def about(task: Task) -> dict[str, object]:
    """What log lines say of a task."""
    return {"task": task.id, "kind": task.kind.value}


class Stopping(Exception):
    """The process is about to stop: let the task go."""


class CancelRequested(Exception):
    """The user wants no more of it."""


class LeaseLost(Exception):
    """Another worker speaks for the task now."""


class OutcomeHeld(OutcomeUnknown):
    """A paid call was cut off; whether it was billed is unknown, so it is not made again."""

    retry = False


class ResultLost(InternalError):
    """A result was paid for, and the storage could not take it."""

    retry = False


class OrderGone(OrderLost):
    """The provider does not know a paid order any more."""

    retry = False


class CallInProgress(TaskError):
    """
    An earlier call may still be running; it is waited for, so that nothing is paid for twice.

    `seconds`: until it cannot be running any more.
    """

    code = "call_in_progress"
    retry = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
