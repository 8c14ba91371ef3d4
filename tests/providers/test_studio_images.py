"""Whether the studio's pictures are better: measured against photos that were made worse on purpose."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from enhancer import imaging
from enhancer.domain.images import Format, Orientation, Size
from enhancer.errors import ProviderRefused
from enhancer.providers import ImageBrief, Images
from enhancer.providers.studio import StudioImages
from enhancer.providers.studio.images import enhance, noise_of

PHOTOS = Path(__file__).parents[1] / "photos"
NAMES = ["coffee.png", "chelsea.png", "rocket.jpg"]
SIZE = (1536, 1024)


class Fault(NamedTuple):
    """What a phone does to a photo in a dim room. `noise`: standard deviation, 0..255."""

    light: float
    tint: tuple[float, float, float]
    noise: float


LAMP = Fault(0.55, (1.1, 1.0, 0.82), 9)
DUSK = Fault(0.45, (1.0, 1.0, 1.0), 12)


def photo(name: str) -> Image.Image:
    with Image.open(PHOTOS / name) as image:
        return image.convert("RGB")


def spoiled(image: Image.Image, fault: Fault, seed: int = 1) -> Image.Image:
    values = np.asarray(image, np.float64) * fault.light * fault.tint
    values += np.random.default_rng(seed).normal(0, fault.noise, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def enhanced(image: Image.Image, size: Size = SIZE) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    made = Image.open(io.BytesIO(enhance(out.getvalue(), size)))
    made.load()
    return made


def psnr(one: Image.Image, other: Image.Image) -> float:
    error = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def ssim(one: Image.Image, other: Image.Image) -> float:
    """Of the luma, in windows of 7x7. Wang, Bovik, Sheikh and Simoncelli (2004)."""
    x, y = (np.asarray(image.convert("L"), np.float64) for image in (one, other))
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def mean(values: NDArray[np.float64], side: int = 7) -> NDArray[np.float64]:
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    means: NDArray[np.float64] = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return means / side**2


def colour(image: Image.Image, where: NDArray[np.bool_]) -> tuple[float, float]:
    """Hue (degrees) and chroma of a part: the medians of a* and b*."""
    _, a, b = np.median(imaging.lab(image)[where], axis=0)
    return float(np.degrees(np.arctan2(b, a))), float(np.hypot(a, b))


def saturated(image: Image.Image) -> NDArray[np.bool_]:
    """The most colourful fifth: the product, on these photos."""
    lab = imaging.lab(image)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    return np.asarray(chroma >= np.percentile(chroma, 80))


def ball(product: tuple[int, int, int], ground: tuple[int, int, int]) -> tuple[Image.Image, NDArray[np.bool_]]:
    """A shaded ball on a backdrop, and where the ball is."""
    image, mask = Image.new("RGB", (960, 640), ground), Image.new("L", (960, 640))
    for radius in range(200, 0, -1):
        light = 1.1 - 0.45 * radius / 200
        fill = tuple(min(255, round(value * light)) for value in product)
        ImageDraw.Draw(image).ellipse((480 - radius, 320 - radius, 480 + radius, 320 + radius), fill=fill)
    ImageDraw.Draw(mask).ellipse((300, 140, 660, 500), fill=255)
    return image, np.asarray(mask) > 0


@pytest.mark.parametrize("fault", [LAMP, DUSK])
@pytest.mark.parametrize("name", NAMES)
def test_a_dark_tinted_noisy_photo_becomes_more_like_the_good_one(name: str, fault: Fault) -> None:
    good, bad = photo(name), spoiled(photo(name), fault)
    target, before, after = imaging.cover(good, SIZE), imaging.cover(bad, SIZE), enhanced(bad)
    assert psnr(after, target) >= psnr(before, target) + 5
    assert ssim(after, target) >= ssim(before, target) + 0.1


@pytest.mark.parametrize("fault", [LAMP, DUSK])
def test_the_product_keeps_its_colour(fault: Fault) -> None:
    """The red saucer; the light's tint has moved its hue, so it may come back some degrees."""
    good, bad = photo("coffee.png"), spoiled(photo("coffee.png"), fault)
    target, after = imaging.cover(good, SIZE), enhanced(bad)
    where = saturated(target)
    hue, chroma = colour(target, where)
    made_hue, made_chroma = colour(after, where)
    assert abs(made_hue - hue) < 8
    assert 0.85 * chroma < made_chroma < 1.2 * chroma


