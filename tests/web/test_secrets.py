"""Nothing secret in what operators, strangers and collectors get to see."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from enhancer.logs import JsonFormatter, TextFormatter
from enhancer.settings import Settings
from tests.conftest import Start
from tests.fakes.openai import FakeOpenAI
from tests.web import sse
from tests.web.forms import LOGIN, STATUS, STREAM, accept, address, form, token

KEY = "MARKED-secret-key-that-signs-everything-here"
PASSWORD = "MARKED-password"
WORDS = "MARKED-description"


async def test_a_full_run_leaves_no_secret_behind(
    with_models: Settings, openai: FakeOpenAI, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shop = await start(with_models.model_copy(update={"secret_key": SecretStr(KEY)}))
    tokens = [token(shop)]
    answers = []
    task = await accept(shop.http, form(user_description=WORDS))
    tokens.append(task["stream_url"].partition("token=")[2])
    async with sse.connect(address(shop), STREAM.format(task["id"]), token=tokens[0]) as client:
        last = (await client.rest())[-1].json
    assert last["status"] == "completed"
    link = last["enhanced_image_url"]
    tokens.append(link.partition("token=")[2])
    for path in (link[link.index("/", 8) :], f"/nowhere?token={tokens[0]}", "/metrics"):
        async with shop.http.get(path) as answer:
            answers.append(f"{answer.headers} {(await answer.read())!r}")
    async with shop.http.post(LOGIN, json={"email": "x@example.com", "password": PASSWORD}) as answer:
        answers.append(await answer.text())
    async with shop.http.post(LOGIN, json={"email": 1, "password": PASSWORD * 200}) as answer:
        answers.append(await answer.text())
    async with shop.http.get(STATUS.format(1), headers={"Authorization": f"Bearer {tokens[0]}x"}) as answer:
        answers.append(await answer.text())
    settings = shop.service.settings
    secrets = [
        KEY,
        PASSWORD,
        openai.key,
        *tokens,
        str(settings.database_url and settings.database_url.get_secret_value()),
    ]
    logged = [each.format(record) for record in caplog.records for each in (TextFormatter(), JsonFormatter())]
    commands = [
        " ".join(process.cmdline()) for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
    ]
    shown = "\n".join([*logged, *answers, *commands, repr(settings), repr(shop.service.tokens)])
    assert [secret for secret in secrets if secret in shown] == []
    assert WORDS not in "\n".join(logged), "a customer's words are nobody else's"


async def test_what_the_service_keeps_is_its_owner_s_alone(settings: Settings, start: Start) -> None:
    idle = await start(settings.model_copy(update={"workers": 0, "secret_key": None}))
    await accept(idle.http)
    open_to_others = [
        path
        for path in _parents(settings.data_dir)
        if path.stat().st_mode & 0o077 and not _is_shut_away(path, settings)
    ]
    assert open_to_others == []


def _parents(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


def _is_shut_away(path: Path, settings: Settings) -> bool:
    """Whether a folder above it, within the data folder, lets nobody else in."""
    above = [parent for parent in path.parents if parent.is_relative_to(settings.data_dir)]
    return any(not parent.stat().st_mode & 0o077 for parent in above)
