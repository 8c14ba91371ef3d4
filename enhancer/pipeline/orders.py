"""From an upload to an accepted task."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from enhancer import crash, imaging
from enhancer.bus import Bus
from enhancer.domain.enhancements import EnhancementInput
from enhancer.domain.tasks import Kind, Task
from enhancer.errors import QueueFull, SubscriptionRequired, TooManyRequests
from enhancer.storage import subscriptions, tasks
from enhancer.storage.database import Pool
from enhancer.storage.files import Files
from enhancer.storage.tasks import CommitLost, IdempotencyKey

log = logging.getLogger(__name__)

WAKE = "enhancer:wake"
"""The channel on which replicas learn that a task waits."""

BUSY_RETRY = 10.0  # seconds after which a full queue may be asked again


@dataclass(frozen=True, slots=True)
class Limits:
    """What is accepted: waiting tasks of a user and of all, pixels of a photo, attempts of a task."""

    of_user: int
    of_all: int
    pixels: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that was accepted; `replayed`: by an earlier request with the same Idempotency-Key."""

    task: Task
    replayed: bool = False


class Orders:
    """Accepts tasks. A task that is returned is committed, and everything that it needs is stored."""

    def __init__(self, pool: Pool, files: Files, bus: Bus, limits: Limits) -> None:
        self._pool = pool
        self._files = files
        self._bus = bus
        self._limits = limits

    async def admit(self, user_id: int, key: str | None = None) -> None:
        """
        Ask for room, before an upload is read. An Idempotency-Key that is known needs none: its task is there.

        Raises SubscriptionRequired, TooManyRequests or QueueFull.
        """
        try:
            await self._ask_for_room(user_id, counted=False)
        except (SubscriptionRequired, TooManyRequests, QueueFull):
            # asked last: the same order may have been accepted a moment ago, and have taken the room
            if key is None or not await tasks.key_is_known(self._pool, user_id, key):
                raise

    async def admit_again(self, user_id: int) -> None:
        """Ask for room for a task that was counted before. Raises what `admit` raises."""
        await self._ask_for_room(user_id, counted=True)

    async def _ask_for_room(self, user_id: int, *, counted: bool) -> None:
        subscription = await subscriptions.get(self._pool, user_id)
        if subscription is None or not subscription.active:
            raise SubscriptionRequired
        quota = subscription.monthly_quota
        if not counted and quota is not None and subscription.used >= quota:
            raise SubscriptionRequired(f"The {quota} tasks of this month are used up.")
        room = await tasks.room(self._pool, user_id)
        if room.of_user >= self._limits.of_user:
            raise TooManyRequests(f"{room.of_user} of your tasks are waiting already.", retry_after=BUSY_RETRY)
        if room.of_all >= self._limits.of_all:
            raise QueueFull(retry_after=BUSY_RETRY)

    async def enhancement(
        self,
        user_id: int,
        photo: BinaryIO,
        *,
        user_description: str,
        duration: int,
        language: str,
        key: str | None = None,
    ) -> Accepted:
        """
        Accept a photo to be enhanced; with an Idempotency-Key that came with the same order before, that task again.

        Raises UnsupportedImage, InvalidImage, StorageUnavailable, Conflict when the key came with another order, or
        SubscriptionRequired when the quota was used up meanwhile. Nothing is left in the store then. Raises CommitLost
        when nobody can know whether the order was accepted.
        """
        named = None
        if key is not None:
            words = (Kind.ENHANCEMENT.value, user_description, str(duration), language)
            named = IdempotencyKey(key, await asyncio.to_thread(_hash, photo, words))
            if earlier := await tasks.of_key(self._pool, user_id, named):
                return Accepted(earlier, replayed=True)
        photo.seek(0)
        found = await asyncio.to_thread(imaging.verify, photo, max_pixels=self._limits.pixels)
        name = secrets.token_urlsafe(16)
        original = f"user_{user_id}/originals/original_{name}.{found.format.extension}"
        order = EnhancementInput(
            key=name,
            original=original,
            user_description=user_description,
            duration=duration,
            language=language,
        )
        photo.seek(0)
        await self._files.write(original, photo)
        try:
            task = await tasks.insert(
                self._pool,
                user_id,
                Kind.ENHANCEMENT,
                order.model_dump(),
                max_attempts=self._limits.attempts,
                key=named,
            )
        except (CommitLost, asyncio.CancelledError):  # if the task is there it needs its photo; else it is a stray
            raise
        except Exception:
            await self._files.delete(original)
            raise
        if task is None:
            await self._files.delete(original)
            return await self._not_inserted(user_id, named)
        crash.point("after-accept")
        log.info("task.accepted", extra={"task": task.id, "kind": task.kind.value, "user": user_id})
        await self._bus.publish(WAKE, str(task.id))
        return Accepted(task)

    async def _not_inserted(self, user_id: int, key: IdempotencyKey | None) -> Accepted:
        """Another request with the same key was faster, or the quota is used up."""
        if key and (earlier := await tasks.of_key(self._pool, user_id, key)):
            return Accepted(earlier, replayed=True)
        raise SubscriptionRequired


def _hash(photo: BinaryIO, words: Sequence[str]) -> bytes:
    """SHA-256 of an order."""
    photo.seek(0)
    digest = hashlib.sha256()
    while piece := photo.read(1 << 20):
        digest.update(piece)
    for word in words:
        digest.update(b"\0" + word.encode())
    return digest.digest()
