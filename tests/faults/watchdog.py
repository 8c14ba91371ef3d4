"""
Ends what the harness has started, should the harness itself be ended first.

Reads process ids from stdin, one a line. When stdin ends, it kills those that still are the processes they were.
"""

from __future__ import annotations

import contextlib
import sys

import psutil


def main() -> None:
    watched = []
    for line in sys.stdin:
        with contextlib.suppress(psutil.NoSuchProcess):
            watched.append(psutil.Process(int(line)))
    for process in reversed(watched):
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil compares start times before it signals
            process.kill()


if __name__ == "__main__":
    main()
