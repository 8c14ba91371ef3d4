"""The server: one call is one request, and the key goes to the server alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from yarl import URL

from enhancer.errors import OrderLost, ProviderBadAnswer, SetupError
from enhancer.providers import connecting
from enhancer.providers.remote.failures import SETTING, refused, translated
from enhancer.settings import Settings

MAX_ANSWER = 1_000_000  # bytes of JSON
MAX_REFUSAL = 65_536  # bytes that are read of an answer that is no success
MAX_REDIRECTS = 3
QUIET = 60.0  # seconds without a byte after which a download has broken
GONE = {404, 410}
REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that is a success."""

    headers: Mapping[str, str]
    body: bytes


@asynccontextmanager
async def reached(address: str, settings: Settings, model: str) -> AsyncIterator[Server]:
    """
    The server at an address that connecting.address has found right. Nothing is sent yet.

    Each call has a connection of its own, because a kept one that the server has just closed looks like a call whose
    outcome is unknown. Raises SetupError.
    """
    base = URL(address)
    if base.user or base.password:
        raise SetupError(f"{SETTING} must not hold a password: a key belongs in VIDEO_API_KEY.")
    key = connecting.key(settings.video_api_key, "VIDEO_API_KEY")
    timeout = aiohttp.ClientTimeout(total=None, connect=connecting.patience(settings))
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as held:
        yield Server(held, base, key, model)


class Server:
    """
    Sends requests, and raises errors.ProviderError for every answer that is no success.

    `private`: what no message may repeat, whatever the server says.
    """

    def __init__(self, session: aiohttp.ClientSession, base: URL, key: str, model: str) -> None:
        self.private = (key,) if key else ()
        self._session = session
        self._base = base
        self._key = key
        self._model = model

    async def call(
        self, method: str, *path: str, limit: float, form: aiohttp.FormData | None = None, private: tuple[str, ...] = ()
    ) -> Answered:
        """
        One request below the base address, answered within `limit` seconds. A POST is a paid one.

        A redirect is not followed: it would send a paid call again, unseen.
        """
        url = self._at(path)
        async with (
            translated(self._model, limit=limit, paid=method == "POST"),
            self._session.request(
                method, url, data=form, headers=self._headers(url), allow_redirects=False
            ) as response,
        ):
            await self._check(response, path, private)
            return Answered(response.headers, await _read(response, MAX_ANSWER))

    async def download(self, *path: str, piece: int, most: int) -> AsyncGenerator[bytes, None]:
        """
        A file in pieces of at most `piece` bytes, whole: when it breaks off, ProviderUnavailable is raised.

        A redirect is followed, since files often lie in a store of their own. More than `most` bytes are
        ProviderBadAnswer.
        """
        async with translated(self._model, limit=None), self._followed(self._at(path)) as response:
            await self._check(response, path)
            size = response.content_length or 0
            async for data in response.content.iter_chunked(piece):
                most -= len(data)
                if most < 0 or size > most + len(data):
                    raise ProviderBadAnswer("The provider's file is too large.")
                yield data

    @asynccontextmanager
    async def _followed(self, url: URL) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, connect=self._session.timeout.connect, sock_read=QUIET)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._session.get(
                url,
                headers=self._headers(url) | {"Accept-Encoding": "identity"},
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                if response.status not in REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                url = _next(url, response.headers["Location"])
        raise ProviderBadAnswer("The provider's redirects do not end.")

    def _at(self, path: tuple[str, ...]) -> URL:
        below = "/".join(quote(part, safe="") for part in path)
        return URL(f"{self._base.with_query(None).with_fragment(None)}".rstrip("/") + f"/{below}", encoded=True)

    def _headers(self, url: URL) -> dict[str, str]:
        """The key, for the server itself and nobody else."""
        own = self._key and url.origin() == self._base.origin()
        return {"Authorization": f"Bearer {self._key}"} if own else {}

    async def _check(
        self, response: aiohttp.ClientResponse, path: tuple[str, ...], private: tuple[str, ...] = ()
    ) -> None:
        if 200 <= response.status < 300:
            return
        if response.status in GONE and len(path) > 1:
            raise OrderLost
        body = await response.content.read(MAX_REFUSAL)
        raise refused(self._model, response.status, response.headers, body, private=self.private + private)


def _next(url: URL, location: str) -> URL:
    """Where a redirect leads. Raises ProviderBadAnswer where nobody should go."""
    try:
        # left as it is where it can be: it may be signed
        target = url.join(URL(location, encoded=location.isascii() and " " not in location))
    except ValueError:
        target = URL()
    if target.scheme not in {"http", "https"} or not target.host or (url.scheme, target.scheme) == ("https", "http"):
        raise ProviderBadAnswer("The provider's redirect leads to no address that can be followed.")
    return target


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole body. Raises ProviderBadAnswer when it is longer than `most` bytes."""
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > most:
            raise ProviderBadAnswer()
    return bytes(body)
