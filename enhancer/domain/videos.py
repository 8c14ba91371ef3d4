"""What goes into a video and what comes out of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from enhancer.domain.images import Size


class VideoInput(BaseModel):
    """
    What the user ordered.

    `key` is the unguessable part of the names of everything that is stored for the task. `reference` is an image of
    the task's own: it outlives the enhancement `enhancement_id` that it may come from. `prompt` is empty when neither
    the user nor a script says what is to be seen.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    reference: str
    enhancement_id: int | None
    prompt: str
    duration: int
    language: str


class VideoOutput(BaseModel):
    """
    What the steps have found so far; a field is None until its step is done.

    `frame_size` is what the video is ordered in, `width` and `height` what it really has; pixels. `percent`: how far
    the provider is with its work; None while it does not say.
    """

    model_config = ConfigDict(frozen=True)

    reference_bytes: int | None = None
    prompt: str | None = None
    frame_size: Size | None = None
    width: int | None = None
    height: int | None = None
    percent: int | None = 0
    video_bytes: int | None = None
    frames: int | None = None
    seconds: float | None = None
    video_path: str | None = None
    poster_path: str | None = None
    thumbnail_path: str | None = None
    video_model: str | None = None