@pytest.mark.parametrize("ground", [(236, 226, 205), (245, 245, 245), (120, 85, 55), (40, 40, 44)])
@pytest.mark.parametrize("product", [(232, 120, 30), (200, 40, 30), (40, 120, 190), (60, 140, 70)])
def test_an_orange_stays_orange_on_any_backdrop(product: tuple[int, int, int], ground: tuple[int, int, int]) -> None:
    image, where = ball(product, ground)
    hue, chroma = colour(image, where)
    made_hue, made_chroma = colour(enhanced(image, image.size), where)
    assert abs((made_hue - hue + 180) % 360 - 180) < 10
    assert made_chroma > 0.9 * chroma


@pytest.mark.parametrize("name", NAMES)
def test_a_good_photo_does_not_get_worse(name: str) -> None:
    good = imaging.cover(photo(name), SIZE)
    made = enhanced(photo(name))
    where = saturated(good)
    assert ssim(made, good) > 0.92
    assert abs(colour(made, where)[0] - colour(good, where)[0]) < 7  # a lighter blue has another hue in L*a*b*
    assert colour(made, where)[1] > 0.97 * colour(good, where)[1]
    assert detail(made) > detail(good)
    assert (np.asarray(made) == 255).all(axis=-1).mean() < (np.asarray(good) > 250).all(axis=-1).mean() + 0.01


def detail(image: Image.Image) -> float:
    grey = image.convert("L")
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(1.5)), np.float64)
    return float(np.abs(np.asarray(grey, np.float64) - blurred).mean())


def test_a_white_backdrop_stays_white() -> None:
    made = np.asarray(enhanced(ball((60, 140, 70), (250, 250, 250))[0], (960, 640)))
    assert made[:80].min() >= 247


def test_a_backdrop_that_was_white_in_a_dim_room_is_light_again() -> None:
    bad = spoiled(ball((60, 140, 70), (250, 250, 250))[0], LAMP)
    before, after = (imaging.lab(image)[:80].reshape(-1, 3).mean(axis=0) for image in (bad, enhanced(bad, bad.size)))
    assert before[0] < 62
    assert after[0] > 76
    assert np.hypot(*after[1:]) < 0.7 * np.hypot(*before[1:])


def test_a_black_picture_stays_a_picture() -> None:
    for value in (0, 1, 128, 255):
        made = enhanced(Image.new("RGB", (200, 120), (value, value, value)), (300, 200))
        assert np.ptp(np.asarray(made)) <= 2


@pytest.mark.parametrize("sigma", [2.0, 5.0, 10.0])
def test_noise_is_measured_also_where_there_is_detail(sigma: float) -> None:
    grey = np.asarray(photo("coffee.png").convert("L").resize((1200, 800)), np.float64)
    noisy = np.clip(grey + np.random.default_rng(3).normal(0, sigma, grey.shape), 0, 255).astype(np.uint8)
    assert noise_of(Image.fromarray(noisy)) == pytest.approx(sigma, rel=0.25)


def test_a_clean_photo_is_not_called_noisy() -> None:
    for name in NAMES:
        assert noise_of(photo(name)) < 1.5


@pytest.mark.parametrize("size", [(1280, 720), (300, 400), (500, 500), (4000, 3000), (1600, 90), (33, 17)])
async def test_the_picture_has_exactly_the_size_that_was_asked_for(size: Size) -> None:
    out = io.BytesIO()
    photo("coffee.png").resize(size).save(out, "JPEG", quality=90)
    wanted = Orientation.of(size).model_size
    redrawn = await StudioImages().redraw(ImageBrief(out.getvalue(), Format.JPEG, wanted, "A cup"))
    assert (redrawn.format, redrawn.size, redrawn.tokens) == (Format.JPEG, wanted, 0)
    assert imaging.inspect(redrawn.data).size == wanted


async def test_the_same_photo_gives_the_same_picture() -> None:
    brief = ImageBrief((PHOTOS / "rocket.jpg").read_bytes(), Format.JPEG, (768, 512), "")
    studio = StudioImages()
    assert await studio.redraw(brief) == await studio.redraw(brief)


async def test_what_cannot_be_read_is_refused() -> None:
    for data in (b"", b"text", (PHOTOS / "coffee.png").read_bytes()[:5000]):
        with pytest.raises(ProviderRefused):
            await StudioImages().redraw(ImageBrief(data, Format.PNG, SIZE, ""))


def test_the_studio_costs_nothing() -> None:
    studio: Images = StudioImages()
    assert (studio.model, studio.billed, studio.longest_call) == ("offline-studio", False, 0.0)
