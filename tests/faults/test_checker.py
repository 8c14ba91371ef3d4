"""A check that cannot fail is no check: each invariant is shown facts that break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker import (
    INVARIANTS,
    Accepted,
    Facts,
    LedgerRow,
    Look,
    ProviderCall,
    Sample,
    StepRow,
    TaskRow,
    Watched,
    check,
)

Spoil = Callable[[Facts], None]


def sound() -> Facts:
    """Three tasks: one completed after an ambiguous call, one failed, and a video completed."""
    told = [
        _event("processing", 5, "begun"),
        _event("processing", 30, "redrawing"),
        _event("completed", 100, "done"),
    ]
    failed = [
        _event("processing", 5, "begun"),
        json.dumps({"progress": -1, "status": "failed", "error": "No.", "error_code": "provider_refused"}),
    ]
    filmed = [_video_event("processing", 4, 0), _video_event("processing", 5, 40), _video_event("completed", 9, 100)]
    events = {n: list(enumerate(texts, start=1)) for n, texts in ((1, told), (2, failed), (3, filmed))}
    return Facts(
        tasks=[
            TaskRow(1, "order-1", 7, "completed", 100, "done", 2, 4, 2, 3),
            TaskRow(2, "order-2", 7, "failed", 5, "No.", 1, 4, 1, 2, "provider_refused", "No."),
            TaskRow(3, "order-5", 8, "completed", 9, "", 1, 4, 1, 3, kind="video"),
        ],
        steps=[
            StepRow(1, "redraw", "done", 2, 1, 20.0),
            StepRow(2, "redraw", "refused", 1, 0, 12.0),
            StepRow(3, "render", "done", 1, 0, 19.0),
        ],
        ledger=[
            LedgerRow(1, "redraw", 1, "started", 10.0),
            LedgerRow(1, "redraw", 2, "done", 18.0),
            LedgerRow(2, "redraw", 1, "refused", 11.0),
            LedgerRow(3, "render", 1, "done", 12.0),
        ],
        events=events,
        calls=[
            ProviderCall("order-1", "redraw", 10.1, 12.0, "dropped", True),
            ProviderCall("order-2", "redraw", 11.1, 11.9, "status 400", False),
            ProviderCall("order-5", "render", 12.1, 12.2, "answered", True, "video_1"),
            ProviderCall("order-1", "redraw", 18.1, 19.9, "answered", True),
        ],
        looks=[Look("video_1", 12.5), Look("video_1", 13.5)],
        accepted=[Accepted("order-1", 1), Accepted("order-1", 1), Accepted("order-2", 2), Accepted("order-5", 3)],
        watched=[Watched(number, list(seen)) for number, seen in events.items()],
        samples=[
            Sample({(7, "enhancement"): 1}, {1: 1}),
            Sample({(7, "enhancement"): 2, (7, "video"): 1}, {1: 1, 2: 1}),
            Sample({(7, "enhancement"): 1}, {1: 2, 2: 1}),
        ],
        per_user=2,
        originals={1: "original.jpg", 2: "original.jpg", 3: "original.jpg"},
        results={1: ["drawn.jpg"], 2: ["no model_path"], 3: ["drawn.jpg"]},
        files={"drawn.jpg", "original.jpg"},
    )


def _event(status: str, progress: int, message: str) -> str:
    return json.dumps({"progress": progress, "message": message, "status": status})


def _video_event(status: str, step: int, percent: int | None) -> str:
    return json.dumps({"step": step, "progress": percent, "message": "", "status": status})


def _task(number: int = 0, **changed: object) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.tasks[number] = replace(facts.tasks[number], **changed)  # type: ignore[arg-type]

    return spoil


def _step(number: int = 0, **changed: object) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.steps[number] = replace(facts.steps[number], **changed)  # type: ignore[arg-type]

    return spoil


def _ledger(number: int, **changed: object) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.ledger[number] = replace(facts.ledger[number], **changed)  # type: ignore[arg-type]

    return spoil


def _call(number: int, **changed: object) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.calls[number] = replace(facts.calls[number], **changed)  # type: ignore[arg-type]

    return spoil


def _another_call(**given: object) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.calls.append(replace(facts.calls[-1], **given))  # type: ignore[arg-type]

    return spoil


def _without(rows: Callable[[Facts], list[Any]], number: int = -1) -> Spoil:
    def spoil(facts: Facts) -> None:
        del rows(facts)[number]

    return spoil


def _event_in_table(task_id: int, seq: int, text: str) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.events[task_id].append((seq, text))

    return spoil


def _ends_at(task_id: int, step: int) -> Spoil:
    def spoil(facts: Facts) -> None:
        facts.events[task_id][-1] = (len(facts.events[task_id]), _video_event("completed", step, 100))

    return spoil


VIOLATIONS: list[tuple[str, str, Spoil]] = [
    ("every_202_exists", "lost", lambda facts: facts.accepted.append(Accepted("order-3", 3))),
    ("every_202_exists", "another's", lambda facts: facts.accepted.append(Accepted("order-1", 2))),
    ("every_202_exists", "twice", _task(1, token="order-1")),
    ("every_task_ends", "waits", _task(status="pending")),
    ("every_task_ends", "runs", _task(status="processing")),
    ("attempts_are_bounded", "too many", _task(attempts=5)),
    ("attempts_are_bounded", "refunded twice", _task(attempts=-1)),
    ("no_call_after_done", "paid again", _another_call(started=20.5, ended=21.0)),
    ("no_call_after_done", "ordered again", _another_call(token="order-5", step="render", started=19.5, ended=19.6)),
    (
        "looked_at_is_never_ordered_anew",
        "after a look",
        _another_call(token="order-5", step="render", started=13.0, ended=13.1, order="video_2"),
    ),
    ("every_look_is_at_an_order", "unknown", lambda facts: facts.looks.append(Look("video_3", 15.0))),
    ("second_bills_are_recorded", "two orders", _another_call(token="order-5", step="render", order="video_2")),
    ("no_two_calls_overlap", "overlap", _call(0, ended=18.5)),
    ("second_bills_are_recorded", "not recorded", _step(ambiguous=0)),
    ("second_bills_are_recorded", "refused and billed", _call(1, billed=True)),
    ("second_bills_are_recorded", "of no step", _without(lambda facts: facts.steps, 0)),
    ("every_call_was_intended", "before the gate", _call(0, started=9.0)),
    ("every_call_was_intended", "without a gate", _without(lambda facts: facts.ledger, 0)),
    ("every_call_was_intended", "two for one gate", _another_call(started=19.91, ended=19.95)),
    ("every_call_was_intended", "done without an answer", _call(2, outcome="dropped")),
    ("every_call_was_intended", "done without a call", _without(lambda facts: facts.calls)),
    ("every_call_was_intended", "refused, but billed", _call(1, billed=True)),
    ("every_call_was_intended", "of no task", _another_call(token="order-4")),
    ("ledger_counts_agree", "uncounted", _step(calls=1)),
    ("ledger_counts_agree", "no row", _without(lambda facts: facts.ledger)),
    ("the_cap_holds", "three", lambda facts: facts.samples.append(Sample({(7, "video"): 3}, {}))),
    ("fences_only_rise", "between looks", lambda facts: facts.samples.append(Sample({}, {1: 1}))),
    ("fences_only_rise", "in the end", _task(fence=1)),
    ("events_have_no_gap", "gap", _without(lambda facts: facts.events[1], 1)),
    ("events_have_no_gap", "too few", _task(last_seq=4)),
    ("events_have_no_gap", "went back", lambda facts: facts.events[1].insert(1, facts.events[1].pop(0))),
    ("events_have_no_gap", "fell", lambda facts: facts.events[1].__setitem__(1, (2, _event("processing", 3, "")))),
    ("events_have_no_gap", "a step fell", lambda facts: facts.events[3].__setitem__(1, (2, _video_event("", 3, 100)))),
    ("events_have_no_gap", "completed below the top", _ends_at(3, 8)),
    ("events_have_no_gap", "above the scale", _ends_at(3, 100)),
    ("the_last_event_is_the_row", "step", _task(2, progress=8)),
    ("watchers_saw_everything_once", "a video's", _without(lambda facts: facts.watched[2].events, 1)),
    ("the_last_event_is_the_row", "message", _task(message="other")),
    ("the_last_event_is_the_row", "progress", _task(progress=90)),
    ("the_last_event_is_the_row", "error", _task(1, error_code="timeout")),
    ("the_last_event_is_the_row", "status", _task(status="cancelled")),
    ("the_last_event_is_the_row", "after the end", _event_in_table(1, 4, _event("processing", 100, "more"))),
    ("the_last_event_is_the_row", "no end", _without(lambda facts: facts.events[1])),
    ("watchers_saw_everything_once", "missed", _without(lambda facts: facts.watched[0].events, 1)),
    ("watchers_saw_everything_once", "not the end", _without(lambda facts: facts.watched[0].events)),
    ("watchers_saw_everything_once", "twice", lambda facts: facts.watched[0].events.insert(1, facts.events[1][0])),
    ("watchers_saw_everything_once", "other words", lambda facts: facts.watched[0].events.__setitem__(0, (1, "{}"))),
    ("originals_are_stored", "gone", lambda facts: facts.files.discard("original.jpg")),
    ("results_are_stored", "gone", lambda facts: facts.files.discard("drawn.jpg")),
    ("results_are_stored", "never there", lambda facts: facts.results.update({1: ["no enhanced_path"]})),
]


def test_sound_facts_bring_no_complaint() -> None:
    assert check(sound()) == []


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    [(rule, spoil) for rule, _, spoil in VIOLATIONS],
    ids=[f"{v[0]}: {v[1]}" for v in VIOLATIONS],
)
def test_a_violation_is_noticed(invariant: str, spoil: Spoil) -> None:
    facts = sound()
    spoil(facts)
    assert invariant in {complaint.partition(":")[0] for complaint in check(facts)}


def test_every_invariant_is_shown_a_violation() -> None:
    assert {rule.__name__ for rule in INVARIANTS} == {name for name, _, _ in VIOLATIONS}
