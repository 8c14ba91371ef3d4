from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Running
from tests.web.forms import LOGIN, STATUS, exchange
from tests.web.people import PASSWORD

pytestmark = pytest.mark.usefixtures("quiet")


async def login(running: Running, email: str, password: str) -> tuple[int, Any]:
    async with running.http.post(LOGIN, json={"email": email, "password": password}) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_signing_in_brings_a_token_that_works(idle: Running) -> None:
    status, body = await login(idle, idle.user.email, PASSWORD)
    assert status == 200
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", idle.service.settings.token_lifetime)
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    async with idle.http.get(STATUS.format(1), headers=headers) as answer:
        assert answer.status == 404
    assert idle.service.tokens.read_account(body["access_token"]) == idle.user.id


async def test_the_case_of_an_address_does_not_matter(idle: Running) -> None:
    assert (await login(idle, idle.user.email.upper(), PASSWORD))[0] == 200


async def test_a_wrong_password_and_an_unknown_address_look_the_same(idle: Running) -> None:
    wrong = await login(idle, idle.user.email, PASSWORD + "x")
    assert wrong[0] == 401
    assert wrong == await login(idle, "nobody@example.com", PASSWORD)
    assert wrong == await login(idle, idle.user.email, "")
    assert wrong == await login(idle, "' OR 1=1 --", PASSWORD)


BODIES: dict[bytes, tuple[str, ...]] = {
    b"": ("body",),
    b"no JSON": ("body",),
    b"null": ("body",),
    b"[]": ("body",),
    b'"text"': ("body",),
    b"\xff\xfe": ("body",),
    b"[" * 60_000: ("body",),
    b'{"email": ' + b"1" * 5000 + b"}": ("body",),
    b"{}": ("email", "password"),
    b'{"email": 1, "password": null}': ("email", "password"),
    b'{"email": "a@b.c"}': ("password",),
    b'{"email": "a\\u0000@b.c", "password": "x"}': ("email",),
    b'{"email": "a\\n@b.c", "password": "x"}': ("email",),
    b'{"email": "a\\ud800@b.c", "password": "x"}': ("email",),
    b'{"email": "a@b.c", "password": "\\ud800"}': ("password",),
    json.dumps({"email": "a" * 321, "password": "x" * 1025}).encode(): ("email", "password"),
}


async def test_a_body_that_is_wrong_is_refused(idle: Running) -> None:
    for body, fields in BODIES.items():
        async with idle.http.post(LOGIN, data=body, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 422, body[:50]
            told = await answer.json(content_type=None)
        assert told["code"] == "invalid_request"
        assert tuple(error["field"] for error in told["errors"]) == fields


@pytest.mark.parametrize("charset", ["foo", "base64", "utf-8; charset=x", "\u00e9"])
async def test_a_charset_that_nobody_knows_is_no_error_of_ours(idle: Running, charset: str) -> None:
    body = json.dumps({"email": idle.user.email, "password": PASSWORD}).encode()
    head = f"POST {LOGIN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset={charset}\r\n"
    status, _ = await exchange(idle, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert status in {200, 422}


async def test_a_body_that_is_too_large_is_not_read(idle: Running) -> None:
    async with idle.http.post(LOGIN, data=b'"' + b"x" * 70_000 + b'"') as answer:
        assert answer.status == 413
        assert (await answer.json(content_type=None))["code"] == "upload_too_large"
