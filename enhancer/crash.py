"""
Points at which a process can be told to die, so that the fault suite (tests/faults) can prove what follows.

ENHANCER_CRASH_AT names one: `after-gate` the first time it is passed, `after-gate:2` the second, `after-gate:2:STOP`
to be frozen there instead of killed. It is read once, at import; without it a point does nothing.
"""

from __future__ import annotations

import os
import signal
from typing import Literal

Point = Literal[
    "after-accept",  # the task is committed, the 202 not sent
    "after-claim",  # the lease is ours, no worker has it
    "before-gate",
    "after-gate",  # the permit is committed, the provider not called
    "after-call",  # the answer is in memory
    "after-order",  # the id of an order is stored, the provider not asked for it yet
    "after-store",  # its bytes are stored, the step is not `done`
    "after-done",  # the step is `done`, nobody was told
    "before-finish",
]

_name, _, _rest = os.environ.get("ENHANCER_CRASH_AT", "").partition(":")
_nth, _, _signal = _rest.partition(":")
_left = int(_nth or 1)


def point(name: Point) -> None:
    """Die here, if that was asked for."""
    if _name == name:
        _pass()


def _pass() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.Signals[f"SIG{_signal or 'KILL'}"])
