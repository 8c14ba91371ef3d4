"""What is said about a task, in each language."""

from __future__ import annotations

import string
from collections.abc import Iterator

import pytest

from enhancer.domain.images import Orientation
from enhancer.domain.tasks import Kind
from enhancer.errors import TaskError
from enhancer.pipeline import messages, plans  # plans: its errors are among those that fail a task


def failures(base: type[TaskError] = TaskError) -> Iterator[type[TaskError]]:
    """Every error that can fail a task."""
    for kind in base.__subclasses__():
        yield kind
        yield from failures(kind)


@pytest.mark.parametrize(
    ("tag", "spoken"),
    [
        ("en", "en"),
        ("en-GB", "en"),
        ("zh", "zh"),
        ("zh-TW", "zh"),
        ("zh_CN", "zh"),
        ("ZH-Hant-HK", "zh"),
        ("fr", "en"),
        ("zha", "en"),
        ("", "en"),
    ],
)
def test_a_language_that_is_not_spoken_falls_back_to_english(tag: str, spoken: str) -> None:
    assert messages.language(tag) == spoken


def test_a_point_is_told_in_the_language_of_the_task() -> None:
    words = {"script_length": 7}
    told = {tag: messages.point(Kind.ENHANCEMENT, 90, tag, words) for tag in ("zh-TW", "fr")}
    assert told == {"zh-TW": "✅ 脚本已生成（7 个字符）", "fr": "✅ Script generated (7 characters)"}


def test_every_language_has_every_phrase_with_the_same_words_in_it() -> None:
    def named(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert set(messages.PHRASES) == set(messages.POINTS)
    english = {name: named(text) for name, text in messages.PHRASES["en"].items()}
    for phrases in messages.PHRASES.values():
        assert {name: named(text) for name, text in phrases.items()} == english


def test_every_orientation_has_a_word() -> None:
    assert set(Orientation) <= set(messages.PHRASES["en"])


def test_a_retry_is_told_as_in_the_contract() -> None:
    said = messages.phrase("retrying", "en", retry=1, retries=3, seconds=4.2, reason="It broke.")
    assert said == "⏳ Retrying (1/3) in 4 s: It broke."


@pytest.mark.parametrize("language", sorted(set(messages.POINTS) - {"en"}))
def test_every_failure_has_a_reason_in_every_language_but_english(language: str) -> None:
    codes = {kind.code for kind in failures()}
    assert codes >= {"timeout", "internal", "outcome_unknown", "provider_rejected_image"}
    assert codes <= set(messages.REASONS[language])


def test_english_speaks_the_sentence_of_the_error_itself() -> None:
    sentence = "The provider is not working at the moment (HTTP 503)."
    assert messages.reason("provider_unavailable", sentence, "en-US") == sentence
    assert messages.reason("provider_unavailable", sentence, "zh-CN") == "模型服务暂时无法访问。"
    assert messages.reason("of_tomorrow", sentence, "zh") == sentence


@pytest.mark.parametrize("error", [*failures()], ids=lambda error: error.__name__)
def test_a_failure_speaks_one_sentence(error: type[TaskError]) -> None:
    said = str(plans.CallInProgress(1.0) if error is plans.CallInProgress else error())
    assert said.endswith(".")
    assert "\n" not in said
