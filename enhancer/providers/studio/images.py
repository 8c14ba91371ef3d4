"""
The photo retoucher: white balance, levels, noise, size, sharpness.

Each step measures first and does nothing to a photo that does not need it. The colours of the product are what is
being sold, so every correction is bounded. The bounds were found by eye and by measure on photos that were darkened,
tinted and noised on purpose (tests/providers/test_studio_images.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from enhancer import crafts, imaging
from enhancer.domain.images import Format, Size
from enhancer.errors import InvalidImage, ProviderRefused, UnsupportedImage
from enhancer.providers import ImageBrief, OnDraft, Redrawn

Pixels = NDArray[np.floating]

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, as JPEG and Pillow have it
GAINS = (0.85, 1.18)  # white balance; beyond, an orange product turns beige
TINT_ALLOWED = 0.04  # natural logarithm of a gain: light may stay this warm or cool
NOISE_SEEN = 1.5  # standard deviation of the luma, 0..255; less is not worth the detail it costs


class StudioImages:
    """The offline studio's images, see providers.Images. The description has no part in it."""

    model = "offline-studio"
    billed = False
    longest_call = 0.0

    async def redraw(self, brief: ImageBrief, on_draft: OnDraft | None = None) -> Redrawn:
        """Enhance the photo; a JPEG of exactly the size that was asked for. Its drafts are half as large."""
        loop = asyncio.get_running_loop()

        def show(draft: Image.Image) -> None:
            if on_draft:
                loop.call_soon_threadsafe(on_draft, imaging.encode_jpeg(draft, quality=80))

        try:
            data = await crafts.done(enhance, brief.image, brief.size, show if on_draft else None)
        except (InvalidImage, UnsupportedImage) as error:
            raise ProviderRefused("The offline studio cannot read this image.") from error
        return Redrawn(data, Format.JPEG, brief.size, tokens=0)


