"""Gathering what the checker reads: looks at the running tasks, and what is left in the end."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from enhancer.storage.database import UNREACHABLE
from tests.faults.checker import Facts, LedgerRow, Look, ProviderCall, Sample, StepRow, TaskRow
from tests.faults.clients import Clients

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LOOK = 0.05  # seconds between two samples
STEPS = {"edits": "redraw", "chat": "write", "order": "render"}
RESULTS = {"enhancement": ("model_path", "enhanced_path"), "video": ("video_path", "poster_path", "thumbnail_path")}
TOKEN = r"order-[0-9a-f]{12}"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection past all proxies, for looks that no fault disturbs."""
    connection = await asyncpg.connect(url, timeout=30, command_timeout=30)
    try:
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        yield connection
    finally:
        with suppress(*UNREACHABLE):
            await connection.close(timeout=2)


async def sample_forever(url: str, samples: list[Sample]) -> None:
    """Keep what changes, for as long as it is let."""
    while True:
        with suppress(*UNREACHABLE, asyncpg.PostgresError):
            async with connected(url) as connection:
                while True:
                    await _sample(connection, samples)
                    await asyncio.sleep(LOOK)
        await asyncio.sleep(LOOK)


async def _sample(connection: Connection, samples: list[Sample]) -> None:
    rows = await connection.fetch("SELECT id, user_id, kind, status, fence FROM tasks")
    running = Counter((row["user_id"], row["kind"]) for row in rows if row["status"] == "processing")
    found = Sample(dict(running), {row["id"]: row["fence"] for row in rows})
    if not samples or samples[-1] != found:
        samples.append(found)


async def gather(
    url: str, logs: Sequence[Path], files: set[str], clients: Clients, samples: list[Sample], *, per_user: int
) -> Facts:
    """The facts of a run that is over. `logs`: the providers'. `files`: what is stored."""
    async with connected(url) as connection:
        rows = await connection.fetch("SELECT * FROM tasks ORDER BY id")
        steps = await connection.fetch("SELECT *, extract(epoch FROM finished_at)::float8 AS ended FROM task_steps")
        ledger = await connection.fetch("SELECT *, extract(epoch FROM started_at)::float8 AS began FROM task_calls")
        events = await connection.fetch("SELECT task_id, seq, data FROM task_events ORDER BY task_id, seq")
    by_task: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for event in events:
        by_task[event["task_id"]].append((event["seq"], event["data"]))
    return Facts(
        tasks=[_task(row) for row in rows],
        steps=[
            StepRow(row["task_id"], row["step"], row["state"], row["calls"], row["ambiguous"], row["ended"])
            for row in steps
        ],
        ledger=[LedgerRow(row["task_id"], row["step"], row["fence"], row["outcome"], row["began"]) for row in ledger],
        events=by_task,
        calls=[call for log in logs for call in provider_calls(log)],
        looks=[look for log in logs for look in looks(log)],
        accepted=clients.accepted,
        watched=clients.watched,
        samples=samples,
        per_user=per_user,
        originals={row["id"]: row["input"].get("original") or row["input"]["reference"] for row in rows},
        results={row["id"]: _results(row["kind"], row["output"]) for row in rows},
        files=files,
    )


def provider_calls(log: Path) -> list[ProviderCall]:
    """The paid calls in a provider's log."""
    found = []
    for call in _lines(log):
        if call["kind"] in STEPS:
            token = re.search(TOKEN, call["fields"].get("prompt", "") + call["fields"].get("text", ""))
            found.append(
                ProviderCall(
                    token=token[0] if token else "",
                    step=STEPS[call["kind"]],
                    started=call["started"],
                    ended=call["ended"],
                    outcome=call["outcome"],
                    billed=call["billed"],
                    order=call.get("video", ""),
                )
            )
    return found


def looks(log: Path) -> list[Look]:
    """The looks at orders in a video server's log."""
    return [Look(call["video"], call["started"]) for call in _lines(log) if call["kind"] == "look"]


def files_in(folder: Path) -> set[str]:
    """The paths of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text().splitlines() if log.exists() else ():
        yield json.loads(line)


def _task(row: asyncpg.Record) -> TaskRow:
    token = re.search(TOKEN, row["input"].get("user_description") or row["input"]["prompt"])
    names = (*TaskRow.__dataclass_fields__,)
    return TaskRow(**{name: row[name] for name in names if name != "token"}, token=token[0] if token else "")


def _results(kind: str, output: Mapping[str, str]) -> list[str]:
    """What a completed task must have, and where it says that it is."""
    return [output.get(name, f"no {name}") for name in RESULTS[kind]]
