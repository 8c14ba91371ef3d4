"""Small photos of every sort, made as they are needed."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image


@cache
def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A lamp on a table, more or less."""
    y, x = np.mgrid[0:height, 0:width]
    glow = np.hypot(x - width / 2, y - height / 2) < min(width, height) / 4
    channels = (np.where(glow, 230, 40 + x), np.where(glow, 190, 60 + y), np.where(glow, 90, 120))
    return Image.fromarray(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def landscape() -> bytes:
    """A JPEG, wider than high."""
    return _encoded(scene(), "JPEG")


def lying_portrait() -> bytes:
    """A JPEG that lies on its side and says so, taken at a place that is nobody's business."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    exif[0x010F] = "Spycam"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    return _encoded(scene(), "JPEG", exif=exif)


def square_webp() -> bytes:
    """A WebP whose sides are nearly equal."""
    return _encoded(scene(80, 78), "WEBP")


def transparent_png() -> bytes:
    """A PNG that one can look through at its edges."""
    image = scene().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return _encoded(image, "PNG")


def cmyk_jpeg() -> bytes:
    """A JPEG for the printer."""
    return _encoded(scene().convert("CMYK"), "JPEG")


def deep_png() -> bytes:
    """A PNG with 16 bits of grey."""
    grey = np.asarray(scene().convert("L")).astype(np.uint16) * 257
    return _encoded(Image.fromarray(grey), "PNG")


def redrawn(size: tuple[int, int] = (1536, 1024), kind: str = "JPEG") -> bytes:
    """What an image model may answer."""
    return _encoded(scene().resize(size), kind)


def opened(data: bytes) -> Image.Image:
    """A picture whose pixels are all there."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()
