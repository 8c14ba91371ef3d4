"""
The page at /: its first document, which is made once at the start, and its files.

A browser loads everything that the first view needs in one round: the document names each module of the page, and
those of one language, chosen by what the page has been told (a cookie) or by what the browser wants.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from aiohttp import web

from enhancer.web.headers import policy
from enhancer.web.keys import SERVICE

PAGE = Path(__file__).parent / "page"
LANGUAGES = ("en", "zh")  # the first for whoever wants neither

_DOCUMENT = (PAGE / "index.html").read_text()
_IMPORT_MAP = re.findall(r'<script type="importmap">(.*?)</script>', _DOCUMENT, re.DOTALL)[0]

# what the page may do beside nothing
POLICY: Mapping[str, str] = {
    # the import map is the one thing that browsers take only from inside the document
    "script-src": f"'self' 'sha256-{base64.b64encode(hashlib.sha256(_IMPORT_MAP.encode()).digest()).decode()}'",
    "style-src": "'self'",
    "img-src": "'self' blob:",  # blob: the photo that was chosen
    "media-src": "'self'",
    "connect-src": "'self'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


async def page(request: web.Request) -> web.Response:
    """GET / -> 200 and the page, which takes an account token from the address' fragment: #token=."""
    megabytes = request.app[SERVICE].settings.max_upload_mb
    headers = {
        "Content-Security-Policy": policy(POLICY),
        "Cache-Control": "no-cache",
        "Vary": "Accept-Language, Cookie",
    }
    return web.Response(text=_document(_language(request), megabytes), content_type="text/html", headers=headers)


@cache
def _document(language: str, megabytes: int) -> str:
    said = _DOCUMENT.replace('lang="en"', f'lang="{language}"').replace("page/i18n/en.js", f"page/i18n/{language}.js")
    return said.replace('max-upload-mb="25"', f'max-upload-mb="{megabytes}"')


def _language(request: web.Request) -> str:
    """What the page was told before, else the first wish of the browser that can be met."""
    chosen = request.cookies.get("language")
    wishes = [chosen] if chosen else _wishes(request.headers.get("Accept-Language", ""))
    known = [wish for wish in (wish.split("-")[0].lower() for wish in wishes) if wish in LANGUAGES]
    return (*known, *LANGUAGES)[0]


def _wishes(header: str) -> list[str]:
    """The tags of an Accept-Language, the dearest first."""
    found = re.findall(r"([A-Za-z-]{1,35})\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?))?", header)
    return [tag for tag, _ in sorted(found, key=lambda wish: -float(wish[1] or 1))]
