from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import FormData
from PIL import Image, PngImagePlugin

from enhancer.domain.tasks import Kind
from enhancer.settings import Settings
from enhancer.storage import subscriptions
from tests.conftest import Running, Start, photo
from tests.web.forms import (
    ASYNC,
    END,
    MULTIPART,
    SYNC,
    accept,
    address,
    exchange,
    form,
    nothing_is_left,
    part,
    pieces,
    request,
    stored,
    whole,
)
from tests.web.people import member
from tests.web.waiting import locked, until, until_locked_out

pytestmark = pytest.mark.usefixtures("quiet")

PHOTO = photo("chelsea.png")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Temporary files in a folder of their own, of which none is left at the end, open or closed."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
    assert open_files(folder) == []


def open_files(folder: Path) -> list[str]:
    """The files in a folder that this process holds open, those without a name included."""
    found = []
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names that go away while they are listed
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))  # noqa: PTH115 - of a deleted file
        except FileNotFoundError:
            continue
    return [name for name in found if name.startswith(str(folder))]


def problem(status: int, code: str, answer: Any) -> None:
    """The body of an error, with nothing of the inside."""
    assert (answer["status"], answer["code"]) == (status, code)
    assert answer["type"] == f"urn:enhancer:problem:{code}"
    assert answer["title"]
    assert answer["detail"]
    for inside in ("Traceback", 'File "', ".py", "aiohttp", tempfile.gettempdir()):
        assert inside not in str(answer)


async def refused(running: Running, made: Callable[[], FormData], status: int, code: str, *fields: str) -> None:
    """A form that is answered with this problem and leaves nothing behind."""
    for path in (ASYNC, SYNC):
        async with running.http.post(path, data=made()) as answer:
            assert answer.status == status, await answer.text()
            assert answer.content_type == "application/problem+json"
            body = await answer.json(content_type=None)
        problem(status, code, body)
        if fields:
            assert [error["field"] for error in body["errors"]] == list(fields)
            assert all(error["message"] for error in body["errors"])
        await nothing_is_left(running)


def bomb() -> bytes:
    """A small file of very many pixels."""
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


# -- what is not accepted


