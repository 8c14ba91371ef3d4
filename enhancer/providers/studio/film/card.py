"""The end card: a calm ground in the picture's own colours, the picture framed, the closing line."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from enhancer import imaging
from enhancer.domain.images import Orientation, Size
from enhancer.providers.studio.film import captions
from enhancer.providers.studio.film.captions import Caption, Placed
from enhancer.providers.studio.film.gaze import Region
from enhancer.providers.studio.film.planes import Colour, Mask, Planes, colour
from enhancer.providers.studio.film.typesetting import Setting, fit
from enhancer.providers.studio.looks import SWATCHES, Look

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, pixels; all even, as chroma needs it."""

_ROUND = 0.03  # radius of the framed picture's corners, of the frame's shorter side
_GRAIN = 0.04  # of the way from dark to light: against bands in the ground
_DRIFT = 0.06  # how much the framed picture is enlarged while the card is seen


class Card:
    """An end card, ready to be drawn on any of its frames."""

    def __init__(self, image: Image.Image, photo: Planes, look: Look, product: Region, words: str, frames: int) -> None:
        self._photo, self._frames = photo, frames
        box, place = _design(image.size, product, words)
        self._at, self._size = box[:2], (box[2] - box[0], box[3] - box[1])
        self._shows = _cropped(image.size, self._size, product)
        radius = round(min(image.size) * _ROUND)
        self._mask = Mask.of(_rounded(self._size, radius))
        self._ground = Planes.of(_with_shadow(_ground(image.size, look), box, radius))
        self._caption = Caption(place, frames, accent(look), leaves=False)

    def draw(self, frame: int) -> Planes:
        """A frame of the card."""
        picture = self._ground.copy()
        part = _nearer(self._shows, 1 + _DRIFT * min(max(frame / self._frames, 0.0), 1.0))
        picture.lay(self._photo.view(part, self._size), self._mask, self._at)
        self._caption.draw(picture, frame)
        return picture


def accent(look: Look) -> Colour:
    """The colour of the accents: the picture's own if it has one, made light enough to be seen on dark."""
    hue, lightness, saturation = _hls(look.accent or look.palette[0])
    if look.accent is None:
        return colour((235, 228, 216))
    return colour(_rgb(hue, min(max(lightness, 0.58), 0.7), max(saturation, 0.55)))


def _design(frame: Size, product: Region, words: str) -> tuple[Box, Placed]:
    """Where the framed picture and the closing line stand: side by side in a wide frame, else one below the other."""
    width, height = frame
    least = min(frame)
    if Orientation.of(frame) is Orientation.LANDSCAPE:
        panel = _panel(frame, product, (0.43 * width, 0.78 * height))
        left = round(0.94 * width) - panel[0]
        setting = _closing(words, (left - round(0.13 * width), round(0.7 * height)), least, 0.125, lines=5)
        place = captions.placed(setting, (round(0.07 * width), (height - captions.height(setting, frame)) // 2), frame)
        return _box((left, (height - panel[1]) // 2), panel), place
    margin, gap = round(0.08 * width), round(0.075 * least)
    panel = _panel(frame, product, (width - 2 * margin, (0.52 if height > width else 0.56) * height))
    setting = _closing(words, (width - 2 * margin, round(0.24 * height)), least, 0.1, lines=3)
    tall = panel[1] + gap + captions.height(setting, frame)
    top = (height - tall) // 2
    return _box((margin, top), panel), captions.placed(setting, (margin, top + panel[1] + gap), frame)


def _closing(words: str, room: Size, least: int, scale: float, *, lines: int) -> Setting:
    return fit(words, room, largest=round(least * scale), smallest=round(least * 0.045), most_lines=lines)


def _panel(frame: Size, product: Region, room: tuple[float, float]) -> Size:
    """As large as there is room for, but of a shape in which the whole product can be seen."""
    product = product.grown(0.05)
    wide, tall = max(0.55, product.right - product.left), max(0.45, product.bottom - product.top)
    shape, picture = room[0] / room[1], frame[0] / frame[1]
    shape = min(max(shape, min(picture, picture * wide)), max(picture, picture / tall))
    width = min(room[0], room[1] * shape)
    return round(width) // 2 * 2, round(width / shape) // 2 * 2


def _box(at: tuple[int, int], size: Size) -> Box:
    left, top = at[0] // 2 * 2, at[1] // 2 * 2
    return left, top, left + size[0], top + size[1]


def _ground(size: Size, look: Look) -> Image.Image:
    """A dark tone of the picture's main colour, a little lighter where the light would fall."""
    hue, _, saturation = _hls(look.accent or look.palette[0])
    dark, light = (np.array(_rgb(hue, value, min(saturation, 0.5))) for value in (0.11, 0.24))
    y, x = np.ogrid[0 : 1 : size[1] * 1j, 0 : 1 : size[0] * 1j]
    part = np.clip(1 - np.hypot((x - 0.72) * 0.9, y - 0.35), 0, 1).astype(np.float32)
    part = part * np.sqrt(part) + np.random.default_rng(7).random(part.shape, np.float32) * _GRAIN
    bands = [
        np.clip(low + (high - low) * part + 0.5, 0, 255).astype(np.uint8) for low, high in zip(dark, light, strict=True)
    ]
    return Image.merge("RGB", [Image.fromarray(band) for band in bands])


def _with_shadow(ground: Image.Image, box: Box, radius: int) -> Image.Image:
    shade = Image.new("L", ground.size)
    drop = round(radius * 0.6)
    ImageDraw.Draw(shade).rounded_rectangle((box[0], box[1] + drop, box[2], box[3] + drop), radius, fill=150)
    ground.paste((0, 0, 0), mask=shade.filter(ImageFilter.GaussianBlur(radius)))
    return ground


def _rounded(size: Size, radius: int) -> Image.Image:
    large = Image.new("L", (size[0] * 2, size[1] * 2))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, size[0] * 2 - 1, size[1] * 2 - 1), radius * 2, fill=255)
    return large.reduce(2)


def _cropped(picture: Size, wanted: Size, product: Region) -> Region:
    """The largest part of the picture of the wanted shape, around the product."""
    left, top, right, bottom = imaging.window(picture, wanted, product.center)
    return Region(left / picture[0], top / picture[1], right / picture[0], bottom / picture[1])


def _nearer(part: Region, zoom: float) -> Region:
    x, y = part.center
    half_width, half_height = (part.right - part.left) / 2 / zoom, (part.bottom - part.top) / 2 / zoom
    return Region(x - half_width, y - half_height, x + half_width, y + half_height)


def _hls(name: str) -> tuple[float, float, float]:
    red, green, blue = SWATCHES[name]
    return colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)


def _rgb(hue: float, lightness: float, saturation: float) -> tuple[int, int, int]:
    red, green, blue = (round(value * 255) for value in colorsys.hls_to_rgb(hue, lightness, saturation))
    return red, green, blue
