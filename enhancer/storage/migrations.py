"""The schema: the files in sql/migrations, applied forward in the order of their numbers."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import enhancer
from enhancer.storage.database import Connection, Pool

log = logging.getLogger(__name__)

LOCK = 0x656E68616E  # "enhan": one migration at a time, whoever starts first


def known() -> list[tuple[int, str, str]]:
    """(number, name, SQL) of every migration that this version carries, in order."""
    found = [
        (int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in _folder().iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    ]
    return sorted(found)


def _folder() -> Path:
    """In the wheel the SQL is a part of the package; in a checkout it stands beside it."""
    package = Path(enhancer.__file__).parent
    inside = package / "sql" / "migrations"
    return inside if inside.is_dir() else package.parent / "sql" / "migrations"


async def apply(pool: Pool) -> list[int]:
    """
    Apply what is missing, all or nothing, while no other process does; the numbers that were applied.

    A schema that is newer than this version is left alone: a rolling restart runs two versions at once.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        done = await _applied(connection)
        missing = [migration for migration in known() if migration[0] not in done]
        for number, name, sql in missing:
            await connection.execute(sql)
            await connection.execute("INSERT INTO schema_migrations (number, name) VALUES ($1, $2)", number, name)
            log.info("migration.applied", extra={"number": number, "migration": name})
    return [number for number, _, _ in missing]


async def pending(pool: Pool) -> list[int]:
    """The numbers that `apply` would apply."""
    if not await pool.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        return [number for number, _, _ in known()]
    done = {row["number"] for row in await pool.fetch("SELECT number FROM schema_migrations")}
    return [number for number, _, _ in known() if number not in done]


async def _applied(connection: Connection) -> set[int]:
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migrations (
            number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
        """
    )
    return {row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations")}
