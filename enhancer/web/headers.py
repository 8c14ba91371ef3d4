"""What every answer says about itself: where it may run, who may frame it, and whose pages may read it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from enhancer.errors import SetupError
from enhancer.settings import Settings
from enhancer.web.keys import SPENT

NAME = "enhancer"  # of the server; its version and those of its libraries are nobody's business
STRICT: Mapping[str, str] = {
    "default-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
"""What an answer may load and where it may stand: nothing, nowhere."""

PREFLIGHT_LIFETIME = 7200  # seconds; browsers keep it no longer

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_MAY_SEND = "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, Range"
_MAY_READ = (
    "Accept-Ranges, Content-Length, Content-Range, ETag, Idempotent-Replayed, Location, Retry-After, "
    "RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset"
)


@dataclass(frozen=True, slots=True)
class Origins:
    """Whose pages may call us, and whether we are reached by https alone."""

    allowed: frozenset[str]
    https: bool

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        """Raises SetupError when CORS_ORIGINS has something that is no origin."""
        wanted = [part.strip() for part in (settings.cors_origins or "").split(",") if part.strip()]
        for origin in wanted:
            if not _ORIGIN.fullmatch(origin):
                raise SetupError(f"CORS_ORIGINS: {origin} is no origin, such as https://shop.example.")
        return cls(frozenset(wanted), settings.public_url.startswith("https://"))


ORIGINS = web.AppKey("origins", Origins)


def policy(directives: Mapping[str, str] | None = None) -> str:
    """A Content-Security-Policy: STRICT, but for these directives. A page of ours sets the header itself."""
    return "; ".join(f"{name} {value}" for name, value in {**STRICT, **(directives or {})}.items())


def bare(response: web.StreamResponse) -> None:
    """Complete an answer to what no application has seen."""
    response.headers["Server"] = NAME
    response.headers.update(_ALWAYS)


async def complete(request: web.Request, response: web.StreamResponse) -> None:
    """Add to an answer, before it is sent, what its handler did not say."""
    headers = response.headers
    headers["Server"] = NAME
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    # what is ours to give may be kept and asked for again; answers about tasks may not
    headers.setdefault("Cache-Control", "no-cache" if request.path.startswith(("/docs", "/page")) else "no-store")
    origins = request.app[ORIGINS]
    if origins.https:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if origins.allowed:
        _allow(request, headers, origins.allowed)
    if spent := request.get(SPENT):
        headers["RateLimit-Limit"] = str(spent.rule.amount)
        headers["RateLimit-Remaining"] = str(max(0, spent.left))
        headers["RateLimit-Reset"] = str(math.ceil(spent.reset))
        headers["RateLimit-Policy"] = f"{spent.rule.amount};w={spent.rule.seconds}"


@web.middleware
async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a browser that asks whether a page of another origin may call."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asks or request.headers.get("Origin") not in request.app[ORIGINS].allowed:
        return await handler(request)
    about = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _MAY_SEND,
        "Access-Control-Max-Age": str(PREFLIGHT_LIFETIME),
    }
    return web.Response(status=204, headers=about)


_ALWAYS: Mapping[str, str] = {
    "Content-Security-Policy": policy(),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def _allow(request: web.Request, headers: CIMultiDict[str], allowed: frozenset[str]) -> None:
    headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin in allowed:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = _MAY_READ
