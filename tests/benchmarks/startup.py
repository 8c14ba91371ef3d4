"""
How long until the first request is answered, and what the service needs while it has nothing to do.

    python -m tests.benchmarks.startup [--quick] [--json] [--save]      about a minute

With the embedded servers on an empty folder (cold: a cluster is made), on the same folder again (warm), and with
servers that run already.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tests.benchmarks import figures, stage
from tests.benchmarks.figures import Figures
from tests.benchmarks.stage import Program

REST = 2.0  # seconds after which a service is taken to be at rest
NAMES = {
    "cold": "embedded servers, empty folder",
    "warm": "embedded servers, the same folder",
    "external": "servers that run already",
}


@asynccontextmanager
async def _started(**environment: str) -> AsyncIterator[tuple[Program, float]]:
    """The service, and the seconds until its port answered."""
    port = stage.free_port()
    began = time.perf_counter()
    command = [sys.executable, "-m", "enhancer", "serve", f"--port={port}"]
    async with stage.program(command, {"LOG_LEVEL": "WARNING", **environment}, port=port) as program:
        yield program, time.perf_counter() - began


async def _measure(**environment: str) -> dict[str, float]:
    async with _started(**environment) as (program, seconds):
        await asyncio.sleep(REST)
        return {"seconds": seconds, "mb": _alone(program), "with_servers_mb": program.memory() / 1e6}


def _alone(program: Program) -> float:
    """Megabytes of the service's own process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(program.process.memory_full_info().pss) / 1e6
    return 0.0


async def run(rounds: int) -> Figures:
    """Medians over rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    async with stage.servers() as servers:
        for number in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                found["cold"].append(await _measure(DATA_DIR=folder))
                found["warm"].append(await _measure(DATA_DIR=folder))
            url = await servers.new_database(f"startup_{number}")
            here = {"DATABASE_URL": url, "REDIS_URL": servers.redis_url, "SECRET_KEY": stage.SECRET}
            found["external"].append(await _measure(DATA_DIR=str(servers.folder / "external"), **here))
    return {name: figures.medians(rounds_of) for name, rounds_of in found.items()}


def text(found: Figures) -> str:
    """The table."""
    rows = [[NAMES[name], told["seconds"], told["mb"], told["with_servers_mb"]] for name, told in found.items()]
    return figures.table(["start", "seconds to the first answer", "MB at rest", "MB with embedded servers"], rows)


def main() -> None:
    """See the module."""
    given = figures.arguments(__doc__, rounds=3).parse_args()
    found = figures.run(run(1 if given.quick else given.rounds))
    figures.tell("startup", {"results": found}, text(found), given)


if __name__ == "__main__":
    main()
