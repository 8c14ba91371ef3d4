"""
Where work on pixels is done: as many threads as there are cores, shared by the whole process.

More threads get no more done, and keep the event loop from its turn: with eight tasks' images on two cores, its lag
(p99) was twice as long with six threads as with two.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = max(2, os.cpu_count() or 1)

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="craft")


async def done(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns. It takes fractions of a second: what takes longer has a thread of its own."""
    return await asyncio.get_running_loop().run_in_executor(_threads, functools.partial(work, *args, **kwargs))
