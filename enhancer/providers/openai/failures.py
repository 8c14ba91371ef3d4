"""
What a failed call means.

The client's errors become ours here: a status by its number and code, a broken connection by the error beneath it.
What is raised has no cause attached, because the client's own errors carry the request.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import httpx2
import openai

from enhancer.errors import (
    OutcomeUnknown,
    ProviderBadAnswer,
    ProviderError,
    ProviderRateLimited,
    ProviderRefused,
    ProviderRejectedImage,
    ProviderUnavailable,
)

MAX_RETRY_AFTER = 3600.0  # seconds; nobody means a longer pause
MAX_QUOTE = 200  # characters
MIN_PRIVATE = 8  # characters; a shorter description may be any word of a message

# httpx2 raises these before the first byte of the request is sent
NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    ssl.SSLCertVerificationError,
)
MODERATION = {
    "moderation_blocked",
    "image_generation_user_error",
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
    404: "The provider does not know the model, or OPENAI_BASE_URL leads to a wrong address.",
    413: "The image is too large for the provider.",
}
_ADDRESS = re.compile(r"\w+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|(?:/[\w.-]+){2,}")
_KEY = re.compile(r"\b(?:sk[-_]|Bearer )[\w*.-]{8,}")

log = logging.getLogger(__name__)


@asynccontextmanager
async def translated(model: str, *, limit: float, private: tuple[str, ...] = ()) -> AsyncIterator[None]:
    """
    Around one call of the client: raises errors.ProviderError, and ends the call after `limit` seconds.

    No message repeats one of `private` (the key, the user's words), an address or the like. A cancellation passes.
    """
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        log.warning("provider.failed", extra={"model": model, "error": "TimeoutError"})
        raise OutcomeUnknown(
            f"The provider did not answer within {limit:.0f} s; whether the call was billed is unknown."
        ) from None
    except (openai.OpenAIError, httpx2.HTTPError) as error:
        _record(model, error)
        raise meaning(error, private) from None


def meaning(error: Exception, private: tuple[str, ...] = ()) -> ProviderError:
    """What an error of the client, or of httpx2 beneath it, is to us; one that nobody knows is OutcomeUnknown."""
    if isinstance(error, openai.APIStatusError):
        return _refusal(error, private)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if isinstance(cause, NEVER_SENT):
        return ProviderUnavailable("The provider cannot be reached.")
    if isinstance(cause, httpx2.UnsupportedProtocol):
        return ProviderRefused("OPENAI_BASE_URL is not an address that can be called.")
    if isinstance(cause, (httpx2.DecodingError, openai.APIResponseValidationError)):
        return ProviderBadAnswer()
    return OutcomeUnknown()


def _refusal(error: openai.APIStatusError, private: tuple[str, ...]) -> ProviderError:
    status, codes = error.status_code, _codes(error)
    if codes & NO_CREDIT:
        return ProviderRefused("The provider's account has no credit left, or has reached its limit.")
    if status == 429:
        return ProviderRateLimited(retry_after=_retry_after(error.response.headers))
    if codes & MODERATION:
        return ProviderRejectedImage()
    if status in GATEWAY_TIMEOUT:
        return OutcomeUnknown("A gateway gave up waiting for the provider; whether the call was billed is unknown.")
    if status >= 500 or status in NOT_NOW:
        sentence = f"The provider is not working at the moment (HTTP {status})."
        return ProviderUnavailable(sentence, retry_after=_retry_after(error.response.headers))
    return ProviderRefused(_sentence(error, private))


def _codes(error: openai.APIStatusError) -> set[str]:
    given: tuple[object, ...] = (error.code, error.type)
    return {value.lower() for value in given if isinstance(value, str)}


def _sentence(error: openai.APIStatusError, private: tuple[str, ...]) -> str:
    status = error.status_code
    if status < 400:
        return f"The provider answered with a redirect (HTTP {status}): OPENAI_BASE_URL is not its address."
    sentence = _SENTENCES.get(status, f"The provider refused the request (HTTP {status}).")
    said = "" if status == 401 else _said(error.body, private)
    return f"{sentence} It said: {said}" if said else sentence


def _said(body: object, private: tuple[str, ...]) -> str:
    """The provider's own words on one line, at most MAX_QUOTE characters; "" when they may give something away."""
    said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    if not isinstance(said, str) or said.lstrip().startswith("<"):
        return ""
    if any(secret[:40] in said for secret in private if len(secret) >= MIN_PRIVATE):
        return ""
    said = _KEY.sub("…", _ADDRESS.sub("…", said))
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said if len(said) <= MAX_QUOTE else f"{said[: MAX_QUOTE - 1]}…"


def _retry_after(headers: httpx2.Headers) -> float | None:
    """
    Seconds to wait, 0..MAX_RETRY_AFTER, or None when the provider did not say.

    `Retry-After` is seconds or a date (RFC 9110, 10.2.3); OpenAI also sends `retry-after-ms`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    asked = headers.get("retry-after")
    seconds = milliseconds / 1000 if milliseconds is not None else _number(asked)
    if seconds is None:
        seconds = _seconds_until(asked)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds_until(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _record(model: str, error: Exception) -> None:
    """The facts that the message leaves out; nothing in it was written by the provider, except short codes."""
    fields: dict[str, object] = {"model": model, "error": type(error.__cause__ or error).__name__}
    if isinstance(error, openai.APIStatusError):
        fields |= {"status": error.status_code, "code": _short(error.code), "request_id": _short(error.request_id)}
    log.warning("provider.failed", extra=fields)


def _short(text: object) -> str | None:
    return re.sub(r"[^\w.:-]", "", text)[:64] if isinstance(text, str) else None
