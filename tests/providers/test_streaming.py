"""Answers that come piece by piece, and servers that cannot send them."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from PIL import Image

from enhancer.domain.images import Format
from enhancer.errors import OutcomeUnknown, ProviderBadAnswer, ProviderError, ProviderRefused, ProviderRejectedImage
from enhancer.providers import ImageBrief, ScriptBrief
from enhancer.providers.openai import OpenAIImages, OpenAIScripts, connect
from enhancer.providers.openai.scripts import so_far
from enhancer.providers.openai.streaming import events
from enhancer.providers.studio import StudioImages, StudioScripts
from tests.fakes.openai import CHAT_TOKENS, IMAGE_TOKENS, FakeOpenAI, faults
from tests.fakes.openai.faults import Fault
from tests.providers.test_openai import IMAGE, SCRIPT, photo, settings

Providers = tuple[OpenAIImages, OpenAIScripts]


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(fast=True) as fake:
        yield fake


@pytest.fixture
async def providers(fake: FakeOpenAI) -> AsyncIterator[Providers]:
    given = settings(fake.url)
    async with connect(given) as client:
        yield OpenAIImages(client, given), OpenAIScripts(client, given)


def nobody(_: object) -> None:
    """Somebody who watches, and says nothing."""


async def test_drafts_come_before_the_image(providers: Providers, fake: FakeOpenAI) -> None:
    drafts: list[bytes] = []
    redrawn = await providers[0].redraw(IMAGE, drafts.append)
    assert (redrawn.format, redrawn.size, redrawn.tokens) == (Format.JPEG, (1536, 1024), IMAGE_TOKENS)
    assert [Image.open(io.BytesIO(draft)).size for draft in drafts] == [(1536, 1024)] * 2
    assert redrawn.data not in drafts
    (call,) = fake.calls
    assert (call.fields["stream"], call.fields["partial_images"], call.billed) == ("true", "2", True)


async def test_words_come_before_the_script(providers: Providers, fake: FakeOpenAI) -> None:
    words: list[str] = []
    script = await providers[1].write(SCRIPT, words.append)
    assert (words[-1], script.tokens) == (script.script, CHAT_TOKENS)
    assert len(words) > 10
    assert all(later.startswith(sooner) and later != sooner for sooner, later in pairwise(words))
    (call,) = fake.calls
    assert (call.fields["stream"], call.fields["usage"]) == ("true", "true")


async def test_whoever_does_not_watch_is_sent_no_stream(providers: Providers, fake: FakeOpenAI) -> None:
    await providers[0].redraw(IMAGE)
    await providers[1].write(SCRIPT)
    assert [call.fields.get("stream", "false") for call in fake.calls] == ["false", "false"]


async def test_a_server_that_counts_no_tokens_is_no_problem(providers: Providers, fake: FakeOpenAI) -> None:
    fake.usage = False
    assert (await providers[0].redraw(IMAGE, nobody)).tokens == 0
    assert (await providers[1].write(SCRIPT, nobody)).tokens in {0, CHAT_TOKENS}


async def test_a_server_that_refuses_to_stream_is_asked_without_and_not_again(
    providers: Providers, fake: FakeOpenAI
) -> None:
    fake.streams = "refused"
    for _ in range(2):
        assert (await providers[0].redraw(IMAGE, nobody)).tokens == IMAGE_TOKENS
        assert (await providers[1].write(SCRIPT, nobody)).tokens == CHAT_TOKENS
    assert [(call.kind, call.status, call.billed) for call in fake.calls] == [
        ("edits", 400, False),
        ("edits", 200, True),
        ("chat", 400, False),
        ("chat", 200, True),
        ("edits", 200, True),
        ("chat", 200, True),
    ]


async def test_a_server_that_answers_at_once_all_the_same_is_taken_at_its_word(
    providers: Providers, fake: FakeOpenAI
) -> None:
    fake.streams = "ignored"
    for _ in range(2):
        assert (await providers[0].redraw(IMAGE, nobody)).size == (1536, 1024)
        assert (await providers[1].write(SCRIPT, nobody)).tokens == CHAT_TOKENS
    assert [(call.kind, call.fields.get("stream", "false"), call.billed) for call in fake.calls] == [
        ("edits", "true", True),
        ("chat", "true", True),
        ("edits", "false", True),
        ("chat", "false", True),
    ]


async def test_a_refusal_in_another_server_s_words_is_understood(providers: Providers, fake: FakeOpenAI) -> None:
    fake.fail("edits", faults.no_streaming(422))
    fake.fail("chat", faults.no_streaming(501))
    await providers[0].redraw(IMAGE, nobody)
    await providers[1].write(SCRIPT, nobody)
    assert [call.billed for call in fake.calls] == [False, True, False, True]


async def test_a_refusal_of_something_else_is_no_refusal_to_stream(providers: Providers, fake: FakeOpenAI) -> None:
    fake.fail("edits", faults.status(400, message="The mountain is too high."))
    fake.fail("edits", faults.status(400, message="No picture of a stream, please."), times=2)
    with pytest.raises(ProviderRefused):
        await providers[0].redraw(IMAGE, nobody)
    with pytest.raises(ProviderRefused):  # asked once more, without; refused again, so nothing was learnt
        await providers[0].redraw(IMAGE, nobody)
    assert len(fake.calls) == 3
    await providers[0].redraw(IMAGE, nobody)
    assert fake.calls[-1].fields["stream"] == "true"


async def test_moderation_is_not_asked_twice(providers: Providers, fake: FakeOpenAI) -> None:
    fake.fail("edits", faults.moderated())
    with pytest.raises(ProviderRejectedImage):
        await providers[0].redraw(IMAGE, nobody)
    assert len(fake.calls) == 1


@pytest.mark.parametrize("kind", ["edits", "chat"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (faults.broken_stream(1), OutcomeUnknown),
        (faults.broken_stream(2, last="data: {"), OutcomeUnknown),
        (faults.broken_stream(0, close=False), OutcomeUnknown),
        (faults.broken_stream(2, close=False), OutcomeUnknown),
        (faults.broken_stream(1, last="data: nonsense\n\n", close=False), ProviderBadAnswer),
        (faults.broken_stream(1, last="data: [7]\n\n", close=False), ProviderBadAnswer),
        (faults.stream_error(), OutcomeUnknown),
        (faults.stream_error(0), OutcomeUnknown),
        (faults.stream_error(code="moderation_blocked"), ProviderRejectedImage),
    ],
)
async def test_what_breaks_in_the_middle_may_have_been_billed(
    providers: Providers, fake: FakeOpenAI, kind: str, fault: Fault, expected: type[ProviderError]
) -> None:
    fake.fail("edits" if kind == "edits" else "chat", fault)
    with pytest.raises(expected) as caught:
        await (providers[0].redraw(IMAGE, nobody) if kind == "edits" else providers[1].write(SCRIPT, nobody))
    assert caught.value.billing == "ambiguous"
    assert [call.billed for call in fake.calls] == [True]
    await (providers[0].redraw(IMAGE, nobody) if kind == "edits" else providers[1].write(SCRIPT, nobody))
    assert fake.calls[-1].fields["stream"] == "true"


async def test_a_draft_that_cannot_be_decoded_is_passed_over(providers: Providers, fake: FakeOpenAI) -> None:
    drafts: list[bytes] = []
    fake.fail("edits", faults.broken_stream(0, last='data: {"type": "image_edit.partial_image", "b64_json": "a"}\n\n'))
    with pytest.raises(OutcomeUnknown):
        await providers[0].redraw(IMAGE, drafts.append)
    assert drafts == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ""),
        ('{"product_analysis": "A cup that says \\"script\\": \\"hi\\"', ""),
        ('{"script"', ""),
        ('{"script": "', ""),
        ('{"script": "[0:00-0:04] A c', "[0:00-0:04] A c"),
        ('{"script": "one\\ntwo', "one\ntwo"),
        ('{"script": "one\\', "one"),
        ('{"script": "caf\\u00e', "caf"),
        ('{"script": "caf\\u00e9 \\ud83d', "café"),
        ('{"script": "a \\"b\\" c", "product_analysis": "d', 'a "b" c'),
        ('{"script": ["a list"', ""),
        ('<think>{"script": "no', ""),
        ('<think>{"script": "no"}</think>```json\n{"script" : "yes', "yes"),
    ],
)
def test_the_script_is_read_while_it_is_written(content: str, words: str) -> None:
    assert so_far(content) == words


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_events_are_read_however_they_are_cut(size: int) -> None:
    text = b': hello\r\n\r\nevent: a\r\ndata: {"a":1}\r\n\r\ndata:one\ndata: two\n\nid: 7\n\ndata: [DONE]\n\ndata: lost'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(text), size):
            yield text[start : start + size]

    assert [event async for event in events(pieces())] == [b'{"a":1}', b"one\ntwo", b"[DONE]"]


async def test_the_studio_shows_its_stages() -> None:
    drafts: list[bytes] = []
    redrawn = await StudioImages().redraw(ImageBrief(photo(), Format.JPEG, (1536, 1024), ""), drafts.append)
    assert [Image.open(io.BytesIO(draft)).size for draft in drafts] == [(768, 512)] * 2
    assert redrawn == await StudioImages().redraw(ImageBrief(photo(), Format.JPEG, (1536, 1024), ""))


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_studio_writes_by_sentences(language: str) -> None:
    words: list[str] = []
    brief = ScriptBrief(photo(), Format.JPEG, "A cup", 8, language)
    script = await StudioScripts().write(brief, words.append)
    assert words[-1] == script.script
    assert len(words) == len(set(words)) >= 4
    assert all(script.script.startswith(sentence) for sentence in words)
