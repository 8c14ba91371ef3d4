"""
The studio's videos: rendered on this machine, one or two at a time, off the event loop and behind everything else.

An order lives in this process alone. Files lie in a temporary folder until they are withdrawn, until newer ones take
their place, or until the studio is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from enhancer import clips
from enhancer.errors import InvalidImage, OrderFailed, OrderLost, ProviderRefused, ProviderUnavailable, UnsupportedImage
from enhancer.providers import Rendering, VideoBrief
from enhancer.providers.studio.film.storyboard import RATE

log = logging.getLogger(__name__)

AT_ONCE = max(1, min(2, (os.cpu_count() or 1) // 2))  # the encoder has two threads of its own
NICENESS = 4  # of the renderer's threads, where a thread can have its own: they get 2 parts in 5 of what a request gets
KEPT = 32  # files of orders that have ended, about 4 MB each at most
PIECE = 256 * 1024  # bytes
LOOK_AGAIN = 0.5  # seconds


class _Order:
    """A video that was ordered: `done` of its `frames` are drawn and encoded, `work` ends with the file at `path`."""

    def __init__(self, brief: VideoBrief, path: Path, pool: ThreadPoolExecutor) -> None:
        self.path = path
        self.frames = brief.duration * RATE
        self.done = 0
        self.unwanted = threading.Event()
        self.work: Future[None] = pool.submit(_render, brief, path, self._seen)

    def _seen(self, frames: int) -> None:
        """Called by the thread that renders, after each frame."""
        if self.unwanted.is_set():
            raise _Unwanted
        self.done = frames


class _Unwanted(Exception):
    """Nobody wants the video any more."""


class StudioVideos:
    """The offline studio's videos, see providers.Videos. An async context manager, whose end stops all renders."""

    model = "offline-studio"
    billed = False
    longest_call = 0.0

    def __init__(self) -> None:
        self._orders: dict[str, _Order] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="studio", initializer=_stand_back)
        self._folder = tempfile.TemporaryDirectory(prefix="enhancer-studio-", ignore_cleanup_errors=True)
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> StudioVideos:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop what is being rendered and remove every file."""
        for order in self._orders.values():
            order.unwanted.set()
        self._orders.clear()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._folder.cleanup)

    async def order(self, brief: VideoBrief) -> str:
        """Put a video in the queue; its id, which only this process knows."""
        if not clips.available():
            raise ProviderRefused("The offline studio needs PyAV for videos: pip install 'enhancer[video]'")
        name = f"studio-{next(self._numbers)}-{secrets.token_hex(8)}"
        self._orders[name] = _Order(brief, Path(self._folder.name) / f"{name}.mp4", self._pool)
        return name

    async def look(self, order: str) -> Rendering:
        """How many of its frames are drawn and encoded."""
        known = self._known(order)
        if not known.work.done():
            return Rendering(False, 100 * known.done / known.frames, LOOK_AGAIN)
        _raise_failure(known.work)
        self._let_older_go(order)
        return Rendering(True, 100.0)

    async def fetch(self, order: str) -> AsyncIterator[bytes]:
        """The MP4, in pieces of at most PIECE bytes."""
        if not (await self.look(order)).done:
            raise OrderFailed("The video is not rendered yet.")
        file = await asyncio.to_thread(self._known(order).path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        finally:
            file.close()

    async def withdraw(self, order: str) -> None:
        """Stop the render if it is still going on, and remove its file."""
        known = self._orders.pop(order, None)
        if known is not None:
            _drop(known)

    def _known(self, order: str) -> _Order:
        try:
            return self._orders[order]
        except KeyError:
            raise OrderLost from None

    def _let_older_go(self, order: str) -> None:
        """Keep the files of the last KEPT orders that have ended, and this one's."""
        ended = [name for name, known in self._orders.items() if known.work.done() and name != order]
        for name in ended[: -KEPT + 1]:
            log.info("studio.video.dropped", extra={"order": name})
            _drop(self._orders.pop(name))


def _drop(order: _Order) -> None:
    """Stop it where it is, and remove its file as soon as nobody writes it."""
    order.unwanted.set()
    order.work.cancel()
    order.work.add_done_callback(lambda _: order.path.unlink(missing_ok=True))


def _render(brief: VideoBrief, path: Path, seen: Callable[[int], None]) -> None:
    """The work of a thread. Imported here: PyAV is an extra, and the studio does more than videos."""
    from enhancer.providers.studio.film.cutting import Film
    from enhancer.providers.studio.film.encoder import encode

    seen(0)
    film = Film(brief)
    encode(film, path, film.size, seen)


def _raise_failure(work: Future[None]) -> None:
    """What went wrong in a render that has ended, in the words of providers.Videos."""
    if work.cancelled():
        raise OrderLost
    error = work.exception()
    if isinstance(error, _Unwanted):
        raise OrderLost from error
    if isinstance(error, (InvalidImage, UnsupportedImage)):
        raise OrderFailed("The offline studio cannot read this image.") from error
    if isinstance(error, OSError):
        raise ProviderUnavailable("The offline studio cannot write the video.") from error
    if error is not None:
        raise OrderFailed("The offline studio could not render the video.") from error


def _stand_back() -> None:
    """Let the thread, and those that the encoder starts from it, wait for all others."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
