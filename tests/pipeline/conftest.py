"""What tests of the pipeline start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from enhancer.settings import Settings
from tests.fakes.openai import FakeOpenAI
from tests.pipeline.workshop import Place, Start, opened, with_models


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts services, without HTTP; they stop, the last first, at the test's end."""
    async with AsyncExitStack() as stack:

        async def begin(settings: Settings) -> Place:
            return await stack.enter_async_context(opened(settings))

        yield begin


@pytest.fixture
def paid(settings: Settings, openai: FakeOpenAI) -> Settings:
    """Settings of services whose models are the stand-in."""
    return with_models(settings, openai, poll_interval=0.05, replica="one")


@pytest.fixture
async def front(paid: Settings, start: Start) -> Place:
    """A service that takes orders and does no work."""
    return await start(paid.model_copy(update={"workers": 0, "replica": "front"}))