@pytest.mark.parametrize(
    ("file", "name", "status", "code"),
    [
        (b"this is a text, whatever it is called", "photo.jpg", 415, "unsupported_image"),
        (b"", "photo.jpg", 415, "unsupported_image"),
        (b"GIF89a" + bytes(1000), "photo.gif", 415, "unsupported_image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "photo.svg", 415, "unsupported_image"),
        (b"%PDF-1.7 " + bytes(1000), "photo.png", 415, "unsupported_image"),
        (PHOTO[: len(PHOTO) // 2], "photo.png", 422, "invalid_image"),
        (photo("rocket.jpg")[:50_000], "photo.jpg", 422, "invalid_image"),
        (PHOTO[:20], "photo.png", 422, "invalid_image"),
        (b"\xff\xd8\xff" + bytes(1000), "photo.jpg", 422, "invalid_image"),
        (bomb(), "photo.png", 422, "invalid_image"),
    ],
    ids=["text", "empty", "gif", "svg", "pdf", "half a png", "half a jpeg", "a head", "zeros", "bomb"],
)
async def test_what_is_no_photo_is_refused_whatever_its_name(
    idle: Running, file: bytes, name: str, status: int, code: str
) -> None:
    await refused(idle, lambda: form(file, filename=name), status, code)


async def test_a_photo_is_accepted_whatever_its_name(idle: Running) -> None:
    for name in ("photo.txt", "x", "../../../etc/passwd", "名前.png", "x" * 300):
        await accept(idle.http, form(filename=name))
    assert len(stored(idle)) == 5
    assert {path.suffix for path in stored(idle)} == {".png"}


WRONG = (
    ("duration", "5"),
    ("duration", "4.0"),
    ("duration", "0"),
    ("duration", "-4"),
    ("duration", " 4"),
    ("duration", "٤"),
    ("duration", "1" * 5000),
    ("duration", "four"),
    ("language", "xx_"),
    ("language", "e"),
    ("language", "en-"),
    ("language", "en\n"),
    ("language", "a" * 36),
    ("language", "中文"),
    ("language", "en;q=1"),
    ("user_description", "x" * 4001),
    ("user_description", "a\u0000b"),
    ("user_description", "\u001b[31mred"),
    ("user_description", "x" * 70_000),
)


async def test_a_field_that_is_wrong_is_named(idle: Running) -> None:
    for field, value in WRONG:
        made = partial(form, **{field: value})  # type: ignore[arg-type]
        await refused(idle, made, 422, "invalid_request", field)


async def test_everything_that_is_wrong_is_named_at_once(idle: Running) -> None:
    data = form(user_description="x" * 4001, duration="5", language="_")
    async with idle.http.post(ASYNC, data=data) as answer:
        body = await answer.json(content_type=None)
    assert {error["field"] for error in body["errors"]} == {"user_description", "duration", "language"}


BROKEN = {
    "no body": b"",
    "no form": b"hello",
    "no parts": END,
    "no photo": part("duration", b"4") + END,
    "photo by another name": part("photo", PHOTO, filename="x.png") + END,
    "no end": part("file", PHOTO, filename="x.png"),
    "cut off in the photo": part("file", PHOTO, filename="x.png")[:-1000],
    "cut off after the headers": part("file", b"", filename="x.png")[:-2],
    "another boundary": whole(PHOTO).replace(b"XX", b"YY"),
    "a field that is no text": part("file", PHOTO) + part("user_description", b"caf\xe9") + END,
    "a field that never ends": part("user_description", b"x" * 100_000) + part("file", PHOTO) + END,
    "a field that nobody asked for and never ends": part("x", b"x" * 100_000) + part("file", PHOTO) + END,
    "too many fields": part("x", b"1") * 25 + part("file", PHOTO) + END,
    "a part without a name": b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n" + part("file", PHOTO) + END,
    "a form in the form": b"--XX\r\nContent-Type: multipart/mixed; boundary=YY\r\n\r\n--YY\r\n\r\nx\r\n--YY--\r\n"
    + END,
    "a form in the form without a boundary": b"--XX\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n" + END,
    "a header without a colon": b"--XX\r\nno colon here\r\n\r\nx\r\n" + END,
    "a header with a space": b"--XX\r\nBad Name: x\r\n\r\nx\r\n" + END,
    "a header with NUL": b'--XX\r\nContent-Disposition: form-data; name="fi\0le"\r\n\r\nx\r\n' + END,
    "a header that is too long": part("file", PHOTO, headers=b"X: " + b"a" * 10_000 + b"\r\n") + END,
    "too many headers": part("file", PHOTO, headers=b"".join(b"X%d: a\r\n" % n for n in range(300))) + END,
    "a charset first": part("_charset_", b"utf-8") + part("file", PHOTO) + END,
    "a charset that is none": part("_charset_", b"\xff" * 31) + part("file", PHOTO) + END,
}


async def test_a_form_that_cannot_be_read_is_refused(idle: Running) -> None:
    for name, broken in BROKEN.items():
        status, body = await exchange(idle, request(idle, broken))
        assert status == 422, name
        problem(422, "invalid_request", _json(body))
        await nothing_is_left(idle)


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam")
async def test_a_part_that_does_not_say_what_it_is_is_refused(idle: Running) -> None:
    for about in (
        b'form-data; name="fi',
        b'form-data; name=";;;=',
        b"form-data; name*=foo'bar'%ff",
        b"\xff\xfe",
        b"form-data",
        b"",
    ):
        body = b"--XX\r\nContent-Disposition: " + about + b"\r\n\r\nx\r\n" + END
        status, answer = await exchange(idle, request(idle, body))
        problem(422, "invalid_request", _json(answer))
        assert status == 422, about
    await nothing_is_left(idle)


OTHER_TYPES = (
    "application/json",
    "image/png",
    "multipart/mixed; boundary=XX",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    "multipart/form-data; boundary=" + "X" * 71,
    "multipart/form-data; boundary=YY",
    "multipart/form-data; boundary=é",
    "nonsense",
    "",
)


async def test_another_content_type_is_refused(idle: Running) -> None:
    for content_type in OTHER_TYPES:
        status, body = await exchange(idle, request(idle, whole(PHOTO), content_type=content_type))
        assert status == 422, content_type
        problem(422, "invalid_request", _json(body))
        await nothing_is_left(idle)


async def test_the_last_of_two_fields_and_the_first_of_two_photos_count(idle: Running) -> None:
    body = part("file", PHOTO) + part("duration", b"8") + part("duration", b"12") + part("file", b"not a photo") + END
    status, answer = await exchange(idle, request(idle, body))
    assert status == 202
    assert _json(answer)["duration"] == 12
    [original] = stored(idle)
    assert original.read_bytes() == PHOTO


# -- size


@pytest.fixture
async def small(settings: Settings, start: Start) -> Running:
    """A service that takes one megabyte."""
    return await start(settings.model_copy(update={"workers": 0, "max_upload_mb": 1}))


def of_size(size: int) -> bytes:
    """A photo of exactly so many bytes, half of which are its pixels."""
    pixels = np.random.default_rng(1).integers(0, 255, (400, 400, 3), dtype=np.uint8)

    def saved(padding: int) -> bytes:
        out, text = io.BytesIO(), PngImagePlugin.PngInfo()
        text.add_text("Comment", "x" * padding)
        Image.fromarray(pixels).save(out, "PNG", pnginfo=text)
        return out.getvalue()

    return saved(size - len(saved(0)))


async def test_the_limit_itself_is_accepted_and_a_byte_more_is_not(small: Running) -> None:
    async with small.http.post(ASYNC, data=form(of_size(1_000_001))) as answer:
        assert answer.status == 413
        body = await answer.json(content_type=None)
        problem(413, "upload_too_large", body)
        assert body["detail"] == "The file is larger than 1 MB."
    await nothing_is_left(small)
    await accept(small.http, form(of_size(1_000_000), user_description="猫" * 4000))
    [original] = stored(small)
    assert original.stat().st_size == 1_000_000


async def test_a_length_that_is_too_large_is_refused_before_it_is_sent(idle: Running) -> None:
    for length in (26_000_000, 100_000_000, 2**62):
        status, body = await exchange(idle, request(idle, b"", length=length))
        assert status == 413
        problem(413, "upload_too_large", _json(body))
    await nothing_is_left(idle)


async def test_a_hundred_megabytes_without_a_length_are_refused_without_being_kept(idle: Running) -> None:
    sent = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal sent
        async for piece in pieces(100_000_000):
            sent += len(piece)
            yield piece

    tracemalloc.start()
    try:
        async with idle.http.post(ASYNC, data=counted(), headers={"Content-Type": MULTIPART}) as answer:
            assert answer.status == 413
            problem(413, "upload_too_large", await answer.json(content_type=None))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000
    assert 25_000_000 < sent < 60_000_000, "it was answered when the limit was passed"
    await nothing_is_left(idle)
    async with idle.http.get("/healthz") as answer:
        assert answer.status == 200


# -- uploads that stop


@pytest.mark.parametrize("much", [0, 200, 100_000, 2_000_000])
async def test_an_upload_that_stops_half_way_leaves_nothing(idle: Running, much: int) -> None:
    body = whole(PHOTO * 20)[:much]
    _, writer = await asyncio.open_connection(*address(idle))
    writer.write(request(idle, body, length=5_000_000))
    await writer.drain()
    await _settled(idle, requests=1)
    writer.transport.abort()
    await _settled(idle)


async def test_an_upload_that_stops_while_the_server_thinks_leaves_nothing(idle: Running) -> None:
    async with locked(idle.service.pool, "subscriptions"):
        _, writer = await asyncio.open_connection(*address(idle))
        writer.write(request(idle, whole(PHOTO)[:1000], length=len(whole(PHOTO))))
        await until_locked_out(idle.service.pool)
        writer.transport.abort()
    await _settled(idle)


async def _settled(running: Running, *, requests: int = 0) -> None:
    """Nothing is left once so many connections are."""
    assert running.http.server.runner
    server = running.http.server.runner.server
    assert server
    await until(lambda: sum(bool(one._current_request) for one in server.connections) == requests)
    await nothing_is_left(running)


# -- who may not, and not now


async def test_without_a_subscription_nothing_is_read(idle: Running) -> None:
    await idle.service.pool.execute("DELETE FROM subscriptions")
    await _early(idle, 402, "subscription_required")


@pytest.mark.parametrize("change", ["status = 'cancelled'", "status = 'past_due'", "period_end = now()"])
async def test_a_subscription_that_is_over_is_none(idle: Running, change: str) -> None:
    await idle.service.pool.execute(f"UPDATE subscriptions SET {change}")
    await _early(idle, 402, "subscription_required")


async def test_a_quota_is_used_up_by_as_many_tasks(idle: Running) -> None:
    await subscriptions.activate(idle.service.pool, idle.user.id, plan="small", quota=2, days=30)
    for _ in range(2):
        await accept(idle.http)
    await _early(idle, 402, "subscription_required")
    assert len(stored(idle)) == 2


async def test_two_uploads_cannot_share_what_is_left_of_a_quota(idle: Running) -> None:
    await subscriptions.activate(idle.service.pool, idle.user.id, plan="small", quota=1, days=30)
    answers = await asyncio.gather(*(idle.http.post(ASYNC, data=form()) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [202, 402, 402, 402, 402]
    for answer in answers:
        answer.release()
    assert len(stored(idle)) == 1


async def test_who_has_many_tasks_waiting_waits(settings: Settings, start: Start) -> None:
    running = await start(settings.model_copy(update={"workers": 0, "user_pending_limit": 1}))
    await accept(running.http)
    assert (await _early(running, 429, "too_many_requests"))["retry-after"] == "10"


async def test_a_full_queue_takes_nothing(settings: Settings, start: Start) -> None:
    running = await start(settings.model_copy(update={"workers": 0, "queue_limit": 1}))
    other = await member(running.service.pool, "other@example.com")
    headers = {"Authorization": f"Bearer {running.service.tokens.account(other.id)}"}
    async with running.http.post(ASYNC, data=form(), headers=headers) as answer:
        assert answer.status == 202
    assert (await _early(running, 503, "queue_full"))["retry-after"] == "10"
    assert await running.service.pool.fetchval("SELECT count(*) FROM tasks WHERE kind = $1", Kind.ENHANCEMENT) == 1


async def _early(running: Running, status: int, code: str) -> dict[str, str]:
    """The answer's headers; it comes before a byte of the body was sent."""
    reader, writer = await asyncio.open_connection(*address(running))
    writer.write(request(running, b"", length=1_000_000))
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    assert int(head[0].split()[1]) == status
    problem(status, code, _json(await reader.readexactly(int(headers["content-length"]))))
    writer.transport.abort()
    return headers


def _json(data: bytes) -> Any:
    return json.loads(data)
