"""What is accepted, what is refused, and what is left of a refusal: nothing."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from pathlib import Path

import pytest

from enhancer.bus import Bus
from enhancer.domain.enhancements import EnhancementInput
from enhancer.domain.tasks import Kind, Status, Task
from enhancer.errors import (
    InvalidImage,
    QueueFull,
    StorageUnavailable,
    SubscriptionRequired,
    TooManyRequests,
    UnsupportedImage,
)
from enhancer.pipeline.orders import WAKE, Limits, Orders
from enhancer.settings import Settings
from enhancer.storage import database, subscriptions, tasks
from enhancer.storage.database import Pool
from enhancer.storage.files import Files
from tests.pipeline import pictures
from tests.pipeline.cable import laid
from tests.pipeline.workshop import newcomer

LIMITS = Limits(of_user=3, of_all=5, pixels=1_000_000, attempts=4)


@pytest.fixture
def orders(pool: Pool, files: Files, bus: Bus) -> Orders:
    return Orders(pool, files, bus, LIMITS)


@pytest.fixture
async def user(pool: Pool) -> int:
    return (await newcomer(pool)).id


async def place(orders: Orders, user: int, photo: bytes | None = None) -> Task:
    data = pictures.landscape() if photo is None else photo
    accepted = await orders.enhancement(user, io.BytesIO(data), user_description="A lamp", duration=4, language="en")
    return accepted.task


async def add(pool: Pool, user: int, count: int) -> None:
    for _ in range(count):
        await tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=4)


def left(folder: Path) -> list[Path]:
    """The files in a store."""
    return [found for found in folder.rglob("*") if found.is_file()]


async def nothing_is_left(pool: Pool, folder: Path) -> bool:
    rows: int = await pool.fetchval("SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM task_usage)")
    return rows == 0 and left(folder) == []


# room


async def test_a_subscriber_is_admitted(orders: Orders, user: int) -> None:
    await orders.admit(user)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM subscriptions",
        "UPDATE subscriptions SET status = 'cancelled'",
        "UPDATE subscriptions SET period_end = now() - interval '1 second'",
        "UPDATE subscriptions SET monthly_quota = 0",
    ],
)
async def test_without_an_active_subscription_nobody_is_admitted_and_nothing_accepted(
    orders: Orders, user: int, pool: Pool, tmp_path: Path, change: str
) -> None:
    await pool.execute(change)
    with pytest.raises(SubscriptionRequired):
        await orders.admit(user)
    with pytest.raises(SubscriptionRequired):
        await place(orders, user)
    assert await nothing_is_left(pool, tmp_path)


async def test_a_quota_that_is_used_up_admits_no_more(orders: Orders, user: int, pool: Pool) -> None:
    await subscriptions.activate(pool, user, plan="small", quota=2, days=30)
    await add(pool, user, 2)
    with pytest.raises(SubscriptionRequired, match=r"The 2 tasks of this month are used up\."):
        await orders.admit(user)


async def test_a_user_with_many_waiting_tasks_waits(orders: Orders, user: int, pool: Pool) -> None:
    await add(pool, user, 3)
    with pytest.raises(TooManyRequests, match="3 of your tasks are waiting already") as caught:
        await orders.admit(user)
    assert caught.value.retry_after == 10
    await pool.execute("UPDATE tasks SET status = 'cancelled', completed_at = now() WHERE id = 1")
    await orders.admit(user)


async def test_a_full_queue_is_full_for_everybody(orders: Orders, user: int, pool: Pool) -> None:
    for _ in range(2):
        await add(pool, (await newcomer(pool)).id, 2)
    await orders.admit(user)
    await add(pool, user, 1)
    with pytest.raises(QueueFull) as caught:
        await orders.admit(user)
    assert caught.value.retry_after == 10


# orders


async def test_an_accepted_order_is_committed_and_its_photo_stored(
    orders: Orders, user: int, files: Files, pool: Pool
) -> None:
    accepted = await place(orders, user)
    task = await tasks.get(pool, accepted.id)
    assert task == accepted
    assert (task.status, task.kind, task.max_attempts, task.progress) == (Status.PENDING, Kind.ENHANCEMENT, 4, 0)
    placed = EnhancementInput.model_validate(task.input)
    assert placed.original == f"user_{user}/originals/original_{placed.key}.jpg"
    assert len(placed.key) >= 22  # 16 random bytes: nobody guesses it
    assert (placed.user_description, placed.duration, placed.language) == ("A lamp", 4, "en")
    assert await files.read(placed.original) == pictures.landscape()


async def test_an_accepted_order_rings_the_bell(orders: Orders, user: int, bus: Bus) -> None:
    heard = asyncio.Queue[str]()
    bus.listen(WAKE, heard.put_nowait)
    assert await bus.confirmed(WAKE, seconds=60)
    task = await place(orders, user)
    async with asyncio.timeout(60):
        while await heard.get() != str(task.id):  # the Valkey of the run may still carry what another test said
            pass


async def test_the_name_of_a_photo_follows_its_bytes(orders: Orders, user: int) -> None:
    names = [
        EnhancementInput.model_validate((await place(orders, user, photo)).input).original
        for photo in (pictures.transparent_png(), pictures.square_webp())
    ]
    assert [name.rpartition(".")[2] for name in names] == ["png", "webp"]


def bomb() -> bytes:
    """A small PNG that says it is huge."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"")]
    framed = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in [*chunks, b"IEND"])
    return b"\x89PNG\r\n\x1a\n" + framed


