"""
Where faults happen: PostgreSQL, Valkey, the provider, proxies before them, replicas, clients.

    async with Site.open() as site, Stage.open(site) as stage:
        replica = await stage.replica(crash="after-gate")
        ...
        await stage.settled()      # everything has ended, and every invariant holds
"""

from __future__ import annotations

import asyncio
import io
import itertools
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

import aiohttp
import asyncpg
from PIL import Image

from enhancer import crash
from enhancer.storage import database, migrations
from enhancer.tokens import Tokens
from tests.endless import ENDLESS
from tests.fakes.videos import film
from tests.faults import evidence
from tests.faults.checker import FINAL, Facts, Look, ProviderCall, Sample, check
from tests.faults.clients import Clients, Order
from tests.faults.patience import until_found
from tests.faults.processes import Program, Watchdog
from tests.faults.proxy import Proxy
from tests.faults.replica import MARGIN
from tests.faults.servers import Bucket, Postgres, Valkey

SECRET = "a secret key for the faults that is long enough"
TEMPLATE = "template_of_faults"
PER_USER = 2
CALL_TIMEOUT = 2.0  # seconds
LONGEST_CALL = CALL_TIMEOUT + MARGIN  # seconds
LEASE = 2.0  # seconds
FILM = ((1280, 720), 4)  # pixels and seconds of what `photo` becomes as the shortest video

SETTINGS = {
    "openai_api_key": "sk-any",
    "secret_key": SECRET,
    "workers": "4",
    "user_running_limit": str(PER_USER),
    "user_pending_limit": "2000",
    "call_timeout": str(CALL_TIMEOUT),
    "lease": str(LEASE),
    "poll_interval": "0.3",
    "retry_delay": "0.2",
    "shutdown_grace": "5",
}

_numbers = itertools.count(1)


@dataclass
class Site:
    """The servers of a run, which many stages share one after another."""

    folder: Path
    watchdog: Watchdog
    postgres: Postgres
    valkey: Valkey

    @classmethod
    @asynccontextmanager
    async def open(cls, *, keep: bool = False) -> AsyncIterator[Self]:
        """Servers in a folder that is deleted at the end, or kept with its logs."""
        async with AsyncExitStack() as stack:
            folder = _passable_folder()
            if not keep:
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
            watchdog = stack.enter_context(Watchdog())
            site = cls(
                folder,
                watchdog,
                await stack.enter_async_context(Postgres.open(folder / "postgres", watchdog)),
                await stack.enter_async_context(Valkey.open(folder / "valkey", watchdog)),
            )
            await asyncio.to_thread(lambda: site.film.write_bytes(film(*FILM)))
            await site.administer(f"CREATE DATABASE {TEMPLATE}")
            async with database.connect(site.postgres.at(TEMPLATE), size=2) as pool:
                await migrations.apply(pool)
            yield site

    @property
    def film(self) -> Path:
        """What the video server sends as every video."""
        return self.folder / "film.mp4"

    async def administer(self, statement: str) -> None:
        """Run a statement past all databases of stages."""
        async with evidence.connected(self.postgres.url) as connection:
            await connection.execute(statement)


class Provider:
    """A stand-in as a process, which can be held, let go and made to fail while it runs."""

    def __init__(self, program: Program, http: aiohttp.ClientSession, log: Path) -> None:
        self._program = program
        self._http = http
        self.log = log
        self.address = ""

    @classmethod
    async def start(
        cls, folder: Path, watchdog: Watchdog, http: aiohttp.ClientSession, name: str, *arguments: str
    ) -> Self:
        """One of tests/fakes by its name, with arguments of its own."""
        log = folder / f"{name}.jsonl"
        arguments = ("--port", "0", "--log", str(log), *arguments)
        program = Program(f"tests.fakes.{name}", *arguments, log=folder / f"{name}.log", watchdog=watchdog)
        provider = cls(program, http, log)
        provider.address = (await program.said(r"BASE_URL=(http://\S+)/v1"))[1]
        return provider

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    async def hold(self, kind: str) -> None:
        """From now on, calls wait."""
        await self._control("POST", f"hold/{kind}")

    async def release(self, kind: str) -> None:
        """Let them go."""
        await self._control("POST", f"release/{kind}")

    async def fail(self, kind: str, recipe: str, times: int = 1) -> None:
        """Let the next calls go wrong; the recipes are in tests/fakes/openai/control.py."""
        await self._control("POST", f"fail/{kind}/{recipe}?times={times}")

    async def tell(self, status: str, progress: int) -> None:
        """What the video server answers every look with from now on."""
        await self._control("POST", "tell", json=[{"status": status, "progress": progress}])

    async def arrived(self, kind: str, count: int = 1) -> None:
        """Return when so many calls have come since the start."""
        await self._control("GET", f"arrived/{kind}?count={count}")

    def calls(self, step: str | None = None) -> list[ProviderCall]:
        """The calls that are over, of a step."""
        return [call for call in evidence.provider_calls(self.log) if step in {None, call.step}]

    def looks(self) -> list[Look]:
        """The looks at orders that are over."""
        return evidence.looks(self.log)

    async def stop(self) -> None:
        """End; calls that are still open are in the log then."""
        await self._program.end(signal.SIGINT)

    async def _control(self, method: str, path: str, json: object = None) -> None:
        async with self._http.request(method, f"{self.address}/__control__/{path}", json=json) as answer:
            assert answer.status == 200, f"{path}: {answer.status}"


