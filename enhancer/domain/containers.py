"""
The three image formats as files: what their headers say, and how to leave their metadata behind.

Nothing here decodes a pixel. `read` walks a file from mark to mark, so a cut-off file is noticed, a size is known
before memory is taken for it, and no metadata ever reaches a decoder or a provider.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from enhancer.domain.images import Format, Photo, Size
from enhancer.errors import InvalidImage, UnsupportedImage

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEFLATE_RATIO = 1032
"""Deflate cannot shrink data further than this (zlib's technical notes)."""
_MAX_PARTS = 50_000
"""Segments or chunks of a file. A PNG of 200 MB has half as many; a file of nothing else would take minutes."""
_WINDOW = 256 * 1024
"""Bytes searched at once: a search lets no other thread run, and the event loop is one."""
_MAX_SCANS = 100
"""Every scan of a progressive JPEG visits the whole image; encoders use about ten, an attack thousands."""


@dataclass(frozen=True, slots=True)
class Container:
    """
    An image file, opened but not decoded.

    `stored`: the size before rotation. `turn`: the EXIF orientation, 1..8. `bare`: the same image without metadata,
    its colour profile kept; the very same bytes when there was nothing to leave out.
    `plain`: a still in opaque 8-bit RGB without a colour profile.
    """

    format: Format
    stored: Size
    turn: int
    bare: bytes
    plain: bool

    @property
    def photo(self) -> Photo:
        """The format and the upright size."""
        return Photo(self.format, self.turned(self.stored))

    def turned(self, size: Size) -> Size:
        """A size as stored -> upright, or back."""
        return (size[1], size[0]) if self.turn >= 5 else size


def sniff(head: bytes) -> Format | None:
    """The format by a file's first 12 bytes, whatever it is called; None: none of the three."""
    if head.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if head.startswith(PNG_SIGNATURE):
        return Format.PNG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Format.WEBP
    return None


def read(data: bytes) -> Container:
    """Raises UnsupportedImage when it is none of the three formats, InvalidImage when it is cut off or malformed."""
    kind = sniff(data[:12])
    if kind is None:
        raise UnsupportedImage
    container = {Format.JPEG: _jpeg, Format.PNG: _png, Format.WEBP: _webp}[kind](data)
    if not all(container.stored):
        raise InvalidImage("The image has no pixels.")
    return container


# JPEG: ITU T.81, annex B. Only what the decoder needs is kept.
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # not those within a scan: stuffing, restarts
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_JPEG_KEPT = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, _SCAN, _END}  # and the tables


def _jpeg(data: bytes) -> Container:
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    frames: list[memoryview] = []
    turn, profile, scans = 1, False, 0
    for marker, segment in _jpeg_segments(data):
        label = bytes(segment[4:16])
        frames += [segment] if marker in _FRAMES else []
        scans += marker == _SCAN
        profile |= _is_profile(marker, label)
        if marker == 0xE1 and label.startswith(b"Exif\0\0") and turn == 1:
            turn = exif_turn(bytes(segment[4:]))
        if marker == 0xE0 and label.startswith(b"JFIF\0") and len(label) == 12:
            kept.append(b"\xff\xe0\0\x10" + label + b"\0\0")  # without its thumbnail
        elif marker in _JPEG_KEPT or _is_profile(marker, label) or (marker == 0xEE and label.startswith(b"Adobe")):
            kept.append(segment)
    if len(frames) != 1 or len(frames[0]) < 10 or not 0 < scans <= _MAX_SCANS:
        raise InvalidImage
    height, width, channels = struct.unpack_from(">HHB", frames[0], 5)
    return Container(Format.JPEG, (width, height), turn, _joined(kept, data), channels == 3 and not profile)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Each marker with its segment, a scan with its compressed data, to the end of the (first) image."""
    view = memoryview(data)
    found = _marker(data, 2)
    for _ in range(_MAX_PARTS):
        if found is None:
            break
        start, marker = found.start(), data[found.start() + 1]
        if marker == _END:
            yield marker, view[start : start + 2]
            return
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        found = _marker(data, max(end, start + 4))
        if found is not None:
            yield marker, view[start : found.start() if marker == _SCAN else end]
    raise InvalidImage("The image is cut off.")


def _marker(data: bytes, start: int) -> re.Match[bytes] | None:
    """The first marker at or after `start`."""
    for window in range(start, len(data), _WINDOW):
        if found := _JPEG_MARKER.search(data, window, window + _WINDOW + 1):
            return found
    return None


def _is_profile(marker: int, label: bytes) -> bool:
    return marker == 0xE2 and label.startswith(b"ICC_PROFILE\0")


# PNG, third edition (W3C). The frames of an animation are left out: the still image remains.
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"IDAT", b"IEND"})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png(data: bytes) -> Container:
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    chunks: dict[bytes, memoryview] = {}
    packed, turn = 0, 1
    for kind, chunk in _png_chunks(data):
        chunks.setdefault(kind, chunk)
        if kind in _PNG_KEPT:
            kept.append(chunk)
        if kind == b"IDAT":
            packed += len(chunk) - 12
        elif kind == b"eXIf":
            turn = exif_turn(bytes(chunk[8:-4]))
    width, height, depth, colours = struct.unpack_from(">IIBB", chunks[b"IHDR"], 8)
    if colours not in _PNG_CHANNELS or width * height * depth * _PNG_CHANNELS[colours] / 8 > packed * _DEFLATE_RATIO:
        raise InvalidImage
    plain = (depth, colours) == (8, 2) and not chunks.keys() & {b"tRNS", b"iCCP"}
    return Container(Format.PNG, (width, height), turn, _joined(kept, data), plain)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's name and the whole chunk; those that are kept have the right checksum, IHDR comes first."""
    view = memoryview(data)
    position, kind = len(PNG_SIGNATURE), b""
    for _ in range(_MAX_PARTS):
        if kind == b"IEND":
            return
        expected = None if kind else b"IHDR"
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise InvalidImage("The image is cut off.")
        checksum = int.from_bytes(data[end - 4 : end], "big")
        wrong = kind in _PNG_KEPT and zlib.crc32(view[position + 4 : end - 4]) != checksum
        if wrong or (expected and (kind != expected or length != 13)):
            raise InvalidImage
        yield kind, view[position:end]
        position = end
    raise InvalidImage


