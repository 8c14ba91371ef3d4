"""
Photos in, photos out: checked, put upright, brought to sRGB, fitted.

All of it is CPU work on bytes, so callers on the event loop put it in a thread. A large photo is decoded while no
other large one is, and a JPEG never larger than it is needed.
"""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFilter

from enhancer import webp
from enhancer.domain import containers
from enhancer.domain.containers import Container
from enhancer.domain.images import Format, Photo, Size
from enhancer.errors import InvalidImage

MIN_SIDE = 16  # pixels; below, there is nothing to advertise
MAX_ASPECT = 20
MAX_WEBP_PIXELS = 25_000_000  # libwebp and Pillow hold four canvases at once: 16 bytes a pixel
KEEP_AT_LEAST = 0.55  # of a picture; a crop that leaves less is not made, see `cover`

# Pixels are counted here, from the header, before Pillow sees the file: its own limit only warns.
Image.MAX_IMAGE_PIXELS = None

_DECODING = {Format.JPEG: 6, Format.PNG: 4, Format.WEBP: 16}  # bytes a pixel, at worst (progressive 4:4:4 JPEG)
_LARGE = 100_000_000  # bytes
_large_photo = threading.Lock()

APART = 1_500_000  # pixels of a WebP that is decoded in another process, see webp.py
_BITE = 8 * 1024  # bytes handed to a decoder at once: while it works on them no other thread runs

# What Pillow is known to raise on hostile bytes. InvalidImage itself passes through.
_HOSTILE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Upright:
    """A photo as a provider gets it: upright, opaque, sRGB, without metadata."""

    data: bytes
    format: Format
    size: Size


sniff = containers.sniff


def verify(file: BinaryIO, *, max_pixels: int) -> Photo:
    """
    Decode a file from its beginning to its end, and say what it is.

    Raises UnsupportedImage when it is not a JPEG, PNG or WebP by its bytes; InvalidImage when it is damaged, cut off,
    has more than `max_pixels` (before memory is taken for them) or a shape that no advertisement is made of.
    """
    file.seek(0)
    container = containers.read(file.read())
    _check_shape(container.stored)
    _check_pixels(container, max_pixels)
    with _decoding(container):
        _opened(container, (1, 1)).load()
    return container.photo


def inspect(data: bytes) -> Photo:
    """What the headers say; the pixels are not looked at. Raises as `verify` does."""
    container = containers.read(data)
    _check_shape(container.stored)
    return container.photo


def upright(data: bytes, *, max_side: int) -> Upright:
    """
    A photo for a provider: upright, opaque (on white) sRGB, no metadata, no side longer than `max_side` pixels.

    One that needs its pixels changed becomes a JPEG; any other is passed on as it is, less its metadata.
    """
    container = containers.read(data)
    size = container.photo.size
    scale = min(1.0, max_side / max(size))
    if container.plain and container.turn == 1 and scale == 1:
        return Upright(container.bare, container.format, size)
    size = _scaled(size, scale)
    image = _resized(_decoded(container, size), size)
    return Upright(encode_jpeg(image, quality=95), Format.JPEG, size)


def fit(data: bytes, size: Size) -> bytes:
    """The picture as a JPEG of exactly `size`, see `cover`. A JPEG that is so already is passed on."""
    container = containers.read(data)
    if container.plain and (container.format, container.turn, container.stored) == (Format.JPEG, 1, size):
        return container.bare
    return encode_jpeg(cover(_decoded(container, _covering(container.photo.size, size)), size))


def thumbnail(data: bytes, *, max_side: int) -> bytes:
    """A small JPEG of a picture, its longer side `max_side` pixels at most. Raises InvalidImage."""
    container = containers.read(data)
    size = _scaled(container.photo.size, min(1.0, max_side / max(container.photo.size)))
    return encode_jpeg(_resized(_decoded(container, size), size), quality=80)


def decode(data: bytes, *, at_least: Size | None = None) -> Image.Image:
    """
    The picture: upright, RGB, sRGB, transparent parts on white, of an animation the first frame.

    `at_least`: it may come back smaller than it is stored, but covers this size if it did; that saves most of the
    time and memory of a large photo. Raises InvalidImage.
    """
    container = containers.read(data)
    return _decoded(container, at_least or container.photo.size)


