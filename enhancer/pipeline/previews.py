"""
Drafts of an image, stored for as long as somebody may want to see them.

They have random names in a folder of their own, and go soon after their task has ended; those that a crash leaves
behind are housekeeping's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from enhancer import imaging
from enhancer.domain.tasks import Task
from enhancer.errors import StorageUnavailable
from enhancer.storage.files import Files

log = logging.getLogger(__name__)

LIFETIME = 600  # seconds: of a link, and of a file whose task goes on
GRACE = 30.0  # seconds that a file outlives its task: browsers are slow
SWEEP = 5.0  # seconds


class Previews:
    """Keeps drafts. `link`: a path -> its signed address, good for LIFETIME."""

    def __init__(self, files: Files, link: Callable[[str], str]) -> None:
        self._files = files
        self._link = link
        self._due: dict[str, tuple[int, float]] = {}  # path -> its task, and when it goes in the loop's time

    async def keep(self, task: Task, data: bytes) -> str:
        """Store a draft; its address. Raises InvalidImage, UnsupportedImage or StorageUnavailable."""
        extension = imaging.inspect(data).format.extension
        path = f"user_{task.user_id}/previews/preview_{secrets.token_urlsafe(16)}.{extension}"
        self._due[path] = (task.id, _now() + LIFETIME)
        await self._files.write(path, data)
        return self._link(path)

    def ended(self, task: Task) -> None:
        """The task is not worked on any more, here."""
        for path, (task_id, due) in self._due.items():
            if task_id == task.id:
                self._due[path] = (task_id, min(due, _now() + GRACE))

    async def remove(self, task: Task) -> None:
        """The task itself is removed: its drafts go at once."""
        for path, (task_id, _) in self._due.items():
            if task_id == task.id:
                self._due[path] = (task_id, 0.0)
        await self._sweep()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Remove what is due until the block ends, then everything."""
        sweeping = asyncio.create_task(self._sweep_forever(), name="previews")
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await self._sweep(everything=True)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await self._sweep()

    async def _sweep(self, *, everything: bool = False) -> None:
        now = _now()
        for path in [path for path, (_, due) in self._due.items() if everything or due <= now]:
            try:
                await self._files.delete(path)
            except StorageUnavailable:
                log.warning("storage.unavailable", extra={"error": "a preview was not removed"})
                return
            self._due.pop(path, None)


def _now() -> float:
    return asyncio.get_running_loop().time()
