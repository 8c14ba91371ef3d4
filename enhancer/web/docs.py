"""
The documentation of the interface: /openapi.json, and a page to read and to try it on.

The reference is Swagger UI: of the five libraries tried (RapiDoc, Redoc, Scalar, Stoplight Elements), the one that
works under the strict policy below with no inline style and nothing from elsewhere; `assets/refresh` brings a newer
one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from enhancer.web.keys import DOCUMENT

ASSETS = Path(__file__).parent / "assets"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # Swagger UI's icons, and images that a call that is tried answers
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json -> 200 and the OpenAPI 3.1 document."""
    text = await asyncio.to_thread(request.app[DOCUMENT])
    return web.Response(text=text, content_type="application/json")


async def page(request: web.Request) -> web.FileResponse:
    """GET /docs -> 200 and the page, which takes an account token from the address' fragment: #token=."""
    return web.FileResponse(ASSETS / "docs.html", headers={"Content-Security-Policy": POLICY})