def encode_jpeg(image: Image.Image, *, quality: int = 92) -> bytes:
    """A baseline JPEG with full colour resolution (4:4:4): red products on dark ground fray with less."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def cover(image: Image.Image, size: Size) -> Image.Image:
    """
    The picture at exactly `size`: cropped around its focus.

    Where that would leave less than KEEP_AT_LEAST of it, the whole picture on a dark, blurred ground of itself.
    """
    kept = _aspect(image.size) / _aspect(size)
    if min(kept, 1 / kept) < KEEP_AT_LEAST:
        return _on_ground(image, size)
    return _resized(image, size, window(image.size, size, focus(image)))


def window(size: Size, wanted: Size, at: tuple[float, float]) -> tuple[float, float, float, float]:
    """The largest part of `size` with the shape of `wanted`, centred on `at` where it can: left, top, right, bottom."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = min(wanted[0] * scale, size[0]), min(wanted[1] * scale, size[1])  # rounding may pass the rim
    left = min(max(0.0, at[0] * size[0] - width / 2), size[0] - width)
    top = min(max(0.0, at[1] * size[1] - height / 2), size[1] - height)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def focus(image: Image.Image) -> tuple[float, float]:
    """
    The point that a viewer looks at, 0..1 from the left and from the top.

    It follows what differs in colour from the rim of the picture and what has detail, the middle being preferred;
    when nothing stands out it is (0.5, 0.5). The same picture always gives the same point.
    """
    weight = _salience(image)
    total = float(weight.sum())
    if not total:
        return 0.5, 0.5
    height, width = weight.shape
    x = float(weight.sum(axis=0) @ (np.arange(width) + 0.5)) / width / total
    y = float(weight.sum(axis=1) @ (np.arange(height) + 0.5)) / height / total
    return x, y


def lab(image: Image.Image) -> NDArray[np.float64]:
    """
    CIE L*a*b* of an sRGB picture (rows, columns, 3): L 0..100, a and b about -100..100, D65.

    Matrix and curve: IEC 61966-2-1 and CIE 15.
    """
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ _TO_XYZ.T / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _salience(image: Image.Image) -> NDArray[np.float64]:
    """How much each part of a small copy stands out; all zero when nothing does."""
    small = image.resize(_scaled(image.size, 96 / max(image.size)), Image.Resampling.BOX, reducing_gap=2.0)
    colours = lab(small.filter(ImageFilter.GaussianBlur(1)))
    sides = (colours[:3], colours[-3:], colours[:, :3], colours[:, -3:])
    rim = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    odd = np.linalg.norm((colours - rim) * (0.5, 1, 1), axis=-1)
    rows, columns = np.gradient(colours[..., 0])
    weight = odd + 2 * np.hypot(rows, columns)
    weight = np.clip(weight - max(6.0, float(np.percentile(weight, 60))), 0, None)
    y, x = np.mgrid[-1 : 1 : weight.shape[0] * 1j, -1 : 1 : weight.shape[1] * 1j]
    middle = np.exp(-(x**2 + y**2) / 1.5)
    salience: NDArray[np.float64] = weight * middle
    return salience


