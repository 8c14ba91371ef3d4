from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import jwt
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestServer
from yarl import URL

from enhancer.settings import Settings
from tests.conftest import SECRET, Running, Start, photo
from tests.web import sse
from tests.web.forms import accept, address, exchange, token
from tests.web.people import member

pytestmark = pytest.mark.usefixtures("quiet")

DATA = bytes(range(256)) * 4096  # a megabyte


@dataclass(frozen=True)
class File:
    """A stored file of the service's user."""

    running: Running
    path: str

    @property
    def link(self) -> str:
        return f"/uploads/{self.path}?token={self.running.service.tokens.file(self.path)}"

    @asynccontextmanager
    async def get(
        self, headers: Mapping[str, str] | None = None, *, method: str = "GET", target: str | None = None
    ) -> AsyncIterator[ClientResponse]:
        """Open it by its link, with no account."""
        url = URL(str(self.running.http.make_url("/")).rstrip("/") + (target or self.link), encoded=True)
        session = self.running.http.session
        async with session.request(method, url, headers={"Authorization": "", **(headers or {})}) as answer:
            yield answer


@pytest.fixture
async def file(idle: Running) -> File:
    path = f"user_{idle.user.id}/enhanced/enhanced_abc.jpg"
    await idle.service.files.write(path, DATA)
    return File(idle, path)


@pytest.fixture
async def etag(file: File) -> str:
    async with file.get() as answer:
        return answer.headers["ETag"]


async def test_a_link_opens_its_file(file: File) -> None:
    async with file.get() as answer:
        assert answer.status == 200
        assert await answer.read() == DATA
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Length"] == str(len(DATA))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert "max-age=" in answer.headers["Cache-Control"]
        assert "private" in answer.headers["Cache-Control"]
        assert answer.headers["ETag"].startswith('"')


async def test_an_original_is_served_as_what_it_is(idle: Running) -> None:
    task = await accept(idle.http)
    async with idle.http.get(task["original_image_path"]) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")
        assert await answer.read() == photo("chelsea.png")


@pytest.mark.parametrize(
    ("extension", "kind"), [("png", "image/png"), ("webp", "image/webp"), ("jpg", "image/jpeg"), ("mp4", "video/mp4")]
)
async def test_a_file_is_of_the_type_of_its_name(idle: Running, extension: str, kind: str) -> None:
    file = File(idle, f"user_{idle.user.id}/results/x.{extension}")
    await idle.service.files.write(file.path, b"anything")
    async with file.get() as answer:
        assert answer.content_type == kind


async def test_what_a_browser_has_already_is_not_sent_again(file: File, etag: str) -> None:
    for known in (etag, "*", f'"other", {etag}', f"W/{etag}"):
        async with file.get({"If-None-Match": known}) as answer:
            assert answer.status == 304, known
            assert answer.headers["ETag"] == etag
            assert await answer.read() == b""
    for unknown in ('"other"', "nonsense", ""):
        async with file.get({"If-None-Match": unknown}) as answer:
            assert answer.status == 200, unknown


SIZE = len(DATA)
RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=0-99": (0, 100),
    "bytes=1000-1999": (1000, 2000),
    "bytes=1000-": (1000, SIZE),
    "bytes=-100": (SIZE - 100, SIZE),
    f"bytes=-{SIZE * 2}": (0, SIZE),
    f"bytes={SIZE - 1}-": (SIZE - 1, SIZE),
    f"bytes=1000-{SIZE * 2}": (1000, SIZE),
    f"bytes=1000-{10**17}": (1000, SIZE),
}


async def test_a_part_of_a_file(file: File) -> None:
    for wanted, (start, end) in RANGES.items():
        async with file.get({"Range": wanted}) as answer:
            assert answer.status == 206, wanted
            assert await answer.read() == DATA[start:end], wanted
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
            assert answer.headers["Content-Length"] == str(end - start)


