"""Damaged photos, alone and over HTTP: each is refused in words, or taken."""

from __future__ import annotations

import asyncio
import gc
import io
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from enhancer import imaging, webp
from enhancer.domain import containers
from enhancer.domain.images import Format
from enhancer.errors import InvalidImage
from tests import corpus
from tests.conftest import Running
from tests.web.forms import ASYNC, accept, form

pytestmark = pytest.mark.usefixtures("quiet")

SAMPLE = 15  # every fifteenth file goes over HTTP
BUSY = 0.1  # seconds of CPU that the event loop may take for one turn


def test_every_damaged_photo_is_refused_or_taken_in_bounded_time_and_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.corpus"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, taken = map(int, done.stdout.split())
    assert refused + taken >= 500
    assert refused >= 300
    assert taken >= 50


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    which=st.sampled_from(sorted(corpus.good())),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)),
        min_size=1,
        max_size=6,
    ),
)
def test_whatever_is_done_to_a_photo_it_is_refused_or_taken(which: str, edits: list[tuple[float, int, bytes]]) -> None:
    data = corpus.good()[which]
    for place, length, new in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + length :]
    corpus.tried(data)


@asynccontextmanager
async def watched_loop() -> AsyncIterator[list[float]]:
    """How much CPU time the loop's thread took for each of its turns; other programs do not count."""
    turns: list[float] = []

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            turns.append(now - before)
            before = now

    gc.collect()
    gc.disable()
    watcher = asyncio.create_task(watch())
    try:
        yield turns
    finally:
        watcher.cancel()
        gc.enable()


async def test_over_http_each_is_a_problem_or_a_task_and_nobody_else_waits(idle: Running) -> None:
    await accept(idle.http)  # what is loaded at first use is loaded now
    outcomes = []
    async with watched_loop() as turns:
        for name, data in list(corpus.damaged())[::SAMPLE]:
            async with idle.http.post(ASYNC, data=form(data)) as answer:
                body = await answer.json(content_type=None)
                outcomes.append((answer.status, body.get("code")))
                assert answer.status in {202, 415, 422}, name
    assert len(outcomes) > 40
    assert {code for _, code in outcomes} == {None, "unsupported_image", "invalid_image"}
    assert max(turns) < BUSY


def test_a_file_of_nothing_but_parts_is_refused_without_looking_at_them_all() -> None:
    jpeg = corpus.good()["baseline.jpg"]
    many = b"\xff\xfe\x00\x02" * containers._MAX_PARTS
    with pytest.raises(InvalidImage):
        containers.read(jpeg[:2] + many + jpeg[2:])
    assert containers.read(jpeg[:2] + many[: len(many) // 2] + jpeg[2:]).format is Format.JPEG


def test_a_marker_is_found_wherever_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = corpus.good()["progressive.jpg"]
    whole = containers.read(jpeg)
    for window in range(1, 40):
        monkeypatch.setattr(containers, "_WINDOW", window)
        assert containers.read(jpeg) == whole


@pytest.mark.parametrize("options", [{"quality": 90}, {"lossless": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_webp_is_the_same_picture_when_another_process_decodes_it(
    mode: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    picture = Image.linear_gradient("L").resize((300, 200)).convert(mode)
    picture.save(out, "WEBP", **options)
    here = imaging.decode(out.getvalue())
    monkeypatch.setattr(imaging, "APART", 1)
    assert imaging.decode(out.getvalue()).tobytes() == here.tobytes()
    assert imaging.verify(io.BytesIO(out.getvalue()), max_pixels=10**6).size == (300, 200)
    with pytest.raises(ValueError, match="gave up"):
        webp.first_frame(b"no WebP")
