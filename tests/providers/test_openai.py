"""OpenAI's models through the real client, against the stand-in."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import date
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from enhancer import errors
from enhancer.domain.images import Format
from enhancer.domain.scripts import fits
from enhancer.errors import (
    OutcomeUnknown,
    ProviderBadAnswer,
    ProviderError,
    ProviderRateLimited,
    ProviderRefused,
    ProviderRejectedImage,
    ProviderUnavailable,
)
from enhancer.providers import ImageBrief, Images, ScriptBrief, Scripts
from enhancer.providers.openai import Listing, OpenAIImages, OpenAIScripts, connect, listings
from enhancer.providers.openai.failures import NEVER_SENT, meaning
from enhancer.providers.openai.scripts import refit
from enhancer.providers.refusals import MAX_RETRY_AFTER
from enhancer.settings import Settings
from tests.fakes.openai import CHAT_TOKENS, IMAGE_TOKENS, KEY, FakeOpenAI, faults
from tests.fakes.openai.faults import Fault

DESCRIPTION = "A handmade stoneware cup with a blue rim"


def photo(size: tuple[int, int] = (320, 240)) -> bytes:
    out = io.BytesIO()
    Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 40).convert("RGB").save(out, "JPEG")
    return out.getvalue()


PHOTO = photo()
IMAGE = ImageBrief(PHOTO, Format.JPEG, (1536, 1024), DESCRIPTION)
SCRIPT = ScriptBrief(PHOTO, Format.JPEG, DESCRIPTION, 8, "en")


def settings(base_url: str | None, **over: Any) -> Settings:
    return Settings(_env_file=None, openai_api_key=KEY, openai_base_url=base_url, **over)


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(fast=True) as fake:
        yield fake


@pytest.fixture
async def client(fake: FakeOpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    async with connect(settings(fake.url)) as client:
        yield client


@pytest.fixture
def images(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> OpenAIImages:
    return OpenAIImages(client, settings(fake.url))


@pytest.fixture
def scripts(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> OpenAIScripts:
    return OpenAIScripts(client, settings(fake.url))


# what is sent, and what comes back


async def test_a_photo_is_redrawn_by_one_post(images: OpenAIImages, fake: FakeOpenAI) -> None:
    redrawn = await images.redraw(IMAGE)
    assert (redrawn.format, redrawn.size, redrawn.tokens) == (Format.JPEG, (1536, 1024), IMAGE_TOKENS)
    assert Image.open(io.BytesIO(redrawn.data)).size == (1536, 1024)
    (call,) = fake.calls
    assert call.fields["image"] == "photo.jpg image/jpeg 320x240"
    assert DESCRIPTION in call.fields["prompt"]
    assert {name: value for name, value in call.fields.items() if name not in {"image", "prompt"}} == {
        "model": "gpt-image-2.5-flare",
        "size": "1536x1024",
        "quality": "high",
        "output_format": "jpeg",
    }


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
async def test_the_image_is_kept_as_the_model_sent_it(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, image_format: str
) -> None:
    images = OpenAIImages(client, settings(fake.url, image_format=image_format, image_quality="low"))
    redrawn = await images.redraw(IMAGE)
    assert redrawn.format == image_format
    assert fake.calls[0].fields["quality"] == "low"


async def test_a_script_is_written_by_one_post(scripts: OpenAIScripts, fake: FakeOpenAI) -> None:
    script = await scripts.write(SCRIPT)
    assert fits(script.script, 8)
    assert script.product_analysis.startswith("A single product")
    assert script.tokens == CHAT_TOKENS
    (call,) = fake.calls
    assert (call.kind, call.model) == ("chat", "gpt-6-luna")
    assert call.fields["image 0"] == f"{len(PHOTO)} bytes"
    assert DESCRIPTION in call.fields["text"]


async def test_a_script_follows_the_language(scripts: OpenAIScripts) -> None:
    script = await scripts.write(ScriptBrief(PHOTO, Format.JPEG, "", 12, "zh-CN"))
    assert fits(script.script, 12)
    assert "镜头" in script.script


async def test_a_server_that_counts_no_tokens_is_no_problem() -> None:
    async with FakeOpenAI(fast=True, usage=False) as fake, connect(settings(fake.url)) as client:
        assert (await OpenAIImages(client, settings(fake.url)).redraw(IMAGE)).tokens == 0
        assert (await OpenAIScripts(client, settings(fake.url)).write(SCRIPT)).tokens == 0


async def test_fidelity_is_asked_of_the_models_that_know_it(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    await OpenAIImages(client, settings(fake.url, image_model="gpt-image-1.5")).redraw(IMAGE)
    assert fake.calls[0].fields["input_fidelity"] == "high"


async def test_other_models_are_asked_not_to_send_a_link(client: openai.AsyncOpenAI, fake: FakeOpenAI) -> None:
    """OpenAI's own refuse the parameter, so the stand-in does; the refusal shows that it was sent."""
    with pytest.raises(ProviderRefused, match="response_format"):
        await OpenAIImages(client, settings(fake.url, image_model="Qwen/Qwen-Image-Edit")).redraw(IMAGE)


