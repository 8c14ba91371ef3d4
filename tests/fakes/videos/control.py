"""
The stand-in's strings, for those who run it as a process.

    POST /__control__/tell                      the story from now on, JSON: [{"status": "queued", "progress": 0}, ...]
    POST /__control__/hold/look                 from now on, calls of this kind wait
    POST /__control__/release/look              let them go
    POST /__control__/fail/order/503?times=2    the next two go wrong, by a recipe's name
    POST /__control__/lose                      forget every order
    GET  /__control__/arrived/look?count=3      answers once so many have come since the start
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from aiohttp import web

from tests.fakes.openai.calls import Hold
from tests.fakes.openai.control import RECIPES
from tests.fakes.videos.calls import Kind, Says

if TYPE_CHECKING:
    from tests.fakes.videos.server import FakeVideos


class Control:
    """Answers the control calls of one stand-in."""

    def __init__(self, fake: FakeVideos) -> None:
        self._fake = fake
        self._holds: dict[Kind, Hold] = {}

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_post("/__control__/tell", self._tell)
        app.router.add_post("/__control__/lose", self._lose)
        app.router.add_post("/__control__/hold/{kind}", self._hold)
        app.router.add_post("/__control__/release/{kind}", self._release)
        app.router.add_post("/__control__/fail/{kind}/{recipe}", self._fail)
        app.router.add_get("/__control__/arrived/{kind}", self._arrived)

    async def _tell(self, request: web.Request) -> web.Response:
        self._fake.tell(*(Says(**says) for says in await request.json()))
        return web.Response()

    async def _lose(self, request: web.Request) -> web.Response:
        self._fake.lose()
        return web.Response()

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
