from __future__ import annotations

import logging
from datetime import date

import pytest

from enhancer.providers import models
from enhancer.settings import Settings

NOVEMBER = date(2026, 11, 21)


def resolved(name: str, today: date = NOVEMBER) -> str:
    return models.resolve(name, own_address=True, today=today)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("gpt-image-1", "gpt-image-2.5-flare"),
        ("GPT-Image-1", "gpt-image-2.5-flare"),
        ("gpt image 1", "gpt-image-2.5-flare"),
        ("dall-e-3", "gpt-image-2.5-flare"),
        ("gpt-4-turbo", "gpt-6-luna"),
        ("gpt-image-1.5", "gpt-image-1.5"),
        ("GPT-4o", "gpt-4o"),
        (" GPT-6-Luna ", "gpt-6-luna"),
        ("gpt-image-2.6-sunburst", "gpt-image-2.6-sunburst"),
        ("ft:gpt-4o-2024-08-06:Acme::AbC", "ft:gpt-4o-2024-08-06:Acme::AbC"),
        ("sora-2", "sora-2"),
    ],
)
def test_openai_itself_is_asked_for_models_that_it_still_has(name: str, sent: str) -> None:
    assert resolved(name) == sent


@pytest.mark.parametrize("name", ["gpt-image-1", "GPT-4o", " Some/Model "])
def test_another_server_is_asked_for_exactly_the_name_that_was_set(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert models.resolve(name, own_address=False) == name
    assert not caplog.records


def test_a_model_is_replaced_from_the_day_it_ends() -> None:
    assert resolved("gpt-4o", date(2027, 1, 13)) == "gpt-4o"
    assert resolved("gpt-4o", date(2027, 1, 14)) == "gpt-6-luna"


@pytest.mark.parametrize(
    ("name", "event", "successor"),
    [
        ("gpt-image-1", "model.retired", "gpt-image-2.5-flare"),
        ("gpt-4o", "model.ending", "gpt-6-luna"),
        ("sora-2", "model.retired", None),
    ],
)
def test_the_log_says_what_ends_and_what_follows(
    name: str, event: str, successor: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    resolved(name)
    (record,) = caplog.records
    assert (record.message, record.levelno) == (event, logging.WARNING)
    assert record.__dict__["model"] == name
    assert record.__dict__["successor"] == successor
    assert record.__dict__["shutdown"] == models.ENDINGS[name].shutdown.isoformat()


def test_no_successor_ends_itself_and_the_defaults_are_alive(caplog: pytest.LogCaptureFixture) -> None:
    successors = {ending.successor for ending in models.ENDINGS.values()}
    assert not successors & set(models.ENDINGS)
    fields = Settings.model_fields
    assert {fields["image_model"].default, fields["script_model"].default} == successors - {None}
    assert not caplog.records


def test_names_in_the_table_are_spelled_as_openai_spells_them() -> None:
    assert all(name == name.lower() and " " not in name for name in models.ENDINGS)


@pytest.mark.parametrize(
    ("base_url", "own"),
    [
        (None, True),
        ("https://api.openai.com/v1", True),
        ("https://API.OpenAI.com", True),
        ("https://eu.api.openai.com/v1", True),
        ("http://localhost:8000/v1", False),
        ("https://api.openai.com.example.org/v1", False),
        ("https://example.org/api.openai.com", False),
        ("https://notapi.openai.com/v1", False),
    ],
)
def test_openais_own_addresses(base_url: str | None, *, own: bool) -> None:
    assert models.own_address(base_url) is own
