"""What has had its time goes: old tasks with their events and files, and files that no task knows."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from enhancer.domain.tasks import Task
from enhancer.errors import StorageUnavailable
from enhancer.storage import lifecycle, tasks
from enhancer.storage.database import UNREACHABLE, Pool
from enhancer.storage.files import Files

log = logging.getLogger(__name__)

PERIOD = 3600.0  # seconds between two rounds
BATCH = 200  # tasks or files that are looked at together
YOUNG = timedelta(days=1)  # a file may be older than its task's row by the length of an upload; this is longer
LOCK = 0x686F757365  # "house": one replica at a time

YOUNG_DRAFT = timedelta(hours=1)  # no task that shows drafts takes longer

_DRAFT = re.compile(r"user_\d+/previews/preview_[\w-]+\.\w+")
_FILE = re.compile(r"user_(?P<user>\d+)/\w+/[a-z]+_(?P<key>[\w-]{16,})\.\w+")


class Housekeeping:
    """Rounds over what is kept. `files_of`: the paths of all that may be stored for a task; `days`: 0 keeps all."""

    def __init__(self, pool: Pool, files: Files, files_of: Callable[[Task], Sequence[str]], *, days: float) -> None:
        self._pool = pool
        self._files = files
        self._files_of = files_of
        self._days = days

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Make rounds until the block ends."""
        rounds = asyncio.create_task(self._rounds(), name="housekeeping")
        try:
            yield
        finally:
            rounds.cancel()
            await asyncio.gather(rounds, return_exceptions=True)

    async def round(self) -> tuple[int, int]:
        """One round, unless another replica makes one: how many tasks, and how many stray files, were removed."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                return 0, 0
            try:
                removed = await self._remove_expired() if self._days else 0
                return removed, await self._remove_strays()
            finally:
                await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(PERIOD * random.uniform(0.5, 1.5))  # noqa: S311
            try:
                removed, strays = await self.round()
            except (*UNREACHABLE, StorageUnavailable) as error:
                log.warning("housekeeping.put_off", extra={"error": type(error).__name__})
            except Exception:
                log.exception("housekeeping.failed")
            else:
                if removed or strays:
                    log.info("housekeeping.done", extra={"tasks": removed, "files": strays})

    async def _remove_expired(self) -> int:
        """Rows first: files that are left behind by a crash are strays of a later round."""
        removed = 0
        while batch := await tasks.expired(self._pool, days=self._days, limit=BATCH):
            for task in batch:
                if await lifecycle.delete(self._pool, task.id):
                    removed += 1
                    for path in self._files_of(task):
                        await self._files.delete(path)
        return removed

    async def _remove_strays(self) -> int:
        removed, batch = 0, list[tuple[int, str, str]]()
        async for path, changed in self._files.listing():
            age = datetime.now(UTC) - changed
            if age > YOUNG_DRAFT and _DRAFT.fullmatch(path):
                await self._files.delete(path)
                removed += 1
                continue
            match = _FILE.fullmatch(path)
            if match and age > YOUNG:
                batch.append((int(match["user"]), match["key"], path))
            if len(batch) == BATCH:
                removed += await self._remove_unknown(batch)
                batch = []
        return removed + await self._remove_unknown(batch)

    async def _remove_unknown(self, batch: Sequence[tuple[int, str, str]]) -> int:
        known = await tasks.known_keys(self._pool, [(user, key) for user, key, _ in batch])
        strays = [path for user, key, path in batch if (user, key) not in known]
        for path in strays:
            await self._files.delete(path)
        return len(strays)
