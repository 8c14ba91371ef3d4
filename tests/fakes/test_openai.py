"""The stand-in, seen through the real client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.images_response import ImagesResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict

from tests.fakes.openai import CHAT_TOKENS, IMAGE_TOKENS, Call, FakeOpenAI, faults


class Advertisement(BaseModel):
    model_config = ConfigDict(extra="forbid")
    script: str
    product_analysis: str


def photo() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), (190, 80, 40)).save(out, "JPEG")
    return out.getvalue()


PHOTO = photo()
DATA_URL = f"data:image/jpeg;base64,{base64.b64encode(PHOTO).decode()}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
async def client(fake: FakeOpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=fake.url, api_key=fake.key, max_retries=0) as client:
        yield client


async def edit(client: openai.AsyncOpenAI, **over: Any) -> ImagesResponse:
    fields: dict[str, Any] = {
        "model": "gpt-image-2.5-flare",
        "image": ("photo.jpg", PHOTO, "image/jpeg"),
        "prompt": "A product photo",
        "size": "1024x1024",
    }
    answer: ImagesResponse = await client.images.edit(**fields | over)
    return answer


def chat(text: str = "Duration: 8 seconds\nLanguage: zh", url: str = DATA_URL) -> dict[str, Any]:
    content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": "gpt-6-luna", "messages": [{"role": "user", "content": content}]}


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


@pytest.mark.parametrize(("asked", "found"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_an_edit_answers_with_the_photo_as_it_was_asked_for(
    client: openai.AsyncOpenAI, asked: str, found: str
) -> None:
    answer = await edit(client, size="1536x1024", output_format=asked, quality="low")
    assert answer.data is not None
    image = opened(answer.data[0].b64_json)
    assert (image.format, image.size) == (found, (1536, 1024))
    assert answer.usage is not None
    assert answer.usage.total_tokens == IMAGE_TOKENS


async def test_an_edit_is_streamed_with_previews(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    stream = await client.images.edit(
        model="gpt-image-2.5-flare",
        image=("photo.jpg", PHOTO, "image/jpeg"),
        prompt="A product photo",
        stream=True,
        partial_images=2,
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert opened(events[0].b64_json).size == opened(events[-1].b64_json).size == (1024, 1024)
    assert fake.billed("edits") == 1


async def test_a_completion_satisfies_the_schema_that_was_sent(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(**chat(), response_format=Advertisement)
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert parsed.script.startswith("[0:00-0:02] 镜头")
    assert "0:08]" in parsed.script
    assert answer.usage is not None
    assert answer.usage.total_tokens == CHAT_TOKENS


async def test_a_completion_is_streamed(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    fake.script = "[0:00-0:08] A cup."
    async with client.chat.completions.stream(
        **chat(), response_format=Advertisement, stream_options={"include_usage": True}
    ) as stream:
        answer = await stream.get_final_completion()
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert parsed.script == fake.script
    assert answer.usage is not None
    assert answer.usage.total_tokens == CHAT_TOKENS


@pytest.mark.parametrize(
    ("over", "param"),
    [
        ({"image": ("photo.jpg", b"no image", "image/jpeg")}, "image"),
        ({"image": ("photo.png", PHOTO, "image/png")}, "image"),
        ({"image": io.BytesIO(PHOTO)}, "image"),
        ({"size": "100x100"}, "size"),
        ({"size": "1000x1000"}, "size"),
        ({"quality": "standard"}, "quality"),
        ({"output_format": "gif"}, "output_format"),
        ({"response_format": "b64_json"}, "response_format"),
        ({"input_fidelity": "high"}, "input_fidelity"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"extra_body": {"seed": 1}}, "seed"),
    ],
)
async def test_an_edit_that_openai_would_refuse_is_refused(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, over: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await edit(client, **over)
    assert caught.value.param == param
    assert [(call.outcome, call.status, call.billed) for call in fake.calls] == [("rejected", 400, False)]


@pytest.mark.parametrize(
    "over",
    [
        {"temperature": 0.2},
        {"max_tokens": 100},
        {"seed": 1},
        chat(url="https://example.org/photo.jpg"),
        chat(url="data:image/jpeg;base64,!!!"),
        chat(url=f"data:image/png;base64,{base64.b64encode(PHOTO).decode()}"),
        {"messages": [{"role": "robot", "content": "Hello"}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "strict": True, "schema": {}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "ab", "schema": {"type": "object"}}}},
    ],
)
async def test_a_chat_that_openai_would_refuse_is_refused(client: openai.AsyncOpenAI, over: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(**chat() | over)


async def test_a_wrong_key_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await edit(client.with_options(api_key="sk-wrong"))


@pytest.mark.parametrize("model", ["gpt-image-1", "sora-2"])
async def test_a_model_that_is_gone_is_not_found(client: openai.AsyncOpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await edit(client, model=model)
    assert caught.value.code == "model_not_found"


async def test_models_say_when_they_end(client: openai.AsyncOpenAI) -> None:
    assert (await client.models.retrieve("gpt-4o")).shutdown_date == "2027-01-14"
    assert (await client.models.retrieve("gpt-6-luna")).shutdown_date is None


async def test_an_unknown_address_is_recorded(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.images.generate(prompt="A cup", model="gpt-image-2.5-flare")
    assert [call.fields for call in fake.calls_of("unknown")] == [{"path": "/v1/images/generations"}]


async def test_held_calls_wait_until_they_are_let_go(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    held = fake.hold("edits")
    calls = [asyncio.create_task(edit(client)) for _ in range(2)]
    await held.arrived(2)
    assert fake.calls == []
    held.release()
    await asyncio.gather(*calls)
    assert fake.billed("edits") == 2
    await edit(client)


async def test_a_caller_that_goes_away_is_billed_all_the_same(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    held = fake.hold("chat")
    call = asyncio.create_task(client.chat.completions.create(**chat()))
    await held.arrived()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    held.release()
    fake.fail("edits", faults.status(500))
    with pytest.raises(openai.InternalServerError):
        await edit(client)
    assert [(call.kind, call.billed) for call in fake.calls] == [("chat", True), ("edits", False)]


async def test_faults_come_in_order_and_pass(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    fake.fail("edits", faults.status(500), times=2)
    fake.fail("edits", faults.rate_limited("7"))
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            await edit(client)
    with pytest.raises(openai.RateLimitError) as caught:
        await edit(client)
    assert caught.value.response.headers["Retry-After"] == "7"
    await edit(client)
    assert [call.outcome for call in fake.calls] == ["status 500", "status 500", "status 429", "answered"]
    assert fake.billed("edits") == 1


async def test_the_record_says_what_was_asked(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    await edit(client, output_format="jpeg")
    (call,) = fake.calls
    assert call.model == "gpt-image-2.5-flare"
    assert call.fields == {
        "image": "photo.jpg image/jpeg 320x240",
        "model": "gpt-image-2.5-flare",
        "prompt": "A product photo",
        "size": "1024x1024",
        "output_format": "jpeg",
    }
    assert call.started <= call.ended


async def test_a_fast_stand_in_draws_once(client: openai.AsyncOpenAI) -> None:
    async with FakeOpenAI(key=None, fast=True, usage=False) as fast:
        elsewhere = client.with_options(base_url=fast.url, api_key="any")
        first, second = [await edit(elsewhere) for _ in range(2)]
    assert first.usage is None
    assert first.data == second.data


async def test_it_stops_while_calls_hang(client: openai.AsyncOpenAI) -> None:
    seen: list[Call] = []
    async with FakeOpenAI(on_call=seen.append) as other:
        other.fail("edits", faults.hang())
        call = asyncio.create_task(edit(client.with_options(base_url=other.url)))
        await other.arrived("edits")
    with pytest.raises(openai.APIConnectionError):
        await call
    assert [call.outcome for call in seen] == ["hang"]


async def test_it_runs_as_a_program() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fakes.openai", "--port", "0",
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert program.stdout is not None
        address = (await program.stdout.readline()).decode().split()[0].partition("=")[2]
        async with openai.AsyncOpenAI(base_url=address, api_key="any") as client:
            model = await client.models.retrieve("gpt-6-luna")
        line = json.loads(await program.stdout.readline())
    finally:
        program.terminate()
        await program.wait()
    assert model.id == line["model"] == "gpt-6-luna"
