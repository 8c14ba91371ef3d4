"""The stand-in itself: orders and their stories, holds, faults and the record of calls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.fakes.openai.calls import Arrivals, Hold
from tests.fakes.openai.checks import Order, Refused
from tests.fakes.openai.faults import Fault, Scene
from tests.fakes.videos import checks
from tests.fakes.videos.calls import Call, Kind, Says
from tests.fakes.videos.control import Control
from tests.fakes.videos.films import film

KEY = "sk-video-stand-in-0123456789"
PIECE = 65_536  # bytes

STORY = (Says("queued"), Says("in_progress", 25), Says("in_progress", 75), Says("completed", 100))
DONE = {"completed", "succeeded"}


@dataclass(slots=True)
class _Video:
    """An order that was accepted; `told`: how many looks it was answered."""

    id: str
    order: Order
    created_at: int
    told: int = 0
    status: str = "queued"


@dataclass(slots=True)
class _Open:
    """A call that is not over yet."""

    kind: Kind
    port: int
    video: str
    started: float = field(default_factory=time.time)
    order: Order = field(default_factory=lambda: Order("", {}))
    outcome: str = "broken"
    status: int | None = None
    billed: bool = False
    sent: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    def closed(self) -> Call:
        return Call(
            kind=self.kind,
            started=self.started,
            ended=time.time(),
            outcome=self.outcome,
            status=self.status,
            video=self.video,
            model=self.order.model,
            fields=self.order.fields,
            billed=self.billed,
            port=self.port,
        )


class FakeVideos:
    """
    A server of `/v1/videos` on a free port of this machine, while the `async with` lasts.

    `key`: None takes any, and none. `port`: 0 is any free one. `film`: what is sent as every video; without it, a
    real one of the ordered size and length is made. `on_call` is told of each call when it is over. `control`: obey
    the calls of control.py.

    `omit`: fields that no answer has. `calls` has every call that is over, in order, and `withdrawn` the ids of the
    orders that were deleted.
    """

    def __init__(
        self,
        *,
        key: str | None = KEY,
        port: int = 0,
        film: bytes | None = None,
        on_call: Callable[[Call], None] | None = None,
        control: bool = False,
    ) -> None:
        self.key = key or KEY
        self.film = film
        self.omit: set[str] = set()
        self.calls: list[Call] = []
        self.withdrawn: list[str] = []
        self._story: tuple[Says, ...] = STORY
        self._videos: dict[str, _Video] = {}
        self._ids = itertools.count(1)
        self._any_key = key is None
        self._port = port
        self._on_call = on_call
        self._control = Control(self) if control else None
        self._holds: dict[Kind, Hold] = {}
        self._all_holds: list[Hold] = []
        self._faults: defaultdict[Kind, deque[Fault]] = defaultdict(deque)
        self._arrivals: defaultdict[Kind, Arrivals] = defaultdict(Arrivals)
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What VIDEO_BASE_URL has to be."""
        assert self._runner is not None, "not started"
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=100_000_000)
        app.router.add_post("/v1/videos", partial(self._serve, "order"))
        app.router.add_get("/v1/videos/{id}", partial(self._serve, "look"), allow_head=False)
        app.router.add_get("/v1/videos/{id}/content", partial(self._serve, "content"), allow_head=False)
        app.router.add_delete("/v1/videos/{id}", partial(self._serve, "withdraw"))
        if self._control:
            self._control.add_to(app)
        app.router.add_route("*", "/{path:.*}", partial(self._serve, "unknown"))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for held in self._all_holds:
            held.release()
        assert self._runner is not None
        await self._runner.cleanup()

    def tell(self, *story: Says) -> None:
        """From now on, this is what the looks at any order are answered with, one after the other."""
        self._story = story
        for video in self._videos.values():
            video.told = 0

    def lose(self) -> None:
        """Forget every order."""
        self._videos.clear()

    def hold(self, kind: Kind) -> Hold:
        """From now on, calls of this kind wait after they were read and checked, until `release()`."""
        self._holds[kind] = held = Hold(self._arrivals[kind])
        self._all_holds.append(held)
        return held

    def fail(self, kind: Kind, fault: Fault, *, times: int = 1) -> None:
        """Let the next `times` calls of this kind go wrong, after those that were told to before."""
        self._faults[kind].extend([fault] * times)

    async def arrived(self, kind: Kind, count: int = 1) -> None:
        """Return when `count` calls of this kind have come since the start, held or not."""
        await self._arrivals[kind].reach(count)

    def calls_of(self, kind: Kind) -> list[Call]:
        """The calls of a kind that are over."""
        return [call for call in self.calls if call.kind == kind]

    @property
    def billed(self) -> int:
        """How many orders a server would have charged for."""
        return sum(call.billed for call in self.calls)

    async def _serve(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        call = _Open(kind, request.get_extra_info("peername")[1], request.match_info.get("id", ""))
        call.order = Order("", {} if kind != "unknown" else {"path": request.path})
        try:
            response = await self._answered(request, call)
            call.status = response.status if call.sent else None
        except Refused as refused:
            call.outcome, call.status = "rejected", refused.status
            response = refused.response()
        finally:
            # also when the caller went away: its call is in the record, as it would be on the bill
            self._record(call)
        return response

    async def _answered(self, request: web.Request, call: _Open) -> web.StreamResponse:
        self._authorise(request)
        faults = self._faults[call.kind]
        if faults and faults[0].unread:
            return await self._failed(request, call, faults.popleft())
        if call.kind == "order":
            call.order = await checks.order(request)
        else:
            call.order = self._known(request, call).order
        await self._arrivals[call.kind].add()
        if call.kind in self._holds:
            await self._holds[call.kind].wait(request)
        if faults:
            return await self._failed(request, call, faults.popleft())
        body = await self._good(call)
        call.outcome, call.billed = "answered", call.kind == "order"
        if call.kind == "content":
            return await self._stream(request, body)
        return web.Response(body=body, content_type="application/json", headers=call.headers)

    async def _failed(self, request: web.Request, call: _Open, fault: Fault) -> web.StreamResponse:
        call.outcome, call.billed = fault.name, fault.billed and call.kind == "order"
        with contextlib.suppress(ConnectionError):
            response = await fault.act(Scene(request, call.order, partial(self._good, call), self._closing))
            if response is not None:
                return response
        call.sent = False
        return web.Response()  # goes nowhere: the connection is closed

    def _authorise(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if not self._any_key and (scheme != "Bearer" or key != self.key):
            raise Refused(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")

    def _known(self, request: web.Request, call: _Open) -> _Video:
        if call.kind == "unknown":
            raise Refused(404, f"Invalid URL ({request.method} {request.path})")
        if call.video not in self._videos:
            raise Refused(404, f"Video with id '{call.video}' not found.", code="not_found")
        return self._videos[call.video]

    async def _good(self, call: _Open) -> bytes:
        if call.kind == "order":
            video = _Video(f"video_{next(self._ids)}_{time.time_ns():x}", call.order, int(time.time()))
            self._videos[video.id] = video
            call.video = video.id
            return self._said(video, Says("queued"))
        video = self._videos[call.video]
        if call.kind == "look":
            says = self._story[min(video.told, len(self._story) - 1)]
            video.told, video.status, call.headers = video.told + 1, says.status, says.headers
            return self._said(video, says)
        if call.kind == "withdraw":
            del self._videos[video.id]
            self.withdrawn.append(video.id)
            return json.dumps({"id": video.id, "object": "video.deleted", "deleted": True}).encode()
        return await self._filmed(video)

    def _said(self, video: _Video, says: Says) -> bytes:
        answer: dict[str, object] = {
            "id": video.id,
            "object": "video",
            "created_at": video.created_at,
            "status": says.status,
            "progress": says.progress,
            "model": video.order.model,
            "seconds": video.order.fields["seconds"],
            "size": video.order.fields["size"],
            "error": None,
        }
        return json.dumps(
            {name: value for name, value in (answer | dict(says.more)).items() if name not in self.omit}
        ).encode()

    async def _filmed(self, video: _Video) -> bytes:
        if video.status not in DONE:
            raise Refused(400, "Video is not ready yet, use GET /v1/videos/{video_id} to check status.")
        if self.film is not None:
            return self.film
        width, _, height = video.order.fields["size"].partition("x")
        return await asyncio.to_thread(film, (int(width), int(height)), int(video.order.fields["seconds"]))

    async def _stream(self, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
        response.content_length = len(body)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            for start in range(0, len(body), PIECE):
                await response.write(body[start : start + PIECE])
            await response.write_eof()
        return response

    def _record(self, call: _Open) -> None:
        self.calls.append(call.closed())
        if self._on_call is not None:
            self._on_call(self.calls[-1])
