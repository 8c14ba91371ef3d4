"""Services without HTTP whose models are the stand-in, and orders placed with them."""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from enhancer import service as services
from enhancer.domain.accounts import User
from enhancer.domain.enhancements import EnhancementInput
from enhancer.domain.tasks import Task
from enhancer.service import Service
from enhancer.settings import Settings
from enhancer.storage import subscriptions, users
from enhancer.storage.database import Pool
from tests.fakes.openai import FakeOpenAI
from tests.pipeline import pictures

ALL_POINTS = [5, 10, 15, 20, 25, 30, 50, 55, 60, 65, 70, 75, 90, 95, 100]
"""What an enhancement passes."""


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A running service, and a user with a subscription."""

    service: Service
    user: User


Start = Callable[[Settings], Awaitable[Place]]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Place]:
    """A service with these settings."""
    async with services.running(settings) as service:
        yield Place(service, await newcomer(service.pool))


async def newcomer(pool: Pool) -> User:
    """A new user with a subscription and without a password: its hash would cost more than most tests do."""
    user = await users.insert(pool, f"newcomer{next(_numbers)}@example.com", "none")
    await subscriptions.activate(pool, user.id, plan="test", quota=None, days=30)
    return user


def with_models(settings: Settings, openai: FakeOpenAI, **over: object) -> Settings:
    """The settings with a key, an address that leads to the stand-in, and whatever else."""
    models = {"openai_api_key": SecretStr(openai.key), "openai_base_url": openai.url}
    return settings.model_copy(update={**models, **over})


async def order(
    place: Place, photo: bytes | None = None, *, user: int | None = None, description: str = "", language: str = "en"
) -> Task:
    """A task that was accepted, of the service's own user or of another."""
    accepted = await place.service.orders.enhancement(
        place.user.id if user is None else user,
        io.BytesIO(photo or pictures.landscape()),
        user_description=description,
        duration=8,
        language=language,
    )
    return accepted.task


def model_path(task: Task) -> str:
    """Where the model's image is kept."""
    return f"user_{task.user_id}/enhanced/model_{EnhancementInput.model_validate(task.input).key}.jpg"
