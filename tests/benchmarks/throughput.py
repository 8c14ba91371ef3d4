"""
Tasks a second and CPU a task, beside the seeds' architecture and the bare Pillow and base64 work of the same task.

    python -m tests.benchmarks.throughput [--quick] [--json] [--save]      about 3 minutes; --quick: one

The model answers at once (model.py). Rounds alternate between the service, the seeds' architecture and bare work on
the same machine in the same run; medians are printed, because machines are shared and noisy. A round accepts its tasks
as fast as eight uploads at a time allow and ends with the last task. Then half as many are done while a client asks for
a task's status fifty times a second, and a probe in the service's loop notes how late it is.

Both keep JPEGs of the same size and quality, though the seeds speak of PNG: so compared, only the architecture differs.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
from PIL import Image

from tests.benchmarks import figures, model, stage
from tests.benchmarks.figures import Figures, percentile
from tests.benchmarks.stage import Program, Servers
from tests.fakes.openai import KEY

AT_ONCE = 8  # workers, and uploads
VIDEO_SIZE = (1280, 720)
CREATE = "/api/v1/ai/enhance-and-script-async"
STATUS = "/api/v1/ai/enhance-and-script/{id}/status"
OURS, SEEDS = "enhancer", "seeds' architecture"


@dataclass(frozen=True)
class Contestant:
    """A service with its workers. `lag_file`: where its probe tells how late the loop was, if it has one."""

    name: str
    programs: Sequence[Program]
    servers: Servers
    database_url: str
    unfinished: str
    token: str
    lag_file: Path | None = None

    def cpu(self) -> float:
        """Seconds of the service and its workers."""
        return sum(program.cpu() for program in self.programs)

    def memory(self) -> float:
        """Megabytes of the same."""
        return sum(program.memory() for program in self.programs) / 1e6


def bare_work(upload: bytes, answer: str) -> None:
    """What nobody can do without: look at the upload, unpack the model's image, fit it, pack it for the next model."""
    Image.open(io.BytesIO(upload)).load()
    drawn = Image.open(io.BytesIO(base64.b64decode(answer)))
    drawn.load()
    width, height = model.SIZE
    top = round((height - width * VIDEO_SIZE[1] / VIDEO_SIZE[0]) / 2)
    fitted = drawn.resize(VIDEO_SIZE, Image.Resampling.LANCZOS, box=(0, top, width, height - top))
    kept = io.BytesIO()
    fitted.save(kept, "JPEG", quality=92, subsampling=0)
    base64.b64encode(kept.getvalue())


def bare_cpu(upload: bytes, answer: str, tasks: int) -> float:
    """CPU milliseconds of `bare_work`, the mean of so many: what the service's figure is, too."""
    began = time.process_time()
    for _ in range(tasks):
        bare_work(upload, answer)
    return (time.process_time() - began) * 1000 / tasks


async def one_round(contestant: Contestant, upload: bytes, tasks: int) -> Figures:
    """So many tasks from the first upload to the last end; then half as many, watched."""
    headers = {"Authorization": f"Bearer {contestant.token}"}
    connection = await asyncpg.connect(contestant.database_url)
    async with aiohttp.ClientSession(contestant.programs[0].url, headers=headers) as http:
        first = await _order(http, upload)
        await _until(lambda: _finished(contestant, connection))
        cpu, servers_cpu, began = contestant.cpu(), contestant.servers.cpu(), time.perf_counter()
        posts = await _orders(http, upload, tasks)
        await _until(lambda: _finished(contestant, connection))
        seconds = time.perf_counter() - began
        cpu, servers_cpu = contestant.cpu() - cpu, contestant.servers.cpu() - servers_cpu
        _signal(contestant, signal.SIGUSR1)
        asking = asyncio.create_task(_ask(http, first))
        await _orders(http, upload, tasks // 2)
        await _until(lambda: _finished(contestant, connection))
        asking.cancel()
        (answers,) = await asyncio.gather(asking)
    await connection.close()
    lags = await _lags(contestant)
    return {
        "tasks_a_second": tasks / seconds,
        "cpu_ms": cpu * 1000 / tasks,
        "servers_cpu_ms": servers_cpu * 1000 / tasks,
        "post_p50_ms": percentile(posts, 0.5),
        "post_p99_ms": percentile(posts, 0.99),
        "status_p50_ms": percentile(answers, 0.5),
        "status_p99_ms": percentile(answers, 0.99),
        **({"loop_lag_p99_ms": percentile(lags, 0.99) * 1000} if lags else {}),
        "mb": contestant.memory(),
    }


async def _orders(http: aiohttp.ClientSession, upload: bytes, tasks: int) -> list[float]:
    """Milliseconds that each upload took to be accepted."""
    taken: list[float] = []
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            began = time.perf_counter()
            await _order(http, upload)
            taken.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(one() for _ in range(tasks)))
    return taken


async def _order(http: aiohttp.ClientSession, upload: bytes) -> int:
    form = aiohttp.FormData({"user_description": "A cup of coffee", "duration": "4", "language": "en"})
    form.add_field("file", upload, filename="coffee.png", content_type="image/png")
    async with http.post(CREATE, data=form) as answer:
        body = await answer.json()
        if answer.status != 202:
            raise SystemExit(f"an upload was not accepted: {body}")
        return int(body["id"])


