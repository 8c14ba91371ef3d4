"""
Videos that were made: checked from end to end, and their still pictures.

The only place beside the studio that opens a video, with PyAV (the extra `video`), which is loaded when it is needed.
All of it is CPU work on a file, a frame at a time, so callers on the event loop put it in a thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enhancer import imaging
from enhancer.domain.images import Size
from enhancer.errors import ProviderBadAnswer, SetupError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SIZE_TOLERANCE = 16  # pixels a side; some models make only multiples of 32
LENGTH_TOLERANCE = 0.5  # seconds; models that make 4n + 1 frames, at 16 to 30 a second, are that far off
FRAME_RATES = (12.0, 61.0)  # a second; fewer is a slide show, more is no advertisement
THUMBNAIL_SIDE = 480  # pixels
POSTER_TIMES = (0.2, 0.35, 0.5, 0.65)  # parts of the length at which a poster is looked for


@dataclass(frozen=True, slots=True)
class Clip:
    """What a video really holds: `frames` were decoded, `seconds` is how long they are shown."""

    size: Size
    frames: int
    seconds: float


def available() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def check(path: Path, *, size: Size, duration: float) -> Clip:
    """
    Decode a video from its first frame to its last.

    Raises ProviderBadAnswer when that does not succeed, when frames are missing, when it has another size than `size`
    (by more than SIZE_TOLERANCE), another length than `duration` seconds (LENGTH_TOLERANCE), or a frame rate outside
    FRAME_RATES. It reads no further than a video of the right length goes.
    """
    with _opened(path) as (container, stream):
        found = (stream.width, stream.height)
        if max(abs(found[0] - size[0]), abs(found[1] - size[1])) > SIZE_TOLERANCE:
            raise ProviderBadAnswer(f"The video is {_by(found)}, not {_by(size)}.")
        frames, seconds = _measured(container, stream, duration + LENGTH_TOLERANCE)
        declared = stream.frames
    if abs(seconds - duration) > LENGTH_TOLERANCE:
        raise ProviderBadAnswer(f"The video is {seconds:.1f} s long, not {duration:g} s.")
    if not FRAME_RATES[0] <= frames / seconds <= FRAME_RATES[1]:
        raise ProviderBadAnswer(f"The video has {frames / seconds:.1f} frames a second.")
    if declared > frames:
        raise ProviderBadAnswer(f"The video has {frames} of its {declared} frames.")
    return Clip(found, frames, seconds)


def poster(path: Path) -> bytes:
    """
    A good frame as a JPEG of the video's size: of a few, the one that shows most.

    Raises ProviderBadAnswer when there is no picture in the file.
    """
    with _opened(path) as (container, stream):
        length = _declared_seconds(container, stream)
        best = max(_frames_at(container, stream, [part * length for part in POSTER_TIMES]), key=_liveliness)
        return imaging.encode_jpeg(best.to_image(), quality=88)  # type: ignore[no-untyped-call]


def thumbnail(picture: bytes, *, side: int = THUMBNAIL_SIDE) -> bytes:
    """A poster made small: a JPEG whose longer side has at most `side` pixels. Raises InvalidImage."""
    image = imaging.decode(picture)
    image.thumbnail((side, side))
    return imaging.encode_jpeg(image, quality=82)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """An MP4's video stream, set to stop at the first damage; what PyAV raises becomes ProviderBadAnswer."""
    try:
        import av
    except ImportError as error:
        raise SetupError("Videos need PyAV: pip install 'enhancer[video]'") from error

    try:
        with av.open(str(path.absolute()), mode="r", options={"err_detect": "explode"}) as container:
            if "mp4" not in container.format.name or not container.streams.video:
                raise ProviderBadAnswer("The file is not an MP4 with a picture.")
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            stream.codec_context.thread_count = 2
            yield container, stream
    except (av.error.FileNotFoundError, av.error.PermissionError):
        raise
    except av.error.FFmpegError as error:
        raise ProviderBadAnswer("The video cannot be decoded to its end.") from error


def _measured(container: InputContainer, stream: VideoStream, limit: float) -> tuple[int, float]:
    """How many frames there are and how many seconds they last; frames that begin after `limit` are not decoded."""
    frames, first, last, pause = 0, 0.0, 0.0, 0.0
    for frame in container.decode(stream):
        if frame.is_corrupt or frame.pts is None:
            raise ProviderBadAnswer("The video cannot be decoded to its end.")
        if not frames:
            first = last = frame.time
        pause = max(pause, frame.time - last)
        frames, last = frames + 1, frame.time
        if last - first > limit:
            break
    if not frames:
        raise ProviderBadAnswer("The video has no frames.")
    if frames > 1 and pause > LENGTH_TOLERANCE:
        raise ProviderBadAnswer(f"The video stands still for {pause:.1f} s.")
    return frames, last - first + (last - first) / max(1, frames - 1)


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def _frames_at(container: InputContainer, stream: VideoStream, times: list[float]) -> Iterator[VideoFrame]:
    """The first frame at or after each of these times, and the last if the video is shorter than it says."""
    frame: VideoFrame | None = None
    waiting = iter(times)
    due = next(waiting, None)
    for frame in container.decode(stream):
        if due is None:
            return
        if frame.pts is not None and frame.time >= due:
            yield frame
            due = next(waiting, None)
    if frame is None:
        raise ProviderBadAnswer("The video has no frames.")
    yield frame


def _liveliness(frame: VideoFrame) -> float:
    """How much of its range a frame uses and how fine its detail is; black, faded and blurred ones score low."""
    luma = frame.reformat(width=320, height=320, format="gray").to_ndarray().astype("float32")
    steps = abs(luma[1:] - luma[:-1]).mean() + abs(luma[:, 1:] - luma[:, :-1]).mean()
    return float(luma.std() + 4 * steps)


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
