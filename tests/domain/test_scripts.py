"""The form of a script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enhancer.domain.scripts import Scene, fits, scenes

TEXT = (
    st.text(st.characters(categories=["L", "N"], include_characters=" ,.'"), min_size=1)
    .map(str.strip)
    .filter(lambda text: text[:1].isalnum())
)


@given(st.integers(0, 3599), st.integers(1, 600), TEXT, st.just("") | TEXT)
def test_a_scene_is_read_back_as_it_was_written(start: int, length: int, seen: str, said: str) -> None:
    scene = Scene(start, start + length, seen, said)
    assert scenes(str(scene)) == [scene]


@pytest.mark.parametrize(
    "line",
    [
        "[0:00-0:02] A cup. | Good morning.",
        "0:00-0:02 A cup. | Good morning.",
        "**[00:00 – 00:02]** A cup. | “Good morning.”",
        "- [0:00 - 0:02]: A cup. | Good morning.",
        "【0:00~0:02】 A cup.｜「Good morning.」",
        "  [0:00—0:02] A cup. |Good morning. ",
    ],
)
def test_the_ways_in_which_models_write_a_scene_are_understood(line: str) -> None:
    assert scenes(line) == [Scene(0, 2, "A cup.", "Good morning.")]


def test_only_the_first_bar_divides() -> None:
    assert scenes("[0:00-0:02] A | B | C") == [Scene(0, 2, "A", "B | C")]


def test_what_is_said_may_be_missing_and_what_is_seen_too() -> None:
    assert scenes("[0:00-0:02] A cup.") == [Scene(0, 2, "A cup.", "")]
    assert scenes("[0:00-0:02] | Good morning.") == [Scene(0, 2, "", "Good morning.")]


def test_other_lines_are_passed_over() -> None:
    script = "Title: Coffee\n\n[0:00-0:02] A cup.\n(music)\n[0:02-0:04] A smile.\nAt 0:03-0:04 nothing begins."
    assert [scene.seen for scene in scenes(script)] == ["A cup.", "A smile."]


def test_scenes_that_fill_the_time_without_a_gap_fit() -> None:
    assert fits("[0:00-0:02] A\n[0:02-0:04] B", 4)
    assert fits("[0:00-1:30] A", 90)


@pytest.mark.parametrize(
    "script",
    [
        "",
        "no scenes",
        "[0:00-0:02] A\n[0:02-0:05] too long",
        "[0:00-0:03] too short",
        "[0:01-0:04] late",
        "[0:00-0:01] A\n[0:02-0:04] a gap",
        "[0:00-0:03] A\n[0:02-0:04] overlapping",
        "[0:02-0:04] B\n[0:00-0:02] out of order",
        "[0:00-0:00] nothing\n[0:00-0:04] A",
    ],
)
def test_anything_else_does_not(script: str) -> None:
    assert not fits(script, 4)
