"""Tasks and their events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Kind(StrEnum):
    """The kinds of task. The value is in the table, in the channel's name and in the logs."""

    ENHANCEMENT = "enhancement"
    VIDEO = "video"

    def channel(self, task_id: int) -> str:
        """The Redis channel of a task, such as enhancement:1."""
        return f"{self.value}:{task_id}"


class Status(StrEnum):
    """A task's life: pending -> processing -> one of the three that are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self in FINAL


_NOTHING: Mapping[str, object] = MappingProxyType({})

FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Task:
    """
    A row of the table `tasks`.

    `progress` is on the scale of the kind (0..100 or 0..9), `processing_time` in seconds since the first claim.
    `fence` grows by one at every claim: a worker that holds an older one has lost the task.
    """

    id: int
    user_id: int
    kind: Kind
    input: Mapping[str, object]
    output: Mapping[str, object]
    status: Status
    progress: int
    message: str
    last_seq: int
    attempts: int
    max_attempts: int
    fence: int
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def processing_time(self) -> float | None:
        """Seconds from the first claim to the end, or to the last change while it runs; None before the claim."""
        if self.started_at is None:
            return None
        return round(((self.completed_at or self.updated_at) - self.started_at).total_seconds(), 3)

    def bare(self) -> Task:
        """The task without its words and findings, for those who keep it long; thousands of streams do."""
        return replace(self, input=_NOTHING, output=_NOTHING, message="", error_message=None)

    @property
    def channel(self) -> str:
        """The Redis channel of its events."""
        return self.kind.channel(self.id)


class Event(NamedTuple):
    """One event of a task: `seq` counts from 1 without gaps, `data` is JSON text exactly as clients get it."""

    seq: int
    data: str


def encode(data: Mapping[str, object]) -> str:
    """JSON text on one line, as it is stored, published and streamed."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


@dataclass(slots=True, eq=False)
class Lease:
    """
    A task in a worker's hands.

    `stopping`: the process is about to stop. `cancelled`: the user asked for an end. Both are looked at between steps.
    """

    task: Task
    stopping: bool = False
    cancelled: bool = False
