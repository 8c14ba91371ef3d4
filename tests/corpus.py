"""
Damaged photos: several hundred made from good ones, the same every time.

As a program it decodes them all as an upload and as a task would, under limits of memory and of CPU time, and ends
with the number of those that were refused and of those that were taken.
"""

from __future__ import annotations

import io
import random
import resource
import struct
import sys
import zlib
from collections.abc import Iterator

from PIL import Image, ImageDraw

from enhancer import imaging
from enhancer.errors import InvalidImage, UnsupportedImage

MAX_CPU = 120  # seconds
MAX_MEMORY = 3_000_000_000  # bytes of address space, of which libraries take a good part

Named = tuple[str, bytes]

_JPEG_END, _PNG_HEAD = b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
_SCRIPT = b"<script>fetch('/api/v1/tasks')</script>"
_SIZES = (0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def good() -> dict[str, bytes]:
    """One photo of each kind, from which the others are made."""
    picture = Image.new("RGB", (96, 64), (180, 60, 40))
    ImageDraw.Draw(picture).ellipse((20, 10, 70, 55), fill=(30, 90, 160))
    made = {}
    for name, kind, options in (
        ("baseline.jpg", "JPEG", {"quality": 85}),
        ("progressive.jpg", "JPEG", {"quality": 85, "progressive": True}),
        ("plain.png", "PNG", {}),
        ("lossy.webp", "WEBP", {"quality": 80}),
        ("lossless.webp", "WEBP", {"lossless": True}),
    ):
        made[name] = _saved(picture, kind, **options)
    made["palette.png"] = _saved(picture.quantize(16), "PNG")
    made["alpha.png"] = _saved(picture.convert("RGBA"), "PNG")
    frames = [picture, picture.rotate(90), picture.rotate(180)]
    made["animated.webp"] = _saved(picture, "WEBP", save_all=True, append_images=frames, duration=40)
    made["animated.png"] = _saved(picture, "PNG", save_all=True, append_images=frames, duration=40)
    return made


def damaged() -> Iterator[Named]:
    """Every damaged photo, with a name that says what was done to it."""
    chance = random.Random(20261128)
    for name, data in good().items():
        yield from _cut(name, data)
        yield from _flipped(name, data, chance)
        yield from _polyglots(name, data)
        yield from _shuffled(name, data, chance)
        if name.endswith("png"):
            yield from _png_headers(name, data)
        if name.endswith("jpg"):
            yield from _jpeg_headers(name, data)
        if name.endswith("webp"):
            yield from _webp_headers(name, data)
    yield from _others()


def _cut(name: str, data: bytes) -> Iterator[Named]:
    places = {0, 1, 2, 3, 4, 8, 11, 12, 13, 20, 24, 29, 33, len(data) - 1, len(data) - 2, len(data) - 12}
    places |= {len(data) * part // 10 for part in range(1, 10)}
    for place in sorted(places):
        yield f"{name} cut at {place}", data[:place]
        if name.endswith("jpg"):
            yield f"{name} cut at {place} and closed", data[:place] + _JPEG_END


def _flipped(name: str, data: bytes, chance: random.Random) -> Iterator[Named]:
    for number in range(16):
        broken = bytearray(data)
        for _ in range(1 + number % 4):
            broken[chance.randrange(len(data) if number % 2 else min(64, len(data)))] ^= 1 << chance.randrange(8)
        yield f"{name} flipped {number}", bytes(broken)
    yield f"{name} zeros inside", data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :]


def _polyglots(name: str, data: bytes) -> Iterator[Named]:
    yield f"{name} then a page", data + b"<html>" + _SCRIPT
    yield f"{name} then a zip", data + b"PK\x03\x04" + bytes(60) + b"PK\x05\x06" + bytes(18)
    yield f"{name} then itself", data + data
    yield f"a page then {name}", b"<html>" + _SCRIPT + data
    yield f"{name} under another's head", _PNG_HEAD + data
    yield f"{name} under a jpeg's head", b"\xff\xd8\xff\xe0" + data


def _shuffled(name: str, data: bytes, chance: random.Random) -> Iterator[Named]:
    for number in range(4):
        size = max(8, len(data) // 8)
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        head, rest = blocks[: number % 2], blocks[number % 2 :]
        chance.shuffle(rest)
        yield f"{name} shuffled {number}", b"".join([*head, *rest])


def _png_headers(name: str, data: bytes) -> Iterator[Named]:
    chunks = list(_chunks(data))
    for size in _SIZES:
        yield f"{name} width {size}", _png([_ihdr(chunks[0], width=size), *chunks[1:]])
        yield f"{name} both {size}", _png([_ihdr(chunks[0], width=size, height=size), *chunks[1:]])
    for place, value in ((8, 16), (8, 3), (9, 3), (9, 5), (10, 1), (11, 1), (12, 1)):
        header = bytearray(chunks[0][1])
        header[place] = value
        yield f"{name} header {place}={value}", _png([(b"IHDR", bytes(header)), *chunks[1:]])
    yield f"{name} chunks turned round", _png([chunks[0], *reversed(chunks[1:-1]), chunks[-1]])
    yield f"{name} header twice", _png([chunks[0], *chunks])
    yield f"{name} no pixels", _png([chunk for chunk in chunks if chunk[0] != b"IDAT"])
    yield f"{name} thousands of texts", _png([chunks[0], *[(b"tEXt", b"a\0b")] * 60_000, *chunks[1:]])
    yield f"{name} a text that is a bomb", _png([chunks[0], (b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000)))])
    yield (
        f"{name} a profile that is a bomb",
        _png([chunks[0], (b"iCCP", b"a\0\0" + zlib.compress(bytes(5_000_000))), *chunks[1:]]),
    )
    broken = bytearray(data)
    broken[29] ^= 1
    yield f"{name} wrong sum", bytes(broken)


