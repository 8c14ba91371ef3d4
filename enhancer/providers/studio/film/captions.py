"""
Captions on a picture: where they stand, what makes them readable there, how they come and go.

A caption has an accent, a short bar in the picture's colour, and lines that rise into their places one after another.
Behind it the picture is darkened just as much as white type needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from enhancer.domain.images import Orientation, Size
from enhancer.providers.studio.film.camera import Move
from enhancer.providers.studio.film.gaze import Gaze, Region
from enhancer.providers.studio.film.planes import BLACK, WHITE, Colour, Mask, Planes
from enhancer.providers.studio.film.storyboard import RATE, Shot
from enhancer.providers.studio.film.typesetting import Setting, Weight, fit

ENTERS = 0.2  # seconds after its shot begins
RISES = 0.5  # seconds that a line takes to come
STAGGER = 0.1  # seconds from one line to the next
LEAVES = 0.3  # seconds, at the end of its shot
LUMA_BEHIND = 92  # at most, of 16..235, behind white type: a contrast of 6 : 1 and more

_SAFE = {Orientation.LANDSCAPE: (0.06, 0.09), Orientation.PORTRAIT: (0.075, 0.12), Orientation.SQUARE: (0.07, 0.075)}
_MEASURE = {Orientation.LANDSCAPE: 0.56, Orientation.PORTRAIT: 0.85, Orientation.SQUARE: 0.78}
_MOST_LINES = {Orientation.LANDSCAPE: 3, Orientation.PORTRAIT: 5, Orientation.SQUARE: 4}
_CLEAR = 0.02  # of the frame: how near to a product a caption seems to touch it
_LARGEST = 0.088  # type size, of the frame's shorter side
_TALLEST = 0.34  # of the frame's height


@dataclass(frozen=True, slots=True)
class Corner:
    """A corner of the frame for captions; `cost`: what it takes to prefer it to another that hides as little."""

    right: bool
    top: bool
    cost: float


_CORNERS = (Corner(False, False, 0.0), Corner(True, False, 0.05), Corner(False, True, 0.08), Corner(True, True, 0.13))
_MEASURES = ((1.0, 0.0), (0.62, 0.06))  # parts of the usual width, and what it takes to prefer the narrow one


@dataclass(frozen=True, slots=True)
class Placed:
    """A setting with the place of its first line and of the accent above it, pixels."""

    setting: Setting
    at: tuple[int, int]
    bar: tuple[int, int, int, int]
    top: bool

    def part(self, frame: Size) -> Region:
        """What it covers of the frame."""
        left, top = self.bar[0], self.bar[1]
        right, bottom = self.at[0] + self.setting.size[0], self.at[1] + self.setting.size[1]
        return Region(left / frame[0], top / frame[1], right / frame[0], bottom / frame[1])


def arranged(shots: Sequence[Shot], gaze: Gaze, moves: Sequence[Move], frame: Size) -> list[Placed | None]:
    """
    The words of each shot, set and placed; None where there are none.

    All stand in the corner in which they hide least of the product and of what else draws the eye, each as wide as is
    best there.
    """
    return min((_in_corner(corner, shots, gaze, moves, frame) for corner in _CORNERS), key=lambda found: found[0])[1]


def _in_corner(
    corner: Corner, shots: Sequence[Shot], gaze: Gaze, moves: Sequence[Move], frame: Size
) -> tuple[float, list[Placed | None]]:
    """The captions in a corner, and what they cost there."""
    total, places = 0.0, list[Placed | None]()
    for shot, move in zip(shots, moves, strict=True):
        if not shot.words:
            places.append(None)
            continue
        choices = [(_placed(shot, corner, measure, frame), cost) for measure, cost in _MEASURES]
        costs = [cost + _hidden(place, gaze, move, frame) + _shrunk(place, frame) for place, cost in choices]
        best = costs.index(min(costs))
        total += costs[best] + corner.cost
        places.append(choices[best][0])
    return total, places


def _hidden(place: Placed, gaze: Gaze, move: Move, frame: Size) -> float:
    """How much a caption hides, on average: of what draws the eye, and of the product."""
    seen = [place.part(frame).grown(_CLEAR).within(move.at(time)) for time in (0.25, 0.75)]
    return sum(2 * gaze.share(part) + 0.8 * part.share_of(gaze.product) for part in seen) / len(seen)


def _shrunk(place: Placed, frame: Size) -> float:
    """How much smaller than it could be its type is, 0..1."""
    return max(0.0, 1 - place.setting.type_size / (min(frame) * _LARGEST))


def _placed(shot: Shot, corner: Corner, measure: float, frame: Size) -> Placed:
    """A caption in its corner, within the margins that every screen shows."""
    shape, least = Orientation.of(frame), min(frame)
    scale, weight = (_LARGEST, Weight.HEAVY) if shot.spoken else (0.06, Weight.MEDIUM)
    setting = fit(
        shot.words,
        (int(frame[0] * _MEASURE[shape] * measure), int(frame[1] * _TALLEST)),
        largest=round(least * scale),
        smallest=round(least * 0.04),
        most_lines=_MOST_LINES[shape],
        weight=weight,
    )
    across, down = (round(side * part) for side, part in zip(frame, _SAFE[shape], strict=True))
    left = frame[0] - across - setting.size[0] if corner.right else across
    upper = down if corner.top else frame[1] - down - height(setting, frame)
    return placed(setting, (left, upper), frame, top=corner.top)


def height(setting: Setting, frame: Size) -> int:
    """Of a setting with the accent above it, pixels."""
    return _above(setting, frame) + setting.size[1]


def placed(setting: Setting, at: tuple[int, int], frame: Size, *, top: bool = False) -> Placed:
    """A setting whose accent begins at `at`; both at even places, as chroma has them. `top`: it hangs from there."""
    left, bar_top = at[0] // 2 * 2, at[1] // 2 * 2
    wide = round(setting.type_size * 0.95) // 2 * 2
    bar = (left, bar_top, left + wide, bar_top + _thickness(frame))
    return Placed(setting, (left, bar_top + _above(setting, frame) // 2 * 2), bar, top)


def _above(setting: Setting, frame: Size) -> int:
    """From the accent's upper edge to the first line."""
    return _thickness(frame) + round(setting.type_size * 0.34)


