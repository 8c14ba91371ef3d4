"""
Where the product is: the part of a picture that stands out, as a box.

Three measures are added up, each where it is strong: how a place differs in colour from its surroundings, from the
rim of the picture, and how much detail it has; the middle is preferred a little. What belongs together around the
strongest place is the product. After Itti, Koch and Niebur (1998), centre and surround, and Achanta et al. (2009),
distance from the mean colour; without anything learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from enhancer import imaging

Map = NDArray[np.float64]

_SIDE = 96  # pixels of the copy that is looked at
_SURROUND = (4, 12)  # pixels of the copy: radii of what counts as surroundings
_CORE = 0.38  # of the strongest: what this strong and joined to it belongs to the product
_REACH = 0.3  # of the strongest: what this strong is still joined to it
_SPREAD = (0.04, 0.96)  # of the product's weight; what lies outside is a stray pixel
_SMALLEST = 0.12  # of a side


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture; left, top, right and bottom as parts of its sides, 0..1."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.right, self.bottom

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def grown(self, margin: float) -> Region:
        """With a margin around it, as far as there is picture."""
        left, top, right, bottom = self.edges
        return Region(
            max(0.0, left - margin), max(0.0, top - margin), min(1.0, right + margin), min(1.0, bottom + margin)
        )

    def within(self, part: Region) -> Region:
        """The part of the picture that this is, when it was measured on a `part` of the picture."""
        width, height = part.right - part.left, part.bottom - part.top
        return Region(
            part.left + self.left * width,
            part.top + self.top * height,
            part.left + self.right * width,
            part.top + self.bottom * height,
        )

    def share_of(self, other: Region) -> float:
        """How much of another region lies in this one, 0..1."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        area = (other.right - other.left) * (other.bottom - other.top)
        return max(0.0, width) * max(0.0, height) / area


@dataclass(frozen=True, slots=True)
class Gaze:
    """What draws the eye: `product` is where it comes to rest, `salience` (rows, columns) adds up to 1."""

    product: Region
    salience: Map

    def share(self, part: Region) -> float:
        """How much of what draws the eye lies in a part of the picture, 0..1."""
        height, width = self.salience.shape
        rows = slice(max(0, round(part.top * height)), max(0, round(part.bottom * height)))
        columns = slice(max(0, round(part.left * width)), max(0, round(part.right * width)))
        return float(self.salience[rows, columns].sum())


def gaze(image: Image.Image) -> Gaze:
    """Look at a picture; when nothing stands out, the product is its middle. The same picture, the same answer."""
    scale = _SIDE / max(image.size)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=2.0).filter(ImageFilter.GaussianBlur(1))
    colours = imaging.lab(small) * (0.6, 1, 1)
    strength = sum((_peaks(part) for part in _measures(colours)), np.zeros(colours.shape[:2]))
    strength = _blurred(strength, 1) * _middle(strength.shape)
    if strength.max() < 1e-6:
        strength = _middle(strength.shape) ** 4
    return Gaze(_region(strength), strength / strength.sum())


def _measures(colours: Map) -> tuple[Map, ...]:
    surround = sum(
        (np.linalg.norm(_blurred(colours, 1) - _blurred(colours, radius), axis=-1) for radius in _SURROUND),
        np.zeros(colours.shape[:2]),
    )
    sides = (colours[:3], colours[-3:], colours[:, :3], colours[:, -3:])
    rim = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    odd = np.linalg.norm(colours - rim, axis=-1)
    rows, columns = np.gradient(colours[..., 0])
    detail = _blurred(np.hypot(rows, columns), 3)
    return surround, odd, detail


def _peaks(measure: Map) -> Map:
    """
    A measure from 0 to 1, less where it is the same all over.

    One that is strong everywhere tells nothing (the "N" of Itti, Koch and Niebur).
    """
    low, high = float(np.percentile(measure, 40)), float(np.percentile(measure, 99.5))
    if high - low < 1.5:  # of L*a*b*: what cannot be seen
        return np.zeros_like(measure)
    scaled = np.clip((measure - low) / (high - low), 0, 1)
    peaks: Map = scaled * (1 - float(scaled.mean())) ** 2
    return peaks


def _middle(shape: tuple[int, ...]) -> Map:
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    middle: Map = np.exp(-(x**2 + y**2) / 1.8)
    return middle


def _region(strength: Map) -> Region:
    """The box around what is strong and joined to the place where most of it gathers, with what grows out of it."""
    gathered = _blurred(strength, max(strength.shape) // 12)
    core = gathered >= _CORE * gathered.max()
    weight = strength * _joined(_peak(gathered), core)
    (top, bottom), (left, right) = (_extent(weight.sum(axis=axis)) for axis in (1, 0))
    # a neck, a stem, a mast: too thin to gather much, yet joined to the rest
    fine = _joined(_peak(weight), _blurred(strength, 1) >= _REACH * strength.max())
    height, width = strength.shape
    rows = np.flatnonzero(fine[:, int(left * width) : round(right * width)].any(axis=1))
    columns = np.flatnonzero(fine[int(top * height) : round(bottom * height)].any(axis=0))
    if not rows.size or not columns.size:
        return Region(left, top, right, bottom)
    return Region(
        min(left, int(columns[0]) / width),
        min(top, int(rows[0]) / height),
        max(right, (int(columns[-1]) + 1) / width),
        max(bottom, (int(rows[-1]) + 1) / height),
    )


def _peak(values: Map) -> NDArray[np.bool_]:
    peak = np.zeros(values.shape, np.bool_)
    peak[np.unravel_index(int(values.argmax()), values.shape)] = True
    return peak


def _joined(seed: NDArray[np.bool_], core: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What can be reached from the seed within the core."""
    while True:
        grown = seed.copy()
        grown[1:] |= seed[:-1]
        grown[:-1] |= seed[1:]
        grown[:, 1:] |= seed[:, :-1]
        grown[:, :-1] |= seed[:, 1:]
        grown &= core | seed
        if (grown == seed).all():
            return grown
        seed = grown


def _extent(weights: Map) -> tuple[float, float]:
    """From where to where, 0..1, the weights along a side lie; at least _SMALLEST of it."""
    sums = np.cumsum(weights) / weights.sum()
    low, high = (int(np.searchsorted(sums, part)) for part in _SPREAD)
    start, end = low / len(weights), (high + 1) / len(weights)
    if end - start < _SMALLEST:
        middle = min(max((start + end) / 2, _SMALLEST / 2), 1 - _SMALLEST / 2)
        return middle - _SMALLEST / 2, middle + _SMALLEST / 2
    return start, end


def _blurred(values: Map, radius: int) -> Map:
    """Three means over a square of 2 * radius + 1, which is nearly a Gaussian; the rim is continued."""
    for _ in range(3):
        for axis in (0, 1):
            pad = [(0, 0)] * values.ndim
            pad[axis] = (radius + 1, radius)
            sums = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis)
            count = values.shape[axis]
            values = (
                np.take(sums, range(2 * radius + 1, 2 * radius + 1 + count), axis=axis)
                - np.take(sums, range(count), axis=axis)
            ) / (2 * radius + 1)
    return values
