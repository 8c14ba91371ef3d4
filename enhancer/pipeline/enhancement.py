"""The enhancement: a photo becomes an advertisement's image and its script."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from enhancer import crafts, crash, imaging
from enhancer.domain.enhancements import EnhancementInput, EnhancementOutput
from enhancer.domain.images import Format, Orientation, Size
from enhancer.domain.tasks import Kind, Task
from enhancer.errors import InternalError, NotFound
from enhancer.pipeline import messages
from enhancer.pipeline.plans import Job, Plan, Result, Scale, Step
from enhancer.providers import ImageBrief, ScriptBrief

MAX_SIDE = 2048  # pixels sent to the image model; it answers with at most 1536
THUMBNAIL_SIDE = 320  # pixels
UPRIGHT = "upright"  # what Job.kept calls the bytes that are sent; they are not stored


async def read(job: Job) -> Result:
    """original -> its size in bytes."""
    original = await job.read(_order(job).original)
    return Result({"original_bytes": len(original)})


async def orient(job: Job) -> Result:
    """original -> how it stands, EXIF rotation applied."""
    original = await job.read(_order(job).original)
    photo = await crafts.done(imaging.inspect, original)
    return Result({"orientation": photo.orientation.value})


async def prepare_redraw(job: Job) -> None:
    """original -> what is sent of it."""
    original = await job.read(_order(job).original)
    upright = await crafts.done(imaging.upright, original, max_side=MAX_SIDE)
    job.kept[UPRIGHT] = upright.data


async def redraw(job: Job) -> Result:
    """original -> the model's image, kept as it came."""
    upright = job.kept.pop(UPRIGHT)
    size, description = _orientation(job).model_size, _order(job).user_description
    images = job.tools.images
    brief = ImageBrief(upright, imaging.inspect(upright).format, size, description)
    drawn = await images.redraw(brief, lambda draft: job.show("preview", partial(_preview, job, draft)))
    crash.point("after-call")
    path = _model_path(job.task, drawn.format)
    await job.write(path, drawn.data)
    return _redrawn(path, drawn.size, images.model, tokens=drawn.tokens)


async def recover_redrawn(job: Job) -> Result | None:
    """The model's image that a process stored and could not record any more; its tokens are not known."""
    for candidate in Format:
        path = _model_path(job.task, candidate)
        try:
            photo = await crafts.done(imaging.inspect, await job.read(path))
        except NotFound:
            continue
        return _redrawn(path, photo.size, job.tools.images.model, tokens=0)
    return None


async def resize(job: Job) -> Result:
    """The model's image -> the version for video, encoded once."""
    await _fitted(job)
    return Result({"enhanced_size": _orientation(job).video_size})


async def save(job: Job) -> Result:
    """The version for video -> the store, and a small copy of it for lists."""
    path, small = _enhanced_path(job.task), _thumbnail_path(job.task)
    fitted = await _fitted(job)
    thumbnail = await crafts.done(imaging.thumbnail, fitted, max_side=THUMBNAIL_SIDE)
    await job.write(path, fitted)
    await job.write(small, thumbnail)
    return Result({"enhanced_path": path, "thumbnail_path": small})


async def prepare_write(job: Job) -> None:
    """The enhanced image, which an earlier run may have stored."""
    await job.read(_enhanced_path(job.task))


async def write(job: Job) -> Result:
    """The enhanced image and the user's words -> script and product analysis."""
    order = _order(job)
    image = await job.read(_enhanced_path(job.task))
    scripts = job.tools.scripts
    brief = ScriptBrief(image, Format.JPEG, order.user_description, order.duration, order.language)
    written = await scripts.write(brief, lambda so_far: job.show("script", {"script": so_far}))
    crash.point("after-call")
    found = {
        "script": written.script,
        "product_analysis": written.product_analysis,
        "script_model": scripts.model,
        "tokens_used": _so_far(job).tokens_used + written.tokens,
    }
    return Result(found, usage={"total_tokens": written.tokens})


async def _preview(job: Job, draft: bytes) -> Mapping[str, object]:
    return {"image_url": await job.tools.previews.keep(job.task, draft), "step": "redraw"}


async def conclude(job: Job) -> Result:
    """Nothing is left to do: the engine records the result together with the end."""
    return Result()


def words(job: Job) -> Mapping[str, object]:
    """What the messages name."""
    so_far = _so_far(job)
    orientation = so_far.orientation
    return {
        "original_mb": (so_far.original_bytes or 0) / 1_000_000,
        "orientation": orientation and messages.phrase(orientation.value, job.language),
        "video_size": orientation and _times(orientation.video_size),
        "model_size": _times(so_far.model_size),
        "enhanced_size": _times(so_far.enhanced_size),
        "script_length": len(so_far.script or ""),
        "image_model": job.tools.images.model,
        "script_model": job.tools.scripts.model,
    }


def closing(job: Job) -> Mapping[str, object]:
    """What the last event brings."""
    so_far = _so_far(job)
    return {
        "enhanced_image_url": so_far.enhanced_path and job.tools.link(so_far.enhanced_path),
        "script": so_far.script,
        "product_analysis": so_far.product_analysis,
    }


def files(task: Task) -> list[str]:
    """The original, the model's image in whatever format it came, the version for video, and its small copy."""
    order = EnhancementInput.model_validate(task.input)
    return [order.original, *(_model_path(task, each) for each in Format), _enhanced_path(task), _thumbnail_path(task)]


PLAN = Plan(
    Kind.ENHANCEMENT,
    Scale("progress", 100),
    opens=5,
    steps=(
        Step("read", 10, 15, read),
        Step("orient", 20, 25, orient),
        Step("redraw", 30, 50, redraw, lambda tools: tools.images, prepare=prepare_redraw, recover=recover_redrawn),
        Step("resize", 55, 60, resize),
        Step("save", 65, 70, save),
        Step("write", 75, 90, write, lambda tools: tools.scripts, prepare=prepare_write),
        Step("conclude", 95, 100, conclude),
    ),
    words=words,
    closing=closing,
    files=files,
)


def _order(job: Job) -> EnhancementInput:
    return EnhancementInput.model_validate(job.task.input)


def _so_far(job: Job) -> EnhancementOutput:
    return EnhancementOutput.model_validate(job.output)


def _orientation(job: Job) -> Orientation:
    orientation = _so_far(job).orientation
    if orientation is None:
        raise InternalError
    return orientation


def _model_path(task: Task, kind: Format) -> str:
    return f"user_{task.user_id}/enhanced/model_{task.input['key']}.{kind.extension}"


def _enhanced_path(task: Task) -> str:
    return f"user_{task.user_id}/enhanced/enhanced_{task.input['key']}.jpg"


def _thumbnail_path(task: Task) -> str:
    return f"user_{task.user_id}/enhanced/thumbnail_{task.input['key']}.jpg"


async def _fitted(job: Job) -> bytes:
    """The version for video, made when neither this run nor an earlier one has it."""
    path = _enhanced_path(job.task)
    if path not in job.kept:
        model_path = _so_far(job).model_path
        if model_path is None:
            raise InternalError
        model_image = await job.read(model_path)
        job.kept[path] = await crafts.done(imaging.fit, model_image, _orientation(job).video_size)
    return job.kept[path]


def _redrawn(path: str, size: Size, model: str, *, tokens: int) -> Result:
    found = {"model_path": path, "model_size": size, "image_model": model, "tokens_used": tokens}
    return Result(found, usage={"total_tokens": tokens})


def _times(size: Size | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
