"""What the tests of the web layer share."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import AppRunner

from enhancer import service as services
from enhancer.settings import Settings
from enhancer.web import server
from enhancer.web.app import build
from tests.conftest import Running, Start
from tests.fakes.openai import FakeOpenAI
from tests.web.people import member


class Served(TestServer):
    """An application behind the real server; aiohttp's own for tests cancels the handlers of clients that leave."""

    async def _make_runner(self, **_: Any) -> AppRunner:
        return server.runner_of(self.app)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts services behind the real server; they stop, the last first, at the test's end."""
    async with AsyncExitStack() as stack:

        async def begin(settings: Settings) -> Running:
            service = await stack.enter_async_context(services.running(settings))
            number = await service.pool.fetchval("SELECT count(*) FROM users")
            user = await member(service.pool, f"user{number}@example.com")
            headers = {"Authorization": f"Bearer {service.tokens.account(user.id)}"}
            http = await stack.enter_async_context(TestClient(Served(build(service)), headers=headers))
            return Running(service, http, user)

        yield begin


@pytest.fixture
async def idle(settings: Settings, start: Start) -> Running:
    """A service that accepts tasks and works on none."""
    return await start(settings.model_copy(update={"workers": 0}))


@pytest.fixture
def with_models(settings: Settings, openai: FakeOpenAI) -> Settings:
    """Settings of a service whose models are the stand-in."""
    return Settings.model_validate(
        {**settings.model_dump(), "openai_api_key": openai.key, "openai_base_url": openai.url}
    )


@pytest.fixture
async def shop(with_models: Settings, start: Start) -> Running:
    """A service whose models are the stand-in."""
    return await start(with_models)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as an error, by us or by a library."""
    yield
    loud = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert [(record.name, record.getMessage(), record.exc_info) for record in loud] == []
