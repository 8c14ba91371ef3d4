"""Clients as they should be: they repeat an unanswered upload under its key, and come back to a stream that broke."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from enhancer.tokens import Tokens
from tests.faults.checker import FINAL, Accepted, Watched
from tests.faults.patience import LOOK

API = "/api/v1/ai/enhance-and-script"
VIDEO_API = "/api/v1/videos"
GONE = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError
ANSWER = aiohttp.ClientTimeout(total=8, connect=2)
LONGEST_LOOK = 20.0  # seconds; aiohttp's client waits for ever on a stream that another answer was written into
STREAM = aiohttp.ClientTimeout(total=None, connect=2, sock_read=18)  # a comment comes every 15 s


@dataclass(frozen=True, slots=True)
class Order:
    """
    What a client wants: its photo enhanced, or made a video.

    `token` is in the description, and so in every prompt: it links calls with tasks.
    """

    user_id: int
    video: bool = False
    token: str = field(default_factory=lambda: f"order-{secrets.token_hex(6)}")


class Clients:
    """
    All clients of a run, and what they saw.

    `addresses` gives the replicas that can be asked at the moment.
    """

    def __init__(
        self, http: aiohttp.ClientSession, tokens: Tokens, photo: bytes, addresses: Callable[[], Sequence[str]]
    ):
        self.http = http
        self.accepted: list[Accepted] = []
        self.watched: list[Watched] = []
        self.faults = 0  # answers that say that something is wrong with the service, not with what it needs
        self._tokens = tokens
        self._photo = photo
        self._addresses = addresses
        self._turn = 0

    def headers(self, user_id: int) -> dict[str, str]:
        """Who is calling."""
        return {"Authorization": f"Bearer {self._tokens.account(user_id)}"}

    def address(self) -> str:
        """The next replica. Raises ConnectionError when there is none."""
        found = self._addresses()
        if not found:
            raise ConnectionError("no replica")
        self._turn += 1
        return found[self._turn % len(found)]

    async def post(self, order: Order, *, seconds: float = 8) -> tuple[int, dict[str, object]]:
        """One try to upload: the status and the body. Raises what GONE lists."""
        path, field = (f"{VIDEO_API}/generate", "prompt") if order.video else (f"{API}-async", "user_description")
        form = aiohttp.FormData({field: f"A lamp ({order.token})"})
        form.add_field("file", self._photo, filename="lamp.jpg")
        patience = aiohttp.ClientTimeout(total=seconds, connect=2)
        headers = {**self.headers(order.user_id), "Idempotency-Key": order.token}
        async with self.http.post(f"{self.address()}{path}", data=form, headers=headers, timeout=patience) as answer:
            body = await answer.json()
            if answer.status == 202:
                self.accepted.append(Accepted(order.token, body["id"]))
            return answer.status, body

    async def upload(self, order: Order, *, seconds: float = 60) -> int:
        """The id of the task, however often it has to be asked for."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    status, body = await self.post(order)
                except GONE:
                    status, body = 0, {}
                if status == 202:
                    return int(str(body["id"]))
                assert status in {0, 429, 500, 503}, f"an upload was answered by {status}: {body}"
                self.faults += status == 500
                await asyncio.sleep(LOOK * 5)

    async def cancel(self, user_id: int, task_id: int, *, video: bool = False) -> int:
        """The status of the answer."""
        url = f"{self.address()}{_api(video)}/{task_id}/cancel"
        async with self.http.post(url, headers=self.headers(user_id), timeout=ANSWER) as answer:
            return answer.status

    async def get(self, path: str, *, user_id: int | None = None) -> tuple[int, str]:
        """The status and the text of an answer."""
        headers = self.headers(user_id) if user_id else {}
        async with self.http.get(f"{self.address()}{path}", headers=headers, timeout=ANSWER) as answer:
            return answer.status, await answer.text()

    async def watch(self, user_id: int, task_id: int, *, video: bool = False) -> None:
        """Follow a task to its end, over as many connections as it takes."""
        watched = Watched(task_id)
        self.watched.append(watched)
        while not _ended(watched):
            with contextlib.suppress(*GONE):
                async with asyncio.timeout(LONGEST_LOOK):
                    await self._follow(user_id, watched, f"{_api(video)}/{task_id}/stream")
            await asyncio.sleep(LOOK * 5)

    async def _follow(self, user_id: int, watched: Watched, path: str) -> None:
        """One connection, to its end."""
        headers = self.headers(user_id)
        if watched.events:
            headers["Last-Event-ID"] = str(watched.events[-1][0])
        async with self.http.get(f"{self.address()}{path}", headers=headers, timeout=STREAM) as answer:
            assert answer.status in {200, 429, 500, 503}, f"a stream was answered by {answer.status}"
            self.faults += answer.status == 500
            if answer.status == 200:
                await _read(answer.content, watched)


async def _read(content: aiohttp.StreamReader, watched: Watched) -> None:
    number, text, passing = 0, "", False
    async for raw in content:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "id":
            number = int(value)
        elif name == "event":
            passing = True
        elif name == "data":
            text = value
        elif name == "" and text:
            if not passing:
                watched.events.append((number, text))
            text, passing = "", False


def _api(video: bool) -> str:
    return VIDEO_API if video else API


def _ended(watched: Watched) -> bool:
    return bool(watched.events) and json.loads(watched.events[-1][1])["status"] in FINAL
