"""What the tests of a task's whole life share: a customer of interface 1, and tasks in any state."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import aiohttp
from PIL import Image
from pydantic import SecretStr

from enhancer.domain.accounts import User
from enhancer.domain.enhancements import EnhancementInput
from enhancer.domain.tasks import Event, Kind, Status, Task, encode
from enhancer.pipeline.lifecycle import CANCEL
from enhancer.service import Service
from enhancer.settings import Settings
from enhancer.storage import subscriptions, tasks, users
from enhancer.storage.database import Pool
from tests.conftest import Running
from tests.fakes.openai import FakeOpenAI

T = TypeVar("T")

API = "/api/v1/ai"
PATIENCE = 60.0  # seconds for anything to come
LOOK = 0.01  # seconds between two looks at a table

_numbers = itertools.count(1)


def with_models(settings: Settings, openai: FakeOpenAI, **over: object) -> Settings:
    """The settings with a key, an address that leads to the stand-in, and whatever else."""
    models = {"openai_api_key": SecretStr(openai.key), "openai_base_url": openai.url, "poll_interval": 0.05}
    return settings.model_copy(update={**models, **over})


@cache
def small_photo(colour: str = "teal") -> bytes:
    """A JPEG, wider than high."""
    out = io.BytesIO()
    Image.new("RGB", (96, 64), colour).save(out, "JPEG")
    return out.getvalue()


# -- over HTTP


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `body` is its JSON, None when it has none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        """Of a problem."""
        return str(self.body["code"])


class Stream:
    """A stream whose response has begun. An event is the JSON of its data, with its `id`; named ones are skipped."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status

    async def next(self) -> dict[str, Any] | None:
        """The next event; None at the end."""
        about: dict[str, Any] = {}
        async with asyncio.timeout(PATIENCE):
            while line := await self._response.content.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    about["id"] = int(value)
                elif name == "data" and "id" in about:
                    return {**about, **json.loads(value)}
        return None

    async def until(self, said: str) -> list[dict[str, Any]]:
        """The next events, up to the one whose message begins so."""
        events = []
        while event := await self.next():
            events.append(event)
            if event.get("message", "").startswith(said):
                return events
        raise AssertionError(f"the stream ended before {said!r}: {events}")

    async def rest(self) -> list[dict[str, Any]]:
        """All events up to the end."""
        events = []
        while event := await self.next():
            events.append(event)
        return events


class Customer:
    """A user of a running service, its own one or another."""

    def __init__(self, running: Running, user: User | None = None) -> None:
        self.user = user or running.user
        self._http = running.http
        self._headers = {"Authorization": f"Bearer {running.service.tokens.account(self.user.id)}"}

    async def order(
        self, file: bytes | None = None, *, key: str | None = None, wait: bool = False, **fields: str
    ) -> Reply:
        """Send a photo. `wait`: by the synchronous call."""
        form = aiohttp.FormData(fields)
        form.add_field("file", small_photo() if file is None else file, filename="photo.jpg")
        more = {} if key is None else {"Idempotency-Key": key}
        return await self._ask("POST", f"{API}/enhance-and-script{'' if wait else '-async'}", more, form)

    async def accepted(self, *, language: str = "en") -> int:
        """The id of a task that was accepted."""
        reply = await self.order(language=language)
        assert reply.status == 202, reply
        return int(reply.body["id"])

    async def status(self, task_id: int) -> Reply:
        """GET …/status."""
        return await self.get(task_id, "/status")

    async def cancel(self, task_id: int) -> Reply:
        """POST …/cancel."""
        return await self._ask("POST", f"{API}/enhance-and-script/{task_id}/cancel")

    async def retry(self, task_id: int) -> Reply:
        """POST …/retry."""
        return await self._ask("POST", f"{API}/enhance-and-script/{task_id}/retry")

    async def delete(self, task_id: int) -> Reply:
        """DELETE."""
        return await self._ask("DELETE", f"{API}/enhance-and-script/{task_id}")

    async def calls(self, task_id: int) -> Reply:
        """GET …/calls."""
        return await self.get(task_id, "/calls")

    async def get(self, task_id: int, what: str) -> Reply:
        """GET anything of a task."""
        return await self._ask("GET", f"{API}/enhance-and-script/{task_id}{what}")

    @asynccontextmanager
    async def stream(self, task_id: int, *, after: int | None = None) -> AsyncIterator[Stream]:
        """The stream of a task. `after`: the Last-Event-ID that is sent."""
        headers = self._headers | ({} if after is None else {"Last-Event-ID": str(after)})
        async with self._http.get(f"{API}/enhance-and-script/{task_id}/stream", headers=headers) as response:
            yield Stream(response)

    async def events(self, task_id: int, *, after: int | None = None) -> list[dict[str, Any]]:
        """What the stream brings, up to its end."""
        async with self.stream(task_id, after=after) as stream:
            return await stream.rest()

    async def ended(self, task_id: int) -> Any:
        """The short task, once its stream has ended."""
        await self.events(task_id)
        return (await self.status(task_id)).body

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, data: aiohttp.FormData | None = None
    ) -> Reply:
        asked = self._headers | dict(headers or {})
        async with self._http.request(method, path, headers=asked, data=data) as answer:
            text = await answer.text()
            return Reply(answer.status, answer.headers, json.loads(text) if text else None)


