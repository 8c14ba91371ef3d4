"""
python -m tests.fakes.videos [--port 9010] [--log FILE]: prints its address, then a line for each call.

It is held, let go and made to fail while it runs by the calls in control.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
from pathlib import Path

from tests.fakes.openai.__main__ import say
from tests.fakes.videos import Call, FakeVideos


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.videos", description="A stand-in for /v1/videos.")
    parser.add_argument("--port", type=int, default=9010, help="0: any free one (default: %(default)s)")
    parser.add_argument("--film", type=Path, help="send this file as every video (default: made as it was ordered)")
    parser.add_argument("--log", type=Path, help="append the line for each call to this file, too")
    asked = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(asked.port, asked.film.read_bytes() if asked.film else None, asked.log))


async def serve(port: int, film: bytes | None, log: Path | None) -> None:
    """Run until it is interrupted; any key is accepted, and none."""

    def report(call: Call) -> None:
        line = json.dumps(dataclasses.asdict(call), ensure_ascii=False)
        say(line)
        if log:
            with log.open("a") as file:
                file.write(f"{line}\n")

    async with FakeVideos(key=None, port=port, film=film, on_call=report, control=True) as fake:
        say(f"VIDEO_BASE_URL={fake.url}")
        await asyncio.Event().wait()


if __name__ == "__main__":
    main()
