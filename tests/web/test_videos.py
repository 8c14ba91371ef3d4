"""Interface 2 over HTTP, rendered by the stand-in for a server of /v1/videos."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import FormData
from PIL import Image
from pydantic import SecretStr

from enhancer.domain.tasks import Status
from enhancer.settings import Settings
from enhancer.web.models import VideoProgressEvent, VideoResponse
from tests.conftest import Running, Start, photo, subscriber
from tests.fakes.videos import KEY, FakeVideos, Says
from tests.lives import Customer, Reply, Stream, in_state, small_photo

GENERATE = "/api/v1/videos/generate"
AT_ONCE = {"Retry-After": "0"}
"""The server wants to be asked again without a pause."""


def says(status: str, progress: object = 0) -> Says:
    return Says(status, progress, headers=AT_ONCE)


@pytest.fixture
async def renderer() -> AsyncIterator[FakeVideos]:
    """The stand-in, which is done soon."""
    async with FakeVideos() as fake:
        fake.tell(says("queued"), says("in_progress", 40), says("completed", 100))
        yield fake


@pytest.fixture
def rendered(settings: Settings, renderer: FakeVideos) -> Settings:
    """Settings of services whose videos the stand-in makes."""
    over = {"video_base_url": renderer.url, "video_api_key": SecretStr(KEY), "video_model": "wan-3"}
    return settings.model_copy(update={**over, "poll_interval": 0.05})


@pytest.fixture
async def shop(rendered: Settings, start: Start) -> Running:
    """A service that makes videos."""
    return await start(rendered)


class Viewer:
    """Orders videos and watches them come, as the service's own user or another."""

    def __init__(self, shop: Running, user_id: int | None = None) -> None:
        self._shop = shop
        token = shop.service.tokens.account(user_id or shop.user.id)
        self._headers = {"Authorization": f"Bearer {token}"}

    async def order(self, *, key: str | None = None, **fields: Any) -> Reply:
        """By JSON."""
        return await self.ask("POST", "generate", key=key, json=fields)

    async def send(self, file: bytes | None = None, *, key: str | None = None, **fields: str) -> Reply:
        """By a form with a photo."""
        form = FormData(fields)
        form.add_field("file", file or small_photo(), filename="photo.jpg")
        return await self.ask("POST", "generate", key=key, data=form)

    async def page(self, query: str) -> Reply:
        """A page of the list."""
        return await self._ask("GET", f"/api/v1/videos?{query}")

    async def ask(self, method: str, path: object, *, key: str | None = None, **more: Any) -> Reply:
        """Any other call."""
        return await self._ask(method, f"/api/v1/videos/{path}", key=key, **more)

    async def _ask(self, method: str, path: str, *, key: str | None = None, **more: Any) -> Reply:
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        async with self._shop.http.request(method, path, headers=headers, **more) as answer:
            text = await answer.text()
            return Reply(answer.status, answer.headers, json.loads(text) if text else None)

    async def events(self, video: Any, *, after: int = 0) -> list[dict[str, Any]]:
        """What the stream brings to its end; each is one of its schema."""
        headers = self._headers | {"Last-Event-ID": str(after)}
        async with self._shop.http.get(f"/api/v1/videos/{video['id']}/stream", headers=headers) as response:
            events = await Stream(response).rest()
        for event in events:
            VideoProgressEvent.model_validate({name: value for name, value in event.items() if name != "id"})
        return events

    async def ended(self, video: Any) -> Any:
        """The video once its stream has ended."""
        await self.events(video)
        return (await self.ask("GET", video["id"])).body

    async def file(self, url: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        """A file by its signed link, without any other token."""
        path = url.removeprefix(self._shop.service.settings.public_url)
        async with self._shop.http.get(path, headers={"Authorization": "", **headers}) as answer:
            return answer.status, answer.headers, await answer.read()


def points(events: list[dict[str, Any]]) -> list[tuple[int, int | None]]:
    return [(event["step"], event["progress"]) for event in events]


async def test_an_enhancement_becomes_a_video_that_outlives_it(shop: Running, renderer: FakeVideos) -> None:
    me, viewer = Customer(shop), Viewer(shop)
    task = await me.order(user_description="A cup", duration="8", language="zh")
    script = (await me.ended(task.body["id"]))["script"]
    reply = await viewer.order(enhancement_id=task.body["id"])
    video = VideoResponse.model_validate(reply.body)
    assert (reply.status, reply.headers["Location"]) == (202, video.status_url)
    assert (video.enhancement_id, video.prompt, video.duration, video.language) == (task.body["id"], script, 8, "zh")
    assert (video.step, video.progress, video.video_model) == (0, 0, "wan-3")
    assert (await me.delete(task.body["id"])).status == 204
    events = await viewer.events(reply.body)
    begin, end = [(n, 0) for n in range(5)], [(n, 100) for n in range(6, 10)]
    assert points(events) == [*begin, (5, 0), (5, 40), *end]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert "🎬 正在渲染视频… 40%" in [event["message"] for event in events]
    [order] = renderer.calls_of("order")
    assert order.fields.items() >= {"prompt": script, "seconds": "8", "size": "1280x720", "model": "wan-3"}.items()
    body = (await viewer.ask("GET", video.id)).body
    assert (body["status"], body["step"], body["progress"]) == ("completed", 9, 100)
    assert (body["width"], body["height"], body["video_model"]) == (1280, 720, "wan-3")
    assert {events[-1][name] for name in ("video_url", "thumbnail_url", "poster_url")} <= set(body.values())


async def test_the_studio_makes_the_whole_advertisement_without_any_server(enhancer: Running) -> None:
    me, viewer = Customer(enhancer), Viewer(enhancer)
    task = await me.order(photo(), user_description="An espresso", duration="4")
    await me.ended(task.body["id"])
    video = (await viewer.order(enhancement_id=task.body["id"])).body
    shown = points(await viewer.events(video))
    assert [step for step, _ in shown if step != 5] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert shown == sorted(shown)
    video = (await viewer.ask("GET", video["id"])).body
    assert (video["status"], video["video_model"]) == ("completed", "offline-studio")
    ledger = (await viewer.ask("GET", f"{video['id']}/calls")).body["calls"]
    assert [(call["billed"], call["outcome"]) for call in ledger] == [(False, "done")]


async def test_the_video_is_served_in_parts_with_its_pictures(shop: Running, renderer: FakeVideos) -> None:
    viewer = Viewer(shop)
    video = await viewer.ended((await viewer.send()).body)
    status, headers, data = await viewer.file(video["video_url"])
    assert (status, headers["Content-Type"], headers["Accept-Ranges"]) == (200, "video/mp4", "bytes")
    assert data[4:8] == b"ftyp"
    status, headers, part = await viewer.file(video["video_url"], Range="bytes=4-7")
    assert (status, part, headers["Content-Range"]) == (206, b"ftyp", f"bytes 4-7/{len(data)}")
    for name, size in (("poster_url", (1280, 720)), ("thumbnail_url", (480, 270))):
        status, headers, picture = await viewer.file(video[name])
        assert (status, headers["Content-Type"], Image.open(io.BytesIO(picture)).size) == (200, "image/jpeg", size)
    assert (await viewer.file(video["video_url"][:-2]))[0] == 401


@pytest.mark.parametrize(
    ("shape", "size"), [((96, 64), "1280x720"), ((64, 96), "720x1280"), ((80, 80), "1024x1024")], ids=str
)
async def test_the_photo_says_how_the_video_stands(
    shop: Running, renderer: FakeVideos, shape: tuple[int, int], size: str
) -> None:
    out = io.BytesIO()
    Image.new("RGB", shape, "teal").save(out, "PNG")
    viewer = Viewer(shop)
    video = await viewer.ended((await viewer.send(out.getvalue(), prompt="A teal thing", duration="4")).body)
    assert (video["status"], f"{video['width']}x{video['height']}") == ("completed", size)
    assert renderer.calls_of("order")[0].fields["size"] == size


async def test_a_photo_without_a_word_gets_a_prompt_of_ours(shop: Running, renderer: FakeVideos) -> None:
    viewer = Viewer(shop)
    video = await viewer.ended((await viewer.send(language="zh-CN", prompt="", enhancement_id="")).body)
    assert (video["enhancement_id"], video["duration"], video["language"]) == (None, 4, "zh-CN")
    assert video["prompt"] == "图中产品的一段广告短片：镜头缓缓推近产品。"
    assert renderer.calls_of("order")[0].fields["prompt"] == video["prompt"]


async def test_a_video_that_fails_says_why_and_is_ordered_anew_when_it_is_tried_again(
    shop: Running, renderer: FakeVideos
) -> None:
    renderer.tell(says("in_progress", 62), Says("failed", 62, {"error": {"message": "Too dark."}}))
    viewer = Viewer(shop)
    video = (await viewer.send()).body
    events = await viewer.events(video)
    assert (points(events)[-1], events[-1]["status"], events[-1]["error_code"]) == (
        (-1, 62),
        "failed",
        "provider_refused",
    )
    assert "Too dark." in events[-1]["error"]
    assert renderer.billed == 1
    renderer.tell(says("completed", 100))
    assert (await viewer.ask("POST", f"{video['id']}/retry")).status == 202
    assert (await viewer.ended(video))["status"] == "completed"
    ledger = (await viewer.ask("GET", f"{video['id']}/calls")).body["calls"]
    assert [(call["step"], call["model"], call["outcome"]) for call in ledger] == [
        ("render", "wan-3", "refused"),
        ("render", "wan-3", "done"),
    ]


async def test_a_cancel_tells_the_server(shop: Running, renderer: FakeVideos) -> None:
    renderer.tell(says("in_progress", 10))
    viewer = Viewer(shop)
    video = (await viewer.send()).body
    await renderer.arrived("look", 2)
    assert (await viewer.ask("POST", f"{video['id']}/cancel")).status == 200
    video = await viewer.ended(video)
    assert (video["status"], video["step"], len(renderer.withdrawn)) == ("cancelled", 5, 1)
    assert (await viewer.ask("POST", f"{video['id']}/cancel")).status == 200


async def test_a_video_goes_with_its_files_and_not_while_it_is_made(shop: Running, renderer: FakeVideos) -> None:
    renderer.tell(says("in_progress", 10))
    viewer = Viewer(shop)
    video = (await viewer.send()).body
    await renderer.arrived("look", 2)
    assert (await viewer.ask("DELETE", video["id"])).status == 409
    renderer.tell(says("completed", 100))
    await viewer.events(video)
    stored = shop.service.settings.uploads / f"user_{shop.user.id}" / "videos"
    assert {path.name.partition("_")[0] for path in stored.iterdir()} == {"reference", "video", "poster", "thumbnail"}
    assert (await viewer.ask("DELETE", video["id"])).status == 204
    assert list(stored.iterdir()) == []
    assert (await viewer.ask("GET", video["id"])).status == 404


async def test_an_order_that_is_sent_again_is_one_video(shop: Running, renderer: FakeVideos) -> None:
    viewer = Viewer(shop)
    first = await viewer.send(key="mine", prompt="A cup")
    again = await viewer.send(key="mine", prompt="A cup")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.body["id"] == first.body["id"]
    assert (await viewer.send(key="mine", prompt="A bowl")).code == "conflict"
    assert (await viewer.send(small_photo("navy"), key="mine", prompt="A cup")).code == "conflict"
    await viewer.events(first.body)
    assert renderer.billed == 1


@pytest.fixture
async def idle(rendered: Settings, start: Start) -> Running:
    """A service that accepts videos and makes none."""
    return await start(rendered.model_copy(update={"workers": 0}))


async def test_an_enhancement_must_be_completed_and_one_s_own(idle: Running) -> None:
    viewer, pool = Viewer(idle), idle.service.pool
    others, waiting = await in_state(pool, Status.FAILED), await in_state(pool, Status.PENDING)
    await pool.execute("UPDATE tasks SET user_id = $1 WHERE id = $2", idle.user.id, waiting.id)
    video = await viewer.send()
    for given, status in ((waiting.id, 409), (others.id, 404), (10**9, 404), (video.body["id"], 404)):
        assert (await viewer.order(enhancement_id=given)).status == status
    assert await pool.fetchval("SELECT count(*) FROM videos") == 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "enhancement_id"),
        ({"enhancement_id": 0}, "enhancement_id"),
        ({"enhancement_id": "x"}, "enhancement_id"),
        ({"enhancement_id": 1, "duration": 5}, "duration"),
        ({"enhancement_id": 1, "language": "../etc"}, "language"),
        ({"enhancement_id": 1, "prompt": "x" * 4001}, "prompt"),
        ([1], "form"),
        ("{", "body"),
    ],
    ids=str,
)
async def test_an_order_that_makes_no_sense_is_refused(idle: Running, given: object, field: str) -> None:
    more = {"data": given, "headers": {}} if isinstance(given, str) else {"json": given}
    headers = {"Authorization": f"Bearer {idle.service.tokens.account(idle.user.id)}"}
    async with idle.http.post(GENERATE, **{**more, "headers": headers}) as answer:  # type: ignore[arg-type]
        body = await answer.json(content_type=None)
    assert (answer.status, body["code"]) == (422, "invalid_request")
    assert field in [error["field"] for error in body["errors"]]


async def test_a_video_is_its_owner_s_alone(idle: Running) -> None:
    stranger = await subscriber(idle.service.pool, "stranger@example.com")
    video = (await Viewer(idle).send()).body
    viewer = Viewer(idle, stranger.id)
    calls = [
        ("GET", ""),
        ("GET", "/stream"),
        ("GET", "/calls"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ]
    for method, path in calls:
        assert (await viewer.ask(method, f"{video['id']}{path}")).code == "not_found"
    async with idle.http.get(f"/api/v1/ai/enhance-and-script/{video['id']}/status") as answer:
        assert answer.status == 404


async def test_videos_are_listed_with_the_newest_first(idle: Running) -> None:
    viewer = Viewer(idle)
    ordered = [(await viewer.send()).body["id"] for _ in range(3)]
    page = await viewer.page("limit=2")
    assert [item["id"] for item in page.body["items"]] == ordered[:0:-1]
    rest = await viewer.page(f"cursor={page.body['next_cursor']}")
    assert [item["id"] for item in rest.body["items"]] == ordered[:1]
