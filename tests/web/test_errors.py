from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.typedefs import Handler

from enhancer import errors
from enhancer.errors import RequestError, RetryLater
from enhancer.web.errors import STATUSES, from_error, problem, problems
from enhancer.web.models import Problem
from tests.conftest import Running
from tests.web.conftest import Served
from tests.web.forms import LOGIN
from tests.web.waiting import until

CONTRACT = {
    "unauthenticated": 401,
    "subscription_required": 402,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "request_timeout": 408,
    "upload_too_large": 413,
    "unsupported_image": 415,
    "invalid_image": 422,
    "invalid_request": 422,
    "too_many_requests": 429,
    "queue_full": 503,
    "storage_unavailable": 503,
    "video_unavailable": 503,
}


def family(cls: type[RequestError]) -> set[type[RequestError]]:
    return {cls}.union(*(family(child) for child in cls.__subclasses__()))


@asynccontextmanager
async def raising(error: Callable[[], BaseException]) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """A server whose only handler raises."""

    async def handler(request: web.Request) -> web.Response:
        raise error()

    app = web.Application(middlewares=[problems])
    app.router.add_get("/", handler)
    async with TestClient(TestServer(app)) as client:
        yield client


def test_every_error_of_a_request_has_the_status_that_was_promised() -> None:
    for cls in family(RequestError) - {RequestError, RetryLater}:
        assert cls in STATUSES, cls
        assert CONTRACT[cls.code] == STATUSES[cls], cls
    assert {cls.code for cls in STATUSES} - {"internal"} == set(CONTRACT)


def test_a_problem_says_what_it_is() -> None:
    answer = from_error(errors.InvalidRequest(("file", "It is missing."), ("duration", "It is odd.")))
    assert answer.text
    assert answer.content_type == "application/problem+json"
    assert json.loads(answer.text) == {
        "type": "urn:enhancer:problem:invalid_request",
        "title": "Invalid request",
        "status": 422,
        "detail": "The request is not valid.",
        "code": "invalid_request",
        "errors": [{"field": "file", "message": "It is missing."}, {"field": "duration", "message": "It is odd."}],
    }
    assert Problem.model_validate_json(answer.text).errors


def test_an_error_without_words_speaks_its_docstring() -> None:
    answer = from_error(errors.Forbidden())
    assert answer.text
    assert (answer.status, json.loads(answer.text)["detail"]) == (403, "This is not allowed.")


def test_a_kind_of_error_that_is_unknown_has_its_parent_s_status() -> None:
    class TooTired(errors.QueueFull):
        """The service sleeps."""

    assert from_error(TooTired()).status == 503


@pytest.mark.parametrize(("seconds", "header"), [(None, None), (0.2, "1"), (10.0, "10"), (10.5, "11"), (0, "0")])
def test_retry_after_is_in_whole_seconds(seconds: float | None, header: str | None) -> None:
    assert from_error(errors.QueueFull(retry_after=seconds)).headers.get("Retry-After") == header


def test_a_problem_in_any_language_is_utf_8() -> None:
    answer = problem(500, "internal", "出错了 🚨")
    assert answer.body
    assert "出错了 🚨" in bytes(answer.body).decode()  # type: ignore[arg-type]


async def test_what_nobody_expected_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with raising(lambda: ZeroDivisionError("a secret")) as client, client.get("/") as answer:
        assert answer.status == 500
        body = await answer.text()
    assert json.loads(body)["code"] == "internal"
    assert "secret" not in body
    assert "ZeroDivisionError" not in body
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "http.error"
    assert record.exc_info
    assert vars(record)["route"] == "/"


@pytest.mark.parametrize(
    "error",
    [
        OSError("down"),
        ConnectionRefusedError(),
        ConnectionResetError("by the database, not by the client"),
        TimeoutError(),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.CannotConnectNowError("starting"),
        asyncpg.InterfaceError("connection is closed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_storage_that_is_away_is_a_problem_that_passes(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with raising(lambda: error) as client, client.get("/") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
        assert (await answer.json(content_type=None))["code"] == "storage_unavailable"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_an_answer_that_has_begun_is_broken_off(caplog: pytest.LogCaptureFixture) -> None:
    """A second answer after the first bytes of another would be taken for a part of it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"the first bytes")
        raise ZeroDivisionError

    app = web.Application(middlewares=[problems])
    app.router.add_get("/", handler)
    async with TestClient(Served(app)) as client, client.get("/") as answer:
        assert answer.status == 200
        with pytest.raises(ClientPayloadError):
            await answer.read()
    assert [record.getMessage() for record in caplog.records] == ["http.error"]


async def test_a_client_that_is_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()
    statuses = []

    async def slow(request: web.Request) -> web.Response:
        arrived.set()
        await left.wait()
        await until(lambda: request.transport is None)
        raise ConnectionResetError

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await problems(request, handler)
        statuses.append(response.status)
        return response

    app = web.Application(middlewares=[note])
    app.router.add_get("/", slow)
    async with Served(app) as server:
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await asyncio.wait_for(arrived.wait(), 60)
        writer.transport.abort()
        left.set()
        await until(lambda: statuses)
    assert statuses == [499]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/nothing/here", 404, "not_found", None),
        ("GET", "/api/v1/ai/enhance-and-script/1/nothing", 404, "not_found", None),
        ("GET", LOGIN, 405, "method_not_allowed", "POST"),
        ("DELETE", "/healthz", 405, "method_not_allowed", "GET,HEAD"),
        ("PATCH", "/api/v1/ai/enhance-and-script", 405, "method_not_allowed", "GET,HEAD,POST"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    idle: Running, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async with idle.http.request(method, path) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        assert Problem.model_validate(await answer.json(content_type=None)).code == code
        assert answer.headers.get("Allow") == allow
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
