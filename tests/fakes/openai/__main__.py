"""
python -m tests.fakes.openai [--port 9009] [--delay SECONDS]: prints its address, then a line for each call.

It is held, let go and made to fail while it runs by the calls in control.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
from pathlib import Path

from tests.fakes.openai import Call, FakeOpenAI


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.openai", description="A stand-in for OpenAI.")
    parser.add_argument("--port", type=int, default=9009, help="0: any free one (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0, help="seconds that a model thinks")
    parser.add_argument("--fast", action="store_true", help="draw one image for each size, and send it again")
    parser.add_argument("--log", type=Path, help="append the line for each call to this file, too")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(**vars(parser.parse_args())))


async def serve(*, port: int, delay: float, fast: bool, log: Path | None) -> None:
    """Run until it is interrupted; any key is accepted."""

    def report(call: Call) -> None:
        line = json.dumps(dataclasses.asdict(call), ensure_ascii=False)
        say(line)
        if log:
            with log.open("a") as file:
                file.write(f"{line}\n")

    async with FakeOpenAI(key=None, port=port, delay=delay, fast=fast, on_call=report, control=True) as fake:
        say(f"OPENAI_BASE_URL={fake.url} OPENAI_API_KEY=any")
        await asyncio.Event().wait()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
