"""
python -m tests.faults [--replicas 2] [--seconds 60] [--seed 7] [--tasks 100]: chaos, then what was done and what held.

Exit code 1 when an invariant broke; the folder with all logs is kept then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterable

from tests.faults.chaos import Chaos
from tests.faults.checker import INVARIANTS, Facts, check
from tests.faults.stage import Site, Stage


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Chaos, and what held.")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="how long things are broken (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="the same faults again")
    parser.add_argument("--tasks", type=int, default=100)
    return asyncio.run(run(**vars(parser.parse_args())))


async def run(*, replicas: int, seconds: float, seed: int, tasks: int) -> int:
    """One run; the exit code."""
    async with Site.open(keep=True) as site, Stage.open(site, delay=0.1, shutdown_grace=2) as stage:
        chaos = Chaos(stage, seed=seed, replicas=replicas, tasks=tasks, seconds=seconds)
        say(f"seed {seed}: {tasks} tasks on {replicas} replicas, {seconds:.0f} s of faults; logs in {stage.folder}")
        facts = await chaos.run()
    complaints = check(facts)
    table("faults", chaos.done.most_common())
    report(facts, complaints, faults=stage.clients.faults)
    if not complaints:
        shutil.rmtree(site.folder)
    return 1 if complaints else 0


def report(facts: Facts, complaints: list[str], *, faults: int) -> None:
    """What came of it, and what held."""
    table("tasks", Counter(task.error_code or task.status for task in facts.tasks).most_common())
    steps = facts.steps
    figures = [
        ("calls that the provider has read", len(facts.calls)),
        ("of which it billed", sum(call.billed for call in facts.calls)),
        ("steps done", sum(step.state == "done" for step in steps)),
        ("ambiguities recorded", sum(step.ambiguous + (step.state in {"started", "ambiguous"}) for step in steps)),
        ("events that clients saw", sum(len(watched.events) for watched in facts.watched)),
        ("requests answered by 500", faults),
    ]
    table("figures", figures)
    broken = Counter(complaint.partition(":")[0] for complaint in complaints)
    table(
        "invariants",
        [
            (rule.__name__, f"BROKEN {broken[rule.__name__]}" if broken[rule.__name__] else "held")
            for rule in INVARIANTS
        ],
    )
    for complaint in complaints:
        say(complaint)


def table(title: str, rows: Iterable[tuple[str, object]]) -> None:
    say(f"\n{title}")
    for name, value in rows:
        say(f"  {name:<36} {value}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
