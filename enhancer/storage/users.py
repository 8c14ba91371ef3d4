"""The table `users`."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from enhancer.domain.accounts import User
from enhancer.errors import Conflict
from enhancer.storage.database import Pool


async def insert(pool: Pool, email: str, password_hash: str) -> User:
    """Add a user. Raises Conflict when the address is taken, whatever its case."""
    try:
        rows = await pool.fetch(
            "INSERT INTO users (email, password_hash) VALUES ($1, $2) RETURNING id, email, created_at",
            email,
            password_hash,
        )
    except asyncpg.UniqueViolationError:
        raise Conflict("There is a user with this address already.") from None
    return User(**rows[0])


async def get(pool: Pool, user_id: int) -> User | None:
    """The user with this id."""
    row = await pool.fetchrow("SELECT id, email, created_at FROM users WHERE id = $1", user_id)
    return User(**row) if row else None


async def find(pool: Pool, email: str) -> tuple[User, str] | None:
    """The user with this address, whatever its case, and the hash of the password."""
    row = await pool.fetchrow(
        "SELECT id, email, created_at, password_hash FROM users WHERE lower(email) = lower($1)", email
    )
    return (User(row["id"], row["email"], row["created_at"]), row["password_hash"]) if row else None


async def set_password(pool: Pool, user_id: int, password_hash: str) -> None:
    """Replace the hash of the password."""
    await pool.execute("UPDATE users SET password_hash = $2 WHERE id = $1", user_id, password_hash)


async def epochs(pool: Pool, user_ids: Collection[int]) -> dict[int, int]:
    """How often the tokens of each of these users were revoked; users that are gone are left out."""
    rows = await pool.fetch("SELECT id, token_epoch FROM users WHERE id = ANY($1::bigint[])", list(user_ids))
    return {row["id"]: row["token_epoch"] for row in rows}


async def revoke(pool: Pool, user_id: int) -> int | None:
    """End all tokens of the user; the epoch that begins, None when there is no such user."""
    epoch: int | None = await pool.fetchval(
        "UPDATE users SET token_epoch = token_epoch + 1 WHERE id = $1 RETURNING token_epoch", user_id
    )
    return epoch


async def listing(pool: Pool) -> list[User]:
    """All users, the oldest first."""
    return [User(**row) for row in await pool.fetch("SELECT id, email, created_at FROM users ORDER BY id")]
