"""Waiting for what nobody announces, and holding up what would go too fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from enhancer.storage.database import Pool

PATIENCE = 60.0  # seconds

LOCKED = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE NOT granted AND datname = current_database()
"""


async def until(condition: Callable[[], object]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.005)


async def until_found(pool: Pool, query: str, *arguments: object) -> None:
    """Return once the query's value is neither NULL nor false nor 0."""
    async with asyncio.timeout(PATIENCE):
        while not await pool.fetchval(query, *arguments):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def locked(pool: Pool, table: str) -> AsyncIterator[None]:
    """Nobody else reads the table while the block lasts."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def until_locked_out(pool: Pool, count: int = 1) -> None:
    """Return once so many wait for tables of this database."""
    await until_found(pool, f"SELECT ({LOCKED}) >= $1", count)
