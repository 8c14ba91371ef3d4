"""What servers say of an order, read with patience."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, StringConstraints

from enhancer.errors import OrderFailed, OrderRejected
from enhancer.providers import Rendering
from enhancer.providers.answers import Answer
from enhancer.providers.refusals import MAX_RETRY_AFTER, MODERATION, codes, number, quoted, retry_after

DONE = {"completed", "complete", "succeeded", "success", "done", "finished"}
FAILED = {"failed", "failure", "error", "rejected", "cancelled", "canceled", "expired", "deleted"}

_SENTENCES = {
    "cancelled": "The provider has cancelled the video.",
    "canceled": "The provider has cancelled the video.",
    "expired": "The provider has let the video expire.",
    "deleted": "The provider has deleted the video.",
}


class Receipt(Answer):
    """What an order is answered with: the `id` to ask by. Some servers count in numbers."""

    id: Annotated[
        str,
        BeforeValidator(lambda given: str(given) if type(given) is int else given),
        # ASCII, and not dots alone: it becomes a part of an address
        StringConstraints(min_length=1, max_length=1000, pattern=r"^[!-~]*[!-,\-/-~][!-~]*$"),
    ]


class Report(Answer):
    """An order's state: `status` in small letters; the rest as it was sent, if it was."""

    status: Annotated[str, BeforeValidator(lambda given: _word(given)), StringConstraints(min_length=1, max_length=100)]
    progress: object = None
    error: object = None
    message: object = None


def rendering(report: Report, headers: Mapping[str, str], *, private: tuple[str, ...]) -> Rendering:
    """
    How far the order is. No message repeats one of `private`.

    Raises OrderFailed with the server's own sentence, OrderRejected when its safety system has stepped in.
    """
    if report.status in FAILED:
        raise _failure(report, private)
    if report.status in DONE:
        return Rendering(done=True, percent=100.0)
    return Rendering(done=False, percent=_percent(report.progress), retry_after=_pause(headers))


def _word(given: object) -> str:
    return re.sub(r"[\s-]+", "_", given.strip().lower()) if isinstance(given, str) else ""


def _failure(report: Report, private: tuple[str, ...]) -> OrderFailed:
    if codes(report.error) & MODERATION:
        return OrderRejected()
    sentence = _SENTENCES.get(report.status, "The provider could not make the video.")
    said = quoted(report.error, private) or quoted(report.message, private)
    return OrderFailed(f"{sentence} It said: {said}" if said else sentence)


def _percent(progress: object) -> float | None:
    """0 to 100; a broken number between 0 and 1 is taken for a share, and "40 %" for what it says."""
    value = number(progress.strip().rstrip("%") if isinstance(progress, str) else progress)
    if value is None:
        return None
    return min(max(value * 100 if 0 < value < 1 else value, 0.0), 100.0)


def _pause(headers: Mapping[str, str]) -> float | None:
    """Seconds after which the server wants to be asked again; OpenAI's own header goes before the common one."""
    milliseconds = number(headers.get("openai-poll-after-ms"))
    if milliseconds is None:
        return retry_after(headers)
    return min(max(milliseconds / 1000, 0.0), MAX_RETRY_AFTER)
