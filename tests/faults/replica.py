"""
python -m tests.faults.replica: `python -m enhancer serve --port 0`, with shorter waits for what may be lost.

Everything is the service's own. Only the spans that no setting has are cut, or a fault would take minutes: how long a
statement, a silent Redis, store and video server are waited for, how old a permit may be, how long an order is left
alone between two looks, and the margin after which a call cannot be running any more.
"""

from __future__ import annotations

import sys
from datetime import timedelta

from enhancer import bus, cli
from enhancer.pipeline import gate, waiting
from enhancer.providers import connecting
from enhancer.providers.remote import server, videos
from enhancer.storage import database, files
from enhancer.web import hub

MARGIN = 5.0  # seconds
COMMAND_TIMEOUT = 2.0  # seconds
PERMIT_LIFE = 1.5  # seconds
SILENCE = timedelta(seconds=3)


def main() -> int:
    connecting.MARGIN = MARGIN
    database.COMMAND_TIMEOUT = COMMAND_TIMEOUT
    gate.PERMIT_LIFE = PERMIT_LIFE
    files.SILENCE, files.RETRIES = SILENCE, SILENCE / 2
    waiting.FIRST_PAUSE, waiting.LONGEST_PAUSE = 0.2, 1.0
    videos.LOOK_TIMEOUT, server.QUIET = 3.0, 5.0
    bus.QUIET = 2.0
    hub.RECONCILE = 4.0
    return cli.main(["serve", "--port", "0"])


if __name__ == "__main__":
    sys.exit(main())
