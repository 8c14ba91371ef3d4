"""Small videos for tests, made with PyAV and nothing of ours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from enhancer.domain.images import Size

RED = (200, 30, 40)


def movie(
    path: Path,
    *,
    size: Size = (320, 180),
    frames: int = 96,
    rate: int = 24,
    ground: tuple[int, int, int] = RED,
    black: int = 0,
    form: str = "mp4",
) -> Path:
    """A white square that crosses a plain ground, H.264, bt709; the first `black` frames are black."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "24"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = 1
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), ground, np.uint8)
            left = (size[0] - 40) * number // frames
            pixels[40:80, left : left + 40] = 255
            frame = av.VideoFrame.from_ndarray(pixels * (number >= black), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
