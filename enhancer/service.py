"""The composition root: opens everything in order, yields one Service, closes in reverse."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from enhancer import accounts, clips, embedded
from enhancer.bus import Bus
from enhancer.domain.tasks import Kind, Lease
from enhancer.epochs import REVOKED, Epochs
from enhancer.errors import EnhancerError, SetupError, StorageUnavailable
from enhancer.housekeeping import Housekeeping
from enhancer.pipeline import enhancement, video
from enhancer.pipeline.engine import Engine
from enhancer.pipeline.forecast import Forecast
from enhancer.pipeline.lifecycle import CANCEL, Lifecycle
from enhancer.pipeline.orders import WAKE, Limits, Orders
from enhancer.pipeline.plans import Tools
from enhancer.pipeline.policy import Policy
from enhancer.pipeline.previews import LIFETIME as PREVIEW_LIFETIME
from enhancer.pipeline.previews import Previews
from enhancer.providers import Images, Scripts, Videos
from enhancer.providers.studio import StudioImages, StudioScripts, StudioVideos
from enhancer.rates import Rates
from enhancer.settings import Settings
from enhancer.storage import database, migrations
from enhancer.storage.database import Pool
from enhancer.storage.files import Files
from enhancer.tokens import Tokens
from enhancer.workers import Terms, Workers

log = logging.getLogger(__name__)

PLANS = {Kind.ENHANCEMENT: enhancement.PLAN, Kind.VIDEO: video.PLAN}

CONNECT_PATIENCE = 30.0  # seconds for PostgreSQL to come up beside us


@dataclass(frozen=True, slots=True)
class Foundation:
    """
    What every command needs: the settings in force, PostgreSQL, and the tokens' key.

    `redis_url` is for a Bus; `applied`: the migrations that were.
    """

    settings: Settings
    pool: Pool
    redis_url: str
    epochs: Epochs
    tokens: Tokens
    applied: list[int]


@dataclass(frozen=True, slots=True)
class Service:
    """
    Everything that is open.

    `demo_token`: of the user that comes with the embedded database; `embedded_redis`: its address, if it is ours.
    """

    settings: Settings
    pool: Pool
    bus: Bus
    rates: Rates
    files: Files
    epochs: Epochs
    tokens: Tokens
    tools: Tools
    orders: Orders
    lifecycle: Lifecycle
    forecast: Forecast
    demo_token: str | None
    embedded_redis: str | None

    def link(self, path: str) -> str:
        """The signed address of a stored file."""
        return self.tools.link(path)


@asynccontextmanager
async def foundation(settings: Settings, *, share: bool) -> AsyncIterator[Foundation]:
    """
    PostgreSQL with the schema applied, embedded or by its URL.

    `share`: use the embedded servers of a process that runs already. Raises SetupError in one line.
    """
    async with AsyncExitStack() as stack:
        database_url, redis_url = _value(settings.database_url), _value(settings.redis_url)
        servers = await stack.enter_async_context(
            embedded.servers(settings.data_dir, database=not database_url, redis=not redis_url, share=share)
        )
        pool = await stack.enter_async_context(_connected(database_url or str(servers.database_url), settings))
        epochs = Epochs(pool)
        yield Foundation(
            settings,
            pool,
            redis_url or str(servers.redis_url),
            epochs,
            _tokens(settings, epochs),
            await migrations.apply(pool),
        )


@asynccontextmanager
async def running(settings: Settings, *, share: bool = False) -> AsyncIterator[Service]:
    """The whole service, its workers working. Raises SetupError."""
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(foundation(settings, share=share))
        files = open_files(settings)
        bus = await stack.enter_async_context(Bus.open(base.redis_url))
        rates = await stack.enter_async_context(Rates.open(base.redis_url))
        stack.enter_context(_hearing(base.epochs, bus))
        images, scripts = await stack.enter_async_context(_providers(settings))
        videos = await stack.enter_async_context(_videos(settings))
        previews = Previews(files, _links(settings, base.tokens, seconds=PREVIEW_LIFETIME))
        tools = Tools(files, previews, images, scripts, videos, _links(settings, base.tokens))
        limits = Limits(
            of_user=settings.user_pending_limit,
            of_all=settings.queue_limit,
            pixels=settings.max_image_megapixels * 1_000_000,
            attempts=1 + settings.max_retries,
        )
        longest_call = max(each.longest_call for each in (images, scripts, videos) if each)
        lifecycle = Lifecycle(base.pool, bus, tools, PLANS, longest_call=longest_call)
        demo = None if settings.database_url else await accounts.ensure_demo(base.pool)
        if demo:
            await base.epochs.current(demo.id)
        sizes = _sizes(settings, tools)
        forecast = Forecast(base.pool, PLANS, tools, sizes)
        await stack.enter_async_context(forecast.learning())
        if settings.workers:
            await stack.enter_async_context(previews.working())
            await stack.enter_async_context(_workers(settings, base, bus, tools, forecast, sizes))
            keeping = Housekeeping(
                base.pool, files, lambda task: PLANS[task.kind].files(task), days=settings.retention_days
            )
            await stack.enter_async_context(keeping.working())
        yield Service(
            settings=settings,
            pool=base.pool,
            bus=bus,
            rates=rates,
            files=files,
            epochs=base.epochs,
            tokens=base.tokens,
            tools=tools,
            orders=Orders(base.pool, files, bus, limits),
            lifecycle=lifecycle,
            forecast=forecast,
            demo_token=base.tokens.account(demo.id) if demo else None,
            embedded_redis=None if settings.redis_url else base.redis_url,
        )


def open_files(settings: Settings) -> Files:
    """The store of originals and results. Raises SetupError."""
    try:
        return Files.at(settings.storage_url) if settings.storage_url else Files.local(settings.uploads)
    except StorageUnavailable as error:
        raise SetupError(f"{'STORAGE_URL' if settings.storage_url else 'UPLOAD_DIR'}: {error}") from error


def _sizes(settings: Settings, tools: Tools) -> dict[Kind, int]:
    """Workers of this process, by the kind that they work on."""
    videos = {Kind.VIDEO: settings.video_workers} if tools.videos else {}
    return {Kind.ENHANCEMENT: settings.workers, **videos} if settings.workers else {}


@asynccontextmanager
async def _workers(
    settings: Settings, base: Foundation, bus: Bus, tools: Tools, forecast: Forecast, sizes: Mapping[Kind, int]
) -> AsyncIterator[None]:
    time_limits = {Kind.ENHANCEMENT: settings.task_timeout, Kind.VIDEO: settings.video_timeout}
    repeats = 1 if settings.ambiguous_calls == "repeat-once" else 0
    engine = Engine(base.pool, bus, tools, PLANS, Policy(time_limits, settings.retry_delay, repeats), forecast)
    terms = Terms(
        name=settings.replica_name,
        sizes=sizes,
        per_user=settings.user_running_limit,
        lease=settings.lease,
        poll=settings.poll_interval,
        grace=settings.shutdown_grace,
        time_limits=time_limits,
    )

    async def run(lease: Lease) -> None:
        with suppress(EnhancerError, *database.UNREACHABLE):  # so that links to its results are of the owner's epoch
            await base.epochs.current(lease.task.user_id)
        await engine.run(lease)

    workers = Workers(base.pool, terms, run, engine.abandon)
    listening = [bus.listen(WAKE, lambda _: workers.wake()), bus.listen(CANCEL, workers.cancel)]
    try:
        async with workers.working():
            yield
    finally:
        for stop in listening:
            stop()


@asynccontextmanager
async def _connected(url: str, settings: Settings) -> AsyncIterator[Pool]:
    async with AsyncExitStack() as stack:
        try:
            pool = await database.patiently(
                lambda: stack.enter_async_context(database.connect(url, size=settings.database_pool)),
                seconds=CONNECT_PATIENCE,
            )
        except (*database.UNREACHABLE, ValueError) as error:
            raise SetupError(f"PostgreSQL cannot be reached by DATABASE_URL ({type(error).__name__}).") from error
        except database.REFUSED as error:
            raise SetupError(f"PostgreSQL refuses DATABASE_URL: {error}") from error
        yield pool


@asynccontextmanager
async def _providers(settings: Settings) -> AsyncIterator[tuple[Images, Scripts]]:
    """Models behind an API when there is a key, else the offline studio."""
    if settings.openai_api_key is None:
        yield StudioImages(), StudioScripts()
        return
    # here, because the client takes as long to import as everything else together, and 40 MB
    from enhancer.providers.openai import OpenAIImages, OpenAIScripts, connect

    async with connect(settings) as client:
        yield OpenAIImages(client, settings), OpenAIScripts(client, settings)


@asynccontextmanager
async def _videos(settings: Settings) -> AsyncIterator[Videos | None]:
    """A server that renders when there is one, else this machine; None: it cannot. Raises SetupError."""
    if settings.video_base_url is None:
        async with AsyncExitStack() as stack:
            yield await stack.enter_async_context(StudioVideos()) if clips.available() else None
        return
    if not clips.available():
        raise SetupError("VIDEO_BASE_URL needs the extra `video`, which checks what comes: pip install '.[video]'")
    from enhancer.providers import remote  # here: its client is not wanted otherwise

    async with remote.connect(settings) as videos:
        yield videos


def _links(settings: Settings, tokens: Tokens, *, seconds: int | None = None) -> Callable[[str], str]:
    """Signs addresses of files, for as long as LINK_LIFETIME unless `seconds` says otherwise."""
    return lambda path: f"{settings.public_url}/uploads/{path}?token={tokens.file(path, seconds=seconds)}"


def _tokens(settings: Settings, epochs: Epochs) -> Tokens:
    former = _value(settings.secret_key_previous)
    return Tokens(
        _value(settings.secret_key) or _kept_key(settings.data_dir),
        settings.token_lifetime,
        settings.link_lifetime,
        former_keys=(former,) if former else (),
        epoch_of=epochs.known,
    )


@contextmanager
def _hearing(epochs: Epochs, bus: Bus) -> Iterator[None]:
    """Revocations come over the bus; after a silence there may have been some."""
    stop = bus.listen(REVOKED, epochs.hear)
    bus.on_resume.append(epochs.hear)
    try:
        yield
    finally:
        bus.on_resume.remove(epochs.hear)
        stop()


def _kept_key(folder: Path) -> str:
    """
    The secret key in the data folder, made on first use and readable by its owner alone.

    Raises SetupError when the folder cannot hold one.
    """
    path = folder / "secret_key"
    try:
        if not path.exists():
            _make_key(path)
        return path.read_text().strip()
    except OSError as error:
        raise SetupError(f"No key can be kept in DATA_DIR ({error.strerror}): set SECRET_KEY.") from error


def _make_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".secret_key-") as draft:  # mode 600
        draft.write(secrets.token_urlsafe(48))
        draft.flush()
        with suppress(FileExistsError):  # another process was faster
            os.link(draft.name, path)


def _value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