@pytest.mark.parametrize(
    ("photo", "error"),
    [
        (b"", UnsupportedImage),
        (b"GIF89a" + bytes(100), UnsupportedImage),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedImage),
        (pictures.landscape()[:-200], InvalidImage),
        (pictures.transparent_png()[:300], InvalidImage),
        (bomb(), InvalidImage),
    ],
    ids=["nothing", "GIF", "SVG", "JPEG cut off", "PNG cut off", "bomb"],
)
async def test_what_is_no_photo_leaves_nothing(
    orders: Orders, user: int, pool: Pool, tmp_path: Path, photo: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await place(orders, user, photo)
    assert await nothing_is_left(pool, tmp_path)


async def test_a_quota_that_is_used_up_meanwhile_leaves_nothing(
    orders: Orders, user: int, pool: Pool, tmp_path: Path
) -> None:
    await subscriptions.activate(pool, user, plan="small", quota=2, days=30)
    placed = await asyncio.gather(*(place(orders, user) for _ in range(5)), return_exceptions=True)
    accepted = [task for task in placed if isinstance(task, Task)]
    assert len(accepted) == 2
    assert all(isinstance(other, (Task, SubscriptionRequired)) for other in placed)
    kept = {EnhancementInput.model_validate(task.input).original for task in accepted}
    assert {str(file.relative_to(tmp_path / "uploads")) for file in left(tmp_path)} == kept
    assert await pool.fetchval("SELECT tasks FROM task_usage") == 2


async def test_an_order_that_cannot_be_committed_leaves_nothing(
    settings: Settings, files: Files, bus: Bus, user: int, pool: Pool, tmp_path: Path
) -> None:
    async with laid(settings) as (cable, behind):
        assert behind.database_url is not None
        async with database.connect(behind.database_url.get_secret_value(), size=2) as far:
            cable.cut()
            with pytest.raises(database.UNREACHABLE):
                await place(Orders(far, files, bus, LIMITS), user)
    assert await nothing_is_left(pool, tmp_path)


class ReadOnce(io.BytesIO):
    """A photo that can be looked at, and breaks when it is copied to the store."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.closed or getattr(self, "was_read", False):
            raise OSError("broken")
        self.was_read = True
        return super().read(size)


async def test_an_order_whose_photo_cannot_be_stored_is_not_accepted(
    orders: Orders, user: int, pool: Pool, tmp_path: Path
) -> None:
    photo = ReadOnce(pictures.landscape())
    with pytest.raises(StorageUnavailable):
        await orders.enhancement(user, photo, user_description="", duration=4, language="en")
    assert await nothing_is_left(pool, tmp_path)
