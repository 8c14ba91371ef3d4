"""
The real parts that tests run on.

One PostgreSQL and one Valkey for each process of the run. Every test that asks for a database gets a copy of a
template with the schema applied: as fast as truncating, and nothing of one test is seen by another.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from argon2 import PasswordHasher

from enhancer import embedded
from enhancer import service as services
from enhancer.bus import Bus
from enhancer.domain.accounts import User
from enhancer.service import Service
from enhancer.settings import Settings
from enhancer.storage import database, migrations, subscriptions, users
from enhancer.storage.database import Pool
from enhancer.storage.files import Files
from enhancer.web.app import build
from tests.endless import ENDLESS
from tests.fakes.openai import FakeOpenAI

# a run in the background of a shell begins with it ignored, and so would every process that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

PHOTOS = Path(__file__).parent / "photos"
SECRET = "a secret key for tests that is long enough"
PASSWORD = "correct horse battery staple"

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[embedded.Servers]:
    """PostgreSQL and Valkey."""
    async with embedded.servers(tmp_path_factory.mktemp("servers"), durable=False) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(servers: embedded.Servers) -> str:
    """The name of a database with the schema applied."""
    url = str(servers.database_url)
    await _administer(url, "CREATE DATABASE template_of_tests")
    async with database.connect(_at(url, "template_of_tests"), size=2) as pool:
        await migrations.apply(pool)
    return "template_of_tests"


@pytest.fixture
async def database_url(servers: embedded.Servers, template: str) -> AsyncIterator[str]:
    """A database of the test's own."""
    async with copied(servers, template) as url:
        yield url


@asynccontextmanager
async def copied(servers: embedded.Servers, template: str) -> AsyncIterator[str]:
    """A new database like the template -> its address."""
    url, name = str(servers.database_url), f"test_{next(_numbers)}"
    await _administer(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _at(url, name)
    await _administer(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(servers: embedded.Servers) -> str:
    """The Valkey of the run."""
    return str(servers.redis_url)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to the test's database."""
    async with database.connect(database_url, size=10) as connected:
        yield connected


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """A bus on the run's Valkey."""
    async with Bus.open(redis_url) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A local store."""
    return Files.local(tmp_path / "uploads")


@pytest.fixture
async def openai() -> AsyncIterator[FakeOpenAI]:
    """The stand-in for OpenAI."""
    async with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a service in the offline studio; nothing is taken from the environment of the test run."""
    return make_settings(database_url=database_url, redis_url=redis_url, data_dir=tmp_path / "data")


def make_settings(**given: object) -> Settings:
    """Settings that no `.env` file and no variable has touched, and that do not wait long."""
    quick = {"secret_key": SECRET, "retry_delay": 0.01, "poll_interval": 0.2, "shutdown_grace": 5.0, "sync_wait": 20.0}
    # all tests of a run share a Redis, and their users have the same few numbers
    return Settings.model_validate({**Settings.model_construct().model_dump(), **quick, **ENDLESS, **given})


@dataclass(frozen=True)
class Running:
    """A service, its HTTP client, and a user with a subscription whose token the client sends."""

    service: Service
    http: TestClient[Request, Application]
    user: User


Start = Callable[[Settings], Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts services; they stop, the last first, at the test's end."""
    async with AsyncExitStack() as stack:

        async def begin(settings: Settings) -> Running:
            return await stack.enter_async_context(running(settings))

        yield begin


@pytest.fixture
async def enhancer(settings: Settings, start: Start) -> Running:
    """A running service in the offline studio."""
    return await start(settings)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """A service with these settings behind HTTP."""
    async with services.running(settings) as service:
        user = await subscriber(service.pool, f"user{next(_numbers)}@example.com")
        headers = {"Authorization": f"Bearer {service.tokens.account(user.id)}"}
        async with TestClient(TestServer(build(service)), headers=headers) as http:
            yield Running(service, http, user)


async def subscriber(pool: Pool, email: str, *, quota: int | None = None) -> User:
    """A new user with an active subscription."""
    user = await users.insert(pool, email, _password_hash())
    await subscriptions.activate(pool, user.id, plan="test", quota=quota, days=30)
    return user


@cache
def _password_hash() -> str:
    """Of PASSWORD, as costly as any: made once."""
    return PasswordHasher().hash(PASSWORD)


def photo(name: str = "coffee.png") -> bytes:
    """One of the photos that come with the tests."""
    return (PHOTOS / name).read_bytes()


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _at(url: str, name: str) -> str:
    """The same server's other database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped has failed, unless it says that it is opt-in."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", ()) if report.longrepr}
    hidden = sorted(reason for reason in reasons if not reason.startswith("Skipped: opt-in:"))
    for reason in hidden:
        reporter.write_line(f"not run in CI: {reason}", red=True)
    if hidden and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
