from __future__ import annotations

import asyncio
import threading

import pytest

from enhancer import crafts


async def test_what_the_work_returns_comes_back() -> None:
    assert await crafts.done(divmod, 7, 2) == (3, 1)
    assert await crafts.done(int, "11", base=2) == 3


async def test_what_the_work_raises_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await crafts.done(divmod, 1, 0)


async def test_no_more_work_is_done_at_once_than_there_are_threads() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        go_on.wait()

    running = [asyncio.create_task(crafts.done(work)) for _ in range(crafts.THREADS + 1)]
    try:
        for _ in range(crafts.THREADS):
            assert await asyncio.to_thread(begun.acquire, timeout=60)
        assert not begun.acquire(blocking=False)
    finally:
        go_on.set()
        await asyncio.gather(*running)
    assert begun.acquire(blocking=False)