async def _ask(http: aiohttp.ClientSession, task: int) -> list[float]:
    """Ask for a status every 20 ms until cancelled: milliseconds that each answer took."""
    taken = []
    try:
        while True:
            began = time.perf_counter()
            async with http.get(STATUS.format(id=task)) as answer:
                await answer.read()
            taken.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(max(0.0, 0.02 - (time.perf_counter() - began)))
    except asyncio.CancelledError:
        return taken


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def _finished(contestant: Contestant, connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return not await connection.fetchval(contestant.unfinished)


def _signal(contestant: Contestant, number: signal.Signals) -> None:
    if contestant.lag_file:
        contestant.programs[0].process.send_signal(number)


async def _lags(contestant: Contestant) -> list[float]:
    file = contestant.lag_file
    if not file:
        return []
    file.unlink(missing_ok=True)
    _signal(contestant, signal.SIGUSR2)
    await _until(lambda: asyncio.to_thread(file.exists))
    return [float(each) for each in json.loads(file.read_text())]


@asynccontextmanager
async def ours(servers: Servers, model_url: str) -> AsyncIterator[Contestant]:
    """The service as it is delivered, with eight workers."""
    lag_file = servers.folder / "lag.json"
    settings: dict[str, object] = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": model_url,
        "WORKERS": AT_ONCE,
        "USER_RUNNING_LIMIT": AT_ONCE,
        "USER_PENDING_LIMIT": 10_000,
        "LAG_FILE": lag_file,
    }
    async with stage.enhancer(servers, "ours", **settings) as (program, token, _):
        unfinished = "SELECT count(*) FROM tasks WHERE status IN ('pending', 'processing')"
        yield Contestant(OURS, [program], servers, servers.address_of("ours"), unfinished, token, lag_file)


@asynccontextmanager
async def seeds(servers: Servers, model_url: str) -> AsyncIterator[Contestant]:
    """The seeds' architecture with eight worker processes."""
    settings = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": model_url, "IMAGE_EXTENSION": "jpg"}
    async with stage.seeds(servers, "seeds", workers=AT_ONCE, **settings) as programs:
        unfinished = "SELECT count(*) FROM enhancement_tasks WHERE status IN ('PENDING', 'PROCESSING')"
        token = stage.account_token(1)
        yield Contestant(SEEDS, programs, servers, servers.address_of("seeds"), unfinished, token)


async def run(tasks: int, rounds: int, *, alone: bool) -> dict[str, Figures]:
    """Contestants take turns, with a round each of bare work between; the first round of each warms up."""
    upload = model.PHOTO.read_bytes()
    answer = base64.b64encode(model.drawn("jpeg")).decode()
    found: dict[str, list[Figures]] = {}
    bare: list[float] = []
    async with (
        stage.servers() as servers,
        stage.program([sys.executable, "-m", "tests.benchmarks.model"], {}) as drawing,
        ours(servers, drawing.url) as first,
    ):
        contestants = [first]
        async with seeds(servers, drawing.url) if not alone else _nothing() as second:
            contestants += [second] if second else []
            rest = {each.name: each.memory() for each in contestants}
            for number in range(rounds + 1):
                for contestant in contestants:
                    print(f"round {number}: {contestant.name}", file=sys.stderr)
                    told = await one_round(contestant, upload, tasks if number else AT_ONCE)
                    if number:
                        found.setdefault(contestant.name, []).append(told)
                bare.append(bare_cpu(upload, answer, 20))
    bare_ms = round(statistics.median(bare), 2)
    return {
        name: {**figures.medians(told), "bare_cpu_ms": bare_ms, "rest_mb": round(rest[name], 1)}
        for name, told in found.items()
    }


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield None


ROWS = {
    "tasks_a_second": "tasks a second",
    "cpu_ms": "CPU a task, service and workers, ms",
    "servers_cpu_ms": "CPU a task, PostgreSQL and Redis, ms",
    "bare_cpu_ms": "CPU a task, bare Pillow and base64, ms",
    "post_p50_ms": "upload accepted, p50 ms",
    "post_p99_ms": "upload accepted, p99 ms",
    "status_p50_ms": "status, p50 ms",
    "status_p99_ms": "status, p99 ms",
    "loop_lag_p99_ms": "lag of the event loop, p99 ms",
    "rest_mb": "memory at rest, MB",
    "mb": "memory after the rounds, MB",
}


def text(found: dict[str, Figures]) -> str:
    """The table, with the ratio of the seeds' architecture to ours."""
    mine, theirs = found[OURS], found.get(SEEDS, {})
    rows = []
    for key, name in ROWS.items():
        both = (mine.get(key), theirs.get(key))
        rows.append([name, *both, f"{both[1] / both[0]:.2f}" if both[0] and both[1] else None])
    ratio = mine["cpu_ms"] / mine["bare_cpu_ms"]
    return f"{figures.table(['', OURS, SEEDS, 'ratio'], rows)}\n\nCPU a task is {ratio:.2f} times the bare work."


def main() -> None:
    """See the module."""
    parser = figures.arguments(__doc__, rounds=3)
    parser.add_argument("--tasks", type=int, default=150, help="a round")
    parser.add_argument("--alone", action="store_true", help="without the seeds' architecture")
    given = parser.parse_args()
    tasks, rounds = (30, 1) if given.quick else (given.tasks, given.rounds)
    found = figures.run(run(tasks, rounds, alone=given.alone))
    figures.tell("throughput", {"tasks": tasks, "results": found}, text(found), given)


if __name__ == "__main__":
    main()