async def test_calls_do_not_share_connections(images: OpenAIImages, scripts: OpenAIScripts, fake: FakeOpenAI) -> None:
    """A kept connection that the server closes meanwhile would look like a call of unknown outcome."""
    await images.redraw(IMAGE)
    await scripts.write(SCRIPT)
    assert len({call.port for call in fake.calls}) == 2


# what goes wrong


SPOILED: list[tuple[Fault, type[ProviderError]]] = [
    (faults.status(500), ProviderUnavailable),
    (faults.status(502), ProviderUnavailable),
    (faults.status(503), ProviderUnavailable),
    (faults.status(529), ProviderUnavailable),
    (faults.html(503), ProviderUnavailable),
    (faults.status(408), ProviderUnavailable),
    (faults.status(409), ProviderUnavailable),
    (faults.status(425), ProviderUnavailable),
    (faults.status(504), OutcomeUnknown),
    (faults.status(524), OutcomeUnknown),
    (faults.rate_limited(), ProviderRateLimited),
    (faults.html(429), ProviderRateLimited),
    (faults.no_credit(), ProviderRefused),
    (faults.status(400, "billing_hard_limit_reached"), ProviderRefused),
    (faults.moderated(), ProviderRejectedImage),
    (faults.status(400, type="image_generation_user_error"), ProviderRejectedImage),
    (faults.status(400, "content_policy_violation"), ProviderRejectedImage),
    (faults.status(422, "content_policy_violation"), ProviderRejectedImage),
    (faults.status(400, "content_filter"), ProviderRejectedImage),
    (faults.status(400, "invalid_value"), ProviderRefused),
    (faults.status(401, "invalid_api_key"), ProviderRefused),
    (faults.status(402), ProviderRefused),
    (faults.status(403), ProviderRefused),
    (faults.status(404, "model_not_found"), ProviderRefused),
    (faults.status(413), ProviderRefused),
    (faults.status(422), ProviderRefused),
    (faults.html(403), ProviderRefused),
    (faults.status(307, headers={"Location": "http://127.0.0.1:1/v1"}), ProviderRefused),
    (faults.unread(), OutcomeUnknown),
    (faults.dropped(), OutcomeUnknown),
    (faults.truncated(), OutcomeUnknown),
    (faults.html(), ProviderBadAnswer),
    (faults.empty(), ProviderBadAnswer),
    (faults.broken_json(), ProviderBadAnswer),
    (faults.wrong_json(), ProviderBadAnswer),
    (faults.body("[" * 100_000), ProviderBadAnswer),
    (faults.body("null"), ProviderBadAnswer),
    (faults.body("\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")), ProviderBadAnswer),
    (faults.body("not gzip", headers={"Content-Encoding": "gzip"}), ProviderBadAnswer),
]
SPOILED_IMAGES: list[tuple[Fault, type[ProviderError]]] = [
    (faults.not_an_image(), ProviderBadAnswer),
    (faults.half_an_image(), ProviderBadAnswer),
    (faults.image("a"), ProviderBadAnswer),
    (faults.image("é"), ProviderBadAnswer),
    (faults.image(""), ProviderBadAnswer),
    (faults.link(), ProviderBadAnswer),
    (faults.body('{"data": []}'), ProviderBadAnswer),
    (faults.body('{"data": [{}]}'), ProviderBadAnswer),
    (faults.body('{"data": null}'), ProviderBadAnswer),
]
SPOILED_SCRIPTS: list[tuple[Fault, type[ProviderError]]] = [
    (faults.refusal(), ProviderRejectedImage),
    (faults.say("{}", finish_reason="content_filter"), ProviderRejectedImage),
    (faults.say('{"script": "[0:00-0:0', finish_reason="length"), ProviderBadAnswer),
    (faults.say(None), ProviderBadAnswer),
    (faults.say(""), ProviderBadAnswer),
    (faults.say("Here is your script!"), ProviderBadAnswer),
    (faults.say('{"script": "", "product_analysis": "A cup."}'), ProviderBadAnswer),
    (faults.say('{"script": "\\u0000 \\n\\t", "product_analysis": "A cup."}'), ProviderBadAnswer),
    (faults.say('{"script": "\\ud800", "product_analysis": "A cup."}'), ProviderBadAnswer),
    (faults.say('{"script": 5, "product_analysis": "A cup."}'), ProviderBadAnswer),
    (faults.say('{"script": ' + "[" * 100_000 + "}"), ProviderBadAnswer),
    (faults.body('{"choices": []}'), ProviderBadAnswer),
    (faults.body('{"choices": [{"message": null}]}'), ProviderBadAnswer),
]