async def test_a_part_that_is_not_there(file: File) -> None:
    for wanted in (f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 10}", "bytes=-0", f"bytes={10**17}-", "bytes=100-50"):
        async with file.get({"Range": wanted}) as answer:
            assert answer.status == 416, wanted
            assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
            assert await answer.read() == b""


async def test_other_ranges_bring_the_whole(file: File) -> None:
    for wanted in ("bytes=0-1,5-6", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "0-1", "bytes=1-2-3", "bytes=１-２"):
        async with file.get({"Range": wanted}) as answer:
            assert answer.status == 200, wanted
            assert len(await answer.read()) == SIZE


async def test_a_part_is_wanted_of_one_version_only(file: File, etag: str) -> None:
    async with file.get({"Range": "bytes=0-9", "If-Range": etag}) as answer:
        assert answer.status == 206
    for other in ('"other"', f"W/{etag}", "Sat, 21 Nov 2026 00:00:00 GMT"):
        async with file.get({"Range": "bytes=0-9", "If-Range": other}) as answer:
            assert (answer.status, len(await answer.read())) == (200, SIZE), other


async def test_the_headers_alone(file: File, etag: str) -> None:
    for headers in ({}, {"Range": "bytes=0-9"}):
        async with file.get(headers, method="HEAD") as answer:
            assert answer.status == 200
            assert (answer.headers["Content-Length"], answer.headers["ETag"]) == (str(SIZE), etag)
            assert await answer.read() == b""
    async with file.get({"If-None-Match": etag}, method="HEAD") as answer:
        assert answer.status == 304


async def test_an_empty_file(idle: Running) -> None:
    file = File(idle, f"user_{idle.user.id}/enhanced/empty.jpg")
    await idle.service.files.write(file.path, b"")
    async with file.get() as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with file.get({"Range": "bytes=0-"}) as answer:
        assert answer.status == 416


# -- who may


async def test_a_link_opens_nothing_else(file: File) -> None:
    tokens = file.running.service.tokens
    other = f"user_{file.running.user.id}/enhanced/enhanced_xyz.jpg"
    await file.running.service.files.write(other, b"another")
    expired = jwt.encode({"aud": f"file {file.path}", "exp": int(time.time()) - 1}, SECRET, algorithm="HS256")
    for given in (tokens.file(other), expired, tokens.file(file.path)[:-2], "nonsense", ""):
        async with file.get(target=f"/uploads/{file.path}?token={given}") as answer:
            assert answer.status == 401, given
            assert answer.content_type == "application/problem+json"


async def test_an_owner_needs_no_link(file: File) -> None:
    stranger = await member(file.running.service.pool, "stranger@example.com")
    theirs = file.running.service.tokens.account(stranger.id)
    for given, status in ((token(file.running), 200), (theirs, 404)):
        async with file.get({"Authorization": f"Bearer {given}"}, target=f"/uploads/{file.path}") as answer:
            assert answer.status == status
        async with file.get(target=f"/uploads/{file.path}?token={given}") as answer:
            assert answer.status == status


async def test_user_1_does_not_own_what_is_user_12_s(file: File) -> None:
    longer = file.path.replace(f"user_{file.running.user.id}/", f"user_{file.running.user.id}2/")
    await file.running.service.files.write(longer, b"not yours")
    headers = {"Authorization": f"Bearer {token(file.running)}"}
    async with file.get(headers, target=f"/uploads/{longer}") as answer:
        assert answer.status == 404


