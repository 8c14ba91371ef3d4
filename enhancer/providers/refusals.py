"""
What an HTTP answer that is no success means, whichever client has brought it.

The body is the `error` of OpenAI's form where there is one, else what the server sent instead.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from enhancer.errors import (
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    ProviderRefused,
    ProviderRejectedImage,
    ProviderUnavailable,
)

MAX_RETRY_AFTER = 3600.0  # seconds; nobody means a longer pause
MAX_QUOTE = 200  # characters
MIN_PRIVATE = 8  # characters; a shorter description may be any word of a message

MODERATION = {
    "moderation_blocked",
    "image_generation_user_error",
    "video_generation_user_error",
    "content_policy_violation",
    "content_filter",
    "responsibleaipolicyviolation",
}
NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
GATEWAY_TIMEOUT = {504, 524}  # 524: Cloudflare's. Behind the gateway the model may have gone on
NOT_NOW = {408, 409, 425}  # the request came too slowly, met a lock, or came too early: not accepted

_SENTENCES = {
    401: "The provider did not accept the API key.",
    402: "The provider's account has no credit left.",
    403: "The provider does not allow this to the API key.",
    404: "The provider does not know the model, or {setting} leads to a wrong address.",
    413: "The image is too large for the provider.",
}
_ADDRESS = re.compile(r"\w+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|(?:/[\w.-]+){2,}")
_WITHIN = re.compile(r"""["'](?:code|type)["']: ?["']([\w.]+)["']""")
_KEY = re.compile(r"\b(?:sk[-_]|Bearer )[\w*.-]{8,}")


def refusal(
    status: int, headers: Mapping[str, str], body: object, *, setting: str, private: tuple[str, ...] = ()
) -> ProviderError:
    """
    The error of an answer with this status.

    `setting` names the address for the operator; no message repeats one of `private` (the key, the user's words).
    """
    found = codes(body)
    if found & NO_CREDIT:
        return ProviderRefused("The provider's account has no credit left, or has reached its limit.")
    if status == 429:
        return ProviderRateLimited(retry_after=retry_after(headers))
    if found & MODERATION:
        return ProviderRejectedImage()
    if status in GATEWAY_TIMEOUT:
        return OutcomeUnknown("A gateway gave up waiting for the provider; whether the call was billed is unknown.")
    if status >= 500 or status in NOT_NOW:
        sentence = f"The provider is not working at the moment (HTTP {status})."
        return ProviderUnavailable(sentence, retry_after=retry_after(headers))
    return ProviderRefused(_sentence(status, body, setting, private))


def codes(body: object) -> set[str]:
    """
    How an error calls itself: its `code` and `type`, in small letters.

    A gateway may have put the answer that it got, as it was, into its own message.
    """
    if not isinstance(body, dict):
        return set()
    given = [body.get("code"), body.get("type"), *_WITHIN.findall(str(body.get("message")))]
    return {value.lower() for value in given if isinstance(value, str)}


def quoted(body: object, private: tuple[str, ...] = ()) -> str:
    """The provider's own words on one line, at most MAX_QUOTE characters; "" when they may give something away."""
    said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    if not isinstance(said, str) or said.lstrip().startswith("<"):
        return ""
    if any(secret[:40] in said for secret in private if len(secret) >= MIN_PRIVATE):
        return ""
    said = _KEY.sub("…", _ADDRESS.sub("…", said))
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said if len(said) <= MAX_QUOTE else f"{said[: MAX_QUOTE - 1]}…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """
    Seconds to wait, 0..MAX_RETRY_AFTER, or None when the provider did not say.

    `Retry-After` is seconds or a date (RFC 9110, 10.2.3); OpenAI also sends `retry-after-ms`.
    """
    milliseconds = number(headers.get("retry-after-ms"))
    asked = headers.get("retry-after")
    seconds = milliseconds / 1000 if milliseconds is not None else number(asked)
    if seconds is None:
        seconds = _seconds_until(asked)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def number(text: object) -> float | None:
    """A finite number, as the text or the number that was sent; None for anything else."""
    try:
        value = float(text) if isinstance(text, str | int | float) and not isinstance(text, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def short(text: object) -> str | None:
    """A code or an id that may be logged."""
    return re.sub(r"[^\w.:-]", "", text)[:64] if isinstance(text, str) else None


def _sentence(status: int, body: object, setting: str, private: tuple[str, ...]) -> str:
    if status < 400:
        return f"The provider answered with a redirect (HTTP {status}): {setting} is not its address."
    sentence = _SENTENCES.get(status, f"The provider refused the request (HTTP {status}).").format(setting=setting)
    said = "" if status == 401 else quoted(body, private)
    return f"{sentence} It said: {said}" if said else sentence


def _seconds_until(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
