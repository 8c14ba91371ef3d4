from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import aiohttp
import pytest
from pydantic import SecretStr

from enhancer import rates
from enhancer.settings import Settings
from tests.conftest import Running, Start
from tests.web import sse, story
from tests.web.forms import ASYNC, LOGIN, STATUS, STREAM, address, form, token
from tests.web.people import PASSWORD, member

pytestmark = pytest.mark.usefixtures("quiet")

Limited = Callable[..., Awaitable[Running]]


@pytest.fixture
def limited(settings: Settings, start: Start, monkeypatch: pytest.MonkeyPatch) -> Limited:
    """A service with these limits, whose windows no other test shares and which do not end during the test."""
    monkeypatch.setattr(rates, "PATIENCE", 30.0)
    monkeypatch.setattr(rates.Rule, "__init__", _rule_of(str(uuid4())))
    return lambda **limits: start(settings.model_copy(update={"workers": 0, "trust_proxy": "1", **limits}))


def _rule_of(test: str) -> Callable[..., None]:
    def init(self: rates.Rule, name: str, amount: int) -> None:
        for field, value in (("name", f"{test}-{name}"), ("amount", amount), ("seconds", 100_000_000)):
            object.__setattr__(self, field, value)

    return init


@asynccontextmanager
async def stranger(running: Running, address: str = "192.0.2.1") -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody without a token, at an address of the documentation."""
    headers = {"X-Forwarded-For": address}
    async with aiohttp.ClientSession(str(running.http.make_url("")), headers=headers) as http:
        yield http


async def status(http: aiohttp.ClientSession, path: str, **given: object) -> int:
    async with http.get(path, **given) as answer:  # type: ignore[arg-type]
        return answer.status


async def test_a_user_s_requests_are_limited_and_every_answer_tells(limited: Limited) -> None:
    running = await limited(user_request_limit=2)
    told = []
    for _ in range(3):
        async with running.http.get(STATUS.format(1)) as answer:
            about = {name: answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Policy")}
            told.append((answer.status, about["Limit"], about["Remaining"]))
            assert about["Policy"] == "2;w=100000000"
            assert int(answer.headers["RateLimit-Reset"]) > 0
            last = answer
            body = await answer.json(content_type=None)
    assert told == [(404, "2", "1"), (404, "2", "0"), (429, "2", "0")]
    assert body["code"] == "too_many_requests"
    assert int(last.headers["Retry-After"]) == int(last.headers["RateLimit-Reset"])
    other = await member(running.service.pool, "other@example.com")
    headers = {"Authorization": f"Bearer {running.service.tokens.account(other.id)}"}
    assert await status(running.http.session, str(running.http.make_url(STATUS.format(1))), headers=headers) == 404


async def test_replicas_count_a_user_together(limited: Limited) -> None:
    one, other = await limited(user_request_limit=2), await limited(user_request_limit=2)
    headers = {"Authorization": f"Bearer {token(one)}"}
    found = [
        await status(each.http.session, str(each.http.make_url(STATUS.format(1))), headers=headers)
        for each in (one, other, one)
    ]
    assert found == [404, 404, 429]


async def test_an_address_without_a_valid_token_is_limited_whatever_it_sends(limited: Limited) -> None:
    running = await limited(address_request_limit=3)
    async with stranger(running) as http, stranger(running, "192.0.2.2") as another:
        bad = {"Authorization": "Bearer nonsense"}
        asked = [(STATUS.format(1), bad), (STATUS.format(1), {}), ("/openapi.json", {}), ("/openapi.json", {})]
        assert [await status(http, path, headers=headers) for path, headers in asked] == [401, 401, 200, 429]
        assert await status(http, "/healthz") == await status(http, "/readyz") == 200, "a probe is never turned away"
        assert await status(another, "/openapi.json") == 200


async def test_what_a_client_claims_of_its_address_counts_for_nothing(limited: Limited) -> None:
    running = await limited(address_request_limit=2, trust_proxy=None)
    found = []
    for number in range(3):
        async with stranger(running, f"192.0.2.{number}") as http:
            found.append(await status(http, "/openapi.json"))
    assert found == [200, 200, 429]


async def test_uploads_are_limited_for_a_user_and_for_an_address(limited: Limited) -> None:
    for limits in ({"user_upload_limit": 1}, {"address_upload_limit": 1}):
        running = await limited(**limits)
        statuses = []
        for _ in range(2):
            async with running.http.post(ASYNC, data=form(), headers={"X-Forwarded-For": "192.0.2.7"}) as answer:
                statuses.append(answer.status)
        assert statuses == [202, 429]
        assert await status(running.http.session, str(running.http.make_url(STATUS.format(1)))) != 429


async def test_sign_ins_are_limited_for_an_account_known_or_not(limited: Limited) -> None:
    running = await limited(account_login_limit=2)
    for email in (running.user.email, "nobody@example.com"):
        found = []
        for number, password in enumerate(("wrong", "wrong", PASSWORD)):
            who = email.upper() if number == 1 else email
            async with (
                stranger(running, f"192.0.2.{number}") as http,
                http.post(LOGIN, json={"email": who, "password": password}) as answer,
            ):
                found.append((answer.status, (await answer.json(content_type=None))["code"]))
        assert found == [(401, "unauthenticated")] * 2 + [(429, "too_many_requests")]


async def test_sign_ins_are_limited_for_an_address(limited: Limited) -> None:
    running = await limited(address_login_limit=2)
    async with stranger(running) as http:
        found = []
        for number in range(3):
            login = {"email": f"{number}@example.com", "password": "x"}
            async with http.post(LOGIN, json=login) as answer:
                found.append(answer.status)
    assert found == [401, 401, 429]


async def test_the_account_s_name_is_not_left_in_redis(limited: Limited, redis_url: str) -> None:
    running = await limited(account_login_limit=5)
    async with stranger(running) as http, http.post(LOGIN, json={"email": "secret@example.com", "password": "x"}):
        pass
    keys = [key async for key in running.service.bus._redis.scan_iter("enhancer:rates*")]
    assert keys
    assert not [key for key in keys if "secret" in key]


@pytest.mark.parametrize("limits", [{"user_stream_limit": 2}, {"address_stream_limit": 2}], ids=str)
async def test_more_streams_than_one_may_have_are_asked_to_come_back_later(
    limited: Limited, limits: dict[str, int]
) -> None:
    running = await limited(trust_proxy=None, **limits)
    task = await story.pending(running.service.pool, running.user.id)
    path = STREAM.format(task.id)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            client = await stack.enter_async_context(sse.connect(address(running), path, token=token(running)))
            await client.comment()
        third = await stack.enter_async_context(sse.connect(address(running), path, token=token(running)))
        assert third.status == 200, "any other answer would close a browser's EventSource for good"
        assert await third.rest() == []
        assert third.retry == [15000]


async def test_without_redis_limits_hold_and_nothing_fails(limited: Limited) -> None:
    running = await limited(user_request_limit=2, redis_url=SecretStr("redis://127.0.0.1:1"))
    path = str(running.http.make_url(STATUS.format(1)))
    assert [await status(running.http.session, path) for _ in range(3)] == [404, 404, 429]
