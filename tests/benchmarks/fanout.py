"""
Many watchers: how late events come to them, and what a delivery and a connection cost.

    python -m tests.benchmarks.fanout [--quick] [--json] [--save]      about 7 minutes; --quick: one

N clients follow one task (200, 1,000, 2,000 and 10,000), and 1,000 clients a task each. Every contestant is a process
of its own, gets the same events at the same pace in the same run, and serves the same crowd (crowd.py). A delay is
from the event's own timestamp to the client's reading. Ours includes the commit in PostgreSQL; CPU is of the
contestant with the PostgreSQL and the Redis that it uses.

Contestants: this service; the seeds' architecture; sse-starlette with one subscription; Nchan in nginx, if it is here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import redis.asyncio as redis

from enhancer.bus import Bus
from enhancer.domain.tasks import Event, Kind, Status, Task
from enhancer.pipeline import enhancement
from enhancer.pipeline.plans import event, published
from enhancer.storage import database, tasks
from tests.benchmarks import figures, stage
from tests.benchmarks.figures import Figures, percentile
from tests.benchmarks.stage import Program, Servers

STREAM = "/api/v1/ai/enhance-and-script/{id}/stream"
LANES = 8  # events of different tasks that are published at a time
A_YEAR = 365 * 86400.0
MESSAGE = "🎨 Enhancing image with gpt-image-2.5-flare..."
OURS, SEEDS, SSE_STARLETTE, NCHAN = "enhancer", "seeds' architecture", "sse-starlette", "Nchan"


@dataclass(frozen=True)
class Scene:
    """So many clients on so many tasks; each task has `events` a round, `every` seconds."""

    clients: int
    tasks: int
    events: int
    every: float
    contestants: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.clients:,} clients, " + ("one task" if self.tasks == 1 else "a task each")


ALL = (OURS, SEEDS, SSE_STARLETTE, NCHAN)
SCENES = (
    Scene(200, 1, 12, 0.25, ALL),
    Scene(1000, 1, 12, 0.25, ALL),
    Scene(2000, 1, 12, 0.25, ALL),
    # the seeds' subscription a client would need more open files than a process may have here
    Scene(10_000, 1, 8, 1.0, (OURS, SSE_STARLETTE, NCHAN)),
    Scene(1000, 1000, 2, 4.0, ALL),
)
QUICK = (Scene(200, 1, 4, 0.25, ALL), Scene(1000, 1, 4, 0.5, ALL), Scene(200, 200, 1, 2.0, ALL))


@dataclass(frozen=True)
class Contestant:
    """A server that streams. `publish(n, at)` tells the watchers of the n-th task of progress `at`."""

    program: Program
    addresses: list[str]
    publish: Callable[[int, int], Awaitable[None]]
    beside: Callable[[], float]

    def cpu(self) -> float:
        """Seconds of the server and of what it stands on."""
        return self.program.cpu() + self.beside()


@asynccontextmanager
async def ours(servers: Servers, name: str, scene: Scene) -> AsyncIterator[Contestant]:
    """This service without workers: the benchmark is the worker, and commits and publishes as workers do."""
    settings = {"WORKERS": 0, "MAX_STREAMS": 15_000}
    async with stage.enhancer(servers, name, **settings) as (program, token, user_id):
        url = servers.address_of(name)
        async with database.connect(url, size=LANES) as pool, Bus.open(servers.redis_url) as bus:
            order = {"key": "k", "original": "o", "user_description": "", "duration": 4, "language": "en"}
            for _ in range(scene.tasks):
                await tasks.insert(pool, user_id, Kind.ENHANCEMENT, order, max_attempts=4)
            claimed = await tasks.claim(
                pool,
                "benchmark",
                limit=scene.tasks,
                per_user=scene.tasks,
                lease=A_YEAR,
                time_limits={Kind.ENHANCEMENT: A_YEAR},
            )
            numbers = [0] * scene.tasks

            async def publish(n: int, at: int) -> None:
                numbers[n] += 1
                told = event(enhancement.PLAN, {}, numbers[n], at, MESSAGE, Status.PROCESSING)
                await _advance(claimed[n], told, at)

            async def _advance(task: Task, told: Event, at: int) -> None:
                assert await tasks.advance(pool, task, told, progress=at, message=MESSAGE, output={})
                await bus.publish(task.channel, published(told))

            addresses = [STREAM.format(id=task.id) + f"?token={token}" for task in claimed]
            yield Contestant(program, addresses, publish, servers.cpu)


@asynccontextmanager
async def seeds(servers: Servers, name: str, scene: Scene) -> AsyncIterator[Contestant]:
    """The seeds' architecture; its tasks are made by its own call, and nobody works on them."""
    async with (
        stage.seeds(servers, name, workers=0) as (program,),
        redis.from_url(servers.redis_url) as client,
        aiohttp.ClientSession(program.url) as http,
    ):
        token = stage.account_token(1)
        ids = []
        for _ in range(scene.tasks):
            form = aiohttp.FormData({"user_description": ""})
            form.add_field("file", b"photo", filename="photo.png")
            async with http.post(f"/api/v1/ai/enhance-and-script-async?token={token}", data=form) as answer:
                ids.append((await answer.json())["id"])

        async def publish(n: int, at: int) -> None:
            await client.publish(f"enhancement:{ids[n]}", _event(at))

        addresses = [STREAM.format(id=task) + f"?token={token}" for task in ids]
        yield Contestant(program, addresses, publish, servers.cpu)


