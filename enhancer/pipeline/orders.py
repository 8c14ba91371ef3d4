"""From an upload to an accepted task."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import BaseModel

from enhancer import crafts, crash, imaging
from enhancer.bus import Bus
from enhancer.domain.enhancements import EnhancementInput, EnhancementOutput
from enhancer.domain.images import Photo
from enhancer.domain.tasks import Kind, Status, Task
from enhancer.domain.videos import VideoInput
from enhancer.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    QueueFull,
    SubscriptionRequired,
    TooManyRequests,
)
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


@dataclass(frozen=True, slots=True)
class _Source:
    """What an enhancement gives to a video: the path of the image, the script, seconds, and the language."""

    image: str
    script: str
    duration: int
    language: str


_NO_SOURCE = _Source("", "", 4, "en")


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
        found = await self._verified(photo)
        name = secrets.token_urlsafe(16)
        original = f"user_{user_id}/originals/original_{name}.{found.format.extension}"
        order = EnhancementInput(
            key=name,
            original=original,
            user_description=user_description,
            duration=duration,
            language=language,
        )
        await self._files.write(original, photo)
        return await self._insert(user_id, Kind.ENHANCEMENT, order, original, named)

    async def video(
        self,
        user_id: int,
        photo: BinaryIO | None,
        *,
        enhancement_id: int | None,
        prompt: str | None,
        duration: int | None,
        language: str | None,
        key: str | None = None,
    ) -> Accepted:
        """
        Accept a video, of a finished enhancement or of a photo; what is None is as in the enhancement.

        Raises what `enhancement` raises, InvalidRequest without either, NotFound for an enhancement that is not the
        user's, and Conflict for one that is not completed.
        """
        if enhancement_id is None and photo is None:
            raise InvalidRequest(("enhancement_id", "Name a completed enhancement, or send a photo as `file`."))
        named = None
        if key is not None:
            words = (Kind.VIDEO.value, *map(repr, (enhancement_id, prompt, duration, language)))
            named = IdempotencyKey(key, await asyncio.to_thread(_hash, photo or io.BytesIO(), words))
            if earlier := await tasks.of_key(self._pool, user_id, named):
                return Accepted(earlier, replayed=True)
        source = await self._enhancement(user_id, enhancement_id) if enhancement_id is not None else _NO_SOURCE
        name = secrets.token_urlsafe(16)
        reference = f"user_{user_id}/videos/reference_{name}."
        if photo is not None:
            reference += (await self._verified(photo)).format.extension
            await self._files.write(reference, photo)
        else:  # a copy, for the enhancement may be deleted
            reference += "jpg"
            await self._files.write(reference, await self._files.read(source.image))
        order = VideoInput(
            key=name,
            reference=reference,
            enhancement_id=enhancement_id,
            prompt=prompt or source.script,
            duration=duration or source.duration,
            language=language or source.language,
        )
        return await self._insert(user_id, Kind.VIDEO, order, reference, named)

    async def _enhancement(self, user_id: int, task_id: int) -> _Source:
        """What a video can be made of. Raises NotFound or Conflict."""
        task = await tasks.get(self._pool, task_id)
        if task is None or task.user_id != user_id or task.kind is not Kind.ENHANCEMENT:
            raise NotFound("There is no such enhancement.")
        if task.status is not Status.COMPLETED:
            raise Conflict(f"The enhancement is {task.status.value}; a video needs a completed one.")
        order, output = EnhancementInput.model_validate(task.input), EnhancementOutput.model_validate(task.output)
        return _Source(output.enhanced_path or "", output.script or "", order.duration, order.language)

    async def _verified(self, photo: BinaryIO) -> Photo:
        """What the photo is; it stands at its beginning again."""
        photo.seek(0)
        found = await crafts.done(imaging.verify, photo, max_pixels=self._limits.pixels)
        photo.seek(0)
        return found

    async def _insert(
        self, user_id: int, kind: Kind, order: BaseModel, stored: str, key: IdempotencyKey | None
    ) -> Accepted:
        """Accept an order whose file is `stored`; when it is not accepted, the file goes."""
        try:
            task = await tasks.insert(
                self._pool, user_id, kind, order.model_dump(), max_attempts=self._limits.attempts, key=key
            )
        except (CommitLost, asyncio.CancelledError):  # if the task is there it needs its file; else it is a stray
            raise
        except Exception:
            await self._files.delete(stored)
            raise
        if task is None:
            await self._files.delete(stored)
            return await self._not_inserted(user_id, key)
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
