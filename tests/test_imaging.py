"""Photos of every kind that people have, and of some that only attackers have."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw, ImageOps, PngImagePlugin

from enhancer import imaging
from enhancer.domain.images import Format, Orientation, Photo, Size
from enhancer.errors import InvalidImage, UnsupportedImage

PHOTOS = Path(__file__).parent / "photos"
LIMIT = 100_000_000
KINDS = ["jpeg", "progressive", "png", "webp", "lossless"]
RED, GREEN, BLUE, WHITE = (210, 40, 30), (40, 160, 60), (40, 70, 190), (255, 255, 255)


def quarters(size: Size = (96, 64)) -> Image.Image:
    """Four colours, so that every rotation and reflection can be told."""
    image = Image.new("RGB", size, WHITE)
    width, height = size[0] // 2, size[1] // 2
    for colour, corner in ((RED, (0, 0)), (GREEN, (width, 0)), (BLUE, (0, height))):
        image.paste(colour, (*corner, corner[0] + width, corner[1] + height))
    return image


def coffee(size: Size = (300, 200)) -> Image.Image:
    with Image.open(PHOTOS / "coffee.png") as image:
        return image.convert("RGB").resize(size)


def encoded(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    out = io.BytesIO()
    match kind:
        case "jpeg":
            image.save(out, "JPEG", **{"quality": 95, "subsampling": 0, **options})
        case "progressive":
            image.save(out, "JPEG", **{"quality": 95, "subsampling": 0, "progressive": True, **options})
        case "lossless":
            image.save(out, "WEBP", **{"lossless": True, **options})
        case _:
            image.save(out, kind.upper(), **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image.convert("RGB"), np.int16)


def close(one: Image.Image, other: Image.Image, within: float) -> bool:
    return one.size == other.size and float(np.abs(pixels(one) - pixels(other)).mean()) <= within


def verify(data: bytes, max_pixels: int = LIMIT) -> Photo:
    return imaging.verify(io.BytesIO(data), max_pixels=max_pixels)


def png(size: Size, depth: int, colours: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG put together by hand: kinds that Pillow does not write, sizes that are not true."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colours, 0, 0, 0))]
    parts += [(name.encode(), value) for name, value in chunks.items()]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = (struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


# what is accepted


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_is_recognised_by_its_bytes(kind: str) -> None:
    expected = {"progressive": "jpeg", "lossless": "webp"}.get(kind, kind)
    data = encoded(coffee(), kind)
    assert verify(data) == imaging.inspect(data) == Photo(Format(expected), (300, 200))
    assert imaging.sniff(data[:12]) is Format(expected)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"just a text that was named photo.jpg",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"%PDF-1.7",
        *(encoded(quarters(), kind) for kind in ("gif", "bmp", "tiff", "ppm")),
    ],
)
def test_other_files_are_not_supported_whatever_their_name(data: bytes) -> None:
    for look in (verify, imaging.inspect, imaging.decode):
        with pytest.raises(UnsupportedImage):
            look(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_that_is_cut_off_anywhere_is_invalid(kind: str) -> None:
    data = encoded(coffee(), kind)
    for end in sorted({12, 20, 33, 64, len(data) - 1, *range(100, len(data), len(data) // 30)}):
        with pytest.raises(InvalidImage):
            verify(data[:end])


def test_a_jpeg_that_was_cut_off_and_closed_again_is_still_shown_as_far_as_it_goes() -> None:
    """Decoders cannot tell it from a finished one; it must only not break anything."""
    data = encoded(coffee(), "jpeg")
    assert verify(data[: len(data) // 2] + b"\xff\xd9").size == (300, 200)


def test_a_damaged_png_is_invalid() -> None:
    data = bytearray(encoded(coffee(), "png"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(InvalidImage):
        verify(bytes(data))


@given(st.sampled_from(KINDS), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_hostile_bytes_end_in_one_of_two_errors(kind: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(SMALL[kind])
    for _ in range(chance.randint(1, 12)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        at = chance.randrange(len(data))
        del data[at : at + chance.randint(1, 40)]
    for look in (verify, imaging.inspect, lambda data: imaging.upright(data, max_side=32), imaging.decode):
        try:
            look(bytes(data))
        except (InvalidImage, UnsupportedImage):
            continue


SMALL = {kind: encoded(coffee((48, 32)), kind) for kind in KINDS}


def test_a_bomb_is_refused_by_its_header() -> None:
    black = png((60_000, 60_000), 8, 2, b"\0" * 1000)
    jpeg = bytearray(encoded(coffee(), "jpeg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    webp = bytearray(encoded(coffee().convert("RGBA"), "webp", exif=b"Exif\0\0"))
    webp[24:30] = (16_382).to_bytes(3, "little") * 2
    for data in (black, bytes(jpeg), bytes(webp)):
        with pytest.raises(InvalidImage):
            verify(data)


def test_too_many_pixels_are_named_in_the_answer() -> None:
    with pytest.raises(InvalidImage, match=r"0\.05 megapixels at most; this one has 300x200"):
        verify(encoded(coffee()), max_pixels=50_000)
    assert verify(encoded(coffee()), max_pixels=60_000).size == (300, 200)


def test_a_webp_has_a_limit_of_its_own_for_it_takes_so_much_memory() -> None:
    with pytest.raises(InvalidImage, match="A WebP image may have 25 megapixels at most"):
        verify(encoded(Image.new("RGB", (6000, 5000)), "webp", method=0, quality=1))


def test_a_size_that_the_file_is_too_small_for_is_refused() -> None:
    with pytest.raises(InvalidImage):
        verify(png((9_000, 9_000), 8, 2, b"\0" * 27_001))


def test_a_plain_picture_packs_as_tightly_as_deflate_can_and_is_accepted() -> None:
    for mode in ("1", "L", "RGB", "RGBA"):
        assert verify(encoded(Image.new(mode, (3000, 2000)), "png", compress_level=9)).size == (3000, 2000)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(coffee(), "progressive")
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(InvalidImage):
        verify(data[:-2] + scan * 200 + b"\xff\xd9")


@pytest.mark.parametrize(("size", "says"), [((300, 15), "too small"), ((8, 8), "too small"), ((420, 20), "narrow")])
def test_shapes_that_no_advertisement_is_made_of_are_refused(size: Size, says: str) -> None:
    for kind in KINDS:
        with pytest.raises(InvalidImage, match=says):
            verify(encoded(Image.new("RGB", size), kind))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(InvalidImage):
        verify(png((0, 100), 8, 2, b""))


def test_a_file_is_read_from_its_beginning() -> None:
    file = io.BytesIO(encoded(coffee()))
    file.read()
    assert imaging.verify(file, max_pixels=LIMIT).size == (300, 200)


# which way is up


def turned(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


@pytest.mark.parametrize("kind", ["jpeg", "png", "lossless"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_counts(kind: str, turn: int) -> None:
    data = encoded(quarters(), kind, exif=turned(turn))
    expected = ImageOps.exif_transpose(opened(data))
    photo = imaging.inspect(data)
    assert photo == verify(data)
    assert photo.size == expected.size
    assert photo.orientation is (Orientation.PORTRAIT if turn > 4 else Orientation.LANDSCAPE)
    assert close(imaging.decode(data), expected, 2)
    upright = imaging.upright(data, max_side=1000)
    assert upright.size == expected.size
    assert close(opened(upright.data), expected, 2)
    assert imaging.inspect(upright.data) == Photo(upright.format, upright.size)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_of_exif_are_read(order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    exif = mark + struct.pack(f"{order}IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
    assert imaging.inspect(encoded(quarters(), "jpeg", exif=b"Exif\0\0" + exif)).size == (64, 96)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"nonsense",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 99, 0),
        b"MM\0*" + struct.pack(">IHHHII", 8, 1, 0x011A, 5, 90_000, 90_000),
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_damaged_exif_is_as_good_as_none_and_warns_nobody(kind: str, exif: bytes) -> None:
    data = encoded(quarters(), kind, exif=b"Exif\0\0" + exif)
    assert verify(data).size == imaging.decode(data).size == (96, 64)
    assert imaging.upright(data, max_side=1000).size == (96, 64)


# what a provider gets


def secrets_of(place: str) -> dict[str, dict[str, object]]:
    """Save options that hide `place` in everything a file can carry."""
    exif = Image.Exif()
    exif[0x010E] = place
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 29: place})
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", place)
    text.add_itxt("XML:com.adobe.xmp", place)
    known: dict[str, object] = {"exif": exif, "xmp": place.encode()}
    return {
        "jpeg": {**known, "comment": place},
        "progressive": {**known, "comment": place},
        "png": {"exif": exif, "pnginfo": text},
        "webp": known,
        "lossless": known,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_side", [100, 1000])
def test_nothing_that_a_file_carries_beside_its_pixels_reaches_a_provider(kind: str, max_side: int) -> None:
    place = "where it was taken"
    data = encoded(coffee(), kind, **secrets_of(place)[kind])
    assert place.encode() in data
    upright = imaging.upright(data, max_side=max_side)
    assert place.encode() not in upright.data
    assert b"Exif" not in upright.data
    assert not dict(opened(upright.data).getexif())
    for made in (imaging.fit(data, (64, 64)), imaging.fit(data, (300, 200))):
        assert place.encode() not in made
        assert b"Exif" not in made


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_is_left_out_without_touching_a_pixel(kind: str) -> None:
    data = encoded(coffee(), kind, **secrets_of("here")[kind])
    upright = imaging.upright(data, max_side=1000)
    assert upright.format is imaging.inspect(data).format
    assert (pixels(opened(upright.data)) == pixels(opened(data))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_that_is_fit_to_send_is_passed_on_unchanged(kind: str) -> None:
    data = encoded(coffee(), kind)
    assert imaging.upright(data, max_side=300).data is data


def test_what_is_appended_to_a_jpeg_is_left_out() -> None:
    data = encoded(coffee(), "jpeg")
    film = data + b"\0\0\0\x18ftypmp42 where it was taken"
    assert verify(film).size == (300, 200)
    assert imaging.upright(film, max_side=1000).data == data


def test_of_a_stereo_photo_the_first_picture_is_taken() -> None:
    out = io.BytesIO()
    coffee().save(out, "MPO", save_all=True, append_images=[quarters((300, 200))])
    data = out.getvalue()
    assert verify(data) == Photo(Format.JPEG, (300, 200))
    assert close(imaging.decode(data), coffee(), 6)


def test_a_large_photo_is_made_smaller_in_proportion() -> None:
    upright = imaging.upright(encoded(coffee((1200, 800)), "jpeg"), max_side=500)
    assert (upright.format, upright.size) == (Format.JPEG, (500, 333))
    assert opened(upright.data).size == (500, 333)
    assert close(opened(upright.data), coffee((1200, 800)).resize((500, 333), Image.Resampling.LANCZOS), 3)


def test_a_thin_photo_keeps_at_least_one_pixel() -> None:
    assert imaging.upright(encoded(Image.new("RGB", (1000, 50))), max_side=10).size == (10, 1)


# colours


def test_cmyk_is_brought_to_rgb() -> None:
    data = encoded(quarters().convert("CMYK"), "jpeg")
    assert opened(data).mode == "CMYK"
    assert close(imaging.decode(data), quarters(), 4)
    assert opened(imaging.upright(data, max_side=1000).data).mode == "RGB"


def test_sixteen_bits_of_grey_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    rows = np.tile(ramp, (32, 1))
    data = encoded(Image.fromarray(rows), "png")
    assert opened(data).mode == "I;16"
    found = pixels(imaging.decode(data))[0, :, 0]
    assert np.abs(found - ramp / 257).max() <= 1


@pytest.mark.parametrize(("colours", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_all_sixteen_bit_pngs_are_read(colours: int, channels: int) -> None:
    values = np.full((20, 30, channels), 0x8000, ">u2")
    if colours in {4, 6}:
        values[..., -1] = 0xFFFF
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    data = png((30, 20), 16, colours, rows)
    assert verify(data).size == (30, 20)
    assert np.abs(pixels(imaging.decode(data)) - 128).max() <= 1


def test_a_sixteen_bit_png_with_a_transparent_colour_is_read() -> None:
    rows = b"".join(b"\0" + struct.pack(">HHH", 0x8000, 0x1234, 0x4000) * 30 for _ in range(20))
    data = png((30, 20), 16, 2, rows, tRNS=struct.pack(">HHH", 0x8000, 0x1234, 0x4000))
    assert verify(data).size == imaging.decode(data).size == (30, 20)


def cut_out(mode: str) -> Image.Image:
    """A dark disc, transparent around it."""
    alpha = Image.new("L", (60, 60), 0)
    ImageDraw.Draw(alpha).ellipse((10, 10, 50, 50), fill=255)
    image = Image.new("RGBA", (60, 60), (20, 20, 20, 0))
    image.paste((20, 20, 20, 255), mask=alpha)
    if mode == "P":
        return image.quantize(8)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_product_cut_out_stands_on_white(mode: str, kind: str) -> None:
    data = encoded(cut_out(mode), kind)
    for image in (imaging.decode(data), opened(imaging.upright(data, max_side=1000).data)):
        assert image.mode == "RGB"
        assert pixels(image)[2, 2].min() > 250
        assert pixels(image)[30, 30].max() < 40


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_becomes_white(mode: str) -> None:
    image = Image.new("RGB", (40, 40), (0, 0, 0))
    image.paste((200, 200, 200), (10, 10, 30, 30))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    black = image.getpixel((0, 0))
    data = encoded(image, "png", transparency=black)
    assert pixels(imaging.decode(data))[0, 0].min() > 250
    assert np.abs(pixels(imaging.decode(data))[20, 20] - 200).max() < 6


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_pictures_without_full_colour_become_rgb(mode: str) -> None:
    image = coffee().convert(mode)
    upright = imaging.upright(encoded(image), max_side=1000)
    assert opened(upright.data).mode == "RGB"
    assert close(opened(upright.data), image.convert("RGB"), 4)


def display_p3() -> bytes:
    """A profile with the primaries of Display P3, adapted to D50 (as Apple's own), and the curve of sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }
    for entry in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        name, offset, _ = struct.unpack_from(">4sII", profile, entry)
        if name in primaries:
            struct.pack_into(">iii", profile, offset + 8, *(round(value * 65536) for value in primaries[name]))
    return bytes(profile)


@pytest.mark.parametrize("kind", ["jpeg", "png", "lossless"])
def test_wide_colours_are_brought_to_srgb(kind: str) -> None:
    # Display P3 (200, 100, 100) is (214.9, 92.6, 96.6) in sRGB, by the two matrices
    data = encoded(Image.new("RGB", (64, 64), (200, 100, 100)), kind, icc_profile=display_p3())
    upright = imaging.upright(data, max_side=1000)
    assert b"ICC_PROFILE" not in upright.data
    for image in (imaging.decode(data), opened(upright.data)):
        assert np.abs(pixels(image)[32, 32] - (215, 93, 97)).max() <= 2


@pytest.mark.parametrize("profile", [b"nonsense", display_p3()[:300], display_p3()[:-200]])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_damaged_or_foreign_profile_is_as_good_as_none(mode: str, profile: bytes) -> None:
    image = coffee().convert(mode)
    data = encoded(image, "jpeg", icc_profile=profile)
    assert close(imaging.decode(data), imaging.decode(encoded(image, "jpeg")), 12)


@pytest.mark.parametrize("kind", ["png", "lossless"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    data = encoded(
        quarters(), kind, save_all=True, append_images=[coffee((96, 64)), Image.new("RGB", (96, 64))], duration=50
    )
    assert opened(data).n_frames == 3  # type: ignore[attr-defined]
    assert verify(data).size == (96, 64)
    upright = imaging.upright(data, max_side=1000)
    assert getattr(opened(upright.data), "n_frames", 1) == 1
    for image in (imaging.decode(data), opened(upright.data)):
        assert close(image, quarters(), 2)


def test_an_animation_that_names_frames_it_does_not_have_is_still_a_picture() -> None:
    data = png((40, 30), 8, 0, b"".join(b"\0" + b"\x80" * 40 for _ in range(30)), acTL=struct.pack(">II", 0, 0))
    assert verify(data).size == imaging.decode(data).size == (40, 30)


# fitting


def test_a_decoded_jpeg_is_no_larger_than_needed_and_no_smaller() -> None:
    data = encoded(coffee((1200, 800)), "jpeg", exif=turned(6))
    for wanted in ((100, 150), (333, 501), (800, 1200)):
        image = imaging.decode(data, at_least=wanted)
        assert image.width >= wanted[0]
        assert image.height >= wanted[1]
    assert imaging.decode(data, at_least=(100, 150)).size == (100, 150)


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (100, 100), (37, 61)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_fitted_to_exactly_the_size(kind: str, size: Size) -> None:
    made = opened(imaging.fit(encoded(coffee(), kind), size))
    assert (made.format, made.mode, made.size) == ("JPEG", "RGB", size)
    assert not made.info.keys() & {"exif", "xmp", "icc_profile", "comment"}


def test_a_fitted_jpeg_is_not_encoded_again() -> None:
    data = encoded(coffee(), "jpeg")
    assert imaging.fit(data, (300, 200)) is data


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (100, 60)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_thumbnail_is_a_small_jpeg_of_the_whole_picture(kind: str, size: Size) -> None:
    data = imaging.thumbnail(encoded(coffee(size), kind), max_side=150)
    scale = min(1.0, 150 / max(size))
    assert (opened(data).format, opened(data).size) == ("JPEG", (round(size[0] * scale), round(size[1] * scale)))
    assert close(opened(data), coffee(size).resize(opened(data).size), within=12)


def product(at: Size, size: Size = (600, 400)) -> Image.Image:
    image = Image.new("RGB", size, (236, 232, 226))
    ImageDraw.Draw(image).ellipse((at[0] - 50, at[1] - 50, at[0] + 50, at[1] + 50), fill=RED)
    return image


@pytest.mark.parametrize("at", [(80, 200), (200, 200), (300, 80), (300, 200), (520, 320)])
def test_the_focus_is_on_the_product(at: Size) -> None:
    x, y = imaging.focus(product(at))
    assert abs(x - at[0] / 600) < 0.06
    assert abs(y - at[1] / 400) < 0.08


def test_the_focus_is_in_the_middle_when_nothing_stands_out() -> None:
    noise = np.random.default_rng(5).normal(128, 6, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    ramp = np.tile(np.linspace(120, 130, 400), (300, 1)).astype(np.uint8)
    for image in (Image.new("RGB", (400, 300), RED), Image.fromarray(noise), Image.fromarray(ramp)):
        assert imaging.focus(image.convert("RGB")) == (0.5, 0.5)


def test_a_crop_keeps_the_product_that_is_beside_the_middle() -> None:
    for at in ((60, 200), (540, 200)):
        made = imaging.cover(product(at), (400, 400))
        red = (np.abs(pixels(made) - RED).max(axis=-1) < 30).sum()
        whole = (np.abs(pixels(product(at)) - RED).max(axis=-1) < 30).sum()
        assert red >= 0.98 * whole


SIDES = st.integers(1, 20_000)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_crop_window_never_leaves_the_picture(size: Size, wanted: Size, at: tuple[float, float]) -> None:
    left, top, right, bottom = imaging.window(size, wanted, at)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert (right - left) / (bottom - top) == pytest.approx(wanted[0] / wanted[1], rel=1e-6)


def test_a_picture_too_long_to_crop_is_shown_whole_on_a_dark_ground_of_itself() -> None:
    made = imaging.cover(quarters((600, 100)), (300, 300))
    assert made.size == (300, 300)
    band = made.crop((0, 125, 300, 175))
    assert close(band, quarters((300, 50)), 4)
    assert pixels(made.crop((0, 0, 300, 100))).max() < 140


# many at once, and large ones


def test_threads_do_not_disturb_each_other() -> None:
    files = [encoded(coffee((320 + n, 200)), KINDS[n % 5], **secrets_of("x")[KINDS[n % 5]]) for n in range(15)]

    def work(data: bytes) -> tuple[Photo, imaging.Upright, bytes]:
        return verify(data), imaging.upright(data, max_side=150), imaging.fit(data, (160, 90))

    alone = [work(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, files * 2)) == alone * 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_48_megapixel_photo_is_checked_and_sent_in_little_memory(tmp_path: Path) -> None:
    photo = tmp_path / "large.jpg"
    coffee((1000, 750)).resize((8000, 6000), Image.Resampling.NEAREST).save(photo, quality=60)
    script = """
import re, sys
from pathlib import Path
from enhancer import imaging
with open(sys.argv[1], "rb") as file:
    print(*imaging.verify(file, max_pixels=100_000_000).size)
print(*imaging.upright(Path(sys.argv[1]).read_bytes(), max_side=2048).size)
imaging.fit(Path(sys.argv[1]).read_bytes(), (1280, 720))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    run = subprocess.run([sys.executable, "-c", script, str(photo)], capture_output=True, text=True, check=True)
    verified, sent, peak = run.stdout.split("\n")[:3]
    assert (verified, sent) == ("8000 6000", "2048 1536")
    assert int(peak) < 250_000  # kB
