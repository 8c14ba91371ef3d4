from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enhancer.errors import NotFound, StorageUnavailable
from enhancer.storage import files
from enhancer.storage.files import CHUNK, LONGEST_PATH, Files

PATH = "user_1/originals/original_x-Y_9.jpg"
LARGE = 12 * 1024 * 1024  # bytes; more than stores take in one piece

HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "//",
    "../secret",
    "user_1/../../secret",
    "/etc/passwd",
    "user_1//x",
    "user_1/",
    "user_1/./x",
    "user_1/x\0",
    "user_1/x\n",
    "user_1\\..\\..\\secret",
    "%2e%2e/secret",
    "~/x",
    "C:x",
    "user_1/x.jpg#1",
    "user_1/x.jpg?y",
    "ünïcode",
    "half a pair \ud800",
    "x" * 201,
    "x/" * (LONGEST_PATH // 2) + "x",
]

MOTO = all(importlib.util.find_spec(name) for name in ("moto", "boto3", "flask", "flask_cors"))
ROOT = os.geteuid() == 0

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3, with a bucket called `bucket`."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            make_bucket(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def make_bucket(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    """Wait for the server by asking it."""
    while server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
            return
        time.sleep(0.05)
    pytest.fail("moto's server ended")


@pytest.fixture(params=["local", "s3"] if MOTO else ["local"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Files:
    """An empty store of either kind."""
    if request.param == "local":
        return Files.local(tmp_path / "uploads")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return Files.at(f"s3://bucket/folder{next(_numbers)}")


class Failing(io.BytesIO):
    """A file whose second half cannot be read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= len(self.getbuffer()) // 2:
            raise OSError(5, "the disk is broken")
        return super().read(size)


async def streamed(store: Files, start: int, end: int) -> list[bytes]:
    return [piece async for piece in store.stream(PATH, start, end)]


# -- both kinds of store


@pytest.mark.skipif(not MOTO, reason="opt-in: S3, with pip install 'moto[s3]' flask flask-cors")
def test_object_stores_are_tested_too(s3_endpoint: str) -> None:
    assert s3_endpoint


async def test_what_was_written_is_read(store: Files) -> None:
    await store.write(PATH, b"some bytes")
    assert await store.read(PATH) == b"some bytes"


async def test_a_file_can_be_empty(store: Files) -> None:
    await store.write(PATH, b"")
    assert await store.read(PATH) == b""
    assert (await store.stat(PATH)).size == 0


async def test_a_large_file_is_written_from_memory_or_from_a_file(store: Files) -> None:
    data = os.urandom(LARGE)
    with tempfile.SpooledTemporaryFile(max_size=1000) as spooled:
        spooled.write(data)
        spooled.seek(0)
        await store.write("user_1/spooled", spooled)
    await store.write("user_1/bytes", data)
    await store.write("user_1/memory", io.BytesIO(data))
    for name in ("spooled", "bytes", "memory"):
        assert await store.read(f"user_1/{name}") == data


async def test_writing_again_replaces_the_file(store: Files) -> None:
    await store.write(PATH, b"a longer first version")
    first = await store.stat(PATH)
    await store.write(PATH, b"second")
    second = await store.stat(PATH)
    assert await store.read(PATH) == b"second"
    assert (second.size, second.etag != first.etag) == (6, True)


async def test_size_version_and_time_are_known(store: Files) -> None:
    await store.write(PATH, b"12345")
    stat = await store.stat(PATH)
    assert stat.size == 5
    assert stat.etag.startswith('"')
    assert stat.etag.endswith('"')
    assert abs((datetime.now(UTC) - stat.modified).total_seconds()) < 600
    assert await store.stat(PATH) == stat


@pytest.mark.parametrize(("start", "end"), [(0, 100), (0, 1), (99, 100), (10, 20), (50, 1000)])
async def test_a_part_is_streamed(store: Files, start: int, end: int) -> None:
    data = bytes(range(100))
    await store.write(PATH, data)
    assert b"".join(await streamed(store, start, end)) == data[start:end]


async def test_a_large_file_is_streamed_in_pieces(store: Files) -> None:
    data = os.urandom(5 * CHUNK + 17)
    await store.write(PATH, data)
    pieces = await streamed(store, 3, len(data) - 3)
    assert b"".join(pieces) == data[3:-3]
    assert len(pieces) >= 2


async def test_a_deleted_file_is_gone(store: Files) -> None:
    await store.write(PATH, b"x")
    await store.delete(PATH)
    with pytest.raises(NotFound):
        await store.read(PATH)


async def test_deleting_what_is_not_there_is_no_error(store: Files) -> None:
    await store.delete(PATH)
    await store.delete("../nothing")


async def test_what_is_not_there_is_not_found(store: Files) -> None:
    with pytest.raises(NotFound):
        await store.read(PATH)
    with pytest.raises(NotFound):
        await store.stat(PATH)
    with pytest.raises(NotFound):
        await streamed(store, 0, 1)


