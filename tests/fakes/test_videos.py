"""The stand-in for `/v1/videos`, seen through plain HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.fakes.videos import FakeVideos, Says, faults, film


def picture(size: tuple[int, int] = (320, 180), kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (190, 80, 40)).save(out, kind)
    return out.getvalue()


@pytest.fixture
async def fake() -> AsyncIterator[FakeVideos]:
    async with FakeVideos() as fake:
        yield fake


@pytest.fixture
async def http(fake: FakeVideos) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {fake.key}"}
    async with aiohttp.ClientSession(fake.url + "/", headers=headers) as http:
        yield http


async def post(http: aiohttp.ClientSession, **over: Any) -> tuple[int, dict[str, Any]]:
    fields = {"prompt": "A cup", "model": "wan", "seconds": "4", "size": "320x180", "input_reference": picture()} | over
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        if isinstance(value, bytes):
            form.add_field(name, value, filename="frame.jpg", content_type="image/jpeg")
        elif value is not None:
            form.add_field(name, value)
    async with http.post("videos", data=form) as response:
        return response.status, await response.json()


async def get(http: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with http.get(path) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def test_an_order_is_told_its_story_and_sent_as_a_film(http: aiohttp.ClientSession, fake: FakeVideos) -> None:
    status, made = await post(http)
    assert (status, made["status"], made["size"], made["seconds"]) == (200, "queued", "320x180", "4")
    told = [(await get(http, f"videos/{made['id']}"))["status"] for _ in range(5)]
    assert told == ["queued", "in_progress", "in_progress", "completed", "completed"]
    async with http.get(f"videos/{made['id']}/content") as response:
        assert await response.read() == film((320, 180), 4)
    assert fake.billed == 1


@pytest.mark.parametrize(
    ("over", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"seconds": None}, "seconds"),
        ({"seconds": "5"}, "seconds"),
        ({"size": "320"}, "size"),
        ({"size": "321x180"}, "size"),
        ({"size": "180x320"}, "input_reference"),
        ({"input_reference": picture((180, 320))}, "input_reference"),
        ({"input_reference": picture(kind="PNG")}, "input_reference"),
        ({"input_reference": b"no image"}, "input_reference"),
        ({"input_reference": None}, "input_reference"),
        ({"num_frames": "96"}, "num_frames"),
    ],
)
async def test_an_order_that_is_wrong_is_refused(
    http: aiohttp.ClientSession, fake: FakeVideos, over: dict[str, Any], param: str
) -> None:
    status, answer = await post(http, **over)
    assert (status, answer["error"]["param"]) == (400, param)
    assert [(call.outcome, call.billed) for call in fake.calls] == [("rejected", False)]


async def test_a_wrong_key_is_refused(http: aiohttp.ClientSession, fake: FakeVideos) -> None:
    async with http.get("videos/any", headers={"Authorization": "Bearer wrong"}) as response:
        assert response.status == 401


async def test_the_story_can_be_told_anew(http: aiohttp.ClientSession, fake: FakeVideos) -> None:
    fake.omit = {"progress"}
    _, made = await post(http)
    fake.tell(Says("processing"), Says("failed", more={"error": {"message": "No."}}))
    first, second = [await get(http, f"videos/{made['id']}") for _ in range(2)]
    assert (first["status"], "progress" in first) == ("processing", False)
    assert (second["status"], second["error"]) == ("failed", {"message": "No."})


async def test_a_video_is_not_sent_before_it_is_done(http: aiohttp.ClientSession) -> None:
    _, made = await post(http)
    async with http.get(f"videos/{made['id']}/content") as response:
        assert response.status == 400


async def test_orders_go_by_deletion_or_are_lost(http: aiohttp.ClientSession, fake: FakeVideos) -> None:
    (_, one), (_, two) = await post(http), await post(http)
    async with http.delete(f"videos/{one['id']}") as response:
        assert (await response.json())["deleted"]
    fake.lose()
    for video in (one, two):
        assert (await get(http, f"videos/{video['id']}"))["error"]["code"] == "not_found"
    assert fake.withdrawn == [one["id"]]


async def test_faults_and_holds_are_of_a_kind_of_call(http: aiohttp.ClientSession, fake: FakeVideos) -> None:
    _, made = await post(http)
    fake.fail("look", faults.status(500))
    assert "error" in await get(http, f"videos/{made['id']}")
    held = fake.hold("look")
    look = asyncio.create_task(get(http, f"videos/{made['id']}"))
    await held.arrived()
    held.release()
    assert (await look)["status"] == "queued"
    assert [(call.kind, call.outcome) for call in fake.calls] == [
        ("order", "answered"),
        ("look", "status 500"),
        ("look", "answered"),
    ]


async def test_it_runs_as_a_program_and_obeys(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.videos", "--port", "0", "--log", str(log),
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert program.stdout is not None
        url = (await program.stdout.readline()).decode().split()[0].partition("=")[2]
        async with aiohttp.ClientSession(f"{url}/") as http:
            _, made = await post(http)
            control = url.removesuffix("/v1") + "/__control__"
            await http.post(f"{control}/tell", json=[{"status": "processing", "progress": None}])
            await http.post(f"{control}/fail/look/503?times=1")
            assert "error" in await get(http, f"videos/{made['id']}")
            assert (await get(http, f"videos/{made['id']}"))["status"] == "processing"
            await http.get(f"{control}/arrived/look?count=2")
            await http.post(f"{control}/lose")
            assert "error" in await get(http, f"videos/{made['id']}")
    finally:
        program.terminate()
        await program.wait()
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(call["kind"], call["status"], call["billed"]) for call in calls] == [
        ("order", 200, True),
        ("look", 503, False),
        ("look", 200, False),
        ("look", 404, False),
    ]
    assert calls[0]["fields"]["prompt"] == "A cup"
    assert {call["video"] for call in calls} == {made["id"]}
