"""The stand-in itself: routes, holds, faults and the record of calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from tests.fakes.openai import answers, checks
from tests.fakes.openai.calls import Arrivals, Call, Hold, Kind
from tests.fakes.openai.checks import Order, Refused
from tests.fakes.openai.control import Control
from tests.fakes.openai.faults import Fault, Scene

KEY = "sk-stand-in-0123456789abcdef"

Check = Callable[[web.Request], Awaitable[Order]]

# name -> shutdown_date, as GET /v1/models/{id} has them; what is not here does not exist any more
MODELS: Mapping[str, str | None] = {
    "gpt-image-2.5-flare": None,
    "gpt-image-2.5-sunburst": None,
    "gpt-image-1.5": "2026-12-01",
    "gpt-image-1-mini": "2026-12-01",
    "gpt-6-luna": None,
    "gpt-4o": "2027-01-14",
}


@dataclass(slots=True)
class _Open:
    """A call that is not over yet."""

    kind: Kind
    port: int
    started: float = field(default_factory=time.time)
    order: Order = field(default_factory=lambda: Order("", {}))
    outcome: str = "broken"
    status: int | None = None
    billed: bool = False
    sent: bool = True

    def closed(self) -> Call:
        return Call(
            kind=self.kind,
            started=self.started,
            ended=time.time(),
            outcome=self.outcome,
            status=self.status,
            model=self.order.model,
            fields=self.order.fields,
            billed=self.billed,
            port=self.port,
        )


class FakeOpenAI:
    """
    OpenAI's edits, chat completions and models on a free port of this machine, while the `async with` lasts.

    `key`: None takes any. `delay`: seconds that a model thinks. `fast`: draw one image for each size and format, and
    send it again after that. `usage`: False leaves token counts out, as some servers do. `models`: further names.
    `port`: 0 is any free one. `on_call` is told of each call when it is over. `control`: obey the calls of control.py.

    `streams`: whether it can send an answer piece by piece; "refused": it refuses to be asked, "ignored": it answers
    at once all the same.

    `script` replaces what the language model writes. `calls` has every call that is over, in order.
    """

    def __init__(
        self,
        *,
        key: str | None = KEY,
        port: int = 0,
        delay: float = 0,
        fast: bool = False,
        usage: bool = True,
        streams: Literal["yes", "refused", "ignored"] = "yes",
        models: Mapping[str, str | None] | None = None,
        on_call: Callable[[Call], None] | None = None,
        control: bool = False,
    ) -> None:
        self.key = key or KEY
        self.delay = delay
        self.fast = fast
        self.usage = usage
        self.streams = streams
        self.script: str | None = None
        self.calls: list[Call] = []
        self.models = {**MODELS, **(models or {})}
        self._any_key = key is None
        self._port = port
        self._on_call = on_call
        self._control = Control(self) if control else None
        self._holds: dict[Kind, Hold] = {}
        self._pauses: dict[Kind, tuple[int, Hold]] = {}
        self._all_holds: list[Hold] = []
        self._faults: defaultdict[Kind, deque[Fault]] = defaultdict(deque)
        self._arrivals: defaultdict[Kind, Arrivals] = defaultdict(Arrivals)
        self._drawn: dict[tuple[str | None, str | None], bytes] = {}
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL has to be."""
        assert self._runner is not None, "not started"
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=200_000_000)
        app.router.add_post("/v1/images/edits", self._edits)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models/{model:.+}", self._model)
        if self._control:
            self._control.add_to(app)
        app.router.add_route("*", "/{path:.*}", self._unknown)
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

    def hold(self, kind: Kind) -> Hold:
        """From now on, calls of this kind wait after they were read and checked, until `release()`."""
        self._holds[kind] = held = Hold(self._arrivals[kind])
        self._all_holds.append(held)
        return held

    def pause(self, kind: Kind, *, after: int) -> Hold:
        """From now on, streamed answers of this kind stop after so many events, until `release()`."""
        held = Hold(self._arrivals[kind])
        self._pauses[kind] = (after, held)
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

    def billed(self, kind: Kind) -> int:
        """How many calls of a kind a provider would have charged for."""
        return sum(call.billed for call in self.calls_of(kind))

    async def _edits(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "edits", checks.edit)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "chat", checks.chat)

    async def _model(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "models", checks.model)

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "unknown", checks.unknown)

    async def _serve(self, request: web.Request, kind: Kind, check: Check) -> web.StreamResponse:
        call = _Open(kind, port=request.get_extra_info("peername")[1], order=Order("", {"path": request.path}))
        try:
            response = await self._answered(request, call, check)
            call.status = response.status if call.sent else None
        except Refused as refused:
            call.outcome, call.status = "rejected", refused.status
            response = refused.response()
        finally:
            # also when the caller went away: its call is in the record, as it would be on the bill
            self._record(call)
        return response

    async def _answered(self, request: web.Request, call: _Open, check: Check) -> web.StreamResponse:
        self._authorise(request)
        faults = self._faults[call.kind]
        if faults and faults[0].unread:
            return await self._failed(request, call, faults.popleft())
        call.order = await check(request)
        self._check_model(call.order.model)
        asked = call.order.fields.get("stream") == "true"
        if asked and self.streams == "refused":
            raise Refused(400, "Unknown parameter: 'stream'.", code="unknown_parameter", param="stream")
        await self._arrivals[call.kind].add()
        await self._wait(request, call.kind)
        if faults:
            return await self._failed(request, call, faults.popleft())
        call.outcome, call.billed = "answered", call.kind in {"edits", "chat"}
        if asked and self.streams == "yes":
            return await self._stream(request, call)
        return web.Response(body=await self._good(call), content_type="application/json")

    async def _failed(self, request: web.Request, call: _Open, fault: Fault) -> web.StreamResponse:
        call.outcome, call.billed = fault.name, fault.billed
        with contextlib.suppress(ConnectionError):
            response = await fault.act(
                Scene(request, call.order, partial(self._good, call), self._closing, partial(self._events, call))
            )
            if response is not None:
                return response
        call.sent = False
        return web.Response()  # goes nowhere: the connection is closed

    async def _wait(self, request: web.Request, kind: Kind) -> None:
        if kind in self._holds:
            await self._holds[kind].wait(request)
        if self.delay:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self.delay)

    async def _good(self, call: _Open) -> bytes:
        if call.kind == "models":
            answer = self._described(call.order.model)
        elif call.kind == "edits":
            answer = answers.images(await self._draw(call.order), call.order, usage=self.usage)
        else:
            answer = answers.completion(call.order, answers.written(call.order, self.script))
            answer |= {} if self.usage else {"usage": None}
        return json.dumps(answer).encode()

    async def _draw(self, order: Order) -> bytes:
        look = (order.fields.get("size"), order.fields.get("output_format"))
        if not self.fast or look not in self._drawn:
            self._drawn[look] = await asyncio.to_thread(answers.redrawn, order)
        return self._drawn[look]

    async def _stream(self, request: web.Request, call: _Open) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            stop, held = self._pauses.get(call.kind, (-1, None))
            for number, line in enumerate(await self._events(call)):
                if held and number == stop:
                    await held.wait(request)
                await response.write(line.encode())
            await response.write_eof()
        return response

    async def _events(self, call: _Open) -> list[str]:
        """A streamed answer, event by event."""
        drawn = await self._draw(call.order) if call.kind == "edits" else b""
        return await asyncio.to_thread(self._lines, call.order, drawn)

    def _lines(self, order: Order, drawn: bytes) -> list[str]:
        if drawn:
            events = answers.image_events(drawn, order, usage=self.usage)
            return [f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n" for name, data in events]
        content = answers.written(order, self.script)
        chunks = answers.completion_events(order, content, usage=order.fields["usage"] == "true")
        return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]

    def _authorise(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not (key == self.key or (self._any_key and key)):
            raise Refused(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")

    def _check_model(self, model: str) -> None:
        if model not in self.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise Refused(404, message, code="model_not_found")

    def _described(self, model: str) -> dict[str, Any]:
        known = {"id": model, "object": "model", "created": 1_780_000_000, "owned_by": "stand-in"}
        return known | {"shutdown_date": self.models[model]}

    def _record(self, call: _Open) -> None:
        self.calls.append(call.closed())
        if self._on_call is not None:
            self._on_call(self.calls[-1])
