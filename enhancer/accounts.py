"""Users: passwords (argon2), sign-in, and the demo user of the embedded default."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from enhancer.domain.accounts import User
from enhancer.errors import Conflict, InvalidRequest, Unauthenticated
from enhancer.storage import subscriptions, users
from enhancer.storage.database import Pool

DEMO = "demo@localhost"

Result = TypeVar("Result")

_hashing = ThreadPoolExecutor(2, thread_name_prefix="passwords")
_hasher = PasswordHasher()  # argon2id with the parameters that the library recommends (RFC 9106, low memory)


@cache
def _nobody() -> str:
    """A hash for unknown addresses, so that they take as long as a wrong password."""
    return _hasher.hash(secrets.token_hex())


async def add(pool: Pool, email: str, password: str) -> User:
    """Add a user. Raises Conflict when the address is taken, InvalidRequest when it is none."""
    if not _is_address(email):
        raise InvalidRequest(("email", "This is not an e-mail address."))
    return await users.insert(pool, email, await _aside(_hasher.hash, password))


async def sign_in(pool: Pool, email: str, password: str) -> User:
    """The user. Raises Unauthenticated, in the same words and time for an unknown address and a wrong password."""
    nobody = await _aside(_nobody)
    found = await users.find(pool, email) if _is_address(email) else None
    user, stored = found or (None, nobody)
    if not await _aside(_verify, stored, password) or user is None:
        raise Unauthenticated("The address or the password is wrong.")
    if _hasher.check_needs_rehash(stored):
        await users.set_password(pool, user.id, await _aside(_hasher.hash, password))
    return user


async def ensure_demo(pool: Pool) -> User:
    """The demo user with an active subscription, made when it is missing; nobody knows its password."""
    try:
        found = await users.find(pool, DEMO)
        user = found[0] if found else await add(pool, DEMO, secrets.token_urlsafe(32))
    except Conflict:  # another process was faster
        return await ensure_demo(pool)
    await subscriptions.activate(pool, user.id, plan="demo", quota=None, days=3650)
    return user


async def _aside(work: Callable[..., Result], *given: object) -> Result:
    """In a thread of our own: a hash takes 64 MB and a core, and a crowd at the door must not stop other work."""
    return await asyncio.get_running_loop().run_in_executor(_hashing, work, *given)


def _is_address(email: str) -> bool:
    name, at, host = email.partition("@")
    return bool(name and at and host) and len(email) <= 320 and email.isprintable() and " " not in email


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