def _thickness(frame: Size) -> int:
    return max(4, round(min(frame) * 0.009)) // 2 * 2


class Caption:
    """A caption of a shot, ready to be drawn on any of its frames."""

    def __init__(self, place: Placed, frames: int, accent: Colour, *, leaves: bool = True) -> None:
        self._frames, self._accent, self._leaves = frames, accent, leaves
        self._place = place
        self._lines = [_padded(mask) for mask in place.setting.masks()]
        self._shadows = [Mask.of(_shadow(mask.fine, place.setting.type_size)) for mask in self._lines]

    def strength(self, frame: int) -> float:
        """How much of it is there in a frame of its shot, 0..1, as a whole."""
        enters = _eased((frame / RATE - ENTERS) / RISES)
        return enters * self._left(frame)

    def draw(self, picture: Planes, frame: int) -> None:
        """Draw it as it stands in a frame of its shot."""
        left, since = self._left(frame), frame / RATE - ENTERS
        self._draw_bar(picture, _eased(since / RISES), left)
        (x, y), leading = self._place.at, self._place.setting.leading
        for index, (line, shadow) in enumerate(zip(self._lines, self._shadows, strict=True)):
            come = _eased((since - STAGGER * (index + 1)) / RISES)
            if come * left <= 0:
                continue
            rise = round((1 - come) * 0.45 * leading)
            at = (x - _PAD, y + index * leading + rise - _PAD)
            picture.paint(BLACK, shadow.faded(come * left * 0.55), at)
            picture.paint(WHITE, line.faded(come * left), at)

    def _draw_bar(self, picture: Planes, come: float, left: float) -> None:
        x0, y0, x1, y1 = self._place.bar
        width = round((x1 - x0) * come) // 2 * 2
        if width and left > 0:
            picture.paint(self._accent, Mask.of(Image.new("L", (width, y1 - y0), 255)).faded(left), (x0, y0))

    def _left(self, frame: int) -> float:
        """What is left of it while it leaves."""
        return _eased((self._frames - frame) / RATE / LEAVES) if self._leaves else 1.0


def scrim(place: Placed, frame: Size, behind: Planes) -> Mask:
    """What darkens a picture behind a caption: even where the type stands, then fading out."""
    part = place.part(frame)
    strength = _needed(behind, part)
    rows = (np.arange(frame[1]) + 0.5) / frame[1]
    away = rows - part.bottom if place.top else part.top - rows
    gone = np.clip((away + 0.02) / 0.3, 0, 1)
    fade = 1 - gone * gone * (3 - 2 * gone)
    columns = np.broadcast_to(fade[:, None], (frame[1], frame[0])) * strength * 255
    return Mask.of(Image.fromarray(np.ascontiguousarray(columns).astype(np.uint8)))


_PAD = 24  # pixels around a line's mask, for its shadow


def _padded(mask: Image.Image) -> Mask:
    size = (-(-(mask.width + 2 * _PAD) // 2) * 2, -(-(mask.height + 2 * _PAD) // 2) * 2)
    wide = Image.new("L", size)
    wide.paste(mask, (_PAD, _PAD))
    return Mask.of(wide)


def _shadow(mask: Image.Image, type_size: int) -> Image.Image:
    return mask.filter(ImageFilter.GaussianBlur(min(_PAD / 3, type_size * 0.12)))


def _needed(behind: Planes, part: Region) -> float:
    """How much black it takes, 0..1, so that the lightest tenth behind a caption is no lighter than LUMA_BEHIND."""
    width, height = behind.size
    box = (int(part.left * width), int(part.top * height), int(part.right * width) + 1, int(part.bottom * height) + 1)
    light = float(np.percentile(np.asarray(behind.y.crop(box)), 90))
    return float(np.clip(1 - (LUMA_BEHIND - 16) / max(light - 16, 1), 0.25, 0.8))


def _eased(part: float) -> float:
    """0 before 0, 1 after 1; quick at first, then coming to rest (a cubic)."""
    part = min(max(part, 0.0), 1.0)
    return 1 - (1 - part) ** 3
