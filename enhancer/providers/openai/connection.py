"""The client, set up so that one call is one paid call at most."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2
import openai

from enhancer.errors import SetupError
from enhancer.settings import Settings

OPENAI = "https://api.openai.com/v1"
CONNECT_TIMEOUT = 5.0  # seconds
MARGIN = 30.0  # seconds


def connect(settings: Settings) -> openai.AsyncOpenAI:
    """
    A client for OPENAI_BASE_URL; `async with` it, or close it by `await client.close()`. Nothing is sent yet.

    It never retries and never follows a redirect: both send a paid call again, unseen. Each call has a connection of
    its own, because a kept one that the server has just closed looks like a call whose outcome is unknown.
    Raises SetupError.
    """
    key, address = _key(settings), _address(settings)
    patience = min(CONNECT_TIMEOUT, settings.call_timeout / 2)
    timeout = httpx2.Timeout(settings.call_timeout, connect=patience, pool=patience)
    http_client = openai.DefaultAsyncHttpxClient(
        base_url=address,
        timeout=timeout,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        follow_redirects=False,
    )
    return openai.AsyncOpenAI(api_key=key, base_url=address, timeout=timeout, max_retries=0, http_client=http_client)


def longest_call(settings: Settings) -> float:
    """Seconds after which no call can still be running: CALL_TIMEOUT ends it, MARGIN is for a process that lags."""
    return settings.call_timeout + MARGIN


def _key(settings: Settings) -> str:
    key = settings.openai_api_key.get_secret_value().strip() if settings.openai_api_key else ""
    if not key:
        raise SetupError("OPENAI_API_KEY is not set.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise SetupError("OPENAI_API_KEY has characters that no key has; was more copied than the key?")
    return key


def _address(settings: Settings) -> str:
    address = (settings.openai_base_url or OPENAI).strip()
    try:
        parts = urlsplit(address)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise SetupError("OPENAI_BASE_URL is not an address such as https://api.openai.com/v1.")
    return address
