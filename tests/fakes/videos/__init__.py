"""
A stand-in for a server of `/v1/videos`: strict about what it is asked, and it can be held, made to fail, and counted.

    async with FakeVideos() as fake:
        fake.tell(Says("processing", None), Says("in_progress", 40), Says("completed", 100))
        fake.fail("look", faults.status(500))      # the next look goes wrong ...
        held = fake.hold("content")                # ... and every download waits
        ...
        assert fake.billed == 1
        assert fake.withdrawn == []

A look tells the next word of the order's story; the last one is repeated. `python -m tests.fakes.videos --port 9010`
runs it alone, with any key and a log of its calls.
"""

from tests.fakes.openai import faults
from tests.fakes.videos.calls import Call, Kind, Says
from tests.fakes.videos.films import film
from tests.fakes.videos.server import KEY, FakeVideos

__all__ = ["KEY", "Call", "FakeVideos", "Kind", "Says", "faults", "film"]