@pytest.mark.parametrize(("fault", "error"), SPOILED + SPOILED_IMAGES)
async def test_a_failed_edit_is_one_post_and_one_known_error(
    images: OpenAIImages, fake: FakeOpenAI, fault: Fault, error: type[ProviderError]
) -> None:
    fake.fail("edits", fault)
    with pytest.raises(ProviderError) as caught:
        await images.redraw(IMAGE)
    assert type(caught.value) is error
    assert len(fake.calls) == 1
    assert_says_nothing_private(caught.value)


@pytest.mark.parametrize(("fault", "error"), SPOILED + SPOILED_SCRIPTS)
async def test_a_failed_chat_is_one_post_and_one_known_error(
    scripts: OpenAIScripts, fake: FakeOpenAI, fault: Fault, error: type[ProviderError]
) -> None:
    fake.fail("chat", fault)
    with pytest.raises(ProviderError) as caught:
        await scripts.write(SCRIPT)
    assert type(caught.value) is error
    assert len(fake.calls) == 1
    assert_says_nothing_private(caught.value)


def assert_says_nothing_private(error: ProviderError) -> None:
    assert 0 < len(str(error)) < 400
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    assert not any(private in str(error) for private in (KEY, DESCRIPTION, "127.0.0.1", "http://"))


async def test_nobody_there_was_never_sent(fake: FakeOpenAI, images: OpenAIImages) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    given = settings(f"http://127.0.0.1:{port}/v1")
    async with connect(given) as client:
        with pytest.raises(ProviderUnavailable):
            await OpenAIImages(client, given).redraw(IMAGE)


@pytest.mark.parametrize("patience", ["of the client", "of the call"])
async def test_a_call_that_hangs_ends_in_time(fake: FakeOpenAI, client: openai.AsyncOpenAI, patience: str) -> None:
    fake.fail("edits", faults.hang())
    given = settings(fake.url)
    if patience == "of the client":
        images = OpenAIImages(client.with_options(timeout=1.0), given)
    else:
        images = OpenAIImages(client, given.model_copy(update={"call_timeout": 1.0}))
    with pytest.raises(OutcomeUnknown):
        await images.redraw(IMAGE)
    await fake.arrived("edits")


async def test_a_cancelled_call_is_cancelled(images: OpenAIImages, fake: FakeOpenAI) -> None:
    held = fake.hold("edits")
    call = asyncio.create_task(images.redraw(IMAGE))
    await held.arrived()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


