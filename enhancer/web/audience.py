"""The audience: who has how many streams open here, and who has to leave because tokens were revoked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from enhancer.epochs import FRESH, Epochs
from enhancer.settings import Settings
from enhancer.storage.database import UNREACHABLE

log = logging.getLogger(__name__)


class Guest(Protocol):
    """A stream, as far as it can be told to end."""

    def end(self) -> None:
        """Nothing more will come."""


class Audience:
    """The open streams of this process."""

    def __init__(self, epochs: Epochs, settings: Settings) -> None:
        self._epochs = epochs
        self._of_user = settings.user_stream_limit
        self._of_address = settings.address_stream_limit
        self._guests: dict[int, dict[Guest, int]] = {}
        self._addresses: Counter[str] = Counter()

    @classmethod
    @asynccontextmanager
    async def open(cls, epochs: Epochs, settings: Settings) -> AsyncIterator[Audience]:
        """An audience that is looked after."""
        audience = cls(epochs, settings)
        keeper = asyncio.create_task(audience._look_after(), name="audience")
        try:
            yield audience
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    def full(self, user_id: int, address: str) -> bool:
        """Whether this user or this address has as many streams open as one may have."""
        counts = ((len(self._guests.get(user_id, ())), self._of_user), (self._addresses[address], self._of_address))
        return any(limit and count >= limit for count, limit in counts)

    @contextmanager
    def seated(self, user_id: int, address: str, guest: Guest, *, epoch: int) -> Iterator[None]:
        """One more stream for as long as the block lasts; its token was of this epoch."""
        guests = self._guests.setdefault(user_id, {})
        guests[guest] = epoch
        self._addresses[address] += 1
        try:
            yield
        finally:
            del guests[guest]
            if not guests:
                self._guests.pop(user_id, None)
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    async def _look_after(self) -> None:
        """Read the epochs of all who watch when tokens were revoked, and now and then in any case."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FRESH):
                    await self._epochs.doubt.wait()
            self._epochs.doubt.clear()
            try:
                await self._review()
            except UNREACHABLE as error:
                log.warning("database.unreachable", extra={"error": type(error).__name__})
            except Exception:  # one fault must not keep the doors open
                log.exception("audience.failed")

    async def _review(self) -> None:
        """Show out those whose tokens were revoked."""
        asked = list(self._guests)
        current = await self._epochs.refresh(asked) if asked else {}
        for user_id in asked:
            found = current.get(user_id)
            for guest, epoch in list(self._guests.get(user_id, {}).items()):
                if found is None or found.epoch != epoch:
                    guest.end()
