"""What goes into an enhancement and what comes out of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from enhancer.domain.images import Orientation, Size


class EnhancementInput(BaseModel):
    """
    What the user ordered.

    `key` is the unguessable part of the names of everything that is stored for the task.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    original: str
    user_description: str
    duration: int
    language: str


class EnhancementOutput(BaseModel):
    """What the steps have found so far; a field is None until its step is done. Sizes in pixels."""

    model_config = ConfigDict(frozen=True)

    original_bytes: int | None = None
    orientation: Orientation | None = None
    model_path: str | None = None
    model_size: Size | None = None
    enhanced_path: str | None = None
    enhanced_size: Size | None = None
    thumbnail_path: str | None = None
    script: str | None = None
    product_analysis: str | None = None
    tokens_used: int = 0
    image_model: str | None = None
    script_model: str | None = None
