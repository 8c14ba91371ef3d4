"""
The stand-in's strings, for those who run it as a process.

    POST /__control__/hold/edits             from now on, calls of this kind wait
    POST /__control__/release/edits          let them go
    POST /__control__/fail/chat/503?times=2  the next two go wrong, by a recipe's name
    GET  /__control__/arrived/edits?count=3  answers once so many have come since the start
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, get_args

from aiohttp import web

from tests.fakes.openai import faults
from tests.fakes.openai.calls import Hold, Kind
from tests.fakes.openai.faults import Fault

if TYPE_CHECKING:
    from tests.fakes.openai.server import FakeOpenAI

RECIPES: Mapping[str, Callable[[], Fault]] = {
    "429": lambda: faults.rate_limited("1"),
    "429-3s": lambda: faults.rate_limited("3"),
    "500": lambda: faults.status(500),
    "503": lambda: faults.status(503),
    "moderated": faults.moderated,
    "html": faults.html,
    "empty": faults.empty,
    "wrong-json": faults.wrong_json,
    "not-an-image": faults.not_an_image,
    "half-an-image": faults.half_an_image,
    "unread": faults.unread,
    "dropped": faults.dropped,
    "truncated": faults.truncated,
    "hang": faults.hang,
}
"""Faults by the name that a control call uses."""


class Control:
    """Answers the control calls of one stand-in."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self._fake = fake
        self._holds: dict[Kind, Hold] = {}

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_post("/__control__/hold/{kind}", self._hold)
        app.router.add_post("/__control__/release/{kind}", self._release)
        app.router.add_post("/__control__/fail/{kind}/{recipe}", self._fail)
        app.router.add_get("/__control__/arrived/{kind}", self._arrived)

    async def _hold(self, request: web.Request) -> web.Response:
        kind = _kind(request)
        self._holds[kind] = self._fake.hold(kind)
        return web.Response()

    async def _release(self, request: web.Request) -> web.Response:
        self._holds.pop(_kind(request)).release()
        return web.Response()

    async def _fail(self, request: web.Request) -> web.Response:
        recipe = RECIPES[request.match_info["recipe"]]
        self._fake.fail(_kind(request), recipe(), times=int(request.query.get("times", "1")))
        return web.Response()

    async def _arrived(self, request: web.Request) -> web.Response:
        await self._fake.arrived(_kind(request), int(request.query.get("count", "1")))
        return web.Response()


def _kind(request: web.Request) -> Kind:
    kinds: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return kinds[request.match_info["kind"]]
