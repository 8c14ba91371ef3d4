"""Every plan, by one table."""

from __future__ import annotations

import string
from itertools import chain, pairwise

import pytest

from enhancer.domain.tasks import Kind
from enhancer.pipeline import messages
from enhancer.pipeline.plans import Plan, Step
from enhancer.service import PLANS

ALL = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


def points(plan: Plan) -> list[int]:
    """The points that the plan passes, in order."""
    return [plan.opens, *chain.from_iterable(map(of_step, plan.steps))]


def of_step(step: Step) -> list[int]:
    """The points of one step."""
    wait = step.wait
    meanwhile = [wait.placed, wait.making, wait.made, wait.collected] if wait else []
    return [*([] if step.begins is None else [step.begins]), *meanwhile, step.reaches]


def placeholders(text: str) -> set[str]:
    """The words that a text names."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@ALL
def test_a_plan_rises_strictly_to_the_top_of_its_scale(plan: Plan) -> None:
    passed = points(plan)
    assert all(before < after for before, after in pairwise(passed))
    assert passed[-1] == plan.scale.top


@ALL
def test_a_plan_is_registered_under_its_kind_and_its_steps_have_names_of_their_own(plan: Plan) -> None:
    assert PLANS[plan.kind] is plan
    names = [step.name for step in plan.steps]
    assert len(set(names)) == len(names)


@ALL
@pytest.mark.parametrize("language", messages.POINTS)
def test_every_point_has_a_text_in_every_language(plan: Plan, language: str) -> None:
    assert list(messages.POINTS[language][plan.kind]) == points(plan)


@ALL
@pytest.mark.parametrize("language", messages.POINTS)
def test_a_text_names_the_same_words_in_every_language(plan: Plan, language: str) -> None:
    spoken, english = messages.POINTS[language][plan.kind], messages.POINTS["en"][plan.kind]
    assert {at: placeholders(text) for at, text in spoken.items()} == {
        at: placeholders(text) for at, text in english.items()
    }


def test_the_enhancement_says_what_the_contract_says() -> None:
    words = {
        "original_mb": 2.5,
        "orientation": "landscape",
        "video_size": "1280x720",
        "image_model": "gpt-image-2.5-flare",
        "model_size": "1536x1024",
        "enhanced_size": "1280x720",
        "script_model": "gpt-6-luna",
        "script_length": 1250,
    }
    said = {at: messages.point(Kind.ENHANCEMENT, at, "en", words) for at in messages.POINTS["en"][Kind.ENHANCEMENT]}
    assert said == {
        5: "🚀 Enhancement task started",
        10: "📖 Reading original image...",
        15: "✅ Image loaded (2.50MB)",
        20: "📐 Detecting image orientation...",
        25: "✅ Orientation: landscape (1280x720)",
        30: "🎨 Enhancing image with gpt-image-2.5-flare...",
        50: "✅ Image enhanced (1536x1024)",
        55: "📐 Resizing for video requirements...",
        60: "✅ Image resized for video (1280x720)",
        65: "💾 Saving enhanced image...",
        70: "✅ Enhanced image saved",
        75: "🤖 Generating advertising script with gpt-6-luna...",
        90: "✅ Script generated (1250 characters)",
        95: "💾 Saving results...",
        100: "🎉 Enhancement completed successfully!",
    }


def test_the_paid_steps_of_the_enhancement_are_the_two_calls_of_models() -> None:
    assert [step.name for step in PLANS[Kind.ENHANCEMENT].steps if step.provider] == ["redraw", "write"]
