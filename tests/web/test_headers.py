from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from enhancer.errors import SetupError
from enhancer.web import headers
from enhancer.web.headers import Origins, policy
from enhancer.web.routes import ROUTES
from tests.conftest import Running, Start, make_settings
from tests.web import sse
from tests.web.forms import ASYNC, STATUS, STREAM, accept, address, form, token

pytestmark = pytest.mark.usefixtures("quiet")

ALWAYS = {
    "Server": "enhancer",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
SHOP, OTHER = "https://shop.example", "https://evil.example"


async def answers(running: Running) -> AsyncIterator[web.StreamResponse]:
    """An answer of every route and of some more addresses, whatever it is."""
    task = await accept(running.http)
    path = task["original_image_path"].removeprefix("/uploads/")
    targets = [(r.method, r.path.replace("{id}", str(task["id"])).replace("{path}", path)) for r in ROUTES]
    targets = [target for target in targets if target[0] != "DELETE"]
    for method, target in (*targets, ("GET", "/"), ("GET", "/nowhere"), ("PUT", "/docs"), ("GET", STATUS.format(99))):
        async with running.http.request(method, target, allow_redirects=False) as answer:
            yield answer  # type: ignore[misc]


async def test_every_answer_says_where_it_may_run(idle: Running) -> None:
    seen = 0
    async for answer in answers(idle):
        assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
        directives = answer.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in directives
        assert "frame-ancestors 'none'" in directives or "sandbox" in directives
        assert "Strict-Transport-Security" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers
        seen += 1
    assert seen >= len(ROUTES)


async def test_https_is_for_ever_when_we_are_reached_by_it(idle: Running, start: Start) -> None:
    secure = await start(idle.service.settings.model_copy(update={"base_url": "https://ads.example.com"}))
    async for answer in answers(secure):
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    async with sse.connect(address(secure), STREAM.format(1), token=token(secure)) as stream:
        assert stream.headers["strict-transport-security"] == "max-age=31536000"


def test_a_page_may_be_given_more() -> None:
    given = policy({"script-src": "'self' 'sha256-x'", "frame-ancestors": "'self'"}).split("; ")
    assert "script-src 'self' 'sha256-x'" in given
    assert "frame-ancestors 'self'" in given
    assert "default-src 'none'" in given


@pytest.fixture
async def shared(idle: Running, start: Start) -> Running:
    """A service that pages of one other origin may call."""
    return await start(idle.service.settings.model_copy(update={"cors_origins": f"{SHOP}, http://localhost:3000"}))


async def preflight(http: TestClient[web.Request, web.Application], path: str, origin: str) -> web.StreamResponse:
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, idempotency-key",
    }
    async with http.options(path, headers=asks) as answer:
        return answer  # type: ignore[return-value]


async def test_a_page_of_a_listed_origin_may_call(shared: Running) -> None:
    asked = await preflight(shared.http, ASYNC, SHOP)
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == SHOP
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert {"authorization", "idempotency-key"} <= set(
        asked.headers["Access-Control-Allow-Headers"].lower().split(", ")
    )
    async with shared.http.post(ASYNC, data=form(), headers={"Origin": SHOP}) as answer:
        assert answer.status == 202
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Location" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
        task = await answer.json()
    assert "Access-Control-Allow-Credentials" not in answer.headers
    async with shared.http.get(STATUS.format(99), headers={"Origin": SHOP}) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (404, SHOP)
    async with shared.http.get(STREAM.format(task["id"]), headers={"Origin": SHOP}) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, SHOP)


@pytest.mark.parametrize("origin", [OTHER, "null", "https://shop.example.evil.example", "http://shop.example", "*"])
async def test_a_page_of_any_other_origin_may_not(shared: Running, origin: str) -> None:
    asked = await preflight(shared.http, ASYNC, origin)
    assert asked.status == 405
    assert "Access-Control-Allow-Origin" not in asked.headers
    async with shared.http.get(STATUS.format(99), headers={"Origin": origin}) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Vary"] == "Origin", "a cache must not give one origin's answer to another"


@pytest.mark.parametrize("wrong", ["*", "shop.example", "https://shop.example/", "https://*.example", "null", "a b"])
def test_what_is_no_origin_is_one_clear_line(wrong: str) -> None:
    with pytest.raises(SetupError, match=r"^CORS_ORIGINS: "):
        Origins.of(make_settings(cors_origins=wrong))


def test_no_list_is_nobody() -> None:
    assert headers.Origins.of(make_settings()).allowed == frozenset()
