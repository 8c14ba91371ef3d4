"""The doctor's examination."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import TYPE_CHECKING

from enhancer import clips
from enhancer.bus import Bus
from enhancer.errors import EnhancerError, OrderLost, StorageUnavailable
from enhancer.providers import models
from enhancer.service import foundation, open_files
from enhancer.settings import Settings

if TYPE_CHECKING:
    from enhancer.providers.openai import Listing


class State(Enum):
    """How a check went."""

    GOOD = "ok  "
    WARN = "warn"
    BAD = "BAD "


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's: `says` is what was found, and what to do."""

    name: str
    state: State
    says: str


async def examine(settings: Settings) -> AsyncIterator[Check]:
    """Check what the service needs, one by one."""
    try:
        async with foundation(settings, share=True) as base:
            version = await base.pool.fetchval("SHOW server_version")
            yield Check("PostgreSQL", State.GOOD, f"{version}, schema up to date")
            yield await _redis(base.redis_url)
    except EnhancerError as error:
        yield Check("PostgreSQL", State.BAD, str(error))
    yield await _storage(settings)
    async for check in _models(settings):
        yield check
    yield await _videos(settings)


async def _redis(url: str) -> Check:
    async with Bus.open(url) as bus:
        if await bus.ping():
            return Check("Redis", State.GOOD, "answers")
    return Check("Redis", State.WARN, "does not answer: streams live from the database, a second late. See REDIS_URL.")


async def _storage(settings: Settings) -> Check:
    try:
        await open_files(settings).check()
    except (StorageUnavailable, OSError, ValueError) as error:
        return Check("storage", State.BAD, f"{error} See UPLOAD_DIR and STORAGE_URL.")
    return Check("storage", State.GOOD, settings.storage_url or f"folder {settings.uploads}")


async def _models(settings: Settings) -> AsyncIterator[Check]:
    if settings.openai_api_key is None:
        yield Check("models", State.WARN, "offline studio: set OPENAI_API_KEY for the models.")
        return
    from enhancer.providers.openai import connect, listings  # here: see service._providers

    own = models.own_address(settings.openai_base_url)
    wanted = {"IMAGE_MODEL": settings.image_model, "SCRIPT_MODEL": settings.script_model}
    try:
        async with connect(settings) as client:
            found = await listings(client, [models.resolve(name, own_address=own) for name in wanted.values()])
    except EnhancerError as error:
        yield Check("models", State.BAD, f"{error} See OPENAI_API_KEY and OPENAI_BASE_URL.")
        return
    by_name = {listing.model: listing for listing in found}
    for setting, name in wanted.items():
        yield _model(setting, by_name[models.resolve(name, own_address=own)], today=datetime.now(UTC).date())


async def _videos(settings: Settings) -> Check:
    """Whoever renders. A server is asked for an order that nobody has placed: that costs nothing and needs the key."""
    if not clips.available():
        return Check("videos", State.BAD if settings.video_base_url else State.WARN, "none: pip install '.[video]'.")
    if settings.video_base_url is None:
        return Check("videos", State.GOOD, "offline studio: set VIDEO_BASE_URL for a model.")
    from enhancer.providers import remote  # here: see service._videos

    try:
        async with remote.connect(settings) as videos:
            await videos.look("order-of-nobody")
    except OrderLost:
        pass
    except EnhancerError as error:
        return Check("videos", State.BAD, f"{error} See VIDEO_BASE_URL and VIDEO_API_KEY.")
    return Check("videos", State.GOOD, f"{settings.video_model or 'the server'} answers")


def _model(setting: str, listing: Listing, *, today: date) -> Check:
    if listing.listed is False:
        return Check("model", State.BAD, f"{listing.model} is not offered: set {setting}.")
    if listing.shutdown and listing.shutdown <= today:
        return Check("model", State.BAD, f"{listing.model} was shut down on {listing.shutdown}: set {setting}.")
    if listing.shutdown:
        return Check("model", State.WARN, f"{listing.model} ends on {listing.shutdown}: set {setting} before then.")
    told = "is there" if listing.listed else "is not listed by the server, which need not mean anything"
    return Check("model", State.GOOD, f"{listing.model} {told}")
