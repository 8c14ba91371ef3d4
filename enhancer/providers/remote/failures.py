"""
What a failed request means.

The client's errors become ours here. What is raised has no cause attached, because the client's own errors carry the
request with its key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from pydantic_core import from_json

from enhancer.errors import OutcomeUnknown, ProviderBadAnswer, ProviderError, ProviderRefused, ProviderUnavailable
from enhancer.providers.refusals import refusal, short

SETTING = "VIDEO_BASE_URL"

# aiohttp raises these before the first byte of the request is sent
NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
)

log = logging.getLogger(__name__)


@asynccontextmanager
async def translated(model: str, *, limit: float | None, paid: bool = False) -> AsyncIterator[None]:
    """
    Around one request: raises errors.ProviderError, and ends the request after `limit` seconds.

    A broken answer leaves a question open: whether a paid request was billed. Any other can just be made again.
    """
    try:
        async with asyncio.timeout(limit):
            yield
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("provider.failed", extra={"model": model, "error": type(error).__name__})
        found = meaning(error)
        if isinstance(found, OutcomeUnknown) and not paid:
            found = ProviderUnavailable("The provider did not answer, or not to the end.")
        raise found from None


def meaning(error: Exception) -> ProviderError:
    """What an error of the client is to us; one that nobody knows is OutcomeUnknown."""
    if isinstance(error, NEVER_SENT):
        return ProviderUnavailable("The provider cannot be reached.")
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return ProviderRefused(f"{SETTING} is not an address that can be called.")
    if isinstance(error, aiohttp.ClientPayloadError) and isinstance(
        error.__cause__, aiohttp.http_exceptions.ContentEncodingError
    ):
        return ProviderBadAnswer()
    if isinstance(error, TimeoutError):
        return OutcomeUnknown("The provider did not answer in time; whether the call was billed is unknown.")
    return OutcomeUnknown()


def refused(
    model: str, status: int, headers: Mapping[str, str], body: bytes, *, private: tuple[str, ...]
) -> ProviderError:
    """The error of an answer that is no success, which is logged without anything that the server wrote freely."""
    error = _error(body)
    fields: dict[str, object] = {"model": model, "status": status, "request_id": short(headers.get("x-request-id"))}
    if isinstance(error, dict):
        fields["code"] = short(error.get("code"))
    log.warning("provider.failed", extra=fields)
    return refusal(status, headers, error, setting=SETTING, private=private)


def _error(body: bytes) -> object:
    """What stands under `error`, else the whole; text when it is no JSON."""
    try:
        found = from_json(body)
    except ValueError:
        return body.decode(errors="replace")
    return found.get("error", found) if isinstance(found, dict) else found
