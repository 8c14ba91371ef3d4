"""
Pictures as H.264 wants them: luma, and two chroma planes of half its size (4:2:0, ITU-R BT.709, limited range).

Everything is drawn on these planes, which have half the values that RGB has, and none is converted in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from enhancer.domain.images import Size
from enhancer.providers.studio.film.gaze import Region

Colour = tuple[int, int, int]
"""Luma 16..235 and chroma 16..240, as stored."""

_FROM_RGB = np.array(
    (
        (0.2126, 0.7152, 0.0722),
        (-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5),
        (0.5, -0.7152 / 1.5748, -0.0722 / 1.5748),
    )
) * np.array(((219,), (224,), (224,)))
_OFFSET = np.array((16, 128, 128))


@dataclass(frozen=True, slots=True)
class Mask:
    """How much of something is seen where, 0..255: for the luma, and at half size for the chroma."""

    fine: Image.Image
    half: Image.Image

    @classmethod
    def of(cls, fine: Image.Image) -> Mask:
        """From a mask of full size, whose sides are even."""
        return cls(fine, fine.reduce(2))

    def faded(self, strength: float) -> Mask:
        """With `strength` of 0..1 of it left."""
        if strength >= 1:
            return self
        table = [round(value * strength) for value in range(256)]
        return Mask(self.fine.point(table), self.half.point(table))


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture whose sides are even."""

    y: Image.Image
    u: Image.Image
    v: Image.Image

    @classmethod
    def of(cls, image: Image.Image) -> Planes:
        """An RGB picture converted."""
        luma = _converted(np.asarray(image), 0)
        half = np.asarray(image.reduce(2))
        return cls(luma, _converted(half, 1), _converted(half, 2))

    @property
    def size(self) -> Size:
        """Of the luma."""
        return self.y.size

    def copy(self) -> Planes:
        """To draw on."""
        return Planes(self.y.copy(), self.u.copy(), self.v.copy())

    def view(self, part: Region, size: Size) -> Planes:
        """A part of the picture, resampled to `size` without ever snapping to whole pixels."""
        half = (size[0] // 2, size[1] // 2)
        return Planes(_part(self.y, part, size), _part(self.u, part, half), _part(self.v, part, half))

    def mixed(self, other: Planes, part: float) -> Planes:
        """With `part` (0..1) of another picture of the same size."""
        return Planes(*(Image.blend(*pair, part) for pair in zip(self.all, other.all, strict=True)))

    def paint(self, colour: Colour, mask: Mask, at: tuple[int, int] = (0, 0)) -> None:
        """Lay a colour over the picture, in place."""
        half = (at[0] // 2, at[1] // 2)
        self.y.paste(colour[0], at, mask.fine)
        self.u.paste(colour[1], half, mask.half)
        self.v.paste(colour[2], half, mask.half)

    def lay(self, other: Planes, mask: Mask, at: tuple[int, int]) -> None:
        """Lay another picture over this one, in place; `at` is even."""
        half = (at[0] // 2, at[1] // 2)
        self.y.paste(other.y, at, mask.fine)
        self.u.paste(other.u, half, mask.half)
        self.v.paste(other.v, half, mask.half)

    def stored(self) -> NDArray[np.uint8]:
        """All planes one after another, as rows of the luma's width."""
        flat = np.concatenate([np.asarray(plane).ravel() for plane in self.all])
        return flat.reshape(self.size[1] * 3 // 2, self.size[0])

    @property
    def all(self) -> tuple[Image.Image, Image.Image, Image.Image]:
        """Luma, blue and red chroma."""
        return self.y, self.u, self.v


def colour(rgb: tuple[int, int, int]) -> Colour:
    """An sRGB colour as it is stored."""
    y, u, v = (round(float(value)) for value in _FROM_RGB @ (np.array(rgb) / 255) + _OFFSET)
    return y, u, v


BLACK = colour((0, 0, 0))
WHITE = colour((255, 255, 255))


def _converted(pixels: NDArray[np.uint8], channel: int) -> Image.Image:
    values = pixels @ (_FROM_RGB[channel] / 255).astype(np.float32) + np.float32(_OFFSET[channel] + 0.5)
    return Image.fromarray(values.astype(np.uint8))


def _part(plane: Image.Image, part: Region, size: Size) -> Image.Image:
    left, top, right, bottom = part.edges
    across, down = plane.size
    box = (max(0.0, left * across), max(0.0, top * down), min(right * across, across), min(bottom * down, down))
    return plane.resize(size, Image.Resampling.BICUBIC, box)
