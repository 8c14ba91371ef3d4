"""The video: a product's image and a script become a film of a few seconds."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from enhancer import clips, crafts, imaging
from enhancer.domain.images import Size
from enhancer.domain.tasks import Kind, Task
from enhancer.domain.videos import VideoInput, VideoOutput
from enhancer.errors import InternalError, ProviderBadAnswer, ProviderUnavailable
from enhancer.pipeline import messages
from enhancer.pipeline.plans import Job, Plan, Result, Scale, Step, Tools, Wait
from enhancer.providers import Rendering, VideoBrief, Videos

FRAME = "frame"  # what Job.kept calls the reference frame that is sent; it is not stored
MAX_BYTES = 1_000_000_000  # of a video; twelve seconds that are larger were not made for a browser


async def load(job: Job) -> Result:
    """reference -> its size in bytes."""
    reference = await job.read(_order(job).reference)
    return Result({"reference_bytes": len(reference)})


async def compose(job: Job) -> Result:
    """The user's words or the script, or a sentence of ours when there is neither -> the prompt."""
    order = _order(job)
    return Result({"prompt": order.prompt or messages.phrase("video_prompt", order.language)})


async def fit(job: Job) -> Result:
    """reference -> a frame of the video's size, which follows how the image stands."""
    reference = await job.read(_order(job).reference)
    size = (await crafts.done(imaging.inspect, reference)).orientation.video_size
    job.kept[FRAME] = await crafts.done(imaging.fit, reference, size)
    return Result({"frame_size": size, "width": size[0], "height": size[1]})


async def prepare(job: Job) -> None:
    """The frame, which an earlier run may have fitted."""
    if FRAME not in job.kept:
        await fit(job)


async def place(job: Job) -> str:
    """Frame and prompt -> the provider's id of the order."""
    order = _order(job)
    brief = VideoBrief(job.kept[FRAME], _so_far(job).prompt or "", _size(job), order.duration, order.language)
    return await renderer(job.tools).order(brief)


async def look(job: Job, order: str) -> Rendering:
    """How far the order is."""
    return await renderer(job.tools).look(order)


async def collect(job: Job, order: str) -> Result:
    """
    The provider's file -> a temporary one, decoded from end to end.

    It has no name in the file system, so it goes with the process, however that ends. Raises ProviderBadAnswer when it
    is not the video that was ordered.
    """
    job.close()
    file = job.large[_path(job.task, "video", "mp4")] = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115
    size = 0
    async for piece in renderer(job.tools).fetch(order):
        size += len(piece)
        if size > MAX_BYTES:
            raise ProviderBadAnswer("The video is too large.")
        await asyncio.to_thread(file.write, piece)
    await asyncio.to_thread(file.flush)
    clip = await asyncio.to_thread(clips.check, _name(file), size=_size(job), duration=_order(job).duration)
    return Result(
        {
            "video_bytes": size,
            "frames": clip.frames,
            "seconds": round(clip.seconds, 3),
            "width": clip.size[0],
            "height": clip.size[1],
        }
    )


async def save(job: Job) -> Result:
    """The collected file -> the store, with a poster and a thumbnail."""
    video, poster, thumbnail = _results(job.task)
    picture = await asyncio.to_thread(clips.poster, _name(job.large[video]))
    await job.write(poster, picture)
    await job.write(thumbnail, await asyncio.to_thread(clips.thumbnail, picture))
    await job.write_large(video)
    found = {"video_path": video, "poster_path": poster, "thumbnail_path": thumbnail}
    return Result({**found, "video_model": renderer(job.tools).model})


async def withdraw(tools: Tools, order: str) -> None:
    """Tell the provider that nobody wants it."""
    await renderer(tools).withdraw(order)


async def conclude(job: Job) -> Result:
    """Nothing is left to do: the engine records the result together with the end."""
    return Result()


def words(job: Job) -> Mapping[str, object]:
    """What the messages name."""
    so_far = _so_far(job)
    return {
        "reference_mb": (so_far.reference_bytes or 0) / 1_000_000,
        "prompt_length": len(so_far.prompt or ""),
        "size": f"{so_far.width}x{so_far.height}",
        "video_model": job.tools.videos.model if job.tools.videos else "",
        "percent": "" if so_far.percent is None else f" {so_far.percent}%",
        "seconds": so_far.seconds or 0,
        "video_mb": (so_far.video_bytes or 0) / 1_000_000,
    }


def closing(job: Job) -> Mapping[str, object]:
    """What the last event brings."""
    so_far, link = _so_far(job), job.tools.link
    return {
        "video_url": so_far.video_path and link(so_far.video_path),
        "thumbnail_url": so_far.thumbnail_path and link(so_far.thumbnail_path),
        "poster_url": so_far.poster_path and link(so_far.poster_path),
    }


def beside(output: Mapping[str, object]) -> Mapping[str, object]:
    """The provider's own percentage: 0 until it has the order, None while it does not say, 100 from then on."""
    return {"progress": VideoOutput.model_validate(output).percent}


def files(task: Task) -> list[str]:
    """The reference, the video and its two pictures."""
    return [VideoInput.model_validate(task.input).reference, *_results(task)]


def renderer(tools: Tools) -> Videos:
    """Raises ProviderUnavailable when this process has none."""
    if tools.videos is None:
        raise ProviderUnavailable("Nobody renders videos here: the extra `video` is not installed.")
    return tools.videos


PLAN = Plan(
    Kind.VIDEO,
    Scale("step", 9),
    opens=0,
    steps=(
        Step("load", None, 1, load),
        Step("compose", None, 2, compose),
        Step("fit", None, 3, fit),
        Step(
            "render",
            None,
            8,
            save,
            renderer,
            prepare=prepare,
            wait=Wait(place, look, collect, withdraw, placed=4, making=5, made=6, collected=7),
        ),
        Step("conclude", None, 9, conclude),
    ),
    words=words,
    closing=closing,
    files=files,
    beside=beside,
)


def _order(job: Job) -> VideoInput:
    return VideoInput.model_validate(job.task.input)


def _so_far(job: Job) -> VideoOutput:
    return VideoOutput.model_validate(job.output)


def _size(job: Job) -> Size:
    size = _so_far(job).frame_size
    if size is None:
        raise InternalError
    return size


def _results(task: Task) -> tuple[str, str, str]:
    return _path(task, "video", "mp4"), _path(task, "poster", "jpg"), _path(task, "thumbnail", "jpg")


def _path(task: Task, what: str, extension: str) -> str:
    return f"user_{task.user_id}/videos/{what}_{task.input['key']}.{extension}"


def _name(file: BinaryIO) -> Path:
    """A name by which an open file can be opened again."""
    return Path(f"/dev/fd/{file.fileno()}")
