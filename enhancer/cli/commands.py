"""What the commands do. Each returns the exit code and raises EnhancerError."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from enhancer import __version__, accounts, clips
from enhancer.bus import Bus
from enhancer.cli import checks, client
from enhancer.cli.client import Client
from enhancer.domain.accounts import User
from enhancer.errors import NotFound, SetupError
from enhancer.service import Service, foundation
from enhancer.settings import Settings
from enhancer.storage import subscriptions, users
from enhancer.storage.database import Pool
from enhancer.web import server

FOR_EMBEDDED = "With the embedded database no token is needed; with DATABASE_URL give --server and --token."

FOR_VIDEOS = "Videos need the extra `video`: pip install '.[video]'"


async def serve(settings: Settings, arguments: argparse.Namespace) -> int:
    """Until SIGTERM or Ctrl-C; a second one does not wait for what is running."""
    stop = asyncio.Event()
    loop, main = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        if stop.is_set() and main:
            main.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await server.serve(settings, stop=stop, ready=_announce)
    return 0


def _announce(service: Service) -> None:
    settings = service.settings
    address = settings.public_url
    if service.demo_token:
        address += f"/#token={service.demo_token}"
    tools = service.tools
    models = {each.model for each in (tools.images, tools.scripts, tools.videos) if each}
    lines = {
        f"Enhancer {__version__}": address,
        "documentation": f"{settings.public_url}/docs",
        "models": ", ".join(sorted(models)),
        "PostgreSQL": "by DATABASE_URL" if settings.database_url else f"embedded in {settings.data_dir}",
        "Redis": f"redis-cli -u {service.embedded_redis}" if service.embedded_redis else "by REDIS_URL",
    }
    for name, value in lines.items():
        print(f"{name:<16} {value}", flush=True)


async def enhance(settings: Settings, arguments: argparse.Namespace) -> int:
    """One photo, with a progress bar."""
    async with _place(settings, arguments) as (address, token), aiohttp.ClientSession() as http:
        await _enhanced(Client(http, address, token), arguments)
    return 0


async def video(settings: Settings, arguments: argparse.Namespace) -> int:
    """One photo, and then the video, each with a progress bar."""
    if not arguments.server and not clips.available():
        raise SetupError(FOR_VIDEOS)
    async with _place(settings, arguments) as (address, token), aiohttp.ClientSession() as http:
        there = Client(http, address, token)
        await client.film(there, await _enhanced(there, arguments), arguments.photo, arguments.output)
    return 0


async def _enhanced(there: Client, arguments: argparse.Namespace) -> client.Event:
    return await client.enhance(
        there,
        arguments.photo,
        arguments.output,
        description=arguments.description,
        duration=arguments.duration,
        language=arguments.language,
    )


@asynccontextmanager
async def _place(settings: Settings, arguments: argparse.Namespace) -> AsyncIterator[tuple[str, str]]:
    """Address and token of the service that does the job: somebody's, or one of our own for as long as it takes."""
    if arguments.server:
        if not arguments.token:
            raise SetupError("--server needs --token.")
        yield arguments.server, arguments.token
        return
    here = settings.model_copy(update={"host": "127.0.0.1", "port": 0, "base_url": None})
    async with server.serving(here, share=True) as service:
        if service.demo_token is None:
            raise SetupError(FOR_EMBEDDED)
        yield service.settings.public_url, service.demo_token


async def token(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print an account token."""
    async with foundation(settings, share=True) as base:
        user = await _user(base.pool, arguments.email)
        await base.epochs.current(user.id)
        print(base.tokens.account(user.id))
    return 0


async def user_add(settings: Settings, arguments: argparse.Namespace) -> int:
    """Add a user."""
    password = arguments.password or secrets.token_urlsafe(12)
    async with foundation(settings, share=True) as base:
        user = await accounts.add(base.pool, arguments.email, password)
    print(f"{user.id} {user.email}" if arguments.password else f"{user.id} {user.email} {password}")
    return 0


async def user_list(settings: Settings, arguments: argparse.Namespace) -> int:
    """One line a user: id, address, subscription."""
    async with foundation(settings, share=True) as base:
        for user in await users.listing(base.pool):
            found = await subscriptions.get(base.pool, user.id)
            state = "no subscription"
            if found:
                quota = "no limit" if found.monthly_quota is None else f"{found.monthly_quota} a month"
                state = f"{found.plan}, {'active' if found.active else 'not active'}, {found.used} used, {quota}"
            print(f"{user.id:>6} {user.email:<40} {state}")
    return 0


async def user_subscribe(settings: Settings, arguments: argparse.Namespace) -> int:
    """Activate a subscription."""
    if (arguments.quota or 0) < 0 or arguments.days < 1:
        raise SetupError("--quota cannot be negative, and --days begins at 1.")
    async with foundation(settings, share=True) as base:
        user = await _user(base.pool, arguments.email)
        await subscriptions.activate(
            base.pool, user.id, plan=arguments.plan, quota=arguments.quota, days=arguments.days
        )
    return 0


async def user_revoke(settings: Settings, arguments: argparse.Namespace) -> int:
    """End all tokens, links and open streams of a user."""
    async with foundation(settings, share=True) as base, Bus.open(base.redis_url) as bus:
        user = await _user(base.pool, arguments.email)
        await base.epochs.revoke(bus, user.id)
    return 0


async def migrate(settings: Settings, arguments: argparse.Namespace) -> int:
    """Opening the foundation applies what is missing."""
    async with foundation(settings, share=True) as base:
        applied = ", ".join(f"{number:04}" for number in base.applied)
    print(f"applied {applied}" if applied else "nothing to apply")
    return 0


async def doctor(settings: Settings, arguments: argparse.Namespace) -> int:
    """0 when everything that the service needs is there."""
    fine = True
    async for check in checks.examine(settings):
        fine = fine and check.state is not checks.State.BAD
        print(f"{check.state.value} {check.name:<12} {check.says}", flush=True)
    return 0 if fine else 1


async def _user(pool: Pool, email: str) -> User:
    found = await users.find(pool, email)
    if found is None:
        raise NotFound(f"There is no user {email}.")
    return found[0]