async def test_a_folder_is_no_file(store: Files) -> None:
    await store.write("user_1/originals/x", b"x")
    for path in ("user_1", "user_1/originals", "user_1/originals/x/y"):
        with pytest.raises(NotFound):
            await store.read(path)
        with pytest.raises(NotFound):
            await store.stat(path)


async def test_a_hostile_path_leads_nowhere(store: Files) -> None:
    for path in HOSTILE:
        for attempt in (store.read(path), store.stat(path), store.write(path, b"x"), anext(store.stream(path, 0, 1))):
            with pytest.raises(NotFound):
                await attempt
        await store.delete(path)


@pytest.mark.parametrize("size", [100, LARGE])
async def test_a_file_that_breaks_while_it_is_read_leaves_nothing(store: Files, size: int) -> None:
    with pytest.raises(StorageUnavailable):
        await store.write(PATH, Failing(bytes(size)))
    with pytest.raises(NotFound):
        await store.stat(PATH)


async def test_a_file_that_breaks_leaves_what_was_there(store: Files) -> None:
    await store.write(PATH, b"before")
    with pytest.raises(StorageUnavailable):
        await store.write(PATH, Failing(bytes(LARGE)))
    assert await store.read(PATH) == b"before"


async def test_the_check_leaves_nothing(store: Files) -> None:
    await store.check()
    with pytest.raises(NotFound):
        await store.stat(f".check-{os.getpid()}")


# -- a folder


def everything_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    Files.local(tmp_path / "new" / "uploads")
    assert (tmp_path / "new" / "uploads").stat().st_mode & 0o777 == 0o700


async def test_a_write_that_fails_leaves_no_half_file_in_the_folder(tmp_path: Path) -> None:
    store = Files.local(tmp_path)
    with pytest.raises(StorageUnavailable):
        await store.write(PATH, Failing(bytes(LARGE)))
    assert everything_in(tmp_path) == []


async def test_a_hostile_path_touches_nothing_outside(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    store = Files.local(tmp_path / "uploads")
    for path in ("../secret", "user_1/../../secret", str(secret)):
        with pytest.raises(NotFound):
            await store.write(path, b"overwritten")
        await store.delete(path)
    assert secret.read_text() == "kept"
    assert everything_in(tmp_path) == [secret]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        Files.local(tmp_path / "file" / "uploads")
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        Files.local(tmp_path / "file")


@pytest.mark.skipif(ROOT, reason="opt-in: as a plain user; root may write everywhere")
async def test_a_folder_that_may_not_be_written_is_unavailable(tmp_path: Path) -> None:
    store = Files.local(tmp_path / "uploads")
    (tmp_path / "uploads").chmod(0o500)
    with pytest.raises(StorageUnavailable):
        await store.write(PATH, b"x")
    with pytest.raises(StorageUnavailable):
        await store.check()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one megabyte."""
    if not ROOT:
        pytest.skip("needs root: mounts a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def turn_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


async def test_a_full_disk_is_told_and_keeps_no_half_file(small_disk: Path) -> None:
    store = Files.local(small_disk)
    await store.write("user_1/small", b"fits")
    for data in (bytes(2_000_000), io.BytesIO(bytes(LARGE))):
        with pytest.raises(StorageUnavailable, match="no room"):
            await store.write(PATH, data)
    assert everything_in(small_disk) == [small_disk / "user_1" / "small"]
    assert await store.read("user_1/small") == b"fits"
    await store.write(PATH, bytes(100_000))


async def test_a_disk_that_turned_read_only_is_unavailable(small_disk: Path) -> None:
    store = Files.local(small_disk)
    await store.write(PATH, b"before")
    await asyncio.to_thread(turn_read_only, small_disk)
    with pytest.raises(StorageUnavailable):
        await store.write(PATH, b"after")
    with pytest.raises(StorageUnavailable):
        await store.check()
    with pytest.raises(StorageUnavailable):
        await store.delete(PATH)
    assert await store.read(PATH) == b"before"


# -- an address


@pytest.mark.parametrize("url", ["nonsense://bucket", "s3://", "no address"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(StorageUnavailable, match="no storage at"):
        Files.at(url)


async def test_an_object_store_that_refuses_us_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StorageUnavailable):
            await Files.at("s3://bucket/folder").read(PATH)


@pytest.mark.parametrize("told", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: x\r\n\r\nbegun"])
async def test_an_object_store_that_falls_silent_is_unavailable(monkeypatch: pytest.MonkeyPatch, told: bytes) -> None:
    over = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(told)
        await over.wait()
        writer.close()

    monkeypatch.setattr(files, "SILENCE", timedelta(seconds=0.2))
    monkeypatch.setattr(files, "RETRIES", timedelta(seconds=0.1))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server, asyncio.timeout(60):
        host, port = server.sockets[0].getsockname()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        store = Files.at("s3://bucket/folder")
        try:
            with pytest.raises(StorageUnavailable):
                await store.read(PATH)
            if not told:
                with pytest.raises(StorageUnavailable):
                    await store.write(PATH, b"bytes")
        finally:
            over.set()