REQUEST = httpx2.Request("POST", "https://api.openai.com/v1/images/edits")
CAUSES: dict[type[Exception], type[ProviderError]] = {
    httpx2.ConnectError: ProviderUnavailable,
    httpx2.ConnectTimeout: ProviderUnavailable,
    httpx2.PoolTimeout: ProviderUnavailable,
    httpx2.ProxyError: ProviderUnavailable,
    ssl.SSLCertVerificationError: ProviderUnavailable,
    httpx2.UnsupportedProtocol: ProviderRefused,
    httpx2.DecodingError: ProviderBadAnswer,
    httpx2.ReadTimeout: OutcomeUnknown,
    httpx2.WriteTimeout: OutcomeUnknown,
    httpx2.ReadError: OutcomeUnknown,
    httpx2.WriteError: OutcomeUnknown,
    httpx2.CloseError: OutcomeUnknown,
    httpx2.RemoteProtocolError: OutcomeUnknown,
    httpx2.LocalProtocolError: OutcomeUnknown,
    httpx2.TooManyRedirects: OutcomeUnknown,
    httpx2.SSEError: OutcomeUnknown,
    ssl.SSLError: OutcomeUnknown,
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_broken_connection_means_what_broke_beneath_it(cause: type[Exception]) -> None:
    error = openai.APIConnectionError(request=REQUEST)
    error.__cause__ = cause("broken")
    assert type(meaning(error)) is CAUSES[cause]


def test_every_error_of_the_transport_has_a_meaning() -> None:
    found: set[type[Exception]] = set()
    waiting: list[type[Exception]] = [httpx2.RequestError]
    while waiting:
        kind = waiting.pop()
        waiting += (below := kind.__subclasses__())
        found |= set() if below else {kind}
    assert found <= set(CAUSES)
    assert set(NEVER_SENT) <= {cause for cause, error in CAUSES.items() if error is ProviderUnavailable}


def test_what_nobody_knows_may_have_been_billed() -> None:
    assert type(meaning(openai.OpenAIError("new"))) is OutcomeUnknown
    assert type(meaning(openai.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None))) is (
        ProviderBadAnswer
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "1e300"}, MAX_RETRY_AFTER),
        ({"Retry-After": "99999999"}, MAX_RETRY_AFTER),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({}, None),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(429, ProviderRateLimited), (503, ProviderUnavailable)])
async def test_the_provider_says_how_long_to_wait(
    scripts: OpenAIScripts,
    fake: FakeOpenAI,
    status: int,
    error: type[ProviderError],
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    fake.fail("chat", faults.status(status, headers=headers))
    with pytest.raises(error) as caught:
        await scripts.write(SCRIPT)
    assert caught.value.retry_after == seconds


async def test_the_provider_names_a_time_to_wait_for(scripts: OpenAIScripts, fake: FakeOpenAI) -> None:
    fake.fail("chat", faults.rate_limited(formatdate(time.time() + 60, usegmt=True)))
    with pytest.raises(ProviderRateLimited) as caught:
        await scripts.write(SCRIPT)
    assert caught.value.retry_after is not None
    assert 50 < caught.value.retry_after <= 60


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Invalid size.", "The provider refused the request (HTTP 400). It said: Invalid size."),
        ("a\x00b\n\nc\u202ed", "The provider refused the request (HTTP 400). It said: a b c d"),
        (
            "see http://10.0.0.1:8000/x?y or 10.0.0.1:80",
            "The provider refused the request (HTTP 400). It said: see … or …",
        ),
        ("in /srv/app/main.py", "The provider refused the request (HTTP 400). It said: in …"),
        ("key sk-proj-abcdefgh123", "The provider refused the request (HTTP 400). It said: key …"),
        (f"key {KEY}", "The provider refused the request (HTTP 400)."),
        (f"the prompt {DESCRIPTION}!", "The provider refused the request (HTTP 400)."),
        ("<html>", "The provider refused the request (HTTP 400)."),
        ("x" * 1000, f"The provider refused the request (HTTP 400). It said: {'x' * 199}…"),
    ],
)
async def test_the_providers_words_are_passed_on_with_care(
    images: OpenAIImages, fake: FakeOpenAI, said: str, told: str
) -> None:
    fake.fail("edits", faults.status(400, message=said))
    with pytest.raises(ProviderRefused) as caught:
        await images.redraw(IMAGE)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"error": "no such model"}', "It said: no such model"),
        ('{"detail": "Not Found"}', "It said: Not Found"),
        ('{"message": "wrong", "code": 404}', "It said: wrong"),
        ('{"detail": [{"input": "A cup"}]}', "leads to a wrong address."),
        ("plain", "It said: plain"),
        ("", "leads to a wrong address."),
    ],
)
async def test_other_servers_put_their_words_elsewhere(
    images: OpenAIImages, fake: FakeOpenAI, body: str, told: str
) -> None:
    fake.fail("edits", faults.body(body, number=404))
    with pytest.raises(ProviderRefused) as caught:
        await images.redraw(IMAGE)
    assert str(caught.value).endswith(told)


async def test_a_wrong_key_is_not_repeated(fake: FakeOpenAI) -> None:
    given = Settings(_env_file=None, openai_api_key="sk-wrong-0123456789", openai_base_url=fake.url)
    async with connect(given) as client:
        with pytest.raises(ProviderRefused) as caught:
            await OpenAIImages(client, given).redraw(IMAGE)
    assert str(caught.value) == "The provider did not accept the API key."


