"""
What can be measured on a picture, in words: colours, light, contrast, sharpness.

Colours are told by hue, chroma and lightness in CIE L*a*b* (imaging.lab). The limits were set by looking at pictures
beside their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageFilter

from enhancer import imaging
from enhancer.domain.images import Orientation, Size


class Mood(StrEnum):
    """What strikes the eye first; the copy is chosen by it."""

    VIVID = "vivid"
    WARM = "warm"
    COOL = "cool"
    DARK = "dark"
    BRIGHT = "bright"
    CALM = "calm"


class Level(StrEnum):
    """Of light (dark to bright), contrast (soft to strong) and sharpness (soft to crisp)."""

    LOW = "low"
    MIDDLE = "middle"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Look:
    """
    A picture in words.

    `palette`: names (keys of SWATCHES), at most three, the most present first; what is near the focus counts more.
    `accent`: the colour that stands out most, None when all are QUIET. `focus`: imaging.focus.
    `warmth`: mean b*, above 0 to yellow, below to blue.
    """

    size: Size
    palette: tuple[str, ...]
    accent: str | None
    mood: Mood
    light: Level
    contrast: Level
    sharpness: Level
    warmth: float
    focus: tuple[float, float]

    @property
    def orientation(self) -> Orientation:
        """See Orientation.of."""
        return Orientation.of(self.size)


SWATCHES: dict[str, tuple[int, int, int]] = {
    "black": (16, 16, 16),
    "charcoal": (58, 60, 64),
    "grey": (125, 126, 128),
    "light grey": (195, 197, 199),
    "white": (248, 248, 248),
    "cream": (243, 232, 208),
    "beige": (214, 193, 164),
    "tan": (190, 152, 106),
    "brown": (128, 84, 50),
    "dark brown": (66, 42, 28),
    "terracotta": (182, 84, 48),
    "deep red": (124, 26, 22),
    "red": (204, 32, 34),
    "coral": (252, 126, 100),
    "orange": (238, 130, 36),
    "amber": (222, 160, 52),
    "yellow": (244, 214, 62),
    "olive": (122, 120, 54),
    "green": (72, 152, 70),
    "dark green": (28, 74, 46),
    "mint": (168, 220, 192),
    "teal": (30, 126, 128),
    "turquoise": (72, 200, 192),
    "sky blue": (140, 190, 232),
    "blue": (46, 98, 192),
    "navy": (22, 38, 74),
    "slate blue": (88, 112, 146),
    "lavender": (184, 168, 220),
    "purple": (112, 60, 148),
    "plum": (84, 40, 78),
    "pink": (242, 176, 188),
    "magenta": (206, 48, 132),
}
QUIET = frozenset(("black", "charcoal", "grey", "light grey", "white", "cream", "beige", "tan", "brown", "dark brown"))
_LIGHTNESS_WEIGHT = 0.7  # a shadow on a red cup is still red
_PALETTE_SHARE = 0.08


def look(image: Image.Image) -> Look:
    """Measure a picture; about 0.1 s at 1536x1024."""
    small = image.copy()
    small.thumbnail((96, 96), Image.Resampling.BOX)
    colours = imaging.lab(small.filter(ImageFilter.MedianFilter(3)))
    lightness, warmth = colours[..., 0], float(colours[..., 2].mean())
    chroma = float(np.hypot(colours[..., 1], colours[..., 2]).mean())
    low, middle, high = (float(value) for value in np.percentile(lightness, (5, 50, 95)))
    focus = imaging.focus(image)
    palette, accent = _palette(colours, focus)
    return Look(
        size=image.size,
        palette=palette,
        accent=accent,
        mood=_mood(middle, chroma, warmth),
        light=_level(middle, 32, 66),
        contrast=_level(high - low, 38, 66),
        sharpness=_level(_sharpness(image), 1.8, 3.0),
        warmth=warmth,
        focus=focus,
    )


def _palette(
    colours: np.ndarray[tuple[int, ...], np.dtype[np.float64]], focus: tuple[float, float]
) -> tuple[tuple[str, ...], str | None]:
    """The names by their shares, where the focus counts three times, and the accent."""
    weights = np.array((_LIGHTNESS_WEIGHT, 1, 1))
    distance = np.linalg.norm((colours[:, :, None, :] - _SWATCHES_LAB) * weights, axis=-1)
    nearest = distance.argmin(axis=-1)
    y, x = np.mgrid[0 : 1 : nearest.shape[0] * 1j, 0 : 1 : nearest.shape[1] * 1j]
    interest = 1 + 2 * np.exp(-((x - focus[0]) ** 2 + (y - focus[1]) ** 2) / 0.08)
    shares = np.bincount(nearest.ravel(), interest.ravel(), len(SWATCHES)) / interest.sum()
    ranked = np.argsort(-shares, kind="stable")[:3]
    palette = tuple(_NAMES[index] for index in ranked if shares[index] >= _PALETTE_SHARE or index == ranked[0])
    striking = shares * _STRIKING * (shares >= _PALETTE_SHARE / 2)
    best = int(striking.argmax())
    return palette, _NAMES[best] if striking[best] > 0 else None


_NAMES = tuple(SWATCHES)
_SWATCHES_LAB = imaging.lab(Image.fromarray(np.array([list(SWATCHES.values())], np.uint8)))[0]
_STRIKING = np.hypot(_SWATCHES_LAB[:, 1], _SWATCHES_LAB[:, 2]) * [name not in QUIET for name in SWATCHES]


def _mood(lightness: float, chroma: float, warmth: float) -> Mood:
    if lightness < 26:
        return Mood.DARK
    if chroma > 48:
        return Mood.VIVID
    if lightness > 80 and chroma < 16:
        return Mood.BRIGHT
    if warmth > 9:
        return Mood.WARM
    return Mood.COOL if warmth < -6 else Mood.CALM


def _level(value: float, low: float, high: float) -> Level:
    if value < low:
        return Level.LOW
    return Level.HIGH if value > high else Level.MIDDLE


def _sharpness(image: Image.Image) -> float:
    """
    How much steeper the steepest twentieth of all edges is than after a slight blur, at 768 pixels.

    Measured: crisp photos 3.5 to 8; the same blurred until the eye minds, under 2; nothing but blur, 1.1.
    """
    grey = image.convert("L")
    grey.thumbnail((768, 768), Image.Resampling.LANCZOS)
    edges = _edges(grey)
    steep = edges >= max(float(np.percentile(edges, 95)), 4.0)  # 8-bit steps a pixel; less is a backdrop's gradient
    blurred = _edges(grey.filter(ImageFilter.GaussianBlur(2)))
    return float(edges[steep].sum() / max(blurred[steep].sum(), 1.0))


def _edges(grey: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rows, columns = np.gradient(np.asarray(grey, np.float64))
    edges: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.hypot(rows, columns)
    return edges
