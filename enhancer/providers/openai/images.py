"""The image model: images.edit."""

from __future__ import annotations

import base64
import binascii
import io
import re

from openai import AsyncOpenAI, omit
from pydantic import Field

from enhancer import crafts, imaging
from enhancer.errors import InvalidImage, ProviderBadAnswer, UnsupportedImage
from enhancer.providers import ImageBrief, Redrawn, models, prompts
from enhancer.providers.answers import Answer, AnyUsage, Usage, read
from enhancer.providers.connecting import longest_call
from enhancer.providers.openai.failures import translated
from enhancer.settings import Settings

MAX_PIXELS = 40_000_000  # of an answer; the largest that models make are 3840x2160

_GPT_IMAGE = re.compile(r"(.*/)?(chatgpt|gpt)-image\b.*", re.IGNORECASE)
_HAS_FIDELITY = re.compile(r"(.*/)?gpt-image-1(\.5)?(-\d{4}-\d\d-\d\d)?", re.IGNORECASE)


class OpenAIImages:
    """
    Redraws photos, one POST a call.

    `model` is the name that is sent: OpenAI's retired ones are replaced. `longest_call` has a margin of 30 s.
    """

    billed = True

    def __init__(self, client: AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.model = models.resolve(settings.image_model, own_address=models.own_address(settings.openai_base_url))
        self.longest_call = longest_call(settings)

    async def redraw(self, brief: ImageBrief) -> Redrawn:
        """Make the advertisement's image. Raises errors.ProviderError."""
        body = await self._edit(brief)
        return await crafts.done(_redrawn, body)

    async def _edit(self, brief: ImageBrief) -> bytes:
        private = (self._client.api_key, brief.description)
        async with translated(self.model, limit=self._settings.call_timeout, private=private):
            answer = await self._client.images.with_raw_response.edit(
                model=self.model,
                image=(f"photo.{brief.format.extension}", brief.image, brief.format.mime),
                prompt=prompts.redraw(brief),
                size=f"{brief.size[0]}x{brief.size[1]}",
                quality=self._settings.image_quality,
                output_format=self._settings.image_format,
                # 2.x keeps its input by itself and refuses the parameter
                input_fidelity="high" if _HAS_FIDELITY.fullmatch(self.model) else omit,
                # GPT image models always send base64 and refuse to be asked; others may send a link if they are not
                response_format=omit if _GPT_IMAGE.fullmatch(self.model) else "b64_json",
            )
        return answer.content


class _Image(Answer):
    b64_json: str | None = None
    url: str | None = None


class _Images(Answer):
    data: list[_Image] = Field(min_length=1)
    usage: AnyUsage = Usage()


def _redrawn(body: bytes) -> Redrawn:
    answer = read(_Images, body)
    data = _decoded(answer.data[0])
    try:
        photo = imaging.verify(io.BytesIO(data), max_pixels=MAX_PIXELS)
    except (UnsupportedImage, InvalidImage):
        raise ProviderBadAnswer("The provider sent something that is not an image.") from None
    return Redrawn(data, photo.format, photo.size, answer.usage.total_tokens)


def _decoded(image: _Image) -> bytes:
    """A link is not followed: it would make this server fetch whatever address the answer names."""
    if not image.b64_json:
        sent = "a link instead of the image" if image.url else "no image"
        raise ProviderBadAnswer(f"The provider sent {sent}.")
    text = image.b64_json.partition(";base64,")[2] or image.b64_json
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        raise ProviderBadAnswer("The provider sent an image that cannot be decoded.") from None
