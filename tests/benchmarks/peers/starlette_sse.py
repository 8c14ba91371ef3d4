"""
sse-starlette as its documentation has it, with one Redis subscription for the process and a queue a client.

    uvicorn starlette_sse:app
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import redis.asyncio as redis
from fastapi import FastAPI
from sse_starlette import EventSourceResponse, ServerSentEvent

queues: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    reader = asyncio.create_task(read())
    yield
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


async def read() -> None:
    async with redis.from_url(os.environ["REDIS_URL"], decode_responses=True).pubsub() as pubsub:
        await pubsub.psubscribe("enhancement:*")
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                for queue in queues[message["channel"]]:
                    queue.put_nowait(message["data"])


app = FastAPI(lifespan=lifespan)


@app.get("/api/v1/ai/enhance-and-script/{task_id}/stream")
async def stream(task_id: int) -> EventSourceResponse:
    channel = f"enhancement:{task_id}"

    async def events() -> AsyncIterator[ServerSentEvent]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues[channel].add(queue)
        try:
            yield ServerSentEvent(comment="connected")
            while True:
                yield ServerSentEvent(data=await queue.get())
        finally:
            queues[channel].discard(queue)

    return EventSourceResponse(events())
