"""What goes over the wire: requests and answers, as pydantic models that are also the documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from enhancer.domain.enhancements import EnhancementInput, EnhancementOutput
from enhancer.domain.tasks import Status, Task
from enhancer.domain.videos import VideoInput, VideoOutput
from enhancer.service import Service

STREAM = "/api/v1/ai/enhance-and-script/{id}/stream"
STATUS = "/api/v1/ai/enhance-and-script/{id}/status"
CANCEL = "/api/v1/ai/enhance-and-script/{id}/cancel"
RETRY = "/api/v1/ai/enhance-and-script/{id}/retry"
CALLS = "/api/v1/ai/enhance-and-script/{id}/calls"
TASK = "/api/v1/ai/enhance-and-script/{id}"
EVENTS = "/api/v1/events"
EVENTS_LINK = "/api/v1/events/link"
VIDEO = "/api/v1/videos/{id}"
VIDEO_STREAM = "/api/v1/videos/{id}/stream"
VIDEO_CANCEL = "/api/v1/videos/{id}/cancel"
VIDEO_RETRY = "/api/v1/videos/{id}/retry"
VIDEO_CALLS = "/api/v1/videos/{id}/calls"


def _duration(value: object) -> object:
    """Form fields are text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _printable(value: str) -> str:
    if any((ord(c) < 32 and c not in "\t\r\n") or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise ValueError("Control characters are not allowed")
    return value


_Words = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_printable)]
_Duration = Annotated[Literal[4, 8, 12], BeforeValidator(_duration)]
_Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", max_length=35)]


class EnhancementTaskCreateRequest(BaseModel):
    """The fields of the multipart form, beside `file`: the photo (JPEG, PNG or WebP)."""

    user_description: _Words = Field(
        "", description="What the product is, in your own words", examples=["A strong espresso in a red cup"]
    )
    duration: _Duration = Field(4, description="Length of the advertisement, seconds")
    language: _Language = Field(
        "en", description="Language of the script and the messages, as a BCP 47 tag", examples=["en", "zh-CN"]
    )


_POSITION = "Among the waiting tasks of its kind, 1: the next; null: it does not wait"
_ETA = "Seconds to the end, by what such tasks took lately; null: nobody knows"


def _unknown() -> None:
    """A field that may be left out, and may be null."""


class EnhancementTaskStatusResponse(BaseModel):
    """The short task, for polling."""

    id: int
    status: Status
    progress: int = Field(ge=0, le=100)
    message: str = Field(examples=["🎨 Enhancing image with gpt-image-2.5-flare..."])
    enhanced_image_url: str | None = Field(description="A signed link that expires; ask again for a fresh one")
    script: str | None = Field(examples=["[0:00-0:02] Steam rises from a red cup. | Morning, made better."])
    product_analysis: str | None
    tokens_used: int = Field(description="Over both models; 0 in the offline studio", examples=[1250])
    processing_time: float | None = Field(description="Seconds since the work began", examples=[15.5])
    error_message: str | None
    error_code: str | None
    updated_at: datetime
    queue_position: int | None = Field(description=_POSITION, examples=[3])
    eta_seconds: float | None = Field(description=_ETA, examples=[42.5])

    @classmethod
    def of(cls, service: Service, task: Task) -> EnhancementTaskStatusResponse:
        """The task as its owner sees it."""
        return cls(**_short(service, task))


class EnhancementTaskResponse(EnhancementTaskStatusResponse):
    """The whole task."""

    user_id: int
    original_image_path: str = Field(examples=["/uploads/user_1/originals/original_xxx.jpg"])
    user_description: str
    duration: int
    language: str
    image_model: str = Field(description="offline-studio: made without a model", examples=["gpt-image-2.5-flare"])
    script_model: str = Field(examples=["gpt-6-luna"])
    created_at: datetime
    completed_at: datetime | None
    thumbnail_url: str | None = Field(description="A small JPEG of the enhanced image, by a signed link that expires")
    status_url: str
    stream_url: str = Field(description="With a token for this stream alone that expires within the hour")

    @classmethod
    def of(cls, service: Service, task: Task) -> EnhancementTaskResponse:
        """The task as its owner sees it."""
        order, output = _order(task), _output(task)
        base = service.settings.public_url
        token = service.tokens.stream(task.user_id, task.channel)
        return cls(
            **_short(service, task),
            user_id=task.user_id,
            original_image_path=f"/uploads/{order.original}",
            user_description=order.user_description,
            duration=order.duration,
            language=order.language,
            image_model=output.image_model or service.tools.images.model,
            script_model=output.script_model or service.tools.scripts.model,
            created_at=task.created_at,
            completed_at=task.completed_at,
            thumbnail_url=output.thumbnail_path and service.link(output.thumbnail_path),
            status_url=base + STATUS.format(id=task.id),
            stream_url=f"{base}{STREAM.format(id=task.id)}?token={token}",
        )


