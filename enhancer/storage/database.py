"""The connection pool, and patience with a server that restarts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg

if TYPE_CHECKING:
    # the classes are generic for the type checker alone
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,  # "connection is closed", and a pool that is closing
    asyncpg.InternalClientError,  # a connection that heard of the server's end while it was idle
    asyncpg.InsufficientResourcesError,  # its disk or its memory is full
    asyncpg.ReadOnlySQLTransactionError,  # a failover has left us on the wrong side
)
"""What a statement raises while the server is away. TimeoutError is an OSError."""

REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""What connecting raises when the server does not want us: wrong password, no such database."""

COMMAND_TIMEOUT = 30.0  # seconds; no statement of ours takes a tenth of it


@asynccontextmanager
async def connect(url: str, *, size: int) -> AsyncIterator[Pool]:
    """A pool of up to `size` connections. Raises what UNREACHABLE lists when the server cannot be reached."""
    pool = await asyncpg.create_pool(
        url, min_size=1, max_size=size, command_timeout=COMMAND_TIMEOUT, timeout=10, init=_init, reset=_as_it_is
    )
    try:
        yield pool
    finally:
        await _close(pool)


async def patiently(
    operation: Callable[[], Awaitable[T]], *, seconds: float, errors: tuple[type[Exception], ...] = UNREACHABLE
) -> T:
    """
    What `operation` returns, tried again for up to `seconds` while it raises one of `errors`: PostgreSQL is away.

    The operation must be safe to repeat: a commit whose answer was lost may have happened.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    cancelled = _cancellations()
    pause = 0.05
    while True:
        try:
            return await operation()
        except errors as error:
            # a connection that breaks while a statement is cancelled raises its own error in the cancellation's place
            if _cancellations() > cancelled:
                raise asyncio.CancelledError from error
            # a ValueError: an address that is none, which asyncpg calls an InterfaceError, too
            if isinstance(error, ValueError) or asyncio.get_running_loop().time() + pause > deadline:
                raise
            log.warning("storage.unreachable", extra={"error": type(error).__name__, "pause": pause})
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


def _cancellations() -> int:
    """How often this asyncio task was told to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def _init(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _as_it_is(connection: Connection) -> None:
    """
    A connection goes back without the reset that costs a round trip after every statement.

    No statement of ours leaves anything behind in its session: locks and settings end with their transaction, and an
    open transaction asyncpg itself rolls back.
    """


async def _close(pool: Pool) -> None:
    """Give running statements a moment, then drop what is left (a server that is gone never answers)."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except (TimeoutError, *UNREACHABLE):
        pool.terminate()
