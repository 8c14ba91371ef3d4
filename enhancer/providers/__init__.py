"""
Those who do the creative work: models behind an API, or the offline studio.

Our words go in, our words come out. Whatever a provider's client raises becomes an errors.ProviderError here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
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


OnDraft = Callable[[bytes], None]
"""Called on the loop with an image file, as it came; must not block."""

OnWords = Callable[[str], None]
"""Called on the loop with a script so far; must not block."""


class Images(Protocol):
    """
    Redraws a photo.

    `model` is recorded with the task. `billed`: whether a call may cost money, and so may not be repeated lightly.
    `longest_call`: seconds after which no call can still be running.
    """

    model: str
    billed: bool
    longest_call: float

    async def redraw(self, brief: ImageBrief, on_draft: OnDraft | None = None) -> Redrawn:
        """
        Make the advertisement's image. Raises errors.ProviderError.

        `on_draft` is given images that are not finished yet, where the provider has any.
        """
        ...


class Scripts(Protocol):
    """Writes an advertising script; the attributes are those of Images."""

    model: str
    billed: bool
    longest_call: float

    async def write(self, brief: ScriptBrief, on_words: OnWords | None = None) -> Script:
        """
        Write a script and a product analysis. Raises errors.ProviderError.

        `on_words` is given the script as far as it is written, where the provider says it word by word.
        """
        ...


@dataclass(frozen=True, slots=True)
class VideoBrief:
    """
    The order for a video of `duration` seconds.

    `frame` is the reference: a JPEG of exactly `size`. `prompt` says what is to be seen, with the scenes of a script
    (domain/scripts.py) where it has them; `language` is a BCP 47 tag.
    """

    frame: bytes
    prompt: str
    size: Size
    duration: int
    language: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """
    How far an ordered video is.

    `percent`: 0 to 100, None when the provider does not say. `retry_after`: seconds after which it wants to be asked
    again, None when it does not say.
    """

    done: bool
    percent: float | None = None
    retry_after: float | None = None


class Videos(Protocol):
    """
    Renders a video: ordered first, asked for until it is done, then fetched. The attributes are those of Images.

    An order is known by the id that `order` returns, which outlives the process when the provider does.
    """

    model: str
    billed: bool
    longest_call: float

    async def order(self, brief: VideoBrief) -> str:
        """Order a video; its id. Raises errors.ProviderError."""
        ...

    async def look(self, order: str) -> Rendering:
        """
        How far it is.

        Raises errors.OrderFailed when it will never be done, errors.OrderLost when the provider does not know it (any
        more), any other errors.ProviderError when the question could not be answered now.
        """
        ...

    def fetch(self, order: str) -> AsyncIterator[bytes]:
        """The finished file, an MP4, piece by piece. Raises as `look` does."""
        ...

    async def withdraw(self, order: str) -> None:
        """Tell the provider that nobody wants it any more; that it could not be told is logged, not raised."""
        ...
