"""Videos at a server that others have written: npm's @copilotkit/aimock, which knows orders and looks."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr

from enhancer.errors import OrderFailed, OrderLost, ProviderRateLimited, ProviderRefused
from enhancer.providers import Rendering, VideoBrief
from enhancer.providers.remote import RemoteVideos, connect
from enhancer.settings import Settings

pytestmark = pytest.mark.skipif(not os.environ.get("AIMOCK"), reason="opt-in: AIMOCK=1, with Node.js and npm")

ANSWERS = {
    "still at it": {"video": {"id": "video_1", "status": "processing"}},
    "made": {"video": {"id": "video_2", "status": "completed", "url": "https://example.com/film.mp4"}},
    "given up": {"video": {"id": "video_3", "status": "failed", "error": "No."}},
    "too often": {"error": {"message": "Slow down.", "type": "requests"}, "status": 429, "retryAfter": 7},
}


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, and its answers beside it."""
    folder = tmp_path_factory.mktemp("aimock")
    options = ["--prefix", str(folder), "--no-audit", "--no-fund", "--silent"]
    subprocess.run(["npm", "install", *options, "@copilotkit/aimock@1"], check=True)
    fixtures = [
        {"match": {"userMessage": prompt, "endpoint": "video"}, "response": said} for prompt, said in ANSWERS.items()
    ]
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}))
    return folder


@pytest.fixture
async def remote(aimock: Path) -> AsyncIterator[RemoteVideos]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = await asyncio.create_subprocess_exec(
        "node", aimock / "node_modules/@copilotkit/aimock/dist/cli.js",
        "--port", str(port), "--fixtures", aimock / "fixtures.json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        async with asyncio.timeout(60):
            async for line in program.stdout:
                if b"listening" in line:
                    break
        given = {"video_base_url": f"http://127.0.0.1:{port}/v1", "video_api_key": SecretStr("any"), "video_model": "m"}
        async with connect(Settings.model_validate(Settings.model_construct().model_dump() | given)) as remote:
            yield remote
    finally:
        program.terminate()
        await program.wait()


def brief(prompt: str) -> VideoBrief:
    out = io.BytesIO()
    Image.new("RGB", (1280, 720)).save(out, "JPEG")
    return VideoBrief(out.getvalue(), prompt, (1280, 720), 4, "en")


async def test_an_order_is_taken_and_asked_for(remote: RemoteVideos) -> None:
    order = await remote.order(brief("still at it"))
    assert order == "video_1"
    assert await remote.look(order) == Rendering(False, None)
    await remote.withdraw(order)  # it knows no DELETE


async def test_an_order_is_made_and_has_no_content(remote: RemoteVideos) -> None:
    order = await remote.order(brief("made"))
    assert await remote.look(order) == Rendering(True, 100)
    with pytest.raises(OrderLost):
        _ = [piece async for piece in remote.fetch(order)]


async def test_an_order_is_given_up(remote: RemoteVideos) -> None:
    with pytest.raises(OrderFailed):
        await remote.look(await remote.order(brief("given up")))


async def test_an_order_comes_too_often(remote: RemoteVideos) -> None:
    with pytest.raises(ProviderRateLimited) as caught:
        await remote.order(brief("too often"))
    assert caught.value.retry_after == 7


async def test_an_order_that_it_does_not_know_is_refused_or_lost(remote: RemoteVideos) -> None:
    with pytest.raises(ProviderRefused):
        await remote.order(brief("nothing of the kind"))
    with pytest.raises(OrderLost):
        await remote.look("video_9")