@asynccontextmanager
async def sse_starlette(servers: Servers, name: str, scene: Scene) -> AsyncIterator[Contestant]:
    """sse-starlette."""
    async with stage.starlette_sse(servers) as program, redis.from_url(servers.redis_url) as client:

        async def publish(n: int, at: int) -> None:
            await client.publish(f"enhancement:{n}", _event(at))

        yield Contestant(program, [STREAM.format(id=n) for n in range(scene.tasks)], publish, servers.cpu)


@asynccontextmanager
async def nchan(servers: Servers, name: str, scene: Scene) -> AsyncIterator[Contestant]:
    """Nchan, published to by HTTP; it needs nothing beside it."""
    async with (
        stage.nchan(servers.folder, connections=scene.clients) as program,
        aiohttp.ClientSession(program.url) as http,
    ):

        async def publish(n: int, at: int) -> None:
            async with http.post(f"/publish/{n}", data=_event(at)) as answer:
                await answer.read()

        yield Contestant(program, [STREAM.format(id=n) for n in range(scene.tasks)], publish, lambda: 0.0)


CONTESTANTS = {OURS: ours, SEEDS: seeds, SSE_STARLETTE: sse_starlette, NCHAN: nchan}


async def measure(scene: Scene, name: str, number: int, servers: Servers, rounds: int) -> Figures:
    """One contestant in one scene: medians over rounds on the same connections."""
    async with CONTESTANTS[name](servers, f"fanout_{number}", scene) as contestant:
        empty = contestant.program.memory()
        async with _crowd(contestant, scene) as (ask, connected):
            await asyncio.sleep(1)
            memory = contestant.program.memory()
            told = [await _round(contestant, scene, ask) for _ in range(rounds)]
            return {
                "server": name,
                **figures.medians(told),
                "lost": sum(each["lost"] for each in told),
                "twice": sum(each["twice"] for each in told),
                "connect_s": round(connected, 2),
                "kb_a_connection": round((memory - empty) / 1024 / scene.clients, 1),
                "mb": round(contestant.program.memory() / 1e6, 1),
            }


Ask = Callable[[str], Awaitable[dict[str, Any]]]


