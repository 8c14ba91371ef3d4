"""What the stand-in says and remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["order", "look", "content", "withdraw", "unknown"]


@dataclass(frozen=True, slots=True)
class Says:
    """
    What one look is answered with.

    `more`: fields that replace or join those that every answer has. `headers`: of the answer.
    """

    status: str
    progress: object = 0
    more: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """
    One call, from its headers to its answer.

    `started` and `ended`: Unix time, seconds. `video`: the order's id, "" before it has one. `status`: None when no
    answer was sent. `fields`: what came in, the reference as its size. `outcome`: "answered", "rejected" (a wrong
    request), "broken" (the caller went away), or the fault's name. `billed`: whether a real server would have charged
    for it. `port`: the caller's; calls that share one shared a connection.
    """

    kind: Kind
    started: float
    ended: float
    outcome: str
    status: int | None
    video: str
    model: str
    fields: Mapping[str, str]
    billed: bool
    port: int
