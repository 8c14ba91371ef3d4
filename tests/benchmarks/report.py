"""
Makes docs/performance.md and its plots from the figures that the benchmarks saved.

    python -m tests.benchmarks.report

What is said of the figures is in performance.txt, with a name in braces where a table goes; so new figures need no
new words, and the page never shows others than the JSON beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import fanout, growth, startup, throughput
from tests.benchmarks.figures import RESULTS, Figures

PAGE = RESULTS.parent / "performance.md"
TEXT = Path(__file__).parent / "performance.txt"
COLOURS = {"enhancer": "#0f766e", "seeds' architecture": "#b91c1c", "sse-starlette": "#b45309", "Nchan": "#4b5563"}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 680, 360, 64, 40, 150, 48


def main() -> None:
    """Write the page and the plots."""
    told = {name: _read(name) for name in ("fanout", "throughput", "startup", "growth")}
    pieces = {
        "fanout": _with_origin(told["fanout"], lambda f: fanout.tables(f["scenes"])),
        "throughput": _with_origin(told["throughput"], lambda f: throughput.text(f["results"])),
        "startup": _with_origin(told["startup"], lambda f: startup.text(f["results"])),
        "growth": _with_origin(told["growth"], lambda f: growth.text(f["results"])),
    }
    page = TEXT.read_text()
    for name, piece in pieces.items():
        page = page.replace("{" + name + "}", piece)
    PAGE.write_text(page)
    for key, title, file in (
        ("p99_ms", "Delay of an event, p99, ms", "delay.svg"),
        ("us_a_delivery", "CPU a delivery, µs", "cpu.svg"),
    ):
        (RESULTS / file).write_text(_plot(told["fanout"], key, title))


def _read(name: str) -> Figures | None:
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text())) if file.exists() else None


def _with_origin(told: Figures | None, text: object) -> str:
    if told is None or not callable(text):
        return "_Not measured yet on a quiet machine._"
    machine = told["machine"]
    short = "; a quick run" if told["quick"] else ""
    origin = (
        f"_{machine['date']}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}, load {machine['load']} at the end{short}._"
    )
    return f"{text(told)}\n\n{origin}"


def _plot(told: Figures | None, key: str, title: str) -> str:
    """A figure over the number of watchers of one task, both axes logarithmic."""
    scenes = [scene for scene in (told or {"scenes": []})["scenes"] if scene["tasks"] == 1]
    lines: dict[str, list[tuple[float, float]]] = {}
    for scene in scenes:
        for result in scene["results"]:
            lines.setdefault(result["server"], []).append((scene["clients"], max(0.1, result[key])))
    points = [point for line in lines.values() for point in line] or [(1, 1), (10, 10)]
    across = _Scale([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _Scale([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        _text(LEFT, 20, title, weight="bold"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "watchers of one task"),
    ]
    parts += [_text(across(x), HEIGHT - BOTTOM + 18, f"{x:,.0f}") for x in sorted({x for x, _ in points})]
    for tick in _ticks([y for _, y in points]):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="#d1d5db"/>'
        )
        parts.append(_text(LEFT - 8, up(tick) + 4, f"{tick:g}", anchor="end"))
    ends = sorted((up(line[-1][1]), name, line) for name, line in lines.items())
    last = 0.0
    for y, name, line in ends:
        colour = COLOURS.get(name, "#111827")
        path = " ".join(f"{across(x):.1f},{up(value):.1f}" for x, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(v):.1f}" r="3" fill="{colour}"/>' for x, v in line]
        last = max(y + 4, last + 16)
        parts.append(_text(across(line[-1][0]) + 8, last, name, anchor="start", colour=colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


class _Scale:
    """A logarithmic axis from one pixel to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, high = math.log10(min(values)), math.log10(max(values))
        self._start, self._step = start, (end - start) / max(high - self._low, 0.1)

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) * self._step


def _ticks(values: Sequence[float]) -> list[float]:
    steps = [digit * 10.0**power for power in range(-1, 5) for digit in (1, 2, 5)]
    return [step for step in steps if min(values) <= step <= max(values)]


def _text(
    x: float, y: float, words: str, *, anchor: str = "middle", colour: str = "#111827", weight: str = "normal"
) -> str:
    anchor = "start" if weight == "bold" else anchor
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">{words}</text>'


if __name__ == "__main__":
    main()
