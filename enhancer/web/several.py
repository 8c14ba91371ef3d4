"""
One stream that follows several tasks: a browser opens six connections to a server, and a page may show more tasks.

Each event says whose it is; its id tells how far all of them are, such as enhancement:1=7,video:2=3. The hub's frames
are taken as they are: an event is not encoded again, only its id and its last bytes are other ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web
from pydantic import ValidationError

from enhancer.domain.tasks import Kind, Task
from enhancer.errors import InvalidRequest, NotFound
from enhancer.storage import tasks
from enhancer.web import auth
from enhancer.web.enhancements import answer, wrong
from enhancer.web.hub import Frame, Hub
from enhancer.web.keys import HUB, SERVICE
from enhancer.web.models import EVENTS, EventsRequest, EventsResponse
from enhancer.web.streams import Stream, last_event_id, served

MOST = 32  # tasks in a stream

_NAME = re.compile(rf"(?P<kind>{'|'.join(Kind)}):(?P<id>[1-9][0-9]{{0,17}})")
_SEEN = re.compile(r"([a-z]{1,20}:[0-9]{1,18})=([0-9]{1,18})")


async def events(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/events?tasks=enhancement:1,video:2 -> 200 and their events, or 204 when all last ones were seen."""
    asked = request.query.get("tasks", "")
    user_id = auth.watcher(request, asked)
    names = _names(asked.split(","))
    found = await _own(request, names, user_id)
    seen = _seen(last_event_id(request))
    after = {task.channel: _known(task, seen.get(task.channel, 0)) for task in found}
    wanted = [task for task in found if not (task.status.final and after[task.channel] == task.last_seq)]
    if not wanted:
        return web.Response(status=204)
    stream = Stream()
    several = _Several(stream, after)
    watching = partial(several.watching, request.app[HUB], wanted)
    return await served(request, user_id, stream, watching, about=f"{len(wanted)} tasks")


async def link(request: web.Request) -> web.Response:
    """POST /api/v1/events/link, JSON with `tasks` -> 200 and the address of their stream, with a token for it alone."""
    user_id = auth.caller(request)
    try:
        order = EventsRequest.model_validate_json(await request.read())
    except ValidationError as error:
        raise InvalidRequest(*wrong(error)) from None
    names = _names(order.tasks)
    await _own(request, names, user_id)
    service = request.app[SERVICE]
    together = ",".join(names)
    token = service.tokens.stream(user_id, together)
    return answer(EventsResponse(stream_url=f"{service.settings.public_url}{EVENTS}?tasks={together}&token={token}"))


class _Several:
    """The tasks of one stream. `sent`: the number of the last event of each that was written."""

    def __init__(self, stream: Stream, sent: dict[str, int]) -> None:
        self.stream = stream
        self._sent = sent

    @asynccontextmanager
    async def watching(self, hub: Hub, wanted: Sequence[Task]) -> AsyncIterator[None]:
        """Write the events of the tasks within the block; the stream ends when all of them have."""
        following = asyncio.create_task(self._follow_all(hub, wanted))
        following.add_done_callback(lambda _: self.stream.end())
        try:
            yield
        finally:
            following.cancel()
            [outcome] = await asyncio.gather(following, return_exceptions=True)
        if isinstance(outcome, BaseExceptionGroup):
            raise outcome.exceptions[0]

    async def _follow_all(self, hub: Hub, wanted: Sequence[Task]) -> None:
        async with asyncio.TaskGroup() as group:
            for task in wanted:
                group.create_task(self._follow(hub, task))

    async def _follow(self, hub: Hub, task: Task) -> None:
        strand = _Strand(self, task.channel)
        async with hub.watching(task, self._sent[task.channel], strand):
            await strand.done

    def write(self, name: str, frames: Sequence[Frame]) -> None:
        """Events of one task, their ids and data made those of all."""
        self.stream.say(b"".join(self._of_all(name, frame) for frame in frames))

    def _of_all(self, name: str, frame: Frame) -> bytes:
        head, _, data = frame.text.partition(b"\n")
        if head.startswith(b"id:"):  # named events have none
            self._sent[name] = frame.seq
            head = b"id: " + ",".join(f"{each}={seq}" for each, seq in self._sent.items() if seq).encode()
        return b'%b\n%b, "task": "%b"}\n\n' % (head, data.removesuffix(b"}\n\n"), name.encode())


class _Strand:
    """One of the tasks, see hub.Watcher."""

    def __init__(self, several: _Several, name: str) -> None:
        self.cursor = 0
        self.done = asyncio.get_running_loop().create_future()
        self._several = several
        self._name = name

    def give(self, frames: Sequence[Frame]) -> None:
        """See Watcher."""
        self._several.write(self._name, frames)

    def end(self) -> None:
        """See Watcher."""
        if not self.done.done():
            self.done.set_result(None)

    def tick(self, now: float) -> None:
        """See Watcher."""
        self._several.stream.tick(now)


def _names(given: Sequence[str]) -> list[str]:
    """The tasks that are meant, each once. Raises InvalidRequest."""
    names = list(dict.fromkeys(given))
    if not 1 <= len(names) <= MOST or not all(_NAME.fullmatch(name) for name in names):
        raise InvalidRequest(("tasks", f"Send 1 to {MOST} tasks such as enhancement:1,video:2."))
    return names


async def _own(request: web.Request, names: Sequence[str], user_id: int) -> list[Task]:
    """The tasks, in the order of their names. Raises NotFound when one is not the user's."""
    ids = [int(name.partition(":")[2]) for name in names]
    found = {task.channel: task for task in await tasks.several(request.app[SERVICE].pool, user_id, ids)}
    if not found.keys() >= set(names):
        raise NotFound("There is no such task.")
    return [found[name] for name in names]


def _seen(given: str) -> Mapping[str, int]:
    """What the client saw last of each task; anything odd means nothing."""
    matches = [_SEEN.fullmatch(part) for part in given.split(",", MOST)]
    return {match[1]: int(match[2]) for match in matches if match} if all(matches) else {}


def _known(task: Task, seq: int) -> int:
    return seq if seq <= task.last_seq else 0