class EnhancementListResponse(BaseModel):
    """A page of the caller's tasks, the newest first."""

    items: list[EnhancementTaskResponse]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null: there are no more")


class VideoCreateRequest(BaseModel):
    """
    The order for a video: of a completed enhancement, or of a photo that is sent as `file` in a form.

    What is left out is as in the enhancement. With both, the photo takes the place of the enhanced image.
    """

    enhancement_id: int | None = Field(
        None, ge=1, le=2**63 - 1, description="A completed enhancement of yours", examples=[1]
    )
    prompt: _Words | None = Field(
        None,
        description="What is to be seen; left out: the enhancement's script",
        examples=["[0:00-0:04] Steam rises from a red cup. | Morning, made better."],
    )
    duration: _Duration | None = Field(None, description="Length, seconds; left out: the enhancement's, else 4")
    language: _Language | None = Field(
        None,
        description="Language of captions and messages, a BCP 47 tag; left out: the enhancement's, else en",
        examples=["en", "zh-CN"],
    )


class VideoResponse(BaseModel):
    """The video."""

    id: int
    user_id: int
    enhancement_id: int | None
    prompt: str = Field(examples=["[0:00-0:04] Steam rises from a red cup. | Morning, made better."])
    duration: int = Field(description="Seconds")
    language: str
    status: Status
    step: int = Field(ge=0, le=9, description="The step that is reached; 9: completed")
    progress: int | None = Field(
        ge=0, le=100, description="How far the provider is, per cent; null while it does not say", examples=[62]
    )
    message: str = Field(examples=["🎬 Rendering video... 62%"])
    video_url: str | None = Field(description="A signed link that expires; ask again for a fresh one")
    thumbnail_url: str | None = Field(description="A small JPEG, likewise")
    poster_url: str | None = Field(description="A JPEG of the video's size, likewise")
    width: int | None = Field(description="Pixels", examples=[1280])
    height: int | None = Field(description="Pixels", examples=[720])
    video_model: str = Field(description="offline-studio: rendered here, without a model", examples=["wan-3"])
    error_message: str | None
    error_code: str | None
    queue_position: int | None = Field(description=_POSITION, examples=[3])
    eta_seconds: float | None = Field(description=_ETA, examples=[42.5])
    processing_time: float | None = Field(description="Seconds since the work began", examples=[75.5])
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    status_url: str
    stream_url: str = Field(description="With a token for this stream alone that expires within the hour")

    @classmethod
    def of(cls, service: Service, task: Task) -> VideoResponse:
        """The video as its owner sees it."""
        order, output = VideoInput.model_validate(task.input), VideoOutput.model_validate(task.output)
        base, link = service.settings.public_url, service.link
        token = service.tokens.stream(task.user_id, task.channel)
        return cls(
            id=task.id,
            user_id=task.user_id,
            enhancement_id=order.enhancement_id,
            prompt=output.prompt or order.prompt,
            duration=order.duration,
            language=order.language,
            status=task.status,
            step=task.progress,
            progress=output.percent,
            message=task.message,
            video_url=output.video_path and link(output.video_path),
            thumbnail_url=output.thumbnail_path and link(output.thumbnail_path),
            poster_url=output.poster_path and link(output.poster_path),
            width=output.width,
            height=output.height,
            video_model=output.video_model or (service.tools.videos.model if service.tools.videos else ""),
            **_ahead(service, task),
            error_message=task.error_message,
            error_code=task.error_code,
            processing_time=task.processing_time,
            created_at=task.created_at,
            updated_at=task.updated_at,
            completed_at=task.completed_at,
            status_url=base + VIDEO.format(id=task.id),
            stream_url=f"{base}{VIDEO_STREAM.format(id=task.id)}?token={token}",
        )


class VideoListResponse(BaseModel):
    """A page of the caller's videos, the newest first."""

    items: list[VideoResponse]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null: there are no more")


