"""Requests of interface 1, whole and broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient

from tests.conftest import Running, photo

ASYNC = "/api/v1/ai/enhance-and-script-async"
SYNC = "/api/v1/ai/enhance-and-script"
STATUS = "/api/v1/ai/enhance-and-script/{}/status"
STREAM = "/api/v1/ai/enhance-and-script/{}/stream"
LOGIN = "/api/v1/auth/login"

BOUNDARY = "XX"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def form(file: bytes | None = None, *, filename: str = "photo.png", **fields: str) -> aiohttp.FormData:
    """A form with a photo."""
    data = aiohttp.FormData()
    for name, value in fields.items():
        data.add_field(name, value)
    data.add_field("file", photo("chelsea.png") if file is None else file, filename=filename)
    return data


def part(name: str, body: bytes, *, filename: str | None = None, headers: bytes = b"") -> bytes:
    """One part of a form, as bytes."""
    about = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"--" + BOUNDARY.encode() + b"\r\n" + about.encode() + b"\r\n" + headers + b"\r\n" + body + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def whole(body: bytes) -> bytes:
    """A form with one file and nothing else, as bytes."""
    return part("file", body, filename="photo.jpg") + END


def address(running: Running) -> tuple[str, int]:
    """Where a service listens."""
    server = running.http.server
    assert server.port is not None
    return server.host, server.port


def token(running: Running) -> str:
    """The account token of a service's user."""
    return running.service.tokens.account(running.user.id)


def request(
    running: Running,
    body: bytes,
    *,
    path: str = ASYNC,
    length: int | None = None,
    content_type: str = MULTIPART,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A POST as bytes. `length`: what its Content-Length claims, when that is not the truth."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: test",
        f"Authorization: Bearer {token(running)}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body) if length is None else length}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def exchange(running: Running, data: bytes) -> tuple[int, bytes]:
    """Send bytes and say no more -> the status and the body of the first answer; 0: there was none."""
    reader, writer = await asyncio.open_connection(*address(running))
    try:
        writer.write(data)
        async with asyncio.timeout(60):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            return int(head.split()[1]), await reader.readexactly(int(length or 0))
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def accept(http: TestClient[Any, Any], data: aiohttp.FormData | None = None) -> Any:
    """The task that the answer brings."""
    async with http.post(ASYNC, data=data or form()) as answer:
        assert answer.status == 202, await answer.text()
        return await answer.json()


async def nothing_is_left(running: Running) -> None:
    """No row, no file, no use counted."""
    pool = running.service.pool
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 0
    assert await pool.fetchval("SELECT coalesce(sum(tasks), 0) FROM task_usage") == 0
    assert stored(running) == []


def stored(running: Running) -> list[Path]:
    """The files in the store."""
    return [path for path in running.service.settings.uploads.rglob("*") if path.is_file()]


async def pieces(total: int, piece: bytes = b"x" * 65536) -> AsyncIterator[bytes]:
    """A body of `total` bytes that comes chunk by chunk, the head of a form before it."""
    yield part("file", b"", filename="photo.jpg")[:-2]
    for _ in range(total // len(piece)):
        yield piece
