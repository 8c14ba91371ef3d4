"""
The form of a script: scenes with time codes, one a line.

    [0:00-0:02] What is seen. | What is said.

Times are whole seconds as M:SS. The first scene begins at 0:00, each begins where the one before ended, and the
last ends with the video. What is said may be missing, the bar with it. In Chinese the bar may be a wide one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SCENE = re.compile(
    r"^\W{0,3}(?P<m1>\d{1,2}):(?P<s1>\d\d)\s*[-–—~]\s*(?P<m2>\d{1,2}):(?P<s2>\d\d)"
    r"[]】\s*_:：.)）-]{0,5}(?P<text>.*)$"  # models decorate time codes in many ways
)
_BAR = re.compile(r"[|｜]")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is seen and said from `start` to `end`, seconds."""

    start: int
    end: int
    seen: str
    said: str

    def __str__(self) -> str:
        text = f"{self.seen} | {self.said}" if self.said else self.seen
        return f"[{_clock(self.start)}-{_clock(self.end)}] {text}"


def scenes(script: str) -> list[Scene]:
    """The scenes found in a script, in order; lines of another form are passed over."""
    return [scene for line in script.splitlines() if (scene := _scene(line.strip()))]


def fits(script: str, duration: int) -> bool:
    """Whether the scenes follow each other without a gap and fill exactly `duration` seconds."""
    found = scenes(script)
    edges = [scene.start for scene in found] + [duration]
    ends = [0] + [scene.end for scene in found]
    return bool(found) and edges == ends and all(scene.end > scene.start for scene in found)


def _scene(line: str) -> Scene | None:
    match = _SCENE.match(line)
    if match is None:
        return None
    start = int(match["m1"]) * 60 + int(match["s1"])
    end = int(match["m2"]) * 60 + int(match["s2"])
    seen, *said = _BAR.split(match["text"], maxsplit=1)
    return Scene(start, end, seen.strip(), "".join(said).strip().strip('"“”「」'))


def _clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02}"
