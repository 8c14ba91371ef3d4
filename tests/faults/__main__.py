"""
python -m tests.faults [--replicas 2] [--seconds 60] [--seed 7] [--tasks 100]: chaos, then what was done and what held.
python -m tests.faults --trial NAME [--tasks N] [--seconds S] [--seed 7]: one of the trials in trials.py.

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
from tests.faults.trials import TRIALS, Trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Chaos, and what held.")
    parser.add_argument("--trial", choices=TRIALS, help="instead of chaos")
    parser.add_argument("--replicas", type=int, default=2, help="of chaos (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="how long things are broken (chaos: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="the same faults again")
    parser.add_argument("--tasks", type=int, help="(chaos: 100)")
    given = parser.parse_args()
    if given.trial:
        return asyncio.run(tried(given.trial, tasks=given.tasks, seconds=given.seconds, seed=given.seed))
    return asyncio.run(
        chaos(replicas=given.replicas, seconds=given.seconds or 60, seed=given.seed, tasks=given.tasks or 100)
    )


async def tried(name: str, *, tasks: int | None, seconds: float | None, seed: int) -> int:
    """One trial; the exit code. Raises AssertionError when what it is about does not hold."""
    run, usual_tasks, usual_seconds = TRIALS[name]
    async with Site.open(keep=True) as site:
        trial = Trial(site, tasks or usual_tasks, usual_seconds if seconds is None else seconds, seed)
        say(f"{name}, seed {seed}: {trial.tasks} tasks, {trial.seconds:.0f} s of trouble; logs in {site.folder}")
        facts = await run(trial)
    return concluded(site, facts, trial.done)


async def chaos(*, replicas: int, seconds: float, seed: int, tasks: int) -> int:
    """One run; the exit code."""
    async with Site.open(keep=True) as site, Stage.open(site, videos=True, delay=0.1, shutdown_grace=2) as stage:
        breaking = Chaos(stage, seed=seed, replicas=replicas, tasks=tasks, seconds=seconds)
        say(f"seed {seed}: {tasks} tasks on {replicas} replicas, {seconds:.0f} s of faults; logs in {stage.folder}")
        facts = await breaking.run()
    table("answers", [("requests answered by 500", stage.clients.faults)])
    return concluded(site, facts, breaking.done)


def concluded(site: Site, facts: Facts, done: Counter[str]) -> int:
    """Say what was done and what held; the exit code. The logs are kept when something broke."""
    complaints = check(facts)
    table("done", done.most_common())
    report(facts, complaints)
    if not complaints:
        shutil.rmtree(site.folder)
    return 1 if complaints else 0


def report(facts: Facts, complaints: list[str]) -> None:
    """What came of it, and what held."""
    table("tasks", Counter(task.error_code or task.status for task in facts.tasks).most_common())
    steps = facts.steps
    figures = [
        ("calls that the provider has read", len(facts.calls)),
        ("of which it billed", sum(call.billed for call in facts.calls)),
        ("steps done", sum(step.state == "done" for step in steps)),
        ("ambiguities recorded", sum(step.ambiguous + (step.state in {"started", "ambiguous"}) for step in steps)),
        ("videos that were ordered", sum(bool(call.order) for call in facts.calls)),
        ("events that clients saw", sum(len(watched.events) for watched in facts.watched)),
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