def tricks(user_id: int) -> list[str]:
    me = f"user_{user_id}"
    return [
        "",
        "/",
        "/secret_key",
        "../secret_key",
        f"{me}/../../secret_key",
        f"{me}/enhanced/../../../secret_key",
        f"{me}/enhanced/../enhanced/enhanced_abc.jpg",
        f"{me}/%2e%2e/%2e%2e/secret_key",
        f"{me}/%2e%2e%2f%2e%2e%2fsecret_key",
        f"{me}%2f..%2f..%2fsecret_key",
        f"{me}/enhanced/%252e%252e/secret_key",
        f"{me}//enhanced//enhanced_abc.jpg",
        f"{me}/enhanced%5c..%5cx.jpg",
        f"{me}/enhanced/enhanced_abc.jpg%00.png",
        f"{me}/enhanced/%00",
        f"{me}/enhanced/enhanced_abc.jpg/",
        f"{me}/enhanced/enhanced_abc.jpg%0a",
        f"{me}/enhanced/.check-1",
        f"{me}/enhanced",
        f"{me}/enhanced/enhanced_abc.html",
        f"{me}/enhanced/enhanced_abc",
        f"{me}/ENHANCED/enhanced_abc.jpg",
        f"{me}/enhanced/" + "x" * 101 + ".jpg",
        f"{me}/enhanced/" + "x" * 5000 + ".jpg",
        f"{me}/enhanced/%ff%fe.jpg",
        f"{me}/enhanced/%E5%9B%BE.jpg",
        f"{me}/enhanced/nothing.jpg",
        "file:///etc/passwd",
        "%2fetc%2fpasswd",
    ]


async def test_no_path_leads_anywhere_else(file: File) -> None:
    """On a raw socket: clients tidy addresses up before they send them."""
    running = file.running
    (running.service.settings.uploads.parent / "secret_key").write_text("the secret")
    await running.service.files.write(f"user_{running.user.id}/enhanced/enhanced_abc.html", b"a secret")
    for trick in tricks(running.user.id):
        head = f"GET /uploads/{trick} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token(running)}\r\n\r\n"
        status, body = await exchange(running, head.encode())
        assert status == 404, trick
        assert b"not_found" in body
        assert b"secret" not in body


async def test_a_token_for_a_path_that_is_none_opens_nothing(file: File) -> None:
    for path in ("../secret_key", "secret_key", "user_1/../secret_key"):
        signed = file.running.service.tokens.file(path)
        head = f"GET /uploads/{path}?token={signed} HTTP/1.1\r\nHost: test\r\n\r\n"
        status, _ = await exchange(file.running, head.encode())
        assert status in {401, 404}, path


async def test_a_file_that_is_gone_is_not_found(file: File) -> None:
    await file.running.service.files.delete(file.path)
    async with file.get() as answer:
        assert answer.status == 404
        assert (await answer.json(content_type=None))["code"] == "not_found"


# -- transfers that do not end well


async def test_a_download_that_is_given_up_is_no_error(file: File) -> None:
    for _ in range(3):
        async with sse.connect(address(file.running), file.link, receive_buffer=4096) as client:
            assert client.status == 200
            client.abort()
    async with file.get() as answer:
        assert len(await answer.read()) == SIZE


async def broken_store(request: web.Request) -> web.StreamResponse:
    """An object store over HTTP that loses a file of three megabytes while it sends it."""
    if request.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
        ranged = {"Content-Range": "bytes 0-2999999/3000000"} if "Range" in request.headers else {}
        about = {"ETag": '"x"', "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT", "Content-Length": "3000000"}
        response = web.StreamResponse(status=206 if ranged else 200, headers=about | ranged)
        await response.prepare(request)
        if request.method == "GET":
            await response.write(bytes(1_000_000))
            assert request.transport
            request.transport.close()
        return response
    return web.Response(status=404)


async def test_a_store_that_fails_half_way_breaks_the_connection(
    settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is shorter than promised must not look like a whole one, nor leave its client waiting."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost")
    store = web.Application()
    store.router.add_route("*", "/{path:.*}", broken_store)
    async with TestServer(store) as server:
        url = str(server.make_url("/files"))
        running = await start(settings.model_copy(update={"workers": 0, "storage_url": url}))
        file = File(running, f"user_{running.user.id}/enhanced/x.jpg")
        async with sse.connect(address(running), file.link) as client:
            assert (client.status, client.headers["content-length"]) == (200, "3000000")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.body()
