"""The language model: chat.completions with the enhanced image and a JSON schema."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Annotated

import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.shared_params import ResponseFormatJSONSchema
from pydantic import BeforeValidator, Field

from enhancer.domain.scripts import fits, scenes
from enhancer.errors import ProviderBadAnswer, ProviderRejectedImage
from enhancer.providers import OnWords, Script, ScriptBrief, models, prompts
from enhancer.providers.answers import Answer, AnyUsage, Usage, read
from enhancer.providers.connecting import longest_call
from enhancer.providers.openai.failures import translated
from enhancer.providers.openai.streaming import END, Streaming, broken, events, refused, streamed
from enhancer.settings import Settings

MAX_SCRIPT = 6000  # characters; a film of 12 s needs some 800
MAX_ANALYSIS = 6000  # characters

_SCRIPT = re.compile(r'(?<!\\)"script"\s*:\s*"')
_STRING = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')  # what of a JSON string is complete

# The analysis comes first, because models write the fields in this order: look, then write.
ADVERTISEMENT: ResponseFormatJSONSchema = {
    "type": "json_schema",
    "json_schema": {
        "name": "advertisement",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "product_analysis": {"type": "string", "description": "What the picture shows of the product"},
                "script": {"type": "string", "description": "The scenes, one a line"},
            },
            "required": ["product_analysis", "script"],
            "additionalProperties": False,
        },
    },
}


class OpenAIScripts:
    """
    Writes scripts, one POST a call.

    `model` is the name that is sent: OpenAI's retired ones are replaced. `longest_call` has a margin of 30 s.
    """

    billed = True

    def __init__(self, client: AsyncOpenAI, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.model = models.resolve(settings.script_model, own_address=models.own_address(settings.openai_base_url))
        self.longest_call = longest_call(settings)
        self._streaming = Streaming(self.model)

    async def write(self, brief: ScriptBrief, on_words: OnWords | None = None) -> Script:
        """Write a script and a product analysis. Raises errors.ProviderError."""
        private = (self._client.api_key, brief.description)
        async with translated(self.model, limit=self._settings.call_timeout, private=private):
            return _script(await self._asked(brief, on_words), brief.duration)

    async def _asked(self, brief: ScriptBrief, on_words: OnWords | None) -> _Completion:
        if not (on_words and self._streaming.possible):
            return await self._plain(brief)
        try:
            return await self._streamed(brief, on_words)
        except openai.APIStatusError as error:
            if not refused(error):
                raise
        written = await self._plain(brief)
        self._streaming.give_up()
        return written

    async def _plain(self, brief: ScriptBrief) -> _Completion:
        answer = await self._client.chat.completions.with_raw_response.create(
            model=self.model, messages=_messages(brief), response_format=ADVERTISEMENT
        )
        return read(_Completion, answer.content)

    async def _streamed(self, brief: ScriptBrief, on_words: OnWords) -> _Completion:
        async with self._client.chat.completions.with_streaming_response.create(
            model=self.model,
            messages=_messages(brief),
            response_format=ADVERTISEMENT,
            stream=True,
            stream_options={"include_usage": True},
        ) as answer:
            if streamed(answer.headers):
                return await _joined(events(answer.iter_bytes()), on_words)
            written = read(_Completion, await answer.read())
            self._streaming.give_up()
            return written


def so_far(content: str) -> str:
    """The script in an answer that is still being written; "" before it begins."""
    if "<think>" in content and "</think>" not in content:
        return ""
    content = content.rpartition("</think>")[2]
    begun = _SCRIPT.search(content)
    written = _STRING.match(content, begun.end()) if begun else None
    return _clean(json.loads(f'"{written[0]}"', strict=False), MAX_SCRIPT) if written else ""


async def _joined(pieces: AsyncIterator[bytes], on_words: OnWords) -> _Completion:
    """A streamed completion as if it had come at once."""
    content, refusal, ending, tokens, shown, done = "", "", None, Usage(), "", False
    async for data in pieces:
        if done := data == END:
            break
        chunk = read(_Chunk, data)
        if chunk.error:
            raise broken(chunk.error)
        tokens = max(tokens, chunk.usage, key=lambda usage: usage.total_tokens)
        for choice in chunk.choices[:1]:
            content += choice.delta.content or ""
            refusal += choice.delta.refusal or ""
            ending = choice.finish_reason or ending
        words = so_far(content)
        if words != shown:
            on_words(shown := words)
    if not (done or ending):
        raise broken()
    return _Completion(
        choices=[_Choice(message=_Message(content=content, refusal=refusal), finish_reason=ending)], usage=tokens
    )


def refit(script: str, duration: int) -> str:
    """
    The script with time codes that fill exactly `duration` seconds.

    The scenes keep their order and, as far as whole seconds allow, their shares. Scenes are put into the form of
    domain/scripts.py, other lines left alone; so is a script without scenes, or with more scenes than seconds.
    """
    found = scenes(script)
    if not 1 <= len(found) <= duration:
        return script
    edges = [0, *(scene.end for scene in found)]
    if not fits(script, duration):
        edges = _edges([max(1, scene.end - scene.start) for scene in found], duration)
    timed = iter([replace(scene, start=a, end=b) for scene, (a, b) in zip(found, pairwise(edges), strict=True)])
    return "\n".join(str(next(timed)) if scenes(line) else line for line in script.splitlines())


def _edges(shares: Sequence[int], duration: int) -> list[int]:
    """Where scenes of these shares begin and end: from 0 to `duration`, each at least a second long."""
    total, count = sum(shares), len(shares)
    edges = [0]
    for number, share in enumerate(accumulate(shares), start=1):
        wanted = round(duration * share / total)
        edges.append(min(max(wanted, edges[-1] + 1), duration - (count - number)))
    return edges


def _messages(brief: ScriptBrief) -> Iterable[ChatCompletionMessageParam]:
    address = f"data:{brief.format.mime};base64,{base64.b64encode(brief.image).decode()}"
    return [
        {"role": "system", "content": prompts.COPYWRITER},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": address, "detail": "high"}},
                {"type": "text", "text": prompts.script(brief)},
            ],
        },
    ]


class _Message(Answer):
    content: str | None = None
    refusal: str | None = None


class _Choice(Answer):
    message: _Message
    finish_reason: str | None = None


class _Piece(Answer):
    delta: _Message = _Message()
    finish_reason: str | None = None


class _Chunk(Answer):
    """Of a stream."""

    choices: list[_Piece] = Field(default=[])
    usage: AnyUsage = Usage()
    error: object = None


class _Completion(Answer):
    choices: list[_Choice] = Field(min_length=1)
    usage: AnyUsage = Usage()


Lines = Annotated[str, BeforeValidator(lambda text: "\n".join(map(str, text)) if isinstance(text, list) else text)]


class _Advertisement(Answer):
    script: Lines
    product_analysis: Lines = ""


def _script(answer: _Completion, duration: int) -> Script:
    choice = answer.choices[0]
    if choice.message.refusal or choice.finish_reason == "content_filter":
        raise ProviderRejectedImage("The language model declined to write about this image or description.")
    if choice.finish_reason == "length":
        raise ProviderBadAnswer("The language model's answer was cut off.")
    written = _advertisement(choice.message.content or "")
    script = refit(_clean(written.script, MAX_SCRIPT), duration)
    if not script:
        raise ProviderBadAnswer("The language model wrote no script.")
    return Script(script, _clean(written.product_analysis, MAX_ANALYSIS), answer.usage.total_tokens)


def _advertisement(content: str) -> _Advertisement:
    """
    The JSON in a model's words.

    Servers that ignore the schema send it fenced, after their thoughts, or with line ends inside its strings.
    """
    content = content.rpartition("</think>")[2]
    content = content[content.find("{") : content.rfind("}") + 1]
    try:
        return _Advertisement.model_validate(json.loads(content, strict=False))
    except (ValueError, RecursionError):
        raise ProviderBadAnswer("The language model's answer does not have the expected form.") from None


def _clean(text: str, limit: int) -> str:
    """Text that can be stored and shown: no control or invisible characters, no empty lines, at most `limit` long."""
    if "\n" not in text:
        text = text.replace("\\n", "\n")
    lines = (re.sub(r"\s+", " ", _visible(line)).strip() for line in text.splitlines())
    text = "\n".join(line for line in lines if line)
    return text if len(text) <= limit else text[:limit].rpartition("\n")[0] or text[:limit]


def _visible(line: str) -> str:
    return "".join(c for c in line if c in "\t\u200c\u200d" or unicodedata.category(c) not in {"Cc", "Cf", "Cs"})
