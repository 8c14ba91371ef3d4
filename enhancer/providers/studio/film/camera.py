"""
How the camera moves over a picture: for each shot a path, eased, and aimed at the product.

What the camera sees is a part of the picture with the frame's shape. Every shot has its own move; each ends on the
product.
"""

from __future__ import annotations

from dataclasses import dataclass

from enhancer.providers.studio.film.gaze import Region

CLOSEST = 1.34  # enlargement; the picture has no more pixels than the frame
_AROUND = 0.03  # of the picture: the room that is left around a product
_WIDEST = 1.03  # what is left over at the rim lets the camera move at all


@dataclass(frozen=True, slots=True)
class Move:
    """From one part of the picture to another."""

    start: Region
    end: Region

    def at(self, time: float) -> Region:
        """
        What is seen after a part of the time, 0..1, or a little before and after it, while shots are cross-faded.

        Eased, yet never still: half of the way is even, half slow at both ends.
        """
        bent = min(max(time, 0.0), 1.0)
        part = 0.5 * time + 0.5 * bent * bent * (3 - 2 * bent)
        edges = (a + (b - a) * part for a, b in zip(self.start.edges, self.end.edges, strict=True))
        return _within(*edges)


def moves(product: Region, count: int, *, shift: float) -> list[Move]:
    """
    A move for each of `count` shots of a product.

    `shift`: how far above (below 0: below) the middle of the frame the product is wanted, as a part of its height, so
    that captions find room.
    """
    product = product.grown(_AROUND)
    x, y = product.center
    size = max(product.right - product.left, product.bottom - product.top)
    close = min(CLOSEST, max(1.2, 0.9 / size))  # a large product is not cut into more than it must be
    side = 1 if x < 0.5 else -1  # come from where there is more room

    def view(right: float, down: float, zoom: float) -> Region:
        half = 0.5 / zoom
        left = _holding(x + right - half, 2 * half, product.left, product.right)
        top = _holding(y + down + shift / zoom - half, 2 * half, product.top, product.bottom)
        return _within(left, top, left + 2 * half, top + 2 * half)

    middle = 0.5 / _WIDEST
    whole = Region(0.5 - middle, 0.5 - middle, 0.5 + middle, 0.5 + middle)
    kinds = (
        Move(whole, view(0, 0, 1 + 0.6 * (close - 1))),
        Move(view(0.07 * side, 0, close), view(-0.035 * side, 0, 0.97 * close)),
        Move(view(0, 0.05, close), view(0, -0.02, 1.08)),
        Move(view(-0.06 * side, 0.02, 1.1), view(0, 0, close)),
    )
    return [kinds[index % len(kinds)] for index in range(count)]


def _holding(start: float, length: float, first: float, last: float) -> float:
    """Where a view of `length` begins to hold a product from `first` to `last`: as near to `start` as can be."""
    if last - first > length:
        return (first + last - length) / 2 if start < first or start + length > last else start
    return min(max(start, last - length), first)


def _within(left: float, top: float, right: float, bottom: float) -> Region:
    """Moved into the picture where it would pass its rim; no larger than the picture."""
    width, height = min(right - left, 1.0), min(bottom - top, 1.0)
    left, top = min(max(left, 0.0), 1 - width), min(max(top, 0.0), 1 - height)
    return Region(left, top, left + width, top + height)
