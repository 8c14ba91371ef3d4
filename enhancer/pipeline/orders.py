"""From an upload to an accepted task."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import BinaryIO

from enhancer import imaging
from enhancer.bus import Bus
from enhancer.domain.enhancements import EnhancementInput
from enhancer.domain.tasks import Kind, Task
from enhancer.errors import QueueFull, SubscriptionRequired, TooManyRequests
from enhancer.storage import subscriptions, tasks
from enhancer.storage.database import Pool
from enhancer.storage.files import Files

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


class Orders:
    """Accepts tasks. A task that is returned is committed, and everything that it needs is stored."""

    def __init__(self, pool: Pool, files: Files, bus: Bus, limits: Limits) -> None:
        self._pool = pool
        self._files = files
        self._bus = bus
        self._limits = limits

    async def admit(self, user_id: int) -> None:
        """
        Ask for room, before an upload is read.

        Raises SubscriptionRequired, TooManyRequests or QueueFull.
        """
        subscription = await subscriptions.get(self._pool, user_id)
        if subscription is None or not subscription.active:
            raise SubscriptionRequired
        if subscription.monthly_quota is not None and subscription.used >= subscription.monthly_quota:
            raise SubscriptionRequired(f"The {subscription.monthly_quota} tasks of this month are used up.")
        room = await tasks.room(self._pool, user_id)
        if room.of_user >= self._limits.of_user:
            raise TooManyRequests(f"{room.of_user} of your tasks are waiting already.", retry_after=BUSY_RETRY)
        if room.of_all >= self._limits.of_all:
            raise QueueFull(retry_after=BUSY_RETRY)

    async def enhancement(
        self, user_id: int, photo: BinaryIO, *, user_description: str, duration: int, language: str
    ) -> Task:
        """
        Accept a photo to be enhanced.

        Raises UnsupportedImage, InvalidImage, StorageUnavailable, or SubscriptionRequired when the quota was used up
        meanwhile. Nothing is left in the store then.
        """
        found = await asyncio.to_thread(imaging.verify, photo, max_pixels=self._limits.pixels)
        key = secrets.token_urlsafe(16)
        original = f"user_{user_id}/originals/original_{key}.{found.format.extension}"
        order = EnhancementInput(
            key=key,
            original=original,
            user_description=user_description,
            duration=duration,
            language=language,
        )
        photo.seek(0)
        await self._files.write(original, photo)
        task = None
        try:
            task = await tasks.insert(
                self._pool, user_id, Kind.ENHANCEMENT, order.model_dump(), max_attempts=self._limits.attempts
            )
        finally:
            if task is None:
                await self._files.delete(original)
        if task is None:
            raise SubscriptionRequired
        log.info("task.accepted", extra={"task": task.id, "kind": task.kind.value, "user": user_id})
        await self._bus.publish(WAKE, str(task.id))
        return task
