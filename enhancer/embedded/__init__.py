"""The PostgreSQL and the Valkey that come with the service, for the default that needs no other server."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from enhancer.embedded import places, postgres, valkey
from enhancer.errors import SetupError

GUEST_PATIENCE = 15.0  # seconds for an owner that is still starting


@dataclass(frozen=True, slots=True)
class Servers:
    """
    Where the servers are reached; None: that one was not asked for.

    `owner`: False when another process started them and will stop them.
    """

    database_url: str | None
    redis_url: str | None
    owner: bool


@asynccontextmanager
async def servers(
    data_dir: Path, *, database: bool = True, redis: bool = True, share: bool = False, durable: bool = True
) -> AsyncIterator[Servers]:
    """
    The embedded servers of a data folder, ready when the block is entered and stopped when it is left.

    One process owns the servers of a folder. A server that its predecessor left behind in a crash is taken over.
    `share`: when another process owns them, use its servers and leave them running. A guest waits up to 15 s
    for an owner that is still starting.
    `durable=False`: the database is for tests: written without fsync, and deleted at the end.
    Raises SetupError with one line that says what to install, set or free.
    """
    if not database and not redis:
        yield Servers(None, None, owner=True)
        return
    if database:
        postgres.check_installed()
    if redis:
        valkey.check_installed()
    with _Claim(_made(data_dir)) as claim:
        found = await _claim_or_join(claim, database=database, redis=redis, share=share)
        if found is not None:
            yield found
            return
        async with AsyncExitStack() as stack:
            database_url = redis_url = None
            if database:
                database_url = await stack.enter_async_context(
                    postgres.running(claim.folder / "postgres", durable=durable)
                )
            if redis:
                redis_url = await stack.enter_async_context(valkey.running(claim.folder / "valkey"))
            claim.announce(database_url, redis_url)
            stack.callback(claim.withdraw)
            yield Servers(database_url, redis_url, owner=True)


async def _claim_or_join(claim: _Claim, *, database: bool, redis: bool, share: bool) -> Servers | None:
    """None: the folder is ours now. Else the servers of the process that owns it."""
    deadline = asyncio.get_running_loop().time() + GUEST_PATIENCE
    while not claim.take():
        owner, found = claim.read()
        if not share:
            raise SetupError(f"The data folder {claim.folder} is in use by process {owner or 'unknown'}")
        if found is not None:
            if (database and not found.database_url) or (redis and not found.redis_url):
                missing = "PostgreSQL" if database and not found.database_url else "Valkey"
                raise SetupError(f"Process {owner} uses the data folder {claim.folder} without the embedded {missing}")
            return Servers(found.database_url if database else None, found.redis_url if redis else None, owner=False)
        if asyncio.get_running_loop().time() > deadline:
            raise SetupError(f"Process {owner or 'unknown'} uses the data folder {claim.folder}, but it does not start")
        await asyncio.sleep(0.05)
    return None


def _made(data_dir: Path) -> Path:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return data_dir.resolve()
    except OSError as error:
        raise places.unusable(data_dir, error) from error


class _Claim:
    """
    The file `servers.json` in a data folder: its lock says who owns the servers, its text where they are.

    The kernel frees the lock when its holder dies, so the file itself always stays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        try:
            self._file = places.open_private(self.folder / "servers.json", os.O_RDWR)
        except OSError as error:
            raise places.unusable(self.folder, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)

    def take(self) -> bool:
        """Whether the folder is ours from now on."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.withdraw()
        return True

    def announce(self, database_url: str | None, redis_url: str | None) -> None:
        """Tell guests that the servers are ready."""
        self._write({"pid": os.getpid(), "database_url": database_url, "redis_url": redis_url})

    def withdraw(self) -> None:
        """Tell guests that the servers are not ready."""
        self._write({"pid": os.getpid()})

    def read(self) -> tuple[int | None, Servers | None]:
        """The owner's process id and, when it is ready, its servers; None for what cannot be told yet."""
        try:
            told = json.loads(os.pread(self._file, 65536, 0))
        except ValueError:  # the owner is just writing
            return None, None
        if "database_url" not in told or not _alive(told["pid"]):
            return told["pid"], None
        return told["pid"], Servers(told["database_url"], told["redis_url"], owner=False)

    def _write(self, told: dict[str, str | int | None]) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(told).encode(), 0)


def _alive(pid: int) -> bool:
    """False for the text of an owner that crashed, read in the moment before its successor's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, so alive
        pass
    return True
