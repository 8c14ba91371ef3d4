"""A renderer that does as a test tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from enhancer.providers import Rendering, VideoBrief
from tests.fakes.videos import film

Seen = Rendering | Exception


class Cinema:
    """
    Renders what is ordered.

    `shows`: what the looks see, one after another; the last one again and again. `sends`: the file, or what goes wrong.
    """

    model = "cinema"

    def __init__(self, *shows: Seen, sends: bytes | Exception | None = None, billed: bool = True) -> None:
        self.shows = list(shows or [Rendering(done=True)])
        self.sends = sends
        self.billed = billed
        self.longest_call = 60.0
        self.briefs: list[VideoBrief] = []
        self.looked: list[str] = []
        self.withdrawn: list[str] = []

    @property
    def orders(self) -> list[str]:
        """The ids of what was ordered."""
        return [f"order-{n}" for n in range(1, len(self.briefs) + 1)]

    async def order(self, brief: VideoBrief) -> str:
        """See Videos."""
        self.briefs.append(brief)
        return self.orders[-1]

    async def look(self, order: str) -> Rendering:
        """See Videos."""
        self.looked.append(order)
        seen = self.shows.pop(0) if len(self.shows) > 1 else self.shows[0]
        if isinstance(seen, Exception):
            raise seen
        return seen

    async def fetch(self, order: str) -> AsyncIterator[bytes]:
        """See Videos."""
        if isinstance(self.sends, Exception):
            raise self.sends
        brief = self.briefs[-1]
        data = self.sends if self.sends is not None else film(brief.size, brief.duration)
        for start in range(0, len(data), 1 << 16):
            yield data[start : start + (1 << 16)]

    async def withdraw(self, order: str) -> None:
        """See Videos."""
        self.withdrawn.append(order)


def at(*percents: float | None) -> Sequence[Rendering]:
    """Looks that see the work get on, each asking for the next at once, and then its end."""
    return [*(Rendering(done=False, percent=percent, retry_after=0) for percent in percents), Rendering(done=True)]
