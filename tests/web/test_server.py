from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from enhancer.domain.accounts import User
from enhancer.errors import SetupError
from enhancer.service import Service
from enhancer.settings import Settings
from enhancer.web import server
from enhancer.web.server import serve, serving
from tests.conftest import photo
from tests.web import sse, story
from tests.web.forms import ASYNC, END, MULTIPART, STREAM, SYNC, form, part
from tests.web.people import member

pytestmark = pytest.mark.usefixtures("quiet")


@dataclass(frozen=True)
class Site:
    """A service on its port, and one of its users."""

    service: Service
    user: User

    @property
    def address(self) -> tuple[str, int]:
        return self.service.settings.host, self.service.settings.port

    @property
    def token(self) -> str:
        return self.service.tokens.account(self.user.id)

    def http(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self.token}"}
        return aiohttp.ClientSession(self.service.settings.public_url, headers=headers)


@asynccontextmanager
async def site(settings: Settings) -> AsyncIterator[Site]:
    async with serving(settings.model_copy(update={"port": 0, "workers": 0})) as service:
        yield Site(service, await member(service.pool, "user@example.com"))


async def test_port_0_is_any_free_one_and_links_name_it(settings: Settings) -> None:
    async with site(settings) as running, running.http() as http:
        assert running.service.settings.port > 0
        async with http.post(ASYNC, data=form()) as answer:
            task = await answer.json()
        async with http.get(task["status_url"]) as answer:
            assert answer.status == 200
        async with aiohttp.ClientSession() as stranger, stranger.get(task["stream_url"]) as answer:
            assert answer.status == 200


async def test_an_address_that_is_taken_is_one_clear_line(settings: Settings) -> None:
    async with site(settings) as running:
        port = running.service.settings.port
        with pytest.raises(SetupError, match=f"^127.0.0.1:{port} cannot be listened on: Address already in use$"):
            async with serving(settings.model_copy(update={"port": port})):
                pytest.fail("two services cannot listen on one port")


async def test_a_host_that_is_none_is_one_clear_line(settings: Settings) -> None:
    for host in ("nowhere.invalid", "192.0.2.1"):  # RFC 2606, RFC 5737
        with pytest.raises(SetupError, match="cannot be listened on"):
            async with serving(settings.model_copy(update={"host": host, "port": 0})):
                pytest.fail("nobody can listen there")


# -- the end