class VideoProgressEvent(BaseModel):
    """
    The data of an event of a video's stream.

    The last one carries the links or the error; `step` is -1 when the video failed.
    """

    model_config = ConfigDict(extra="forbid")

    step: int = Field(ge=-1, le=9)
    progress: int | None = Field(
        ge=0, le=100, description="How far the provider is, per cent; null while it does not say"
    )
    message: str | None = None
    status: Status
    queue_position: int | None = Field(default_factory=_unknown, description="null: it is worked on")
    eta_seconds: float | None = Field(default_factory=_unknown, description=_ETA, examples=[42.5])
    timestamp: float = Field(description="Seconds since 1970, UTC", examples=[1698765432.123])
    video_url: str | None = None
    thumbnail_url: str | None = None
    poster_url: str | None = None
    error: str | None = None
    error_code: str | None = None


class Call(BaseModel):
    """A call of a provider, as the ledger has it."""

    step: str = Field(examples=["redraw"])
    model: str = Field(examples=["gpt-image-2.5-flare"])
    billed: bool = Field(description="Whether such a call may cost money")
    outcome: Literal["started", "done", "refused", "ambiguous"] = Field(
        description="started: it may still be running; ambiguous: nobody can know whether it was billed"
    )
    usage: dict[str, object] | None = Field(description="What the provider counted", examples=[{"total_tokens": 1250}])
    started_at: datetime
    finished_at: datetime | None


class CallsResponse(BaseModel):
    """The ledger of a task, the first call first."""

    calls: list[Call]


class EnhancementProgressEvent(BaseModel):
    """
    The data of an event of the stream.

    The last one carries the result or the error; `progress` is -1 when the task failed.
    """

    model_config = ConfigDict(extra="forbid")

    progress: int = Field(ge=-1, le=100)
    message: str | None = None
    status: Status
    queue_position: int | None = Field(default_factory=_unknown, description="null: it is worked on")
    eta_seconds: float | None = Field(default_factory=_unknown, description=_ETA, examples=[42.5])
    timestamp: float = Field(description="Seconds since 1970, UTC", examples=[1698765432.123])
    enhanced_image_url: str | None = None
    script: str | None = None
    product_analysis: str | None = None
    error: str | None = None
    error_code: str | None = None


class EventsRequest(BaseModel):
    """Tasks to be followed together, up to 32."""

    tasks: list[str] = Field(examples=[["enhancement:1", "video:2"]])


class EventsResponse(BaseModel):
    """Where they can be followed."""

    stream_url: str = Field(description="With a token for this stream alone that expires within the hour")


class TaskEvent(BaseModel):
    """The data of an event of any of the tasks: that of the task's own stream, and whose it is."""

    model_config = ConfigDict(extra="allow")

    task: str = Field(examples=["enhancement:1"])
    status: Status
    timestamp: float = Field(description="Seconds since 1970, UTC", examples=[1698765432.123])


class LoginRequest(BaseModel):
    """Who signs in."""

    email: str = Field(max_length=320, examples=["you@example.com"])
    password: str = Field(max_length=1024)


class LoginResponse(BaseModel):
    """An account token for `Authorization: Bearer`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds", examples=[604800])


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable; `detail` is a sentence for people."""

    type: str = Field(description="A URN with the code", examples=["urn:enhancer:problem:not_found"])
    title: str
    status: int = Field(description="The HTTP status")
    detail: str
    code: str = Field(description="What programs should look at", examples=["not_found"])
    errors: list[FieldError] | None = Field(None, description="With `invalid_request`: what is wrong, by field")
    task_id: int | None = Field(None, description="When a task failed that the call waited for")


class Health(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether tasks can be accepted. Redis away is reported, but streams then live from the database."""

    status: Literal["ready", "not ready"]
    postgresql: Literal["ok", "unreachable", "migrations missing"]
    redis: Literal["ok", "unreachable"]
    storage: Literal["ok", "unavailable"]


def _order(task: Task) -> EnhancementInput:
    return EnhancementInput.model_validate(task.input)


def _output(task: Task) -> EnhancementOutput:
    return EnhancementOutput.model_validate(task.output)


def _short(service: Service, task: Task) -> dict[str, object]:
    output = _output(task)
    return {
        "id": task.id,
        "status": task.status,
        "progress": task.progress,
        "message": task.message,
        "enhanced_image_url": output.enhanced_path and service.link(output.enhanced_path),
        "script": output.script,
        "product_analysis": output.product_analysis,
        "tokens_used": output.tokens_used,
        "processing_time": task.processing_time,
        "error_message": task.error_message,
        "error_code": task.error_code,
        "updated_at": task.updated_at,
        **_ahead(service, task),
    }


def _ahead(service: Service, task: Task) -> dict[str, Any]:
    """What is known of the time to come; see Forecast."""
    outlook = service.forecast.outlook(task)
    return {"queue_position": outlook.position, "eta_seconds": outlook.seconds}
