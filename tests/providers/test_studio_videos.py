"""The life of an order at the studio: in the queue, rendered, fetched, withdrawn, and gone when it closes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from enhancer import clips, imaging
from enhancer.domain.images import Size
from enhancer.errors import OrderFailed, OrderLost, ProviderRefused
from enhancer.providers import VideoBrief
from enhancer.providers.studio import StudioVideos, videos
from tests.conftest import photo

SMALL = (320, 180)
LIMIT = 180.0  # seconds; a hang, not a slow machine, behind whose other work renders stand back


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, so that what is left in it is seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
async def studio() -> AsyncIterator[StudioVideos]:
    async with StudioVideos() as running:
        yield running


def brief(size: Size = SMALL, duration: int = 4) -> VideoBrief:
    prompt = "[0:00-0:02] A cup. | A strong espresso in a red cup.\n[0:02-0:04] The whole picture. | Make it yours."
    return VideoBrief(imaging.fit(photo(), size), prompt, size, duration, "en")


async def until_removed(folder: Path) -> None:
    """A render that was stopped ends after the frame that it is at."""
    async with asyncio.timeout(LIMIT):
        while files(folder):  # noqa: ASYNC110 - the file system rings no bell
            await asyncio.sleep(0.01)


async def begun(studio: StudioVideos, order: str) -> float:
    """Wait until its first frames are done; the percentage."""
    async with asyncio.timeout(LIMIT):
        while not (now := await studio.look(order)).percent:  # noqa: ASYNC110 - providers are asked, they do not tell
            await asyncio.sleep(0.01)
    assert not now.done
    return now.percent


async def rendered(studio: StudioVideos, order: str) -> list[float]:
    """Wait until it is done; every percentage that was told."""
    told: list[float] = []
    async with asyncio.timeout(LIMIT):
        while not (now := await studio.look(order)).done:
            assert now.percent is not None
            assert now.retry_after
            told.append(now.percent)
            await asyncio.sleep(0.01)
    assert now.percent == 100
    return told


def files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.mp4"))


async def test_an_order_is_rendered_fetched_and_withdrawn(studio: StudioVideos, temporary: Path) -> None:
    assert (studio.model, studio.billed) == ("offline-studio", False)
    order = await studio.order(brief())
    told = await rendered(studio, order)
    assert told == sorted(told)
    assert all(0 <= percent < 100 or percent == 100 for percent in told)
    pieces = [piece async for piece in studio.fetch(order)]
    assert all(len(piece) <= videos.PIECE for piece in pieces)
    again = b"".join([piece async for piece in studio.fetch(order)])
    assert again == b"".join(pieces)
    copy = temporary / "copy.mp4"
    copy.write_bytes(again)
    assert clips.check(copy, size=SMALL, duration=4).frames == 96
    copy.unlink()
    await studio.withdraw(order)
    assert not files(temporary)
    with pytest.raises(OrderLost):
        await studio.look(order)


async def test_progress_is_told_while_it_is_rendered_and_withdrawing_stops_it(
    studio: StudioVideos, temporary: Path
) -> None:
    order = await studio.order(brief((1280, 720), 12))
    frames = await begun(studio, order) * 288 / 100
    assert frames == pytest.approx(round(frames))
    with pytest.raises(OrderFailed):
        await anext(studio.fetch(order))
    await studio.withdraw(order)
    with pytest.raises(OrderLost):
        await studio.look(order)
    await until_removed(temporary)
    await studio.withdraw(order)  # twice is as good as once


async def test_closing_while_it_renders_leaves_no_thread_and_no_file(temporary: Path) -> None:
    before = set(threading.enumerate())
    async with StudioVideos() as studio:
        orders = [await studio.order(brief((1280, 720), 12)) for _ in range(3)]
        await begun(studio, orders[0])
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("studio")]
    assert not list(temporary.iterdir())  # noqa: ASYNC240
    with pytest.raises(OrderLost):
        await studio.look(orders[0])


async def test_no_more_than_a_few_are_rendered_at_once(studio: StudioVideos) -> None:
    orders = [await studio.order(brief()) for _ in range(videos.AT_ONCE + 2)]
    told = [(await studio.look(order)).percent for order in orders]
    assert told[-1] == 0
    assert sum(thread.name.startswith("studio") for thread in threading.enumerate()) <= videos.AT_ONCE
    for order in orders:
        await studio.withdraw(order)


async def test_an_id_of_another_process_is_lost(studio: StudioVideos) -> None:
    with pytest.raises(OrderLost):
        await studio.look("studio-1-0123456789abcdef")
    with pytest.raises(OrderLost):
        await anext(studio.fetch("studio-1-0123456789abcdef"))
    await studio.withdraw("studio-1-0123456789abcdef")


async def test_a_picture_that_cannot_be_read_fails_the_order(studio: StudioVideos) -> None:
    order = await studio.order(VideoBrief(b"\xff\xd8\xff\xe0 no picture", "", SMALL, 4, "en"))
    with pytest.raises(OrderFailed, match="cannot read this image"):
        await rendered(studio, order)


async def test_old_files_make_room_for_new_ones(
    studio: StudioVideos, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "KEPT", 2)
    orders = []
    for _ in range(3):
        orders.append(await studio.order(brief((64, 64))))
        await rendered(studio, orders[-1])
    assert len(files(temporary)) == 2
    with pytest.raises(OrderLost):
        await studio.look(orders[0])
    assert (await studio.look(orders[2])).done


async def test_without_pyav_the_order_is_refused_with_what_to_install(
    studio: StudioVideos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ProviderRefused, match=r"enhancer\[video\]"):
        await studio.order(brief())
