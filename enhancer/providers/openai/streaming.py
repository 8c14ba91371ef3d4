"""
Answers that come piece by piece, where a server can do that.

One that cannot says so by refusing the request, or by answering as if nothing had been asked; then it is asked
without, and not asked again by this process. What breaks in the middle of a stream may have been billed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping

import openai

from enhancer.errors import OutcomeUnknown, ProviderError, ProviderRejectedImage
from enhancer.providers.refusals import MODERATION, NO_CREDIT, codes

log = logging.getLogger(__name__)

END = b"[DONE]"

_REFUSING = {400, 422, 501}
_NAMED = re.compile(r"\b(stream(ing|_options)?|partial_images)\b", re.IGNORECASE)


class Streaming:
    """What this process knows of a server's ability to stream. `possible` until it was found out otherwise."""

    def __init__(self, model: str) -> None:
        self.possible = True
        self._model = model

    def give_up(self) -> None:
        """Ask without from now on."""
        if self.possible:
            self.possible = False
            log.info("provider.no_streaming", extra={"model": self._model})


class RejectedMeanwhile(ProviderRejectedImage):
    """The provider's safety system rejected what was being made."""

    billing = "ambiguous"


def refused(error: openai.APIStatusError) -> bool:
    """Whether it is the streaming that the server does not want. Such a call was not accepted, so it is not billed."""
    if error.status_code not in _REFUSING or codes(error.body) & (MODERATION | NO_CREDIT):
        return False
    return bool(_NAMED.search(json.dumps(error.body, default=str)))


def streamed(headers: Mapping[str, str]) -> bool:
    """Whether the answer comes as events."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"


async def events(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The `data` of every event in a stream, the one that says [DONE] included. Names of events are passed over."""
    data: list[bytes] = []
    async for line in _lines(pieces):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            event, data = b"\n".join(data), []
            yield event.strip()


def broken(error: object = None) -> ProviderError:
    """What an error in the middle of a stream, or its early end, means."""
    if codes(error) & MODERATION:
        return RejectedMeanwhile()
    return OutcomeUnknown("The provider broke off in the middle of its answer; whether the call was billed is unknown.")


async def _lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Lines without their ends; what follows the last end is no line. An image is one line of megabytes."""
    begun: list[bytes] = []
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        begun.append(first)
        for other in others:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [other]