async def _round(contestant: Contestant, scene: Scene, ask: Ask) -> dict[str, float]:
    await ask("begin")
    before = contestant.cpu()
    await _pace(contestant, scene)
    await asyncio.sleep(1.0)
    spent = contestant.cpu() - before
    told = await ask(f"report {scene.events}")
    delays = told["delays"]
    return {
        "p50_ms": percentile(delays, 0.5),
        "p95_ms": percentile(delays, 0.95),
        "p99_ms": percentile(delays, 0.99),
        "us_a_delivery": spent * 1e6 / max(1, len(delays)),
        "lost": told["lost"],
        "twice": told["twice"],
    }


async def _pace(contestant: Contestant, scene: Scene) -> None:
    """Publish a round's events, spread evenly; of one task in order, of several tasks a few at a time."""
    loop = asyncio.get_running_loop()
    began, gap = loop.time(), scene.every / scene.tasks

    async def lane(first: int) -> None:
        for at in range(1, scene.events + 1):
            for n in range(first, scene.tasks, LANES):
                await asyncio.sleep(began + (at - 1) * scene.every + n * gap - loop.time())
                await contestant.publish(n, at)

    await asyncio.gather(*(lane(first) for first in range(min(LANES, scene.tasks))))


@asynccontextmanager
async def _crowd(contestant: Contestant, scene: Scene) -> AsyncIterator[tuple[Ask, float]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.crowd"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader, writer = process.stdout, process.stdin

    async def ask(command: str) -> dict[str, Any]:
        writer.write(f"{command}\n".encode())
        return dict(json.loads(await reader.readline()))

    try:
        addresses = contestant.addresses
        paths = [addresses[client % len(addresses)] for client in range(scene.clients)]
        told = await ask(json.dumps({"port": contestant.program.port, "paths": paths}))
        if told["heard"] < scene.clients:
            print(f"only {told['heard']} of {scene.clients} were connected", file=sys.stderr)
        yield ask, told["connected"]
    finally:
        writer.close()
        await process.wait()


def _event(at: int) -> str:
    data = {"progress": at, "message": MESSAGE, "status": "processing", "timestamp": round(time.time(), 3)}
    return json.dumps(data, ensure_ascii=False)


async def run(scenes: tuple[Scene, ...], rounds: int) -> list[Figures]:
    """All scenes, contestant after contestant."""
    found: list[Figures] = []
    number = 0
    async with stage.servers() as servers:
        for scene in scenes:
            results = []
            for name in scene.contestants:
                if name == NCHAN and not stage.has_nchan():
                    continue
                number += 1
                print(f"{scene.name}: {name}", file=sys.stderr)
                results.append(await measure(scene, name, number, servers, rounds))
            found.append({"scene": scene.name, "clients": scene.clients, "tasks": scene.tasks, "results": results})
    return found


COLUMNS = {
    "server": "server",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "us_a_delivery": "µs CPU a delivery",
    "kb_a_connection": "KB a connection",
    "mb": "MB in all",
    "connect_s": "connected in s",
    "lost": "lost",
}


def tables(scenes: list[Figures]) -> str:
    """A table a scene, with the ratio of p99 to ours."""
    parts = []
    for scene in scenes:
        base = next(r["p99_ms"] for r in scene["results"] if r["server"] == OURS)
        rows = [[*(r[key] for key in COLUMNS), f"{r['p99_ms'] / base:.1f}x"] for r in scene["results"]]
        parts.append(f"**{scene['scene']}**\n\n{figures.table([*COLUMNS.values(), 'p99 to ours'], rows)}")
    return "\n\n".join(parts)


def main() -> None:
    """See the module."""
    parser = figures.arguments(__doc__, rounds=3)
    parser.add_argument("--only", type=int, help="only scenes of so many clients")
    given = parser.parse_args()
    scenes = tuple(scene for scene in (QUICK if given.quick else SCENES) if given.only in {None, scene.clients})
    found = figures.run(run(scenes, 1 if given.quick else given.rounds))
    figures.tell("fanout", {"scenes": found}, tables(found), given)


if __name__ == "__main__":
    main()