class Replica:
    """A replica, and where it answers."""

    def __init__(self, name: str, program: Program, address: str) -> None:
        self.name = name
        self.program = program
        self.address = address


@dataclass
class Stage:
    """One run: a database, a store and a provider of its own; a video server, too, if it was asked for."""

    site: Site
    folder: Path
    database: str
    http: aiohttp.ClientSession
    provider: Provider
    postgres: Proxy
    redis: Proxy
    wire: Proxy
    settings: dict[str, str]
    clients: Clients
    replicas: list[Replica] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    watching: list[asyncio.Task[None]] = field(default_factory=list)
    bucket: Bucket | None = None
    video_server: Provider | None = None
    video_wire: Proxy | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, site: Site, *, delay: float = 0.05, videos: bool = False, **settings: object
    ) -> AsyncIterator[Self]:
        """A stage without replicas; `settings` are theirs. `videos`: with a server that renders them."""
        number = next(_numbers)
        folder, name = site.folder / f"stage-{number}", f"stage_{number}"
        await asyncio.to_thread((folder / "uploads").mkdir, parents=True)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            start = partial(Provider.start, folder, site.watchdog, http)
            provider, _ = await asyncio.gather(
                start("openai", "--fast", "--delay", str(delay)), _make_database(site, name, first=number * 100_000)
            )
            replicas: list[Replica] = []
            stage = cls(
                site,
                folder,
                name,
                http,
                provider,
                await stack.enter_async_context(Proxy.open(site.postgres.socket)),
                await stack.enter_async_context(Proxy.open(site.valkey.address)),
                await stack.enter_async_context(Proxy.open(("127.0.0.1", provider.port))),
                SETTINGS | {key: str(value) for key, value in settings.items()},
                Clients(
                    http, Tokens(SECRET, 3600, 3600), photo(), lambda: [r.address for r in replicas if _answers(r)]
                ),
                replicas,
            )
            if videos:
                stage.video_server = await start("videos", "--film", str(site.film))
                target = ("127.0.0.1", stage.video_server.port)
                stage.video_wire = await stack.enter_async_context(Proxy.open(target))
                stage.settings["video_base_url"] = f"http://127.0.0.1:{stage.video_wire.port}/v1"
            sampler = asyncio.create_task(evidence.sample_forever(stage.url, stage.samples))
            try:
                yield stage
            finally:
                await _cancelled(sampler, *stage.watching)
                await stage._end()
                with suppress(*database.UNREACHABLE):  # thousands of files that the site need not delete at its end
                    await site.administer(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def videos(self) -> Provider:
        """The video server."""
        assert self.video_server is not None, "the stage was opened without videos"
        return self.video_server

    @property
    def url(self) -> str:
        """The database, past the proxy."""
        return self.site.postgres.at(self.database)

    @property
    def store(self) -> Path:
        """The folder of the files, unless they are in `bucket`."""
        return self.folder / "uploads"

    async def stored(self) -> set[str]:
        """The paths of all files."""
        return await self.bucket.files() if self.bucket else evidence.files_in(self.store)

    async def replica(self, name: str = "", *, crash_at: str = "", **settings: object) -> Replica:
        """A replica that answers; `crash_at` as ENHANCER_CRASH_AT has it."""
        assert not crash_at or crash_at.split(":")[0] in get_args(crash.Point), crash_at
        number = len(self.replicas) + 1
        name = name or f"replica-{number}"
        environment = ENDLESS | self.settings | {key: str(value) for key, value in settings.items()}
        program = Program(
            "tests.faults.replica",
            log=self.folder / f"{number}-{name}.log",
            watchdog=self.site.watchdog,
            ENHANCER_CRASH_AT=crash_at,
            REPLICA=name,
            DATA_DIR=str(self.folder / "data"),
            UPLOAD_DIR=str(self.store),
            DATABASE_URL=self.site.postgres.by(self.postgres.port, self.database),
            REDIS_URL=self.site.valkey.by(self.redis.port),
            OPENAI_BASE_URL=f"http://127.0.0.1:{self.wire.port}/v1",
            **{key.upper(): str(value) for key, value in environment.items()},
        )
        replica = Replica(name, program, "")
        self.replicas.append(replica)
        replica.address = (await program.said(r"(?m)^Enhancer \S+ +(http://\S+)$"))[1]
        return replica

    def latest(self, name: str) -> Replica:
        """The replica of this name that was started last."""
        return [replica for replica in self.replicas if replica.name == name][-1]

    async def user(self) -> int:
        """The id of a new user who may order."""
        async with evidence.connected(self.url) as connection:
            user: int = await connection.fetchval(
                "INSERT INTO users (email, password_hash) VALUES ($1, '') RETURNING id", f"{next(_numbers)}@example.com"
            )
            await connection.execute(
                "INSERT INTO subscriptions (user_id, plan, status, period_end) VALUES ($1, 'x', 'active', 'infinity')",
                user,
            )
        return user

    async def task(self, user_id: int | None = None, *, video: bool = False) -> int:
        """The id of a task that is accepted, and watched from now on."""
        user = user_id or await self.user()
        task_id = await self.clients.upload(Order(user, video))
        self.watch(user, task_id, video=video)
        return task_id

    def ordering(self, user_id: int | None = None, *, video: bool = False) -> asyncio.Task[int]:
        """The same, by a client that goes on asking while replicas die."""
        return asyncio.create_task(self.task(user_id, video=video))

    def watch(self, user_id: int, task_id: int, *, video: bool = False) -> None:
        """Let a client follow a task."""
        self.start(self.clients.watch(user_id, task_id, video=video))

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that `settled` waits for."""
        self.watching.append(asyncio.create_task(work))
        return self.watching[-1]

    async def row(self, task_id: int) -> asyncpg.Record:
        """A task as it stands."""
        async with evidence.connected(self.url) as connection:
            row = await connection.fetchrow("SELECT * FROM tasks WHERE id = $1", task_id)
        assert row is not None
        return row

    async def step(self, task_id: int, name: str) -> asyncpg.Record | None:
        """A paid step as it stands."""
        async with evidence.connected(self.url) as connection:
            query = "SELECT * FROM task_steps WHERE task_id = $1 AND step = $2"
            return await connection.fetchrow(query, task_id, name)

    async def until(
        self, task_id: int, condition: Callable[[asyncpg.Record], bool], what: str, *, seconds: float = 60
    ) -> asyncpg.Record:
        """The task's row, once it is so."""

        async def look() -> asyncpg.Record | None:
            row = await self.row(task_id)
            return row if condition(row) else None

        return await until_found(look, f"task {task_id} {what}", seconds=seconds)

    async def ended(self, task_id: int, *, seconds: float = 90) -> asyncpg.Record:
        """The task's row, once it is final."""
        return await self.until(task_id, lambda row: row["status"] in FINAL, "ends", seconds=seconds)

    async def settled(self, *, seconds: float = 120) -> Facts:
        """Wait until every task and every stream has ended; then everything must hold."""
        await self.all_ended(seconds=seconds)
        facts = await self.facts()
        complaints = check(facts)
        assert not complaints, "\n".join(complaints)
        return facts

    async def all_ended(self, *, seconds: float) -> None:
        """Wait for the end of all tasks, then for that of all streams; one that comes too late is a complaint."""
        with suppress(AssertionError):
            await until_found(self._all_final, "every task ends", seconds=seconds)
        if self.watching:
            done, _ = await asyncio.wait(self.watching, timeout=60)
            for task in done:
                task.result()

    async def facts(self) -> Facts:
        """Stop everything, and gather what is left."""
        await self._end()
        return await evidence.gather(
            self.url,
            [provider.log for provider in self._providers],
            await self.stored(),
            self.clients,
            self.samples,
            per_user=int(self.settings["user_running_limit"]),
        )

    async def _all_final(self) -> bool:
        async with evidence.connected(self.url) as connection:
            return not await connection.fetchval("SELECT count(*) FROM tasks WHERE completed_at IS NULL")

    async def _end(self) -> None:
        for replica in self.replicas:
            await replica.program.kill()
        await asyncio.gather(*(provider.stop() for provider in self._providers))

    @property
    def _providers(self) -> list[Provider]:
        return [self.provider, *([self.video_server] if self.video_server else [])]


def _passable_folder() -> Path:
    """PostgreSQL's own user passes through it, and sockets have short paths."""
    folder = Path(tempfile.mkdtemp(prefix="enhancer-faults-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


async def _make_database(site: Site, name: str, *, first: int) -> None:
    """Tasks are numbered from `first`: stages share the channels of one Redis."""
    await site.administer(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    async with evidence.connected(site.postgres.at(name)) as connection:
        await connection.execute(f"ALTER SEQUENCE tasks_id_seq RESTART {first}")


def photo() -> bytes:
    """A small photo of nothing."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((320, 213)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def _answers(replica: Replica) -> bool:
    return bool(replica.address) and replica.program.code is None and not replica.program.frozen


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
