"""Figures: their medians and percentiles, the machine they come from, tables on paper and JSON beside them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parents[2] / "docs" / "performance"
"""Where `--save` leaves the JSON from which docs/performance.md is made (see report.py)."""

Figures = dict[str, Any]

T = TypeVar("T")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of all are not above; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each figure's median over rounds."""
    return {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]} if rounds else {}


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy that was with other things."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; figures are rounded to what can be told from noise."""
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def arguments(doc: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """What all benchmarks understand."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small form, to see that it works")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--save", action="store_true", help=f"keep the JSON in {RESULTS.name}/, for the report")
    return parser


def run(measurement: Coroutine[Any, Any, T]) -> T:
    """What a measurement brings; told to end, it stops what it has started."""

    async def running() -> T:
        task = asyncio.ensure_future(measurement)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(running())


def tell(name: str, figures: Figures, text: str, given: argparse.Namespace) -> None:
    """Print what was asked for, and keep it when that was asked for."""
    figures = {"benchmark": name, "quick": given.quick, "machine": machine(), **figures}
    print(json.dumps(figures, indent=1) if given.json else text)
    if given.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value) if value is not None else "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