# WebP: RFC 9649. VP8X is there when the file has more than one still image in it.
_WEBP_KEPT = frozenset({b"VP8X", b"ICCP", b"ALPH", b"ANIM", b"ANMF", b"VP8 ", b"VP8L"})
_PROFILE, _ALPHA, _METADATA, _ANIMATION = 0x20, 0x10, 0x0C, 0x02  # bits of VP8X


def _webp(data: bytes) -> Container:
    chunks = list(_webp_chunks(data))
    if not chunks:
        raise InvalidImage
    kind, first = chunks[0]
    size, flags = _webp_header(kind, bytes(first[8:18]))
    turn = next((exif_turn(bytes(chunk[8:])) for name, chunk in chunks if name == b"EXIF"), 1)
    kept: list[bytes | memoryview] = [chunk for name, chunk in chunks if name in _WEBP_KEPT]
    if kind == b"VP8X":
        kept[0] = bytes(first[:8]) + bytes([flags & ~_METADATA]) + bytes(first[9:])
    riff = struct.pack("<4sI4s", b"RIFF", 4 + sum(map(len, kept)), b"WEBP")
    plain = not flags & (_PROFILE | _ALPHA | _ANIMATION)
    return Container(Format.WEBP, size, turn, _joined([riff, *kept], data), plain)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's name and the whole chunk with its padding."""
    view = memoryview(data)
    position, end = 12, 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise InvalidImage("The image is cut off.")
    for _ in range(_MAX_PARTS):
        if position + 8 > end:
            return
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        following = position + 8 + length + length % 2
        if following > end:
            raise InvalidImage("The image is cut off.")
        yield data[position : position + 4], view[position:following]
        position = following
    raise InvalidImage


def _webp_header(kind: bytes, start: bytes) -> tuple[Size, int]:
    """The canvas and the bits of VP8X (for a single image, those that VP8X would have)."""
    start = start.ljust(10, b"\0")
    if kind == b"VP8X":
        return (1 + int.from_bytes(start[4:7], "little"), 1 + int.from_bytes(start[7:10], "little")), start[0]
    if kind == b"VP8 " and start[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", start, 6)
        return (width & 0x3FFF, height & 0x3FFF), 0
    if kind == b"VP8L" and start[0] == 0x2F:
        bits = int.from_bytes(start[1:5], "little")
        return (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), _ALPHA if bits >> 28 & 1 else 0
    raise InvalidImage


def exif_turn(exif: bytes) -> int:
    """The orientation 1..8 in an EXIF block; 1 when there is none or the block is damaged (EXIF 3.0, section 4.6)."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == 0x0112:
                (turn,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", exif, entry + 8)
                return turn if 1 <= turn <= 8 else 1
    except struct.error:
        pass
    return 1


def _joined(kept: list[bytes | memoryview], data: bytes) -> bytes:
    """The kept parts as one file, without a copy when they are the whole file."""
    return data if sum(map(len, kept)) == len(data) else b"".join(kept)
