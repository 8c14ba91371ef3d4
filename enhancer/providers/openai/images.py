"""The image model: images.edit."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import re
from typing import Any

import openai
from openai import AsyncOpenAI, omit
from pydantic import Field

from enhancer import crafts, imaging
from enhancer.errors import InvalidImage, ProviderBadAnswer, UnsupportedImage
from enhancer.providers import ImageBrief, OnDraft, Redrawn, models, prompts
from enhancer.providers.answers import Answer, AnyUsage, Usage, read
from enhancer.providers.connecting import longest_call
from enhancer.providers.openai.failures import translated
from enhancer.providers.openai.streaming import END, Streaming, broken, events, refused, streamed
from enhancer.settings import Settings

DRAFTS = 2  # asked of a model that streams: more cost more (100 tokens each, platform.openai.com), and tell little
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
        self._streaming = Streaming(self.model)

    async def redraw(self, brief: ImageBrief, on_draft: OnDraft | None = None) -> Redrawn:
        """Make the advertisement's image. Raises errors.ProviderError."""
        private = (self._client.api_key, brief.description)
        async with translated(self.model, limit=self._settings.call_timeout, private=private):
            if not (on_draft and self._streaming.possible):
                return await self._plain(brief)
            try:
                return await self._streamed(brief, on_draft)
            except openai.APIStatusError as error:
                if not refused(error):
                    raise
            redrawn = await self._plain(brief)
            self._streaming.give_up()
            return redrawn

    async def _plain(self, brief: ImageBrief) -> Redrawn:
        answer = await self._client.images.with_raw_response.edit(**self._order(brief))
        return await crafts.done(_redrawn, answer.content)

    async def _streamed(self, brief: ImageBrief, on_draft: OnDraft) -> Redrawn:
        order = self._order(brief) | {"stream": True, "partial_images": DRAFTS}
        async with self._client.images.with_streaming_response.edit(**order) as answer:
            if not streamed(answer.headers):
                redrawn = await crafts.done(_redrawn, await answer.read())
                self._streaming.give_up()
                return redrawn
            async for data in events(answer.iter_bytes()):
                if data == END:
                    break
                event = await crafts.done(read, _Event, data)
                if event.error or event.type == "error":
                    raise broken(event.error)
                if event.type.endswith(".completed"):
                    return await crafts.done(_looked_at, event, event.usage)
                if event.type.endswith(".partial_image"):
                    with contextlib.suppress(ProviderBadAnswer):  # it is only a draft
                        on_draft(await crafts.done(_decoded, event))
            raise broken()

    def _order(self, brief: ImageBrief) -> dict[str, Any]:
        """The arguments of images.edit."""
        return {
            "model": self.model,
            "image": (f"photo.{brief.format.extension}", brief.image, brief.format.mime),
            "prompt": prompts.redraw(brief),
            "size": f"{brief.size[0]}x{brief.size[1]}",
            "quality": self._settings.image_quality,
            "output_format": self._settings.image_format,
            # 2.x keeps its input by itself and refuses the parameter
            "input_fidelity": "high" if _HAS_FIDELITY.fullmatch(self.model) else omit,
            # GPT image models always send base64 and refuse to be asked; others may send a link if they are not
            "response_format": omit if _GPT_IMAGE.fullmatch(self.model) else "b64_json",
        }


class _Image(Answer):
    b64_json: str | None = None
    url: str | None = None


class _Images(Answer):
    data: list[_Image] = Field(min_length=1)
    usage: AnyUsage = Usage()


class _Event(_Image):
    """Of a stream: a draft, the image, or an error."""

    type: str = ""
    error: object = None
    usage: AnyUsage = Usage()


def _redrawn(body: bytes) -> Redrawn:
    answer = read(_Images, body)
    return _looked_at(answer.data[0], answer.usage)


def _looked_at(image: _Image, usage: Usage) -> Redrawn:
    data = _decoded(image)
    try:
        photo = imaging.verify(io.BytesIO(data), max_pixels=MAX_PIXELS)
    except (UnsupportedImage, InvalidImage):
        raise ProviderBadAnswer("The provider sent something that is not an image.") from None
    return Redrawn(data, photo.format, photo.size, usage.total_tokens)


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
