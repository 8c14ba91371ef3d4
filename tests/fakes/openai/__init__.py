"""
A stand-in for OpenAI over HTTP: as strict as the real one, and it can be held, made to fail, and counted.

    async with FakeOpenAI() as fake:
        client = openai.AsyncOpenAI(base_url=fake.url, api_key=fake.key, max_retries=0)
        held = fake.hold("edits")                  # every images.edit waits from here on ...
        call = asyncio.create_task(client.images.edit(...))
        await held.arrived()                       # ... and this one is in
        held.release()
        fake.fail("chat", faults.status(503), times=2)
        assert [call.billed for call in fake.calls_of("edits")] == [True]

`python -m tests.fakes.openai --port 9009` runs it alone.
"""

from tests.fakes.openai import faults
from tests.fakes.openai.answers import CHAT_TOKENS, IMAGE_TOKENS
from tests.fakes.openai.calls import Call, Hold, Kind
from tests.fakes.openai.server import KEY, FakeOpenAI

__all__ = ["CHAT_TOKENS", "IMAGE_TOKENS", "KEY", "Call", "FakeOpenAI", "Hold", "Kind", "faults"]
