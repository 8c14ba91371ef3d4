"""What benchmarks run on: the servers, the service and its peers as processes of their own, and what they spend."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import shutil
import socket
import string
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

from enhancer import accounts, embedded
from enhancer.storage import database, migrations, subscriptions
from enhancer.tokens import Tokens
from tests.benchmarks.crowd import allow_open_files
from tests.endless import ENDLESS

PEERS = Path(__file__).parent / "peers"
SECRET = "k" * 32
READY = 60.0  # seconds that a program may take to answer
NCHAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"  # Debian: nginx-light and libnginx-mod-nchan


@dataclass(frozen=True)
class Program:
    """A process with its children, and the address where it answers."""

    process: psutil.Process
    url: str = ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return cpu(self._all())

    def memory(self) -> float:
        """Resident bytes, less what its processes share with each other."""
        total = 0
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return float(total)

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@dataclass(frozen=True)
class Servers:
    """PostgreSQL and Valkey, started by this process for this benchmark."""

    database_url: str
    redis_url: str
    folder: Path

    def cpu(self) -> float:
        """Seconds of CPU that both have spent."""
        return cpu(p for p in psutil.Process().children(recursive=True) if p.name() in {"postgres", "valkey-server"})

    async def new_database(self, name: str) -> str:
        """The address of an empty database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return self.address_of(name)

    def address_of(self, name: str) -> str:
        """Where that database is."""
        return urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))


def cpu(processes: Iterable[psutil.Process]) -> float:
    """Seconds of CPU that processes have spent, ended children included."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """The embedded servers in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        async with embedded.servers(Path(folder)) as running:
            yield Servers(str(running.database_url), str(running.redis_url), Path(folder))


@asynccontextmanager
async def enhancer(running: Servers, name: str, **settings: object) -> AsyncIterator[tuple[Program, str, int]]:
    """The service on a database of its own: its program, a subscriber's token, and the subscriber."""
    url = await running.new_database(name)
    async with database.connect(url, size=2) as pool:
        await migrations.apply(pool)
        user = await accounts.add(pool, "b@example.com", "a password of a benchmark")
        await subscriptions.activate(pool, user.id, plan="pro", quota=None, days=365)
    port = free_port()
    environment = {
        "DATABASE_URL": url,
        "REDIS_URL": running.redis_url,
        "DATA_DIR": str(running.folder / name),
        "SECRET_KEY": SECRET,
        "LOG_LEVEL": "WARNING",
        **{name.upper(): str(limit) for name, limit in ENDLESS.items()},
        **{key: str(value) for key, value in settings.items()},
    }
    command = [sys.executable, "-m", "tests.benchmarks.probed", "serve", f"--port={port}"]
    async with program(command, environment, port=port) as started:
        yield started, account_token(user.id), user.id


@asynccontextmanager
async def seeds(running: Servers, name: str, *, workers: int, **settings: str) -> AsyncIterator[tuple[Program, ...]]:
    """The seeds' architecture: its service and, when `workers` are asked for, Celery."""
    url = await running.new_database(name)
    environment = {
        "DATABASE_URL": url.replace("postgresql://", "postgresql+psycopg2://"),
        "REDIS_URL": running.redis_url,
        "UPLOAD_DIR": str(running.folder / name),
        "SECRET_KEY": SECRET,
        **settings,
    }
    python = peers_python()
    port = free_port()
    service = [str(python), "-m", "uvicorn", "seeds:app", f"--port={port}", "--log-level=warning", "--backlog=4096"]
    celery = [
        str(python),
        "-m",
        "celery",
        "-A",
        "seeds:celery",
        "worker",
        f"--concurrency={workers}",
        "--loglevel=ERROR",
    ]
    async with contextlib.AsyncExitStack() as stack:
        web = await stack.enter_async_context(program(service, environment, port=port, cwd=PEERS))
        if not workers:
            yield (web,)
            return
        yield web, await stack.enter_async_context(program(celery, environment, cwd=PEERS))


@asynccontextmanager
async def starlette_sse(running: Servers) -> AsyncIterator[Program]:
    """sse-starlette on uvicorn with uvloop and httptools."""
    port = free_port()
    command = [str(peers_python()), "-m", "uvicorn", "starlette_sse:app", f"--port={port}", "--log-level=warning"]
    async with program([*command, "--backlog=4096"], {"REDIS_URL": running.redis_url}, port=port, cwd=PEERS) as started:
        yield started


def has_nchan() -> bool:
    """Whether nginx is here, and has Nchan."""
    return bool(_nginx()) and Path(NCHAN).exists()


@asynccontextmanager
async def nchan(folder: Path, *, connections: int) -> AsyncIterator[Program]:
    """nginx with Nchan, one process."""
    folder = folder / "nchan"
    folder.mkdir(exist_ok=True)
    port = free_port()
    values = {"module": NCHAN, "folder": folder, "port": port, "connections": connections * 2 + 100}
    text = string.Template((PEERS / "nchan.conf").read_text()).substitute(values, files=_files_limit())
    (folder / "nginx.conf").write_text(text)
    command = [_nginx(), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    async with program(command, {}, port=port) as started:
        yield started


@asynccontextmanager
async def program(
    command: Sequence[str], environment: dict[str, str], *, port: int | None = None, cwd: Path | None = None
) -> AsyncIterator[Program]:
    """A program that is up: once its port answers, or else its first line has come, or nothing is waited for."""
    allow_open_files()
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if cwd is None and port is None else asyncio.subprocess.DEVNULL,
        stderr=None if "BENCHMARK_LOGS" in os.environ else asyncio.subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        if port:
            await _answers(process, port)
        elif process.stdout:
            url = (await process.stdout.readline()).decode().strip()
        yield Program(psutil.Process(process.pid), url)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def peers_python() -> Path:
    """The Python of the peers' own environment, which is made on first use and kept in the cache folder."""
    wanted = (PEERS / "requirements.txt").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "enhancer-benchmarks"
    folder = cache / f"peers-{sys.version_info[0]}.{sys.version_info[1]}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making the peers' environment in {folder} (about a minute)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", PEERS / "requirements.txt"], check=True)
        (folder / "complete").touch()
    return python


def account_token(user_id: int) -> str:
    """A token that the service and the seeds' architecture take."""
    return Tokens(SECRET, 86400, 86400).account(user_id)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _files_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _nginx() -> str:
    return shutil.which("nginx") or (shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or "")


async def _answers(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(READY):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if process.returncode is not None:
                    raise SystemExit(f"a program ended at its start, with {process.returncode}") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