async def test_a_stop_does_not_wait_for_streams(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDLERS_END", 600.0)
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        async with site(settings) as running:
            watched = [await story.pending(running.service.pool, running.user.id) for _ in range(5)]
            clients = [
                await stack.enter_async_context(
                    sse.connect(running.address, STREAM.format(task.id), token=running.token, version=version)
                )
                for task in watched
                for version in ["1.1"] * 9 + ["1.0"]
            ]
            for client in clients:
                await client.comment()
        ends = [await client.rest() for client in clients]
    assert ends == [[]] * 50, "each ended as responses end, and a browser comes back after `retry`"
    assert {client.retry[0] for client in clients} == {2000}
    assert all(1000 <= client.retry[1] <= 4000 for client in clients), "not all of them at once"


async def test_a_stop_answers_who_waits_for_a_task(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDLERS_END", 600.0)
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        async with site(settings) as running:
            http = await stack.enter_async_context(running.http())
            calling = asyncio.create_task(http.post(SYNC, data=form()))
            await story.arrives(running.service.pool)
        async with await calling as answer:
            assert answer.status == 202
            assert (await answer.json())["status"] == "pending"


async def test_a_stop_does_not_wait_for_ever_for_an_upload(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDLERS_END", 0.05)
    async with site(settings) as running:
        _, writer = await asyncio.open_connection(*running.address)
        writer.write(_request(running, part("file", photo())[:5000], length=1_000_000))
        _, idle = await asyncio.open_connection(*running.address)
        async with running.http() as http, http.get("/healthz"):  # so that the others are there, too
            pass
    for one in (writer, idle):
        one.transport.abort()


async def test_serving_goes_on_until_it_is_told_to_stop(settings: Settings) -> None:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(
        serve(settings.model_copy(update={"port": 0, "workers": 1}), stop=stop, ready=ready.set_result)
    )
    service: Service = await asyncio.wait_for(ready, 60)
    async with aiohttp.ClientSession(service.settings.public_url) as http, http.get("/readyz") as answer:
        assert answer.status == 200
    stop.set()
    await asyncio.wait_for(running, 60)


# -- what is logged


async def test_no_token_is_ever_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site(settings) as running, running.http() as http:
        async with http.post(ASYNC, data=form()) as answer:
            task = await answer.json()
        path = task["original_image_path"]
        file = running.service.tokens.file(path.removeprefix("/uploads/"))
        async with http.get(f"{path}?token={file}") as answer:
            assert answer.status == 200
        for target in (task["stream_url"], f"{task['stream_url']}x", f"/nowhere?token={file}"):
            async with http.get(target):
                pass
    lines = [vars(record) for record in caplog.records if record.getMessage() == "http.request"]
    assert sorted(line["status"] for line in lines) == [200, 200, 202, 401, 404]
    assert all(set(line) > {"method", "path", "status", "ms", "remote"} for line in lines)
    everything = "\n".join(f"{vars(record)} {record.getMessage()}" for record in caplog.records)
    for secret in (running.token, file, task["stream_url"].partition("token=")[2], "token="):
        assert secret not in everything


async def test_a_stream_whose_client_left_is_in_the_log_like_any_request(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with site(settings) as running:
        task = await story.pending(running.service.pool, running.user.id)
        async with sse.connect(running.address, STREAM.format(task.id), token=running.token) as client:
            await client.comment()
            client.abort()
    [line] = [vars(record) for record in caplog.records if record.getMessage() == "http.request"]
    assert (line["path"], line["status"]) == (STREAM.format(task.id), 200)


def _request(running: Site, body: bytes, *, length: int | None = None, more: str = "") -> bytes:
    head = (
        f"POST {ASYNC} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {running.token}\r\nContent-Type: {MULTIPART}\r\n"
    )
    size = f"Content-Length: {len(body) if length is None else length}\r\n" if "chunked" not in more else ""
    return f"{head}{size}{more}\r\n".encode() + body


async def answers(running: Site, data: bytes, *, farewell: bool = False) -> list[int]:
    """The statuses of all answers to these bytes, up to the end of the connection. `farewell`: we end it."""
    reader, writer = await asyncio.open_connection(*running.address)
    writer.write(data)
    if farewell:
        writer.write_eof()
    async with asyncio.timeout(60):
        said = await reader.read()
    writer.close()
    return [int(piece[2:5]) for piece in said.split(b"HTTP/1.")[1:]]


async def test_what_is_no_http_is_refused_and_fills_no_log(settings: Settings) -> None:
    whole = part("file", photo("chelsea.png")) + END
    async with site(settings) as running:
        assert await answers(running, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == [400], "TLS"
        assert await answers(running, b"GET / HTTP/9.9\r\n\r\n") == [400]
        assert await answers(running, b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") == [400]
        assert await answers(running, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n") == [400]
        assert await answers(running, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n") == [400]
        assert await answers(running, _request(running, b"", length=10**30)) == [400]
        assert await answers(running, _request(running, b"zz\r\n", more="Transfer-Encoding: chunked\r\n")) == [400]
        assert await answers(running, _request(running, b"0123456789", more="Content-Encoding: gzip\r\n")) == [422]
        assert await answers(running, _request(running, whole, length=len(whole) - 1000)) == [422, 400]
        assert await answers(running, _request(running, whole, length=len(whole) + 1000), farewell=True) == []
        assert await running.service.pool.fetchval("SELECT count(*) FROM tasks") == 0
        async with running.http() as http, http.get("/healthz") as answer:
            assert answer.status == 200
