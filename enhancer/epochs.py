"""
Epochs: which of a user's tokens are still good.

The table has the truth. Here it is remembered for a few seconds, so that a call does not cost a query; a revocation
is heard over the bus at once, or, without Redis, when what is remembered has become too old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from enhancer.bus import Bus
from enhancer.errors import Unauthenticated
from enhancer.storage import users
from enhancer.storage.database import Pool

REVOKED = "enhancer:revoked"
"""The channel on which processes learn that a user's tokens were revoked."""

FRESH = 5.0  # seconds that a user's epoch is believed
MANY = 100_000  # users that are remembered


@dataclass(frozen=True, slots=True)
class _Known:
    """`read_at`: on the monotonic clock, when the reading began."""

    epoch: int
    read_at: float


class Epochs:
    """The epochs of users who call. `doubt`: set when somebody's tokens may have been revoked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[int, _Known] = {}
        self._doubted_at = 0.0
        self.doubt = asyncio.Event()

    def known(self, user_id: int) -> int:
        """The user's epoch, as far as it is known; 0 for a user of whom nothing was asked."""
        found = self._known.get(user_id)
        return found.epoch if found else 0

    async def current(self, user_id: int) -> int:
        """The user's epoch. Raises Unauthenticated when there is no such user, and what PostgreSQL raises."""
        found = self._known.get(user_id)
        if found is None or time.monotonic() - found.read_at > FRESH or found.read_at < self._doubted_at:
            found = (await self.refresh([user_id])).get(user_id)
        if found is None:
            raise Unauthenticated("The token's user does not exist any more.")
        return found.epoch

    async def refresh(self, user_ids: list[int]) -> Mapping[int, _Known]:
        """Read the epochs of these users; those who are gone are not in what comes back."""
        began = time.monotonic()  # what is revoked while we read is to be read again
        read = await users.epochs(self._pool, user_ids)
        found = {user_id: _Known(epoch, began) for user_id, epoch in read.items()}
        if len(self._known) > MANY:
            self._known.clear()
        for user_id in user_ids:
            self._known.pop(user_id, None)
        self._known.update(found)
        return found

    async def revoke(self, bus: Bus, user_id: int) -> None:
        """End all tokens of the user, here and in every process."""
        await users.revoke(self._pool, user_id)
        self.hear()
        await bus.publish(REVOKED, str(user_id))

    def hear(self, message: str = "") -> None:
        """Tokens were revoked, or may have been: nothing that was read before is believed."""
        self._doubted_at = time.monotonic()
        self.doubt.set()