def _jpeg_headers(name: str, data: bytes) -> Iterator[Named]:
    frame = next(place for place in range(len(data)) if data[place : place + 2] in {b"\xff\xc0", b"\xff\xc2"})
    for height, width in ((0, 96), (64, 0), (0xFFFF, 0xFFFF), (1, 0xFFFF), (0xFFFF, 1), (0x7FFF, 3)):
        yield f"{name} {width}x{height}", _patched(data, frame + 5, struct.pack(">HH", height, width))
    for place, value in ((4, 12), (9, 0), (9, 4), (9, 255), (11, 0), (11, 0xFF)):
        yield f"{name} frame {place}={value}", _patched(data, frame + place, bytes([value]))
    yield f"{name} thousands of comments", data[:2] + b"\xff\xfe\x00\x02" * 100_000 + data[2:]
    yield f"{name} a long scan", data[:-2] + b"\xff\x00" * 400_000 + data[-2:]
    yield f"{name} a script in a comment", data[:2] + _segment(0xFE, _SCRIPT) + data[2:]
    yield f"{name} odd EXIF", data[:2] + _segment(0xE1, b"Exif\0\0II*\0" + b"\xff" * 40) + data[2:]
    yield f"{name} odd profile", data[:2] + _segment(0xE2, b"ICC_PROFILE\0\x01\x01" + b"\xff" * 200) + data[2:]
    yield f"{name} two frames", data[:frame] + data[frame : frame + 19] + data[frame:]


def _webp_headers(name: str, data: bytes) -> Iterator[Named]:
    for size in (0, 4, len(data), len(data) * 2, 0x7FFFFFFF, 0xFFFFFFFF):
        yield f"{name} says {size}", _patched(data, 4, struct.pack("<I", size))
        yield f"{name} chunk says {size}", _patched(data, 16, struct.pack("<I", size))
    for kind in (b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"XXXX"):
        yield f"{name} called {kind!r}", _patched(data, 12, kind)
    for place in range(20, 32):
        yield f"{name} byte {place}", _patched(data, place, b"\xff")


def _others() -> Iterator[Named]:
    yield "empty", b""
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg">' + _SCRIPT + b"</svg>"
    yield "html", b"<!doctype html>" + _SCRIPT
    yield "gif", b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + bytes(20)
    yield "tiff", b"II*\0\x08\0\0\0" + bytes(100)
    yield "bmp", b"BM" + bytes(100)
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "avif", b"\0\0\0\x1cftypavif" + bytes(100)
    yield "pdf", b"%PDF-1.7\n" + _SCRIPT
    yield "huge", bomb()


def bomb() -> bytes:
    """A PNG of about a kilobyte that says it has 65,535 x 65,535 pixels."""
    head = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    return _png([(b"IHDR", head), (b"IDAT", zlib.compress(bytes(900_000))), (b"IEND", b"")])


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG_HEAD)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += length + 12


def _ihdr(chunk: tuple[bytes, bytes], *, width: int, height: int = 64) -> tuple[bytes, bytes]:
    return chunk[0], struct.pack(">II", width, height) + chunk[1][8:]


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = (struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in chunks)
    return _PNG_HEAD + b"".join(body)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _patched(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


def tried(data: bytes) -> bool:
    """Whether a file is taken, from the upload to the last step that decodes it."""
    try:
        imaging.verify(io.BytesIO(data), max_pixels=100_000_000)
        sent = imaging.upright(data, max_side=2048)
        imaging.fit(sent.data, (128, 72))
    except (InvalidImage, UnsupportedImage):
        return False
    for secret in (_SCRIPT, b"PK\x03\x04", b"<html>"):
        assert secret not in sent.data, "what is no picture does not reach a provider"
    return True


def main() -> None:
    """Every file, or the error of the first that is neither refused nor taken."""
    for what, limit in ((resource.RLIMIT_CPU, MAX_CPU), (resource.RLIMIT_AS, MAX_MEMORY)):
        resource.setrlimit(what, (limit, limit))
    outcomes = []
    for name, data in damaged():
        try:
            outcomes.append(tried(data))
        except Exception:
            sys.stderr.write(f"{name}\n")
            raise
    sys.stdout.write(f"{outcomes.count(False)} {outcomes.count(True)}\n")


if __name__ == "__main__":
    main()