def enhance(data: bytes, size: Size, on_stage: Callable[[Image.Image], None] | None = None) -> bytes:
    """
    The photo at its best, as a JPEG of exactly `size`. Raises InvalidImage.

    `on_stage` sees it, at half the size, when its light and colours are right and before it is sharpened.
    """
    image = imaging.decode(data, at_least=size)
    curves = _curves(image)
    if on_stage:
        on_stage(imaging.cover(image.point(curves), (size[0] // 2, size[1] // 2)))
    larger = image.width >= size[0] and image.height >= size[1]
    image = imaging.cover(image, size) if larger else image
    noise = noise_of(image)
    if noise > NOISE_SEEN:
        image = _denoised(image, noise)
    image = imaging.cover(image.point(curves), size)
    if on_stage:
        on_stage(image.reduce(2))
    sharp = image.filter(ImageFilter.UnsharpMask(radius=1.4, percent=60, threshold=4 + round(noise)))
    return imaging.encode_jpeg(sharp, quality=95)


def noise_of(image: Image.Image) -> float:
    """
    The noise's standard deviation, 0..255, in the luma of the calmest parts.

    The diagonal differences of 2x2 pixels in blocks of 32x32; detail is in some blocks, noise is in all.
    """
    height, width = image.height // 32 * 32, image.width // 32 * 32
    luma = np.asarray(image.convert("L"), np.float32)[:height, :width]
    diagonal = (luma[::2, ::2] - luma[1::2, ::2] - luma[::2, 1::2] + luma[1::2, 1::2]) / 2
    spread = np.sqrt(_blocks(diagonal**2, 16))
    light = _blocks(luma, 32)
    spread = spread[(light > 12) & (light < 243)]  # where it is black or white, noise is clipped
    return float(np.percentile(spread, 15)) if spread.size else 0.0


def _curves(image: Image.Image) -> list[int]:
    """White balance, levels and gamma in one table of 3 x 256 values, for Image.point."""
    image = image.copy()
    image.thumbnail((256, 256), Image.Resampling.BOX)
    small = np.asarray(image.filter(ImageFilter.BoxBlur(1)), np.float32) / 255
    gains = _white_balance(small)
    black, gain, gamma = _levels(np.clip(small * gains, 0, 1))
    steps = np.arange(256) / 255
    tables = np.clip((steps * gains[:, None] - black) * gain, 0, 1) ** gamma
    return [int(value) for value in np.rint(tables.ravel() * 255)]


def _white_balance(small: Pixels) -> Pixels:
    """A gain for each channel that takes most of the light's tint away, as far as something neutral shows it."""
    luma, brightest = small @ LUMA, small.max(axis=-1)
    saturation = (brightest - small.min(axis=-1)) / np.maximum(brightest, 1e-3)
    white = float(np.percentile(luma, 99))
    neutral = (luma > 0.2 * white) & (brightest < 0.99) & (saturation < 0.4)
    share = float(neutral.mean())
    if share < 0.005:
        return np.ones(3, np.float32)
    doubt = saturation + 0.5 * (1 - np.minimum(luma / white, 1))  # bright and pale: paper, china, metal
    neutral &= doubt <= np.percentile(doubt[neutral], min(100, 6 / share))
    tint = (small[neutral] * luma[neutral][:, None]).sum(axis=0)
    tint = np.log(tint / (tint @ LUMA))
    largest = float(np.abs(tint).max())
    # a photo that is bright enough was probably lit with care: its warmth is more often meant
    trust = float(np.clip(1.9 - 1.5 * white, 0.4, 1) * np.clip((0.55 - saturation[neutral].mean()) / 0.2, 0, 1))
    trust *= min(1.0, float(neutral.mean()) / 0.03)
    excess = max(0.0, largest - TINT_ALLOWED) / max(largest, 1e-6)
    gains: Pixels = np.clip(np.exp(-0.85 * trust * excess * tint), *GAINS)
    return gains / (gains @ LUMA)


def _levels(small: Pixels) -> tuple[float, float, float]:
    """
    Black point, gain and gamma: whites near white, a median of 0.5 at most; a photo is never made darker.

    The brightest channel sets the limit, not the luma: a red that is cut off turns orange, a blue turns cyan. Where
    nearly everything is as light as the lightest, it is a plain backdrop, and the median may go further.
    """
    low, middle = (float(value) for value in np.percentile(small @ LUMA, (0.5, 50)))
    high = float(np.percentile(small.max(axis=-1), 99.5))
    black = min(0.35 * low, 0.04)
    backdrop = float(np.clip((middle / max(high, 0.01) - 0.7) / 0.2, 0, 1))
    gain = min(0.97 / max(high - black, 0.01), (0.5 + 0.3 * backdrop) / max(middle - black, 0.01), 2.5)
    gain = max(1.0, gain) ** 0.95
    gain = max(gain, 1 / (1 - black))  # what was white stays so
    middle = min(max((middle - black) * gain, 0.02), 1.0)
    gamma = 1.0 if middle >= 0.4 else max(0.8, 0.6 + 0.4 * float(np.log(0.4) / np.log(middle)))
    return black, gain, gamma


def _denoised(image: Image.Image, noise: float) -> Image.Image:
    """
    Without most of its noise, edges kept, colours kept within the edges of the luma.

    The guided filter, at half size for speed: He, Sun and Tang, "Guided Image Filtering" (2013), and He and Sun,
    "Fast Guided Filter" (2015).
    """
    luma, *chroma = image.convert("YCbCr").split()
    calm = _calmed(np.asarray(luma, np.float32), noise)
    guide = calm[::2, ::2]
    mean = _mean(guide, 5)
    spread = np.maximum(_mean(guide * guide, 5) - mean * mean, 0) + (1.5 * noise) ** 2
    channels = [_picture(calm)]
    for channel in chroma:
        half = np.asarray(channel.reduce(2), np.float32)
        average = _mean(half, 5)
        slope = (_mean(guide * half, 5) - mean * average) / spread
        smooth = _mean(slope, 5) * guide + _mean(average - slope * mean, 5)
        fine = np.asarray(channel.reduce(2).filter(ImageFilter.MedianFilter(3)), np.float32)
        channels.append(_picture(0.8 * smooth + 0.2 * fine).resize(image.size, Image.Resampling.BICUBIC))
    return Image.merge("YCbCr", channels).convert("RGB")


def _calmed(luma: Pixels, noise: float) -> Pixels:
    """The luma smoothed where it varies no more than noise does; a tenth of the grain stays, it looks natural."""
    half = luma[::2, ::2]
    mean = _mean(half, 2)
    excess = np.maximum(_mean(half * half, 2) - mean * mean - 1.4 * noise**2, 0)
    slope = excess / (excess + 0.5 * noise**2)
    size = (luma.shape[1], luma.shape[0])
    slope, offset = (
        np.asarray(Image.fromarray(_mean(part, 1)).resize(size, Image.Resampling.BILINEAR))
        for part in (slope, (1 - slope) * mean)
    )
    calm: Pixels = 0.1 * luma + 0.9 * (slope * luma + offset)
    return calm


def _mean(values: Pixels, radius: int) -> Pixels:
    """The mean over a square of 2 * radius + 1 around each value, from running sums."""
    side = 2 * radius + 1
    sums = np.pad(values, (radius + 1, radius), mode="edge").cumsum(axis=0, dtype=np.float64)
    sums = (sums[side:] - sums[:-side]).cumsum(axis=1)
    means: Pixels = ((sums[:, side:] - sums[:, :-side]) / side**2).astype(np.float32)
    return means


def _blocks(values: Pixels, side: int) -> Pixels:
    """The mean of each block of `side` x `side` values."""
    rows, columns = values.shape[0] // side, values.shape[1] // side
    means: Pixels = values.reshape(rows, side, columns, side).mean(axis=(1, 3))
    return means


def _picture(values: Pixels) -> Image.Image:
    return Image.fromarray(np.clip(values + 0.5, 0, 255).astype(np.uint8))
