"""
Tasks a second and CPU a task, beside the bare Pillow and base64 work of the same task in the same run.

    python -m tests.benchmarks.throughput [--tasks 200] [--rounds 3] [--json]

The service runs as a process of its own on the embedded servers, its models are the stand-in without delay. Rounds of
tasks and of bare work alternate, and medians are printed, because machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import psutil
from PIL import Image

from enhancer import embedded
from tests.fakes.openai import KEY

PHOTO = Path(__file__).parent.parent / "photos" / "coffee.png"
UPLOADS_AT_ONCE = 8
MODEL_SIZE, VIDEO_SIZE = (1536, 1024), (1280, 720)


@dataclass(frozen=True)
class Round:
    """Figures of one round; CPU in milliseconds a task."""

    tasks_per_second: float
    service_cpu: float
    bare_cpu: float
    memory_mb: float

    @property
    def ratio(self) -> float:
        """How much more the service needs than the work itself."""
        return self.service_cpu / self.bare_cpu


def bare_work(upload: bytes, answer: str) -> None:
    """What nobody can do without: look at the upload, unpack the model's image, fit it, pack it for the next model."""
    Image.open(io.BytesIO(upload)).load()
    drawn = Image.open(io.BytesIO(base64.b64decode(answer)))
    drawn.load()
    top = round((1024 - 1536 * 720 / 1280) / 2)
    fitted = drawn.resize(VIDEO_SIZE, Image.Resampling.LANCZOS, box=(0, top, 1536, 1024 - top))
    kept = io.BytesIO()
    fitted.save(kept, "JPEG", quality=92)
    base64.b64encode(kept.getvalue())


def bare_cpu(upload: bytes, tasks: int) -> float:
    """CPU milliseconds of `bare_work`, the median of so many."""
    drawn = io.BytesIO()
    Image.open(io.BytesIO(upload)).convert("RGB").resize(MODEL_SIZE).save(drawn, "JPEG", quality=95)
    answer = base64.b64encode(drawn.getvalue()).decode()
    spent = []
    for _ in range(tasks):
        began = time.process_time()
        bare_work(upload, answer)
        spent.append((time.process_time() - began) * 1000)
    return statistics.median(spent)


async def one_round(http: aiohttp.ClientSession, service: psutil.Process, upload: bytes, tasks: int) -> Round:
    """So many tasks from the first upload to the last end."""
    before, began = sum(service.cpu_times()[:2]), time.perf_counter()
    gate = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def one() -> None:
        async with gate:
            form = aiohttp.FormData({"file": io.BytesIO(upload), "user_description": "A cup of coffee"})
            async with http.post("/api/v1/ai/enhance-and-script", data=form) as answer:
                body = await answer.json()
                if answer.status != 200:
                    raise SystemExit(f"a task failed: {body}")

    await asyncio.gather(*(one() for _ in range(tasks)))
    seconds = time.perf_counter() - began
    cpu = (sum(service.cpu_times()[:2]) - before) * 1000 / tasks
    return Round(tasks / seconds, cpu, bare_cpu(upload, 30), service.memory_info().rss / 1e6)


@asynccontextmanager
async def program(*arguments: str, **environment: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    """A Python program and the first line it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        drain = asyncio.create_task(process.stdout.read())
        yield psutil.Process(process.pid), line.decode().strip()
    finally:
        process.terminate()
        await process.wait()
        await drain


async def measure(tasks: int, rounds: int) -> list[Round]:
    """Start everything, warm up, and take the rounds."""
    upload = PHOTO.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            embedded.servers(Path(folder)) as servers,
            program("-m", "tests.fakes.openai", "--port", "0", "--fast") as (_, model_url),
            program(
                "-m",
                "enhancer",
                "serve",
                "--port=0",
                DATABASE_URL=str(servers.database_url),
                REDIS_URL=str(servers.redis_url),
                DATA_DIR=folder,
                SECRET_KEY="k" * 32,
                OPENAI_API_KEY=KEY,
                OPENAI_BASE_URL=model_url.split()[0].partition("=")[2],
                WORKERS=str(UPLOADS_AT_ONCE),
                USER_RUNNING_LIMIT=str(UPLOADS_AT_ONCE),
                LOG_LEVEL="WARNING",
            ) as (service, ready),
        ):
            token = await _token(folder, str(servers.database_url), str(servers.redis_url))
            headers = {"Authorization": f"Bearer {token}"}
            async with aiohttp.ClientSession(ready.split()[-1], headers=headers) as http:
                await one_round(http, service, upload, UPLOADS_AT_ONCE)
                return [await one_round(http, service, upload, tasks) for _ in range(rounds)]


async def _token(folder: str, database_url: str, redis_url: str) -> str:
    """A subscriber's token, made as an operator would."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DATA_DIR": folder,
        "SECRET_KEY": "k" * 32,
    }
    printed = b""
    for arguments in ("user add b@example.com", "user subscribe b@example.com", "token b@example.com"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "enhancer", *arguments.split(), env=environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
    return printed.decode().strip()


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=200, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds = asyncio.run(measure(arguments.tasks, arguments.rounds))
    if arguments.json:
        print(json.dumps([asdict(r) | {"ratio": r.ratio} for r in rounds]))
        return
    print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    )
    print(f"{arguments.rounds} rounds of {arguments.tasks} tasks, medians\n")
    for name, values in {
        "tasks a second": [r.tasks_per_second for r in rounds],
        "CPU a task, service, ms": [r.service_cpu for r in rounds],
        "CPU a task, bare work, ms": [r.bare_cpu for r in rounds],
        "ratio": [r.ratio for r in rounds],
        "memory of the service, MB": [r.memory_mb for r in rounds],
    }.items():
        print(f"{name:<28} {statistics.median(values):8.1f}   ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
