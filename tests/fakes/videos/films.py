"""Films that the stand-in sends: real MP4 files, small ones."""

from __future__ import annotations

import functools
import io

FRAME_RATE = 24  # a second


@functools.cache
def film(size: tuple[int, int], seconds: int) -> bytes:
    """A light bar that wanders over a grey ground, H.264; of the same arguments, the same bytes."""
    import av
    import numpy as np

    width, height = size
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options={"preset": "ultrafast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frames = seconds * FRAME_RATE
        ground = np.full((height * 3 // 2, width), 128, np.uint8)  # the planes of YUV 4:2:0, one below the other
        for number in range(frames):
            picture = ground.copy()
            left = number * width // frames
            picture[:height, left : left + max(width // 16, 2)] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        container.mux(stream.encode())
    return out.getvalue()
