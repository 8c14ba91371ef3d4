"""Originals and results, in a local folder or an object store by URL."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from enhancer.errors import NotFound, StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CHUNK = 256 * 1024  # bytes handed to a client at a time
LONGEST_PATH = 500  # characters
SILENCE = timedelta(seconds=15)  # of an object store, after which a request has failed
RETRIES = timedelta(seconds=10)  # a request that has failed is made again until then: one that hung is not
LONGEST = timedelta(hours=1)  # a download goes as slowly as its client
FULL = {errno.ENOSPC, errno.EDQUOT}
NO_FILE = {errno.ENOTDIR, errno.EISDIR}

_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,200}")


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of a stored file: `size` in bytes, `etag` with its quotes."""

    size: int
    etag: str
    modified: datetime


class Files:
    """
    Bytes under names such as user_1/originals/x.jpg.

    Whole or not at all: a write that fails leaves nothing. Every method raises StorageUnavailable when the store
    fails, and NotFound when there is no such file.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def local(cls, folder: Path) -> Files:
        """In a folder, which is made when it is missing, for its owner alone. Raises StorageUnavailable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(LocalStore(folder.resolve()))
        except OSError as error:
            raise StorageUnavailable(f"The folder {folder} cannot be used: {error.strerror}.") from error

    @classmethod
    def at(cls, url: str) -> Files:
        """
        In an object store, such as s3://bucket/folder; credentials come from the environment.

        Raises StorageUnavailable when the address is none.
        """
        insecure = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        client: ClientConfig = {
            "allow_http": insecure,
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": SILENCE,
            "timeout": LONGEST,
        }
        retry: RetryConfig = {"max_retries": 2, "retry_timeout": RETRIES}
        try:
            return cls(from_url(url, client_options=client, retry_config=retry))
        except (BaseError, ValueError) as error:
            raise StorageUnavailable(f"There is no storage at {url}.") from error

    async def write(self, path: str, data: bytes | IO[bytes]) -> None:
        """Store under `path`, in place of what was there."""
        name = _checked(path)
        try:
            with _translated():
                await obstore.put_async(self._store, name, data)
        except NotFound as error:  # the folder or the bucket itself is gone
            raise StorageUnavailable from error

    async def read(self, path: str) -> bytes:
        """All of a file."""
        with _translated():
            return bytes(await (await obstore.get_async(self._store, _checked(path))).bytes_async())

    async def stat(self, path: str) -> Stat:
        """Size and version of a file."""
        with _translated():
            meta = await obstore.head_async(self._store, _checked(path))
        return Stat(meta["size"], meta["e_tag"] or f'"{meta["size"]:x}"', meta["last_modified"])

    async def stream(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, which is not included, in pieces of about CHUNK."""
        with _translated():
            found = await obstore.get_async(self._store, _checked(path), options={"range": (start, end)})
            async for piece in found.stream(min_chunk_size=CHUNK):
                yield bytes(piece)

    async def delete(self, path: str) -> None:
        """Remove a file; none there is no error."""
        try:
            with _translated():
                await obstore.delete_async(self._store, _checked(path))
        except NotFound:
            pass

    async def listing(self, folder: str = "") -> AsyncIterator[tuple[str, datetime]]:
        """The path and the time of the last change of every file below a folder."""
        with _translated():
            async for batch in obstore.list(self._store, folder or None):
                for meta in batch:
                    yield meta["path"], meta["last_modified"]

    async def check(self) -> None:
        """Write, read and remove a small file. Raises StorageUnavailable."""
        name = f".check-{secrets.token_hex(4)}"
        await self.write(name, b"check")
        await self.read(name)
        await self.delete(name)


def _checked(path: str) -> str:
    """The path, if it is one that a file of ours can have. Raises NotFound."""
    if len(path) > LONGEST_PATH or not all(_PART.fullmatch(part) for part in path.split("/")):
        raise NotFound("There is no such file.")
    return path


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound("There is no such file.") from None
    except (BaseError, OSError) as error:
        number = _number(error)
        if number in NO_FILE:
            raise NotFound("There is no such file.") from None
        if number in FULL:
            raise StorageUnavailable("There is no room left in the storage.") from error
        raise StorageUnavailable from error


def _number(error: BaseError | OSError) -> int | None:
    """The system's number of an error; the store tells it in words alone."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else getattr(error, "errno", None)
