"""The client, set up so that one call is one paid call at most."""

from __future__ import annotations

import httpx2
import openai

from enhancer.errors import SetupError
from enhancer.providers import connecting
from enhancer.settings import Settings

OPENAI = "https://api.openai.com/v1"


def connect(settings: Settings) -> openai.AsyncOpenAI:
    """
    A client for OPENAI_BASE_URL; `async with` it, or close it by `await client.close()`. Nothing is sent yet.

    It never retries and never follows a redirect: both send a paid call again, unseen. Each call has a connection of
    its own, because a kept one that the server has just closed looks like a call whose outcome is unknown.
    Raises SetupError.
    """
    key = connecting.key(settings.openai_api_key, "OPENAI_API_KEY")
    if not key:
        raise SetupError("OPENAI_API_KEY is not set.")
    address = connecting.address(settings.openai_base_url or OPENAI, "OPENAI_BASE_URL")
    patience = connecting.patience(settings)
    timeout = httpx2.Timeout(settings.call_timeout, connect=patience, pool=patience)
    http_client = openai.DefaultAsyncHttpxClient(
        base_url=address,
        timeout=timeout,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        follow_redirects=False,
    )
    return openai.AsyncOpenAI(api_key=key, base_url=address, timeout=timeout, max_retries=0, http_client=http_client)
