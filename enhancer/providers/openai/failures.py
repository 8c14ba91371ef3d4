"""
What a failed call means.

The client's errors become ours here: a status by its number and code, a broken connection by the error beneath it.
What is raised has no cause attached, because the client's own errors carry the request.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai

from enhancer.errors import (
    OutcomeUnknown,
    ProviderBadAnswer,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
)
from enhancer.providers.refusals import refusal, short

SETTING = "OPENAI_BASE_URL"

# httpx2 raises these before the first byte of the request is sent
NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    ssl.SSLCertVerificationError,
)

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
        answer = error.response
        return refusal(answer.status_code, answer.headers, error.body, setting=SETTING, private=private)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if isinstance(cause, NEVER_SENT):
        return ProviderUnavailable("The provider cannot be reached.")
    if isinstance(cause, httpx2.UnsupportedProtocol):
        return ProviderRefused(f"{SETTING} is not an address that can be called.")
    if isinstance(cause, (httpx2.DecodingError, openai.APIResponseValidationError)):
        return ProviderBadAnswer()
    return OutcomeUnknown()


def _record(model: str, error: Exception) -> None:
    """The facts that the message leaves out; nothing in it was written by the provider, except short codes."""
    fields: dict[str, object] = {"model": model, "error": type(error.__cause__ or error).__name__}
    if isinstance(error, openai.APIStatusError):
        fields |= {"status": error.status_code, "code": short(error.code), "request_id": short(error.request_id)}
    log.warning("provider.failed", extra=fields)
