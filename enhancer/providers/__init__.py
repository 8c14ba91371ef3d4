"""
Those who do the creative work: models behind an API, or the offline studio.

Our words go in, our words come out. Whatever a provider's client raises becomes an errors.ProviderError here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from enhancer.domain.images import Format, Size


@dataclass(frozen=True, slots=True)
class ImageBrief:
    """The order for an image: `image` is upright, in `format`; `size` is what is wanted back."""

    image: bytes
    format: Format
    size: Size
    description: str


@dataclass(frozen=True, slots=True)
class Redrawn:
    """An image as the provider sent it, looked at: `size` and `format` are what the bytes really hold."""

    data: bytes
    format: Format
    size: Size
    tokens: int


@dataclass(frozen=True, slots=True)
class ScriptBrief:
    """The order for a script: the enhanced image, the user's words, seconds, and a BCP 47 language."""

    image: bytes
    format: Format
    description: str
    duration: int
    language: str


@dataclass(frozen=True, slots=True)
class Script:
    """A script with time-coded scenes (domain/scripts.py has their form) and what was seen of the product."""

    script: str
    product_analysis: str
    tokens: int


class Images(Protocol):
    """
    Redraws a photo.

    `model` is recorded with the task. `billed`: whether a call may cost money, and so may not be repeated lightly.
    `longest_call`: seconds after which no call can still be running.
    """

    model: str
    billed: bool
    longest_call: float

    async def redraw(self, brief: ImageBrief) -> Redrawn:
        """Make the advertisement's image. Raises errors.ProviderError."""
        ...


class Scripts(Protocol):
    """Writes an advertising script; the attributes are those of Images."""

    model: str
    billed: bool
    longest_call: float

    async def write(self, brief: ScriptBrief) -> Script:
        """Write a script and a product analysis. Raises errors.ProviderError."""
        ...
