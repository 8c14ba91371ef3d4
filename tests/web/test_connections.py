"""Clients that are slow, silent or greedy, on sockets of their own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
from aiohttp.web_server import Server

from enhancer.settings import Settings
from enhancer.web import connections, server
from tests.conftest import Running, Start, photo
from tests.web.forms import LOGIN, accept, address, form, nothing_is_left, request, whole
from tests.web.waiting import locked, until, until_locked_out

pytestmark = pytest.mark.usefixtures("quiet")

PATIENCE = 60.0  # seconds for anything to come
LIMITS = ("HEAD_LIMIT", "IDLE_LIMIT", "BODY_PACE", "STALL_LIMIT")


@pytest.fixture
async def brisk(settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Starts a service whose one limit comes soon, and the others never."""

    async def begin(limit: str) -> Running:
        for name in LIMITS:
            monkeypatch.setattr(connections, name, 0.2 if name == limit else 3600.0)
        return await start(settings.model_copy(update={"workers": 0}))

    return begin


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address(running))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def connections_of(running: Running) -> Server:
    runner = running.http.server.runner
    assert runner is not None
    assert runner.server is not None
    return runner.server


async def everything(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server hangs up."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


def problem(said: bytes) -> tuple[int, str]:
    """The status and the code of an answer."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"\r\nServer: enhancer\r\n" in head, "and no version"
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize("sent", [b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_does_not_end_is_not_waited_for(brisk: Callable[..., object], sent: bytes) -> None:
    running = await brisk("HEAD_LIMIT")  # type: ignore[misc]
    async with connected(running) as (reader, writer):
        writer.write(sent)
        said = await everything(reader)
    assert said.startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_comes_drop_by_drop_is_not_waited_for(brisk: Callable[..., object]) -> None:
    running = await brisk("HEAD_LIMIT")  # type: ignore[misc]
    async with connected(running) as (reader, writer):
        heard = asyncio.create_task(everything(reader))
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        while not heard.done():
            with suppress(ConnectionError):
                writer.write(b"X: y\r\n")
                await writer.drain()
            await asyncio.wait([heard], timeout=0.02)
        assert (await heard)[:13] in {b"HTTP/1.1 408 ", b""}, "a reset may overtake the answer"


async def test_who_says_nothing_is_not_answered(brisk: Callable[..., object]) -> None:
    running = await brisk("HEAD_LIMIT")  # type: ignore[misc]
    async with connected(running) as (reader, _):
        assert await everything(reader) == b""


async def test_the_second_request_of_a_connection_has_its_time_too(brisk: Callable[..., object]) -> None:
    running = await brisk("HEAD_LIMIT")  # type: ignore[misc]
    async with connected(running) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
        assert (await everything(reader)).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_is_not_used_again_is_closed(brisk: Callable[..., object]) -> None:
    running = await brisk("IDLE_LIMIT")  # type: ignore[misc]
    async with connected(running) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await everything(reader)).endswith(b'{"status":"ok"}')


async def test_a_body_that_stops_is_not_waited_for(brisk: Callable[..., object]) -> None:
    running = await brisk("BODY_PACE")  # type: ignore[misc]
    body = whole(photo("chelsea.png"))
    bodies = [request(running, body[:5000], length=len(body))]
    bodies.append(request(running, b"{", path=LOGIN, length=100, content_type="application/json"))
    for sent in bodies:
        async with connected(running) as (reader, writer):
            writer.write(sent)
            assert problem(await everything(reader)) == (408, "request_timeout")
    await nothing_is_left(running)


async def test_a_body_that_comes_drop_by_drop_is_not_waited_for(brisk: Callable[..., object]) -> None:
    running = await brisk("BODY_PACE")  # type: ignore[misc]
    body = whole(photo("chelsea.png"))
    async with connected(running) as (reader, writer):
        heard = asyncio.create_task(everything(reader))
        writer.write(request(running, b"", length=len(body)))
        for byte in body:
            if heard.done():
                break
            with suppress(ConnectionError):
                writer.write(bytes([byte]))
                await writer.drain()
            await asyncio.wait([heard], timeout=0.02)
        said = await heard
    assert said == b"" or problem(said) == (408, "request_timeout"), "a reset may overtake the answer"
    await nothing_is_left(running)


async def test_nobody_is_blamed_for_a_body_that_we_do_not_read(brisk: Callable[..., object]) -> None:
    running = await brisk("BODY_PACE")  # type: ignore[misc]
    async with locked(running.service.pool, "subscriptions"):
        accepting = asyncio.create_task(accept(running.http, form(photo("coffee.png"))))
        await until_locked_out(running.service.pool)
        await asyncio.wait([accepting], timeout=1.0)  # five times the pace
        assert not accepting.done()
    assert (await accepting)["status"] == "pending"


async def test_who_takes_nothing_of_a_file_is_let_go(brisk: Callable[..., object]) -> None:
    running = await brisk("STALL_LIMIT")  # type: ignore[misc]
    path = f"user_{running.user.id}/enhanced/x.jpg"
    await running.service.files.write(path, bytes(32_000_000))
    link = running.service.link(path)
    with socket.create_connection(address(running)) as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.sendall(f"GET {link[link.index('/', 8) :]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        served = connections_of(running)
        await until(lambda: served.connections)
        await until(lambda: not served.connections)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["TLS", "version", "long line", "long field", "many fields", "length", "two lengths"],
)
async def test_what_is_no_request_is_refused_as_a_problem(idle: Running, sent: bytes) -> None:
    async with connected(idle) as (reader, writer):
        writer.write(sent)
        assert problem(await everything(reader)) == (400, "invalid_request")


async def test_more_connections_than_there_are_files_for_are_dropped(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_most_connections", lambda: 3)
    running = await start(settings.model_copy(update={"workers": 0}))
    served = connections_of(running)
    async with AsyncExitStack() as stack:
        for number in range(1, 4):
            await stack.enter_async_context(connected(running))
            await until(partial(lambda number: len(served.connections) == number, number))
        reader, _ = await stack.enter_async_context(connected(running))
        assert await everything(reader) == b""
    await until(lambda: not served.connections)
    async with running.http.get("/healthz") as answer:
        assert answer.status == 200
