"""Users whose passwords cost little to check."""

from __future__ import annotations

from argon2 import PasswordHasher

from enhancer.domain.accounts import User
from enhancer.storage import subscriptions, users
from enhancer.storage.database import Pool

PASSWORD = "correct horse battery staple"

# a real one takes a quarter of a second, and there are hundreds of users here
_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


async def member(pool: Pool, email: str) -> User:
    """A new user with an active subscription."""
    user = await users.insert(pool, email, _HASH)
    await subscriptions.activate(pool, user.id, plan="test", quota=None, days=30)
    return user
