"""Recipes for calls that go wrong: `fake.fail("edits", faults.status(503), times=2)`."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.fakes.openai import answers
from tests.fakes.openai.calls import waited
from tests.fakes.openai.checks import Order


async def _nothing() -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Scene:
    """
    Where a fault happens: the request, what it ordered, the body of a good answer, the server's end.

    `events`: those of a good answer that is streamed.
    """

    request: web.Request
    order: Order
    good: Callable[[], Awaitable[bytes]]
    closing: asyncio.Event
    events: Callable[[], Awaitable[list[str]]] = _nothing


@dataclass(frozen=True, slots=True)
class Fault:
    """
    `unread`: it happens before the body is read. `billed`: whether the provider would charge all the same.

    `act` gives the answer, or None when the connection is gone.
    """

    name: str
    act: Callable[[Scene], Awaitable[web.StreamResponse | None]]
    billed: bool = True
    unread: bool = False


def status(
    number: int,
    code: str | None = None,
    *,
    type: str | None = None,  # noqa: A002 - OpenAI's name for it
    message: str = "The stand-in was told to fail.",
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """An error in OpenAI's form."""
    error = {"message": message, "type": type or "server_error", "param": None, "code": code}
    return body(json.dumps({"error": error}), number=number, headers=headers, name=f"status {number}")


def rate_limited(retry_after: str | None = "2") -> Fault:
    """429 that passes."""
    headers = {"Retry-After": retry_after} if retry_after is not None else {}
    return status(429, "rate_limit_exceeded", type="requests", message="Rate limit reached.", headers=headers)


def no_credit() -> Fault:
    """429 that stays."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return status(429, "insufficient_quota", type="insufficient_quota", message=message)


def moderated() -> Fault:
    """400 by the safety system."""
    message = "Your request was rejected by the safety system. safety_violations=[violence]."
    return status(400, "moderation_blocked", type="image_generation_user_error", message=message)


def html(number: int = 200) -> Fault:
    """A page, as proxies send it."""
    return body("<!doctype html><title>Sign in</title>", number=number, content_type="text/html", name="html")


def empty() -> Fault:
    """200 and nothing."""
    return body("", name="empty")


def broken_json() -> Fault:
    """200 and half of a JSON text."""
    return body('{"data": [{"b64_json": "', name="broken json")


def wrong_json() -> Fault:
    """200 and JSON of another kind."""
    return body('{"hello": ["world"]}', name="wrong json")


def not_an_image() -> Fault:
    """200 and base64 of something else."""
    return image(base64.b64encode(b"this is no image" * 100).decode())


def half_an_image() -> Fault:
    """200 and an image whose pixels stop in the middle."""

    async def act(scene: Scene) -> web.StreamResponse:
        data = base64.b64decode(json.loads(await scene.good())["data"][0]["b64_json"])
        return web.json_response({"data": [{"b64_json": base64.b64encode(data[: len(data) // 2]).decode()}]})

    return Fault("half an image", act)


def image(b64_json: str) -> Fault:
    """200 and any text as the image."""
    return body(json.dumps({"created": 1, "data": [{"b64_json": b64_json}]}), name="image")


def link(url: str = "http://127.0.0.1:1/image.png") -> Fault:
    """200 and a link instead of the image."""
    return body(json.dumps({"created": 1, "data": [{"url": url}]}), name="link")


def say(content: str | None, **over: Any) -> Fault:
    """A completion with any content; `refusal` and `finish_reason` as given."""

    async def act(scene: Scene) -> web.StreamResponse:
        return web.json_response(answers.completion(scene.order, content, **over))

    return Fault("say", act)


def refusal() -> Fault:
    """A completion that declines."""
    return say(None, refusal="I can't help with that.")


def body(
    text: str,
    *,
    number: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    name: str = "body",
) -> Fault:
    """Any answer."""

    async def act(scene: Scene) -> web.StreamResponse:
        return web.Response(text=text, status=number, content_type=content_type, headers=headers)

    return Fault(name, act, billed=number < 400)


def unread() -> Fault:
    """The connection breaks before the body is read: not billed, which the caller cannot know."""

    async def act(scene: Scene) -> None:
        if scene.request.transport is not None:
            scene.request.transport.abort()

    return Fault("unread", act, billed=False, unread=True)


def dropped() -> Fault:
    """The connection breaks after the body was read: billed, which the caller cannot know."""

    async def act(scene: Scene) -> None:
        _close(scene)

    return Fault("dropped", act)


def truncated() -> Fault:
    """Half of a good answer, then the connection breaks."""

    async def act(scene: Scene) -> web.StreamResponse:
        good = await scene.good()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(good)
        await response.prepare(scene.request)
        await response.write(good[: len(good) // 2])
        _close(scene)
        return response

    return Fault("truncated", act)


def broken_stream(events: int, *, last: str = "", close: bool = True, name: str = "broken stream") -> Fault:
    """
    The first `events` events of a good answer, then `last`, and nothing more.

    `close`: the connection breaks, else the answer ends as if it were complete.
    """

    async def act(scene: Scene) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(scene.request)
        for line in [*(await scene.events())[:events], last]:
            await response.write(line.encode())
        if close:
            _close(scene)
        return response

    return Fault(name, act)


def stream_error(events: int = 1, *, code: str = "server_error") -> Fault:
    """A stream that says in its middle that something went wrong."""
    error = {"type": "error", "error": {"type": code, "code": code, "message": "The stand-in was told to stop here."}}
    return broken_stream(events, last=f"event: error\ndata: {json.dumps(error)}\n\n", close=False, name="stream error")


def no_streaming(number: int = 400) -> Fault:
    """A refusal of the parameter alone, in the words of servers of another make."""
    detail = [{"type": "extra_forbidden", "loc": ["body", "stream"], "msg": "Extra inputs are not permitted"}]
    return body(json.dumps({"detail": detail}), number=number, name=f"no streaming {number}")


def hang() -> Fault:
    """No answer until the caller gives up or the stand-in stops."""

    async def act(scene: Scene) -> None:
        await waited(scene.closing, scene.request)
        _close(scene)

    return Fault("hang", act)


def _close(scene: Scene) -> None:
    if scene.request.transport is not None:
        scene.request.transport.close()