def _on_ground(image: Image.Image, size: Size) -> Image.Image:
    small = (max(1, size[0] // 16), max(1, size[1] // 16))
    ground = _resized(image, small, window(image.size, size, (0.5, 0.5))).filter(ImageFilter.GaussianBlur(3))
    ground = ground.resize(size, Image.Resampling.BICUBIC).point([round(0.45 * value) for value in range(256)] * 3)
    scale = min(size[0] / image.width, size[1] / image.height)
    whole = _resized(image, _scaled(image.size, scale))
    ground.paste(whole, ((size[0] - whole.width) // 2, (size[1] - whole.height) // 2))
    return ground


def _resized(image: Image.Image, size: Size, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    if image.size == size and box in {None, (0, 0, *size)}:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, box)


def _decoded(container: Container, at_least: Size) -> Image.Image:
    at_least = container.turned(at_least)
    with _decoding(container):
        image = _opened(container, at_least)
        image.load()
        profile: bytes | None = image.info.get("icc_profile")
        flat = _flat(image, at_least)
        del image  # a large one is let go before the next copy is made
    picture = _srgb(flat, profile)
    return picture.transpose(_TURNS[container.turn]) if container.turn in _TURNS else picture


@contextlib.contextmanager
def _decoding(container: Container) -> Iterator[None]:
    """A large photo waits for the one before it; whatever hostile bytes make Pillow raise is an InvalidImage."""
    width, height = container.stored
    large = width * height * _DECODING[container.format] > _LARGE
    try:
        with _large_photo if large else contextlib.nullcontext():
            yield
    except _HOSTILE as error:
        raise InvalidImage from error


def _opened(container: Container, at_least: Size) -> Image.Image:
    """Opened by Pillow, not yet decoded; a JPEG will come at 1/2, 1/4 or 1/8 when that covers `at_least`."""
    width, height = container.stored
    if container.format is Format.WEBP and width * height > APART:
        decoded = webp.first_frame(container.bare)
        if decoded.size != container.stored:
            raise InvalidImage
        return decoded
    image = Image.open(io.BytesIO(container.bare), formats=[container.format.upper()])
    if image.size != container.stored:
        raise InvalidImage
    image.decodermaxblock = _BITE
    image.draft(None, at_least)
    return image


def _flat(image: Image.Image, at_least: Size) -> Image.Image:
    """
    Opaque L, RGB or CMYK, reduced to no less than 1.5 times `at_least` (Lanczos does the rest well).

    It goes band by band: a 48-megapixel PNG with transparency would otherwise be in memory three times.
    """
    factor = max(1, min(image.width * 2 // (3 * at_least[0]), image.height * 2 // (3 * at_least[1])))
    if factor == 1 and image.mode in {"L", "RGB", "CMYK"} and not image.has_transparency_data:
        return image
    rows = factor * max(1, 1_000_000 // (factor * image.width))
    flat: Image.Image | None = None
    for top in range(0, image.height, rows):
        band = _opaque(image.crop((0, top, image.width, min(top + rows, image.height)))).reduce(factor)
        flat = flat or Image.new(band.mode, (band.width, -(-image.height // factor)))
        flat.paste(band, (0, top // factor))
    assert flat is not None  # noqa: S101
    return flat


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion clips
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    grey = image.mode in {"1", "L", "LA"}
    if not image.has_transparency_data:
        return image if image.mode == "CMYK" else image.convert("L" if grey else "RGB")
    layer = image.convert("LA" if grey else "RGBA")
    ground = Image.new("L" if grey else "RGB", image.size, "white")
    ground.paste(layer.convert(ground.mode), mask=layer.getchannel("A"))
    return ground


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB by the colour profile; a profile that is damaged or of another kind of picture is as good as none."""
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if converted is not None:
                return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_shape(size: Size) -> None:
    if min(size) < MIN_SIDE:
        raise InvalidImage(f"The image is too small: {size[0]}x{size[1]}; each side needs {MIN_SIDE} pixels or more.")
    if max(size) > MAX_ASPECT * min(size):
        raise InvalidImage(f"The image is too long and narrow: {size[0]}x{size[1]}.")


def _check_pixels(container: Container, max_pixels: int) -> None:
    limit = min(max_pixels, MAX_WEBP_PIXELS) if container.format is Format.WEBP else max_pixels
    width, height = container.stored
    if width * height > limit:
        kind = "A WebP image" if limit < max_pixels else "An image"
        raise InvalidImage(f"{kind} may have {limit / 1e6:g} megapixels at most; this one has {width}x{height} pixels.")


def _covering(size: Size, wanted: Size) -> Size:
    """`size` made just large enough, or small enough, to cover `wanted`."""
    return _scaled(size, max(wanted[0] / size[0], wanted[1] / size[1]))


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _aspect(size: Size) -> float:
    return size[0] / size[1]