def cancellations(service: Service) -> asyncio.Queue[str]:
    """The hints that a service gets, each after its workers have got it."""
    heard = asyncio.Queue[str]()
    service.bus.listen(CANCEL, heard.put_nowait)
    return heard


# -- in the tables


async def new_user(pool: Pool) -> int:
    """The id of a user with an active subscription, who cannot sign in."""
    user = await users.insert(pool, f"nobody{next(_numbers)}@example.com", "no hash")
    await subscriptions.activate(pool, user.id, plan="test", quota=None, days=30)
    return user.id


async def waiting(pool: Pool, user_id: int | None = None, *, original: str | None = None) -> Task:
    """A task that waits; of a new user, and without a photo, unless these are given."""
    owner = user_id or await new_user(pool)
    key = f"key-of-a-test-{next(_numbers):08}"
    path = original or f"user_{owner}/originals/original_{key}.jpg"
    order = EnhancementInput(key=key, original=path, user_description="A cup", duration=4, language="en")
    task = await tasks.insert(pool, owner, Kind.ENHANCEMENT, order.model_dump(), max_attempts=4)
    assert task is not None
    return task


async def claim(pool: Pool, worker: str = "a", *, lease: float = 60) -> Task:
    """The one task that waits, in the hands of a worker."""
    [task] = await tasks.claim(pool, worker, limit=1, per_user=1000, lease=lease, time_limits={Kind.ENHANCEMENT: 600})
    return task


async def claimed(pool: Pool) -> Task:
    """A new task in the hands of a worker."""
    await waiting(pool)
    return await claim(pool)


async def finish(pool: Pool, task: Task, status: Status) -> Task:
    """The task, ended by its worker."""
    error = ("provider_refused", "The provider refused the request.") if status is Status.FAILED else None
    told = said(task, status=status.value)
    assert await tasks.finish(pool, task, told, status, progress=30, message="over", output={"found": 1}, error=error)
    return await now(pool, task)


async def in_state(pool: Pool, status: Status) -> Task:
    """A new task in a state."""
    if status is Status.PENDING:
        return await waiting(pool)
    task = await claimed(pool)
    return task if status is Status.PROCESSING else await finish(pool, task, status)


async def now(pool: Pool, task: Task | int) -> Task:
    """The task as the table has it."""
    found = await tasks.get(pool, task if isinstance(task, int) else task.id)
    assert found is not None
    return found


def said(task: Task, **more: object) -> Event:
    """The task's next event."""
    return Event(task.last_seq + 1, encode({"progress": task.progress, "message": "…", "status": "processing", **more}))


async def told(pool: Pool, task_id: int) -> list[dict[str, Any]]:
    """The events in the table, each with its `id`."""
    rows = await pool.fetch("SELECT seq, data FROM task_events WHERE task_id = $1 ORDER BY seq", task_id)
    return [{"id": row["seq"], **json.loads(row["data"])} for row in rows]


async def eventually(look: Callable[[], Awaitable[T | None]]) -> T:
    """The first thing that `look` finds: what happens in a table rings no bell here."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await look()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
    return found
