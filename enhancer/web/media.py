"""Stored files: originals and results, by signed links."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator

from aiohttp import web

from enhancer.domain.images import Format
from enhancer.errors import NotFound, RequestError
from enhancer.storage.files import Stat
from enhancer.web import auth
from enhancer.web.keys import SERVICE

log = logging.getLogger(__name__)

_TYPES = {f.extension: f.mime for f in Format} | {"mp4": "video/mp4"}
_PATH = re.compile(r"user_[0-9]{1,18}/[a-z]{1,20}/[A-Za-z0-9_-]{1,100}\.(?P<extension>[a-z0-9]{1,4})")


async def file(request: web.Request) -> web.StreamResponse:
    """GET /uploads/{path}?token= -> the file, or the part of it that `Range` asks for."""
    path = request.match_info["path"]
    match = _PATH.fullmatch(path)
    auth.opener(request, path)
    if match is None or match["extension"] not in _TYPES:
        raise NotFound("There is no such file.")
    files = request.app[SERVICE].files
    stat = await files.stat(path)
    response = web.StreamResponse(headers=_headers(_TYPES[match["extension"]], stat))
    if _unchanged(request, stat):
        response.set_status(304)
        await response.prepare(request)
        return response
    start, end = _wanted(request, response, stat)
    response.content_length = end - start
    with contextlib.suppress(ConnectionError):  # a player that has seen enough
        await response.prepare(request)
        if request.method == "GET" and end > start:
            await _send(request, response, files.stream(path, start, end))
        await response.write_eof()
    return response


async def _send(request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> None:
    """The promised length, or a broken connection: there is no other way to take a promise back."""
    missing = response.content_length or 0
    try:
        async for piece in pieces:
            missing -= len(piece)
            await response.write(piece)
    except RequestError as error:
        log.warning("file.cut_off", extra={"error": type(error).__name__})
    if missing and request.transport:
        request.transport.abort()


def _headers(mime: str, stat: Stat) -> dict[str, str]:
    return {
        "Content-Type": mime,
        "ETag": stat.etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600, immutable",  # names are never used twice
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": "inline",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


def _unchanged(request: web.Request, stat: Stat) -> bool:
    tags = request.if_none_match or ()
    return any(tag.value in {"*", stat.etag.strip('"')} for tag in tags)


def _wanted(request: web.Request, response: web.StreamResponse, stat: Stat) -> tuple[int, int]:
    """First byte and the one after the last. Sets 206 or 416 on the response."""
    header = request.headers.get("Range")
    if header is None or request.method != "GET" or not _range_holds(request, stat):
        return 0, stat.size
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header.strip())
    if match is None or not (match[1] or match[2]):  # several ranges, or another unit: the whole is a fair answer
        return 0, stat.size
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else stat.size, stat.size)
    else:
        start, end = max(stat.size - int(match[2]), 0), stat.size
    if start >= stat.size or end <= start:
        response.set_status(416)
        response.headers["Content-Range"] = f"bytes */{stat.size}"
        return 0, 0
    response.set_status(206)
    response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{stat.size}"
    return start, end


def _range_holds(request: web.Request, stat: Stat) -> bool:
    """If-Range: a part of another version is of no use."""
    wanted = request.headers.get("If-Range")
    return wanted is None or wanted == stat.etag