async def test_a_failure_is_logged_without_anything_private(
    images: OpenAIImages, fake: FakeOpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail("edits", faults.status(400, "bad\nvalue", message=f"{KEY} {DESCRIPTION}", headers={"x-request-id": "r1"}))
    with pytest.raises(ProviderRefused), caplog.at_level(logging.DEBUG, "enhancer"):
        await images.redraw(IMAGE)
    (record,) = [record for record in caplog.records if record.name.startswith("enhancer")]
    fields = {name: record.__dict__[name] for name in ("model", "status", "code", "request_id", "error")}
    assert record.message == "provider.failed"
    assert fields == {
        "model": "gpt-image-2.5-flare", "status": 400, "code": "badvalue", "request_id": "r1",
        "error": "BadRequestError",
    }  # fmt: skip


# what a language model gets wrong


@pytest.mark.parametrize(
    "content",
    [
        '{"script": "[0:00-0:08] A cup. | Yours.", "product_analysis": "A cup.", "mood": "calm"}',
        '```json\n{"script": "[0:00-0:08] A cup. | Yours.", "product_analysis": "A cup."}\n```',
        '<think>{maybe}</think>\n{"script": "[0:00-0:08] A cup. | Yours.", "product_analysis": "A cup."}',
        'Here it is: {"product_analysis": "A cup.", "script": ["[0:00-0:08] A cup. | Yours."]} Enjoy!',
        '{"script": "\u0007[00:00 - 00:08]  A cup.\u200b |\tYours.\n", "product_analysis": "A\\u202e cup."}',
        '{"script": "**[0:00–0:04]** A cup. | Yours.", "product_analysis": "A cup."}',
    ],
)
async def test_a_script_is_understood_however_it_is_wrapped(
    scripts: OpenAIScripts, fake: FakeOpenAI, content: str
) -> None:
    fake.fail("chat", faults.say(content))
    script = await scripts.write(SCRIPT)
    assert (script.script, script.product_analysis) == ("[0:00-0:08] A cup. | Yours.", "A cup.")


async def test_an_endless_script_is_cut_at_a_line(scripts: OpenAIScripts, fake: FakeOpenAI) -> None:
    fake.fail(
        "chat", faults.say(json.dumps({"script": "A line that says nothing.\n" * 1000, "product_analysis": "x" * 9999}))
    )
    script = await scripts.write(SCRIPT)
    assert 5900 < len(script.script) <= 6000
    assert set(script.script.splitlines()) == {"A line that says nothing."}
    assert len(script.product_analysis) == 6000


@pytest.mark.parametrize(
    ("script", "duration", "refitted"),
    [
        ("[0:00-0:02] a\n[0:02-0:04] b", 4, "[0:00-0:02] a\n[0:02-0:04] b"),
        ("[0:00-0:02] a\n[0:02-0:04] b", 8, "[0:00-0:04] a\n[0:04-0:08] b"),
        ("[0:00-0:06] a\n[0:06-0:08] b", 4, "[0:00-0:03] a\n[0:03-0:04] b"),
        ("[0:00-0:09] a\n[0:09-0:10] b\n[0:10-0:11] c", 4, "[0:00-0:02] a\n[0:02-0:03] b\n[0:03-0:04] c"),
        ("[0:00-0:03] a\n[0:05-0:08] b | c", 8, "[0:00-0:04] a\n[0:04-0:08] b | c"),
        ("[0:04-0:02] a\n[0:02-0:02] b", 4, "[0:00-0:02] a\n[0:02-0:04] b"),
        ("Title\n(0:00 - 0:05): a\nEnd", 4, "Title\n[0:00-0:04] a\nEnd"),
        ("no scenes", 4, "no scenes"),
        (
            "\n".join(f"[0:0{i}-0:0{i + 1}] a" for i in range(5)),
            4,
            "\n".join(f"[0:0{i}-0:0{i + 1}] a" for i in range(5)),
        ),
    ],
)
def test_time_codes_are_made_to_fill_the_film(script: str, duration: int, refitted: str) -> None:
    assert refit(script, duration) == refitted
    assert refit(refitted, duration) == refitted


def test_any_shares_fill_any_film() -> None:
    for duration in (4, 8, 12):
        for count in range(1, duration + 1):
            for long in range(count):
                shares = [30 if scene == long else 1 for scene in range(count)]
                edges = [sum(shares[:scene]) for scene in range(count + 1)]
                script = "\n".join(f"[0:{start:02}-0:{end:02}] x" for start, end in pairwise(edges))
                assert fits(refit(script, duration), duration)


# setting it up


def test_they_are_what_the_pipeline_asks_for(images: OpenAIImages, scripts: OpenAIScripts) -> None:
    providers: tuple[Images, Scripts] = (images, scripts)
    assert [provider.model for provider in providers] == ["gpt-image-2.5-flare", "gpt-6-luna"]
    assert all(provider.billed for provider in providers)
    assert all(provider.longest_call == 330 for provider in providers)


async def test_openai_itself_gets_the_names_of_today() -> None:
    given = settings(None, image_model="gpt-image-1", script_model="GPT-6-luna")
    async with connect(given) as client:
        assert str(client.base_url) == "https://api.openai.com/v1/"
        assert OpenAIImages(client, given).model == "gpt-image-2.5-flare"
        assert OpenAIScripts(client, given).model == "gpt-6-luna"


async def test_another_server_gets_the_names_that_were_set(fake: FakeOpenAI) -> None:
    given = settings(fake.url, image_model="gpt-image-1", script_model="GPT-4o")
    async with connect(given) as client:
        assert OpenAIImages(client, given).model == "gpt-image-1"
        assert OpenAIScripts(client, given).model == "GPT-4o"


async def test_the_address_is_the_one_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that the client finds in the environment by itself."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-elsewhere")
    given = settings("https://api.openai.com/v1")
    async with connect(given) as client:
        assert client.base_url.host == "api.openai.com"
        assert client.api_key == KEY
        assert client.max_retries == 0


