"""
WebP, decoded in a process of its own.

Pillow's decoder lets no other thread run until the whole picture is there (a second for 25 megapixels on a busy
machine), and for the event loop that is a second without any answer. Run as a program, this file reads a WebP from
its standard input and writes its first frame to its standard output.
"""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import subprocess
import sys

from PIL import Image

LONGEST = 120.0  # seconds that a picture may take
MAX_MEMORY = 2_000_000_000  # bytes of address space
MAX_CPU = 60  # seconds

_HEAD = struct.Struct(">II4sI")  # width, height, mode, bytes of the colour profile


def first_frame(data: bytes) -> Image.Image:
    """The first frame, with its colour profile in `info`. Raises ValueError when it cannot be decoded."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-I", __file__], input=data, capture_output=True, timeout=LONGEST, check=True
        )
    except subprocess.SubprocessError as error:
        raise ValueError("The decoder gave up.") from error
    width, height, mode, length = _HEAD.unpack_from(done.stdout)
    start = _HEAD.size + length
    image = Image.frombytes(mode.decode().strip(), (width, height), memoryview(done.stdout)[start:])
    if length:
        image.info["icc_profile"] = done.stdout[_HEAD.size : start]
    return image


def main() -> None:
    """From standard input to standard output."""
    for what, limit in ((resource.RLIMIT_CPU, MAX_CPU), (resource.RLIMIT_AS, MAX_MEMORY)):
        with contextlib.suppress(ValueError, OSError):  # where the system has another or a lower limit
            resource.setrlimit(what, (limit, limit))
    Image.MAX_IMAGE_PIXELS = None  # counted before, by whoever calls
    image = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=["WEBP"])
    image.load()
    profile: bytes = image.info.get("icc_profile") or b""
    sys.stdout.buffer.write(_HEAD.pack(*image.size, image.mode.encode().ljust(4), len(profile)))
    sys.stdout.buffer.write(profile)
    sys.stdout.buffer.write(image.tobytes())


if __name__ == "__main__":
    main()
