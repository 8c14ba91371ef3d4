from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from aiohttp import ClientResponse

from enhancer.domain.tasks import Kind
from enhancer.web.routes import ROUTES, Auth, Route
from tests.conftest import SECRET, Running
from tests.web.forms import ASYNC, STATUS, STREAM, accept, exchange, form, token
from tests.web.people import member

pytestmark = pytest.mark.usefixtures("quiet")

PROTECTED = [route for route in ROUTES if route.auth is not Auth.NONE]


@dataclass(frozen=True)
class Scene:
    """A service with a task of its user, and somebody else who has one, too."""

    running: Running
    task: Any
    other_task: Any
    stranger: str

    @property
    def path(self) -> str:
        """Of the task's original in the store."""
        return str(self.task["original_image_path"]).removeprefix("/uploads/")

    def target(self, route: Route) -> str:
        return route.path.replace("{id}", str(self.task["id"])).replace("{path}", self.path)


@pytest.fixture
async def scene(idle: Running) -> Scene:
    task, other_task = await accept(idle.http), await accept(idle.http)
    stranger = await member(idle.service.pool, "stranger@example.com")
    return Scene(idle, task, other_task, idle.service.tokens.account(stranger.id))


@asynccontextmanager
async def ask(
    scene: Scene, route: Route, authorization: str | None, *, query: str | None = None
) -> AsyncIterator[ClientResponse]:
    """Call a route with exactly these credentials."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    data = form() if route.method == "POST" else None
    session = scene.running.http.session
    url = scene.running.http.make_url(scene.target(route)).update_query({"token": query} if query is not None else {})
    kept = session.headers.popall("Authorization", [])
    try:
        async with session.request(route.method, url, headers=headers, data=data) as answer:
            yield answer
    finally:
        session.headers["Authorization"] = kept[0]


async def refused(answer: ClientResponse) -> None:
    assert answer.status == 401, (str(answer.url), await answer.text())
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await answer.json(content_type=None))["code"] == "unauthenticated"


def signed(key: str = SECRET, **claims: object) -> str:
    """A token with any claims; None leaves one out."""
    given = {"sub": "1", "aud": "account", "exp": int(time.time()) + 600} | claims
    return jwt.encode({name: value for name, value in given.items() if value is not None}, key, algorithm="HS256")


def unsigned(**claims: object) -> str:
    head, body = ({"alg": "none", "typ": "JWT"}, {"sub": "1", "aud": "account", "exp": int(time.time()) + 600} | claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in (head, body)) + "."


BAD: dict[str, Callable[[Scene], str]] = {
    "nothing at all": lambda scene: "",
    "no token": lambda scene: "nonsense",
    "forged": lambda scene: signed(key="another key that is long enough, too"),
    "expired": lambda scene: signed(exp=int(time.time()) - 1),
    "alg none": lambda scene: unsigned(),
    "another algorithm": lambda scene: jwt.encode(
        {"sub": "1", "aud": "account", "exp": int(time.time()) + 600}, SECRET * 2, algorithm="HS512"
    ),
    "another stream's": lambda scene: scene.running.service.tokens.stream(
        scene.running.user.id, Kind.ENHANCEMENT.channel(scene.other_task["id"])
    ),
    "another file's": lambda scene: scene.running.service.tokens.file("user_1/originals/other.jpg"),
    "for ever": lambda scene: signed(exp=None),
    "nobody's": lambda scene: signed(sub=None),
    "no number": lambda scene: signed(sub="one"),
    "a negative number": lambda scene: signed(sub="-1"),
    "a number too long": lambda scene: signed(sub="1" * 19),
    "a list of uses": lambda scene: signed(aud=["account"]),
    "cut off": lambda scene: token(scene.running)[:-2],
    "very long": lambda scene: "x" * 7000,
    "not ASCII": lambda scene: "é.é.é",
}


async def test_a_call_without_a_valid_token_is_refused(scene: Scene) -> None:
    for route in PROTECTED:
        async with ask(scene, route, None) as answer:
            await refused(answer)
        for bad in BAD.values():
            async with ask(scene, route, f"Bearer {bad(scene)}") as answer:
                await refused(answer)


async def test_a_link_with_a_bad_token_is_refused(scene: Scene) -> None:
    for route in PROTECTED:
        if route.auth is Auth.ACCOUNT_OR_LINK:
            for bad in BAD.values():
                async with ask(scene, route, None, query=bad(scene)) as answer:
                    await refused(answer)


async def test_a_token_in_the_address_is_taken_only_where_links_are(scene: Scene) -> None:
    for route in PROTECTED:
        async with ask(scene, route, None, query=token(scene.running)) as answer:
            if route.auth is Auth.ACCOUNT:
                await refused(answer)
            else:
                assert answer.status in {200, 404, 422}, route.path  # the task is of another kind; none is named


async def test_scoped_tokens_open_one_thing_and_only_as_links(scene: Scene) -> None:
    tokens, user_id = scene.running.service.tokens, scene.running.user.id
    scoped = {
        "/uploads/{path}": tokens.file(scene.path),
        STREAM.format("{id}"): tokens.stream(user_id, Kind.ENHANCEMENT.channel(scene.task["id"])),
    }
    for route in PROTECTED:
        for path, given in scoped.items():
            async with ask(scene, route, f"Bearer {given}") as answer:
                await refused(answer)
            async with ask(scene, route, None, query=given) as answer:
                if route.path == path:
                    assert answer.status == 200
                else:
                    await refused(answer)


async def test_what_is_somebody_else_s_is_not_there(scene: Scene) -> None:
    own = [route for route in PROTECTED if "{" in route.path]
    assert own
    for route in own:
        for authorization, query in ((f"Bearer {scene.stranger}", None), (None, scene.stranger)):
            if query and route.auth is Auth.ACCOUNT:
                continue
            async with ask(scene, route, authorization, query=query) as answer:
                assert answer.status == 404, route.path
                assert (await answer.json(content_type=None))["code"] == "not_found"


async def test_open_calls_ask_for_nothing(scene: Scene) -> None:
    for route in ROUTES:
        if route.auth is Auth.NONE and route.method == "GET":
            async with ask(scene, route, "Bearer nonsense") as answer:
                assert answer.status < 400, route.path


@pytest.mark.parametrize(
    ("scheme", "status"),
    [
        ("Bearer {}", 404),
        ("bearer {}", 404),
        ("BEARER   {}", 404),
        ("Basic {}", 401),
        ("Token {}", 401),
        ("Bearer", 401),
        ("Bearer {} more", 401),
        ("{}", 401),
    ],
)
async def test_the_scheme_is_bearer_whatever_its_case(idle: Running, scheme: str, status: int) -> None:
    headers = {"Authorization": scheme.format(token(idle))}
    async with idle.http.get(STATUS.format(1), headers=headers) as answer:
        assert answer.status == status


@pytest.mark.parametrize("raw", [b"\xff\xfe", "é".encode(), b"a\x80b"])
async def test_bytes_that_are_no_text_are_no_token(idle: Running, raw: bytes) -> None:
    head = f"GET {STATUS.format(1)} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer ".encode()
    status, _ = await exchange(idle, head + raw + b"\r\n\r\n")
    assert status == 401


async def test_another_program_that_knows_the_key_can_make_tokens(idle: Running) -> None:
    simple = signed(sub=str(idle.user.id), aud=None)
    async with idle.http.get(STATUS.format(1), headers={"Authorization": f"Bearer {simple}"}) as answer:
        assert answer.status == 404


async def test_a_deleted_user_s_token_is_worth_nothing(idle: Running) -> None:
    gone = await member(idle.service.pool, "gone@example.com")
    headers = {"Authorization": f"Bearer {idle.service.tokens.account(gone.id)}"}
    await idle.service.pool.execute("DELETE FROM users WHERE id = $1", gone.id)
    async with idle.http.post(ASYNC, data=form(), headers=headers) as answer:
        await refused(answer)
    async with idle.http.get(STATUS.format(1), headers=headers) as answer:
        await refused(answer)


NO_IDS = ("0", "-1", "999999", "9" * 18, str(2**63 - 1), str(2**63), "9" * 20, "1a", "١", "%31%00", "1.0", "1e3", "")


async def test_an_id_that_names_nothing_is_not_found(idle: Running) -> None:
    for path in [path.format(task_id) for task_id in NO_IDS for path in (STATUS, STREAM)]:
        async with idle.http.get(path) as answer:
            assert answer.status == 404, path
            assert answer.content_type == "application/problem+json"
            assert (await answer.json(content_type=None))["code"] == "not_found"


async def test_zeros_before_an_id_change_nothing(idle: Running) -> None:
    task = await accept(idle.http)
    async with idle.http.get(STATUS.format(f"000{task['id']}")) as answer:
        assert (await answer.json())["id"] == task["id"]


async def test_without_a_subscription_nothing_new_can_be_ordered_and_the_rest_is_as_ever(scene: Scene) -> None:
    pool = scene.running.service.pool
    await pool.execute("UPDATE subscriptions SET status = 'cancelled' WHERE user_id = $1", scene.running.user.id)
    for route in PROTECTED:
        if route.method != "DELETE":
            async with ask(scene, route, f"Bearer {token(scene.running)}") as answer:
                assert answer.status not in {401, 403}, route.path
                assert answer.status < 500, route.path
                if "subscription_required" in route.problems and "{" not in route.path:
                    assert answer.status in {402, 422}, (route.path, answer.status)
                    if route.body and route.body.form:
                        assert answer.status == 402, route.path
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 2
