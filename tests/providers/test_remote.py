"""Videos of a server with OpenAI's shape, against the stand-in."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import TestServer
from PIL import Image
from pydantic import SecretStr
from yarl import URL

from enhancer.errors import (
    OrderFailed,
    OrderLost,
    OrderRejected,
    OutcomeUnknown,
    ProviderBadAnswer,
    ProviderError,
    ProviderRateLimited,
    ProviderRefused,
    ProviderRejectedImage,
    ProviderUnavailable,
    SetupError,
)
from enhancer.providers import Rendering, VideoBrief, Videos
from enhancer.providers.remote import RemoteVideos, connect, server, videos
from enhancer.providers.remote.failures import NEVER_SENT, meaning
from enhancer.settings import Settings
from tests.fakes.openai.faults import Fault
from tests.fakes.videos import KEY, FakeVideos, Says, faults, film

PROMPT = "A handmade stoneware cup with a blue rim, 蓝色杯沿"
SIZE = (320, 180)
FILM = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 4000


def frame(size: tuple[int, int] = SIZE) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (190, 90, 40)).save(out, "JPEG")
    return out.getvalue()


BRIEF = VideoBrief(frame(), PROMPT, SIZE, 8, "en")


def settings(url: str | None, *, key: str | None = KEY, **over: object) -> Settings:
    given = {"video_base_url": url, "video_api_key": SecretStr(key) if key else None, "video_model": "wan-2.2"}
    return Settings.model_validate(Settings.model_construct().model_dump() | given | over)


@pytest.fixture
async def fake() -> AsyncIterator[FakeVideos]:
    async with FakeVideos(film=FILM) as fake:
        yield fake


@pytest.fixture
async def remote(fake: FakeVideos) -> AsyncIterator[RemoteVideos]:
    async with connect(settings(fake.url)) as remote:
        yield remote


async def fetched(remote: RemoteVideos, order: str) -> bytes:
    async with aclosing(remote.fetch(order)) as pieces:
        return b"".join([piece async for piece in pieces])


async def finished(remote: RemoteVideos, fake: FakeVideos) -> str:
    """The id of an order that is done."""
    fake.tell(Says("completed", 100))
    order = await remote.order(BRIEF)
    await remote.look(order)
    return order


# what is sent, and what comes back


async def test_a_video_is_ordered_by_one_post(remote: RemoteVideos, fake: FakeVideos) -> None:
    order = await remote.order(BRIEF)
    (call,) = fake.calls
    assert (call.kind, call.video, call.billed) == ("order", order, True)
    assert call.fields == {
        "prompt": PROMPT,
        "model": "wan-2.2",
        "seconds": "8",
        "size": "320x180",
        "input_reference": "frame.jpg image/jpeg 320x180",
    }


async def test_a_video_is_ordered_watched_and_fetched(remote: RemoteVideos, fake: FakeVideos) -> None:
    order = await remote.order(BRIEF)
    looks = [await remote.look(order) for _ in range(4)]
    assert looks == [Rendering(False, 0), Rendering(False, 25), Rendering(False, 75), Rendering(True, 100)]
    assert await fetched(remote, order) == FILM
    assert [call.kind for call in fake.calls] == ["order", "look", "look", "look", "look", "content"]
    assert len({call.port for call in fake.calls}) == 6, "each call has a connection of its own"


async def test_what_is_fetched_is_a_film(remote: RemoteVideos, fake: FakeVideos) -> None:
    fake.film = None
    assert await fetched(remote, await finished(remote, fake)) == film(SIZE, 8)


async def test_a_server_that_runs_one_model_is_asked_for_none(fake: FakeVideos) -> None:
    async with connect(settings(fake.url, video_model=None)) as remote:
        await remote.order(BRIEF)
        assert remote.model == "video-server"
    assert "model" not in fake.calls[0].fields


async def test_a_server_without_keys_gets_none() -> None:
    async with FakeVideos(key=None, film=FILM) as fake, connect(settings(f"{fake.url}/", key=None)) as remote:
        assert await fetched(remote, await finished(remote, fake)) == FILM


async def test_an_id_may_hold_anything_that_an_address_can_carry(fake: FakeVideos, remote: RemoteVideos) -> None:
    seen: list[str] = []

    async def look(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.json_response({"status": "queued"})

    async with other_server(look, "/v1/videos/{id}") as url, connect(settings(url)) as elsewhere:
        await elsewhere.look("models/veo-3?x=%2F#y==")
    assert seen == ["/v1/videos/models%2Fveo-3%3Fx%3D%252F%23y%3D%3D"]


# what servers say while they work


@pytest.mark.parametrize(
    ("says", "percent"),
    [
        (Says("queued", 0), 0),
        (Says("processing", None), None),
        (Says("in_progress", 40), 40),
        (Says("IN-PROGRESS", 40.5), 40.5),
        (Says("In Progress", "40"), 40),
        (Says("RUNNING", " 40 % "), 40),
        (Says("rendering", 0.4), 40),
        (Says("pending", 1), 1),
        (Says("preparing", 400), 100),
        (Says("preparing", -1), 0),
        (Says("starting", True), None),
        (Says("starting", "soon"), None),
        (Says("starting", "nan"), None),
        (Says("starting", {"done": 3}), None),
        (Says("starting", 10**400), None),
    ],
)
async def test_a_status_that_nobody_knows_is_work(
    remote: RemoteVideos, fake: FakeVideos, says: Says, percent: float | None
) -> None:
    fake.tell(says)
    assert await remote.look(await remote.order(BRIEF)) == Rendering(False, percent)


@pytest.mark.parametrize("status", ["completed", "succeeded", "SUCCESS", "Done", "finished"])
async def test_done_has_many_names(remote: RemoteVideos, fake: FakeVideos, status: str) -> None:
    fake.omit = {"progress", "error", "model", "object", "created_at", "id"}
    order = await ordered(remote, fake)
    fake.tell(Says(status))
    assert await remote.look(order) == Rendering(True, 100)


async def ordered(remote: RemoteVideos, fake: FakeVideos) -> str:
    """An order at a stand-in that leaves fields out, the id only when it is asked."""
    kept, fake.omit = fake.omit, fake.omit - {"id"}
    order = await remote.order(BRIEF)
    fake.omit = kept
    return order


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"openai-poll-after-ms": "2500"}, 2.5),
        ({"openai-poll-after-ms": "2500", "Retry-After": "9"}, 2.5),
        ({"openai-poll-after-ms": "soon", "Retry-After": "9"}, 9),
        ({"Retry-After": "9"}, 9),
        ({"openai-poll-after-ms": "-1"}, 0),
        ({"openai-poll-after-ms": "1e300"}, 3600),
        ({}, None),
    ],
)
async def test_the_server_says_when_it_wants_to_be_asked_again(
    remote: RemoteVideos, fake: FakeVideos, headers: Mapping[str, str], seconds: float | None
) -> None:
    fake.tell(Says("in_progress", 40, headers=headers))
    assert (await remote.look(await remote.order(BRIEF))).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "more", "told"),
    [
        (
            "failed",
            {"error": {"code": "server_error", "message": "Out of memory."}},
            "The provider could not make the video. It said: Out of memory.",
        ),
        (
            "error",
            {"error": "CUDA is out"},
            "The provider could not make the video. It said: CUDA is out",
        ),
        ("FAILED", {"error": {"message": "x" * 500}}, f"The provider could not make the video. It said: {'x' * 199}…"),
        ("failed", {"message": "No GPU."}, "The provider could not make the video. It said: No GPU."),
        ("failed", {"error": {"message": "key sk-abcdefgh1"}}, "The provider could not make the video. It said: key …"),
        ("failed", {"error": {"message": f"key {KEY}"}}, "The provider could not make the video."),
        ("failed", {}, "The provider could not make the video."),
        ("failed", {"error": 7}, "The provider could not make the video."),
        ("cancelled", {}, "The provider has cancelled the video."),
        ("canceled", {}, "The provider has cancelled the video."),
        ("expired", {}, "The provider has let the video expire."),
        ("deleted", {}, "The provider has deleted the video."),
    ],
)
async def test_an_order_that_failed_is_told_in_the_servers_words(
    remote: RemoteVideos, fake: FakeVideos, status: str, more: Mapping[str, object], told: str
) -> None:
    fake.tell(Says(status, more=more))
    with pytest.raises(OrderFailed) as caught:
        await remote.look(await remote.order(BRIEF))
    assert type(caught.value) is OrderFailed
    assert str(caught.value) == told


async def test_an_order_that_the_safety_system_stopped_is_told_as_that(remote: RemoteVideos, fake: FakeVideos) -> None:
    fake.tell(Says("failed", more={"error": {"code": "moderation_blocked", "message": "No."}}))
    with pytest.raises(OrderRejected) as caught:
        await remote.look(await remote.order(BRIEF))
    assert caught.value.code == "provider_rejected_image"


async def test_an_order_that_the_server_forgot_is_lost(remote: RemoteVideos, fake: FakeVideos) -> None:
    order = await finished(remote, fake)
    fake.lose()
    with pytest.raises(OrderLost):
        await remote.look(order)
    with pytest.raises(OrderLost):
        await fetched(remote, order)


# what goes wrong


SPOILED: list[tuple[Fault, type[ProviderError]]] = [
    (faults.status(500), ProviderUnavailable),
    (faults.html(503), ProviderUnavailable),
    (faults.status(408), ProviderUnavailable),
    (faults.rate_limited(), ProviderRateLimited),
    (faults.html(429), ProviderRateLimited),
    (faults.no_credit(), ProviderRefused),
    (faults.status(401, "invalid_api_key"), ProviderRefused),
    (faults.status(403), ProviderRefused),
    (faults.body("[" * 50_000, number=422), ProviderRefused),
    (faults.status(307, headers={"Location": "http://127.0.0.1:1/v1"}), ProviderRefused),
    (faults.html(), ProviderBadAnswer),
    (faults.empty(), ProviderBadAnswer),
    (faults.broken_json(), ProviderBadAnswer),
    (faults.wrong_json(), ProviderBadAnswer),
    (faults.body("null"), ProviderBadAnswer),
    (faults.body("[" * 100_000), ProviderBadAnswer),
    (faults.body('{"id": "", "status": ""}'), ProviderBadAnswer),
    (faults.body('{"id": null, "status": null}'), ProviderBadAnswer),
    (faults.body('{"id": {}, "status": {}}'), ProviderBadAnswer),
    (faults.body("not gzip", headers={"Content-Encoding": "gzip"}), ProviderBadAnswer),
    (faults.body(f'{{"id": "{"x" * 1_000_000}", "status": "queued"}}'), ProviderBadAnswer),
]
SPOILED_ORDERS: list[tuple[Fault, type[ProviderError]]] = [
    (faults.status(504), OutcomeUnknown),
    (faults.status(524), OutcomeUnknown),
    (faults.unread(), OutcomeUnknown),
    (faults.dropped(), OutcomeUnknown),
    (faults.truncated(), OutcomeUnknown),
    (faults.moderated(), ProviderRejectedImage),
    (faults.status(400, "content_policy_violation"), ProviderRejectedImage),
    # as LiteLLM passes it on
    (
        faults.status(400, "400", message='litellm.BadRequestError: {"error": {"code": "moderation_blocked"}}'),
        ProviderRejectedImage,
    ),
    (faults.status(404, "model_not_found"), ProviderRefused),
    (faults.body('{"id": "..", "status": "queued"}'), ProviderBadAnswer),
    (faults.body('{"id": "two words", "status": "queued"}'), ProviderBadAnswer),
]


@pytest.mark.parametrize(("fault", "error"), SPOILED + SPOILED_ORDERS)
async def test_a_failed_order_is_one_post_and_one_known_error(
    remote: RemoteVideos, fake: FakeVideos, fault: Fault, error: type[ProviderError]
) -> None:
    fake.fail("order", fault)
    with pytest.raises(ProviderError) as caught:
        await remote.order(BRIEF)
    assert type(caught.value) is error
    assert len(fake.calls) == 1
    assert_says_nothing_private(caught.value)


@pytest.mark.parametrize(
    ("fault", "error"),
    [*SPOILED, (faults.dropped(), ProviderUnavailable), (faults.truncated(), ProviderUnavailable)],
)
async def test_a_look_that_failed_is_a_question_to_ask_again(
    remote: RemoteVideos, fake: FakeVideos, fault: Fault, error: type[ProviderError]
) -> None:
    order = await remote.order(BRIEF)
    fake.fail("look", fault, times=2)  # the client asks once more by itself when the connection breaks
    with pytest.raises(ProviderError) as caught:
        await remote.look(order)
    assert type(caught.value) is error
    assert_says_nothing_private(caught.value)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(500), ProviderUnavailable),
        (faults.rate_limited(), ProviderRateLimited),
        (faults.status(403), ProviderRefused),
        (faults.dropped(), ProviderUnavailable),
        (faults.truncated(), ProviderUnavailable),
        (faults.html(), ProviderBadAnswer),
        (faults.empty(), ProviderBadAnswer),
        (faults.body("{}"), ProviderBadAnswer),
        (faults.status(302, headers={"Location": "ftp://127.0.0.1/film.mp4"}), ProviderBadAnswer),
        (faults.status(302, headers={"Location": "http://[/"}), ProviderBadAnswer),
        (faults.status(302, headers={"Location": "content"}), ProviderBadAnswer),
    ],
)
async def test_a_video_that_cannot_be_fetched_is_one_known_error(
    remote: RemoteVideos, fake: FakeVideos, fault: Fault, error: type[ProviderError]
) -> None:
    order = await finished(remote, fake)
    fake.fail("content", fault, times=10)
    with pytest.raises(ProviderError) as caught:
        await fetched(remote, order)
    assert type(caught.value) is error
    assert_says_nothing_private(caught.value)


def assert_says_nothing_private(error: ProviderError) -> None:
    assert 0 < len(str(error)) < 400
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    assert not any(private in str(error) for private in (KEY, PROMPT, "127.0.0.1", "http://"))


async def test_a_refusal_is_told_without_the_users_words(remote: RemoteVideos, fake: FakeVideos) -> None:
    fake.fail("order", faults.status(400, message=f"The prompt {PROMPT} is odd."))
    fake.fail("order", faults.body('{"detail": "prompt is required"}', number=400))
    fake.fail("order", faults.body('{"detail": "Not Found"}', number=404))
    told = []
    for _ in range(3):
        with pytest.raises(ProviderRefused) as caught:
            await remote.order(BRIEF)
        told.append(str(caught.value))
    assert told == [
        "The provider refused the request (HTTP 400).",
        "The provider refused the request (HTTP 400). It said: prompt is required",
        "The provider does not know the model, or VIDEO_BASE_URL leads to a wrong address. It said: Not Found",
    ]


async def test_a_failure_is_logged_without_anything_private(
    remote: RemoteVideos, fake: FakeVideos, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail("order", faults.status(400, "bad\nvalue", message=f"{KEY} {PROMPT}", headers={"x-request-id": "r1"}))
    with pytest.raises(ProviderRefused), caplog.at_level(logging.DEBUG, "enhancer"):
        await remote.order(BRIEF)
    (record,) = [record for record in caplog.records if record.name.startswith("enhancer")]
    assert record.message == "provider.failed"
    assert {name: record.__dict__[name] for name in ("model", "status", "code", "request_id")} == {
        "model": "wan-2.2",
        "status": 400,
        "code": "badvalue",
        "request_id": "r1",
    }


async def test_a_rate_limit_says_how_long(remote: RemoteVideos, fake: FakeVideos) -> None:
    fake.fail("order", faults.rate_limited("7"))
    with pytest.raises(ProviderRateLimited) as caught:
        await remote.order(BRIEF)
    assert caught.value.retry_after == 7


async def test_nobody_there_was_never_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with connect(settings(f"http://127.0.0.1:{port}/v1")) as remote:
        with pytest.raises(ProviderUnavailable):
            await remote.order(BRIEF)


async def test_an_order_that_hangs_ends_in_time(fake: FakeVideos) -> None:
    fake.fail("order", faults.hang())
    async with connect(settings(fake.url).model_copy(update={"call_timeout": 0.2})) as remote:
        with pytest.raises(OutcomeUnknown):
            await remote.order(BRIEF)
    await fake.arrived("order")


async def test_a_look_that_hangs_ends_in_time(
    remote: RemoteVideos, fake: FakeVideos, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await remote.order(BRIEF)
    monkeypatch.setattr(videos, "LOOK_TIMEOUT", 0.2)
    fake.fail("look", faults.hang())
    with pytest.raises(ProviderUnavailable):
        await remote.look(order)


async def test_a_download_that_falls_silent_has_broken(
    remote: RemoteVideos, fake: FakeVideos, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await finished(remote, fake)
    monkeypatch.setattr(server, "QUIET", 0.2)
    fake.fail("content", faults.hang())
    with pytest.raises(ProviderUnavailable):
        await fetched(remote, order)


async def test_a_cancelled_order_is_cancelled(remote: RemoteVideos, fake: FakeVideos) -> None:
    held = fake.hold("order")
    call = asyncio.create_task(remote.order(BRIEF))
    await held.arrived()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


KEY_OF_HOST = ConnectionKey("host", 443, True, True, None, None, None)
CAUSES: list[tuple[Exception, type[ProviderError]]] = [
    (aiohttp.ClientConnectorError(KEY_OF_HOST, OSError(1, "broken")), ProviderUnavailable),
    (aiohttp.ClientConnectorDNSError(KEY_OF_HOST, OSError(1, "broken")), ProviderUnavailable),
    (aiohttp.ClientProxyConnectionError(KEY_OF_HOST, OSError(1, "broken")), ProviderUnavailable),
    (aiohttp.ClientConnectorSSLError(KEY_OF_HOST, OSError(1, "broken")), ProviderUnavailable),
    (aiohttp.ClientConnectorCertificateError(KEY_OF_HOST, ssl.CertificateError("broken")), ProviderUnavailable),
    (aiohttp.ConnectionTimeoutError(), ProviderUnavailable),
    (aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 443), ProviderUnavailable),
    (aiohttp.InvalidURL("x"), ProviderRefused),
    (aiohttp.NonHttpUrlClientError("x"), ProviderRefused),
    (aiohttp.ClientOSError(104, "reset"), OutcomeUnknown),
    (aiohttp.ClientConnectionResetError("reset"), OutcomeUnknown),
    (aiohttp.ServerDisconnectedError(), OutcomeUnknown),
    (aiohttp.SocketTimeoutError(), OutcomeUnknown),
    (aiohttp.ClientPayloadError("short"), OutcomeUnknown),
    (aiohttp.ClientError("new"), OutcomeUnknown),
    (TimeoutError(), OutcomeUnknown),
]


@pytest.mark.parametrize(("cause", "error"), CAUSES, ids=lambda value: getattr(value, "__name__", type(value).__name__))
def test_a_broken_connection_means_what_broke(cause: Exception, error: type[ProviderError]) -> None:
    assert type(meaning(cause)) is error
    assert (error is ProviderUnavailable) == isinstance(cause, NEVER_SENT)


# files that lie elsewhere, and files without end


@asynccontextmanager
async def other_server(handler: object, path: str = "/{name:.*}") -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get(path, handler)  # type: ignore[arg-type]
    async with TestServer(app) as running:
        yield str(running.make_url("/v1"))


async def test_a_redirect_to_a_store_is_followed_without_the_key(remote: RemoteVideos, fake: FakeVideos) -> None:
    asked: list[web.Request] = []

    async def store(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(body=FILM, content_type="text/plain")

    async with other_server(store) as url:
        order = await finished(remote, fake)
        fake.fail("content", faults.status(302, headers={"Location": f"{url}/film?signature=a%2Fb"}))
        assert await fetched(remote, order) == FILM
    assert [(request.raw_path, "Authorization" in request.headers) for request in asked] == [
        ("/v1/film?signature=a%2Fb", False)
    ]


async def test_a_redirect_within_the_server_keeps_the_key(remote: RemoteVideos, fake: FakeVideos) -> None:
    order = await finished(remote, fake)
    fake.fail("content", faults.status(307, headers={"Location": f"/v1/videos/{order}/content"}))
    assert await fetched(remote, order) == FILM


def test_a_redirect_never_leaves_encryption() -> None:
    assert server._next(URL("http://a/"), "https://b/c") == URL("https://b/c")
    with pytest.raises(ProviderBadAnswer):
        server._next(URL("https://a/"), "http://a/c")


async def test_a_first_packet_may_be_a_short_one(fake: FakeVideos) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, 40, 3):
            await response.write(FILM[start : start + 3])
        return response

    async with other_server(drip) as url, connect(settings(url)) as remote:
        assert await fetched(remote, "any") == FILM[:42]


async def test_a_file_without_end_is_not_stored(
    remote: RemoteVideos, fake: FakeVideos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "MAX_VIDEO", 100_000)
    order = await finished(remote, fake)
    with pytest.raises(ProviderBadAnswer, match="too large"):
        await fetched(remote, order)
    assert len(FILM) > 100_000


async def test_a_download_can_be_left(remote: RemoteVideos, fake: FakeVideos) -> None:
    fake.film = FILM * 20
    order = await finished(remote, fake)
    async with aclosing(remote.fetch(order)) as pieces:
        async for _ in pieces:
            break
    assert await remote.look(order) == Rendering(True, 100)


# telling the server to stop


async def test_an_order_is_withdrawn(remote: RemoteVideos, fake: FakeVideos) -> None:
    order = await remote.order(BRIEF)
    await remote.withdraw(order)
    assert fake.withdrawn == [order]


@pytest.mark.parametrize("fault", [faults.status(405), faults.status(404), faults.status(500), faults.dropped()])
async def test_a_server_that_cannot_be_told_is_no_failure(
    remote: RemoteVideos, fake: FakeVideos, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    order = await remote.order(BRIEF)
    fake.fail("withdraw", fault, times=2)
    await remote.withdraw(order)
    assert "order.not_withdrawn" in [record.message for record in caplog.records]


async def test_withdrawing_takes_no_longer_than_it_may(
    remote: RemoteVideos, fake: FakeVideos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "WITHDRAW_TIMEOUT", 0.2)
    order = await remote.order(BRIEF)
    fake.fail("withdraw", faults.hang())
    await remote.withdraw(order)


# setting it up


def test_they_are_what_the_pipeline_asks_for(remote: RemoteVideos) -> None:
    provider: Videos = remote
    assert (provider.model, provider.billed, provider.longest_call) == ("wan-2.2", True, 330)


@pytest.mark.parametrize("url", ["", "here", "ftp://host/v1", "http://", "http://host:0/v1", "http://[/v1"])
async def test_an_address_that_cannot_be_called_is_told(url: str) -> None:
    with pytest.raises(SetupError, match="VIDEO_BASE_URL"):
        async with connect(settings(url)):
            pass


async def test_a_password_does_not_belong_in_the_address() -> None:
    with pytest.raises(SetupError, match="VIDEO_API_KEY") as caught:
        async with connect(settings("http://me:swordfish@host/v1")):
            pass
    assert "swordfish" not in str(caught.value)


async def test_a_key_that_is_none_is_told() -> None:
    with pytest.raises(SetupError, match="VIDEO_API_KEY"):
        async with connect(settings("http://host/v1", key="two words")):
            pass