@pytest.mark.parametrize(
    ("key", "base_url", "names"),
    [
        (None, None, "OPENAI_API_KEY"),
        ("   ", None, "OPENAI_API_KEY"),
        ("sk-two lines\nsk-secret", None, "OPENAI_API_KEY"),
        ("sk-“secret”", None, "OPENAI_API_KEY"),
        (KEY, "localhost:9009/v1", "OPENAI_BASE_URL"),
        (KEY, "ftp://example.org", "OPENAI_BASE_URL"),
        (KEY, "http://", "OPENAI_BASE_URL"),
        (KEY, "http://host:port", "OPENAI_BASE_URL"),
        (KEY, "http://[::1", "OPENAI_BASE_URL"),
    ],
)
def test_settings_that_cannot_work_are_told_at_once(key: str | None, base_url: str | None, names: str) -> None:
    given = Settings(_env_file=None, openai_api_key=key, openai_base_url=base_url)
    with pytest.raises(errors.SetupError, match=names) as caught:
        connect(given)
    assert "secret" not in str(caught.value)


# what the server says of its models


async def test_a_server_tells_what_ends_when(client: openai.AsyncOpenAI) -> None:
    assert await listings(client, ["gpt-4o", "gpt-6-luna", "gpt-image-1", "gpt-4o"]) == [
        Listing("gpt-4o", True, date(2027, 1, 14)),
        Listing("gpt-6-luna", True),
        Listing("gpt-image-1", False),
    ]


@pytest.mark.parametrize(
    "fault",
    [
        faults.body('{"detail": "Not Found"}', number=404),
        faults.html(404),
        faults.status(405),
        faults.status(501),
        faults.html(),
        faults.empty(),
        faults.wrong_json(),
    ],
)
async def test_a_server_need_not_tell(client: openai.AsyncOpenAI, fake: FakeOpenAI, fault: Fault) -> None:
    fake.fail("models", fault)
    assert await listings(client, ["gpt-4o"]) == [Listing("gpt-4o", None)]


@pytest.mark.parametrize("day", ['"soon"', "null", "1799884800", '""'])
async def test_a_day_that_is_none_is_no_day(client: openai.AsyncOpenAI, fake: FakeOpenAI, day: str) -> None:
    fake.fail("models", faults.body(f'{{"id": "gpt-4o", "shutdown_date": {day}}}'))
    assert await listings(client, ["gpt-4o"]) == [Listing("gpt-4o", True)]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(401), ProviderRefused),
        (faults.status(500), ProviderUnavailable),
        (faults.dropped(), ProviderUnavailable),
    ],
)
async def test_a_server_that_cannot_be_asked_is_an_error(
    client: openai.AsyncOpenAI, fake: FakeOpenAI, fault: Fault, error: type[ProviderError]
) -> None:
    fake.fail("models", fault)
    with pytest.raises(error):
        await listings(client, ["gpt-4o"])
