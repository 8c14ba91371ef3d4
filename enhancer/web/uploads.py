"""Reading a multipart form with a file, without holding the file in memory."""

from __future__ import annotations

import asyncio
import re
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam, BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from enhancer.errors import InvalidRequest, UploadTooLarge

IN_MEMORY = 256_000  # bytes of an upload that are held in memory; the rest waits in a temporary file
PIECE = 256 * 1024  # bytes
MAX_FIELD = 64 * 1024  # bytes of a text field
MAX_FIELDS = 20
OVERHEAD = 256 * 1024  # bytes that boundaries, headers and text fields may add to the file

MALFORMED = (ValueError, AssertionError, RuntimeError, LookupError, HttpProcessingError, web.RequestPayloadError)
"""How aiohttp tells of a body that cannot be read."""

# of every header that it cannot read, aiohttp would print a warning, and Python would keep its text for ever
warnings.simplefilter("ignore", BadContentDispositionHeader)
warnings.simplefilter("ignore", BadContentDispositionParam)


@dataclass(slots=True)
class Form:
    """The text fields by name, and the file, at its beginning."""

    file: BinaryIO
    fields: dict[str, str] = field(default_factory=dict)
    has_file: bool = False


@asynccontextmanager
async def form(request: web.Request, *, max_bytes: int, file_needed: bool = True) -> AsyncIterator[Form]:
    """
    The form of a request, whose file must be called `file` and is gone after the block.

    Raises UploadTooLarge as soon as it is known, InvalidRequest for another content type, a missing file, or fields
    that cannot be read.
    """
    # aiohttp's `content_type` parses the boundary with all the rules of e-mail, for a millisecond
    if not re.match(r"\s*multipart/form-data\s*(;|$)", request.headers.get("Content-Type", ""), re.IGNORECASE):
        raise InvalidRequest(("file", "Send a multipart/form-data form with the photo in the field `file`."))
    if (request.content_length or 0) > max_bytes + OVERHEAD:
        raise _too_large(max_bytes)
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        read = Form(cast("BinaryIO", file))
        try:
            await _read(request, read, max_bytes)
        except MALFORMED:
            raise InvalidRequest(("file", "The form cannot be read.")) from None
        if file_needed and not read.has_file:
            raise InvalidRequest(("file", "The photo is missing."))
        file.seek(0)
        yield read


async def _read(request: web.Request, into: Form, max_bytes: int) -> None:
    count = 0
    async for part in await request.multipart():
        count += 1
        if not isinstance(part, BodyPartReader) or part.name is None or count > MAX_FIELDS:
            raise InvalidRequest(("form", "The form has parts that are not understood."))
        if part.name == "file" and not into.has_file:
            await _spool(part, into.file, max_bytes)
            into.has_file = True
        else:
            into.fields[part.name] = await _text(part)


async def _spool(part: BodyPartReader, file: BinaryIO, max_bytes: int) -> None:
    size = 0
    while piece := await part.read_chunk(PIECE):
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if size > IN_MEMORY:
            await asyncio.to_thread(file.write, piece)
        else:
            file.write(piece)


async def _text(part: BodyPartReader) -> str:
    data = bytearray()
    while piece := await part.read_chunk(PIECE):
        data += piece
        if len(data) > MAX_FIELD:
            raise InvalidRequest((part.name or "", "This is too long."))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest((part.name or "", "This is not UTF-8 text.")) from None


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(f"The file is larger than {max_bytes // 1_000_000} MB.")
