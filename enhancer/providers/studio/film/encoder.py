"""Frames into a file: H.264 in an MP4 that every browser plays, from its first byte on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av

from enhancer.domain.images import Size
from enhancer.providers.studio.film.planes import Planes
from enhancer.providers.studio.film.storyboard import RATE

_BT709, _LIMITED = 1, 1  # ITU-T H.273
_THREADS = 2  # a fixed number: the same frames then always give the same file


def encode(frames: Iterable[Planes], path: Path, size: Size, seen: Callable[[int], None]) -> None:
    """Write an MP4; `seen` is called with the number of frames that are done, and may raise to end it."""
    options = {"preset": "veryfast", "crf": "20", "profile": "high", "g": str(2 * RATE)}
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, RATE)
        codec.thread_count = _THREADS
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = _LIMITED
        for number, planes in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(planes.stored(), format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
            seen(number + 1)
        container.mux(stream.encode())
