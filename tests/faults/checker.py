"""
What must hold after any fault, checked from what is left: the provider's log, the database, and what clients saw.

Nothing here runs or waits; an invariant is a function from the facts to its complaints, and its docstring says what
it promises.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

FINAL = {"completed", "failed", "cancelled"}
SCALES = {"enhancement": ("progress", 100), "video": ("step", 9)}  # where an event says how far, and the last point
SKEW = 0.002  # seconds: the ledger's clock is PostgreSQL's, on the same machine


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of `tasks`; `token` is what its orderer wrote into the description."""

    id: int
    token: str
    user_id: int
    status: str
    progress: int
    message: str
    attempts: int
    max_attempts: int
    fence: int
    last_seq: int
    error_code: str | None = None
    error_message: str | None = None
    kind: str = "enhancement"


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of `task_steps`; `finished_at` in Unix seconds."""

    task_id: int
    step: str
    state: str
    calls: int
    ambiguous: int
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of `task_calls`."""

    task_id: int
    step: str
    fence: int
    outcome: str
    started_at: float


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """
    A paid call in a provider's log. `token` is "" when the provider did not read the request.

    `order`: the id that the provider made of it, when it is one that is asked for later.
    """

    token: str
    step: str
    started: float
    ended: float
    outcome: str
    billed: bool
    order: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at an order, in its provider's log."""

    order: str
    started: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """A 202 that a client got: for what, and the id that it names."""

    token: str
    task_id: int


@dataclass(slots=True)
class Watched:
    """What one client saw of a task: numbers and JSON texts in the order they came."""

    task_id: int
    events: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the tasks that run: how many of each user and kind, and each task's fence."""

    running: Mapping[tuple[int, str], int]
    fences: Mapping[int, int]


@dataclass(slots=True)
class Facts:
    """
    All that is left of a run.

    `per_user`: the cap. By task: `events`, `originals` (where the upload is) and `results` (where its files are).
    `files`: what is stored.
    """

    tasks: list[TaskRow]
    steps: list[StepRow]
    ledger: list[LedgerRow]
    events: dict[int, list[tuple[int, str]]]
    calls: list[ProviderCall]
    accepted: list[Accepted]
    watched: list[Watched]
    samples: list[Sample]
    per_user: int
    originals: dict[int, str] = field(default_factory=dict)
    results: dict[int, Sequence[str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    looks: list[Look] = field(default_factory=list)


Invariant = Callable[[Facts], Iterator[str]]


def check(facts: Facts) -> list[str]:
    """Every complaint, begun with the invariant's name."""
    return [f"{rule.__name__}: {complaint}" for rule in INVARIANTS for complaint in rule(facts)]


def every_202_exists(facts: Facts) -> Iterator[str]:
    """A 202 names a task that is in the table, with what was ordered; one order is one task."""
    rows = {task.id: task for task in facts.tasks}
    for accepted in facts.accepted:
        row = rows.get(accepted.task_id)
        if row is None or row.token != accepted.token:
            yield f"task {accepted.task_id} was promised for {accepted.token}, the table has {row and row.token}"
    for token, count in Counter(task.token for task in facts.tasks).items():
        if count > 1:
            yield f"{token} became {count} tasks"


def every_task_ends(facts: Facts) -> Iterator[str]:
    """Every task reaches a final state."""
    for task in facts.tasks:
        if task.status not in FINAL:
            yield f"task {task.id} is {task.status}"


def attempts_are_bounded(facts: Facts) -> Iterator[str]:
    """No task is charged more attempts than it has."""
    for task in facts.tasks:
        if not 0 <= task.attempts <= task.max_attempts:
            yield f"task {task.id} has used {task.attempts} of {task.max_attempts}"


def no_call_after_done(facts: Facts) -> Iterator[str]:
    """A finished paid step is never called again."""
    done = {(step.task_id, step.step): step.finished_at for step in facts.steps if step.state == "done"}
    for (task_id, step), calls in _calls_by_step(facts).items():
        finished = done.get((task_id, step))
        for call in calls if finished else ():
            if finished and call.started > finished:
                yield f"task {task_id} {step} was called {call.started - finished:.3f} s after it was done"


def looked_at_is_never_ordered_anew(facts: Facts) -> Iterator[str]:
    """An order that was asked for once is asked for to the end: its id was stored, so no other takes its place."""
    first: dict[str, float] = {}
    for look in facts.looks:
        first[look.order] = min(look.started, first.get(look.order, look.started))
    for (task_id, step), calls in _calls_by_step(facts).items():
        seen = [first[call.order] for call in calls if call.order in first]
        if seen and calls[-1].started > min(seen):
            yield f"task {task_id} {step} was ordered {calls[-1].started - min(seen):.3f} s after it was looked at"


def every_look_is_at_an_order(facts: Facts) -> Iterator[str]:
    """Nobody asks for what was not ordered."""
    placed = {call.order for call in facts.calls}
    for order in sorted({look.order for look in facts.looks} - placed):
        yield f"{order} was asked for, and never ordered"


def no_two_calls_overlap(facts: Facts) -> Iterator[str]:
    """One step is in one call at a time."""
    for (task_id, step), calls in _calls_by_step(facts).items():
        for one, other in pairwise(calls):
            if other.started < one.ended:
                yield f"task {task_id} {step}: a call began {one.ended - other.started:.3f} s before the end of another"


def second_bills_are_recorded(facts: Facts) -> Iterator[str]:
    """A step is billed once, and once more for each ambiguity that is recorded; not at all when it was refused."""
    steps = {(step.task_id, step.step): step for step in facts.steps}
    for (task_id, name), calls in _calls_by_step(facts).items():
        bills, step = sum(call.billed for call in calls), steps.get((task_id, name))
        known = step.ambiguous + (step.state != "refused") if step else 0
        if bills > known:
            yield f"task {task_id} {name} was billed {bills} times, and {known} are known"


def every_call_was_intended(facts: Facts) -> Iterator[str]:
    """The provider's log agrees with the ledger: a row before each call, and what the row says of its end is true."""
    ledger = defaultdict(list)
    for row in facts.ledger:
        ledger[row.task_id, row.step].append(row)
    calls = _calls_by_step(facts)
    for key in ledger.keys() | calls.keys():
        yield from (f"task {key[0]} {key[1]}: {what}" for what in _disagreements(ledger[key], calls.get(key, [])))


def ledger_counts_agree(facts: Facts) -> Iterator[str]:
    """A step's count of calls is the ledger's, and a step that was called has a row of its own."""
    rows = Counter((row.task_id, row.step) for row in facts.ledger)
    counts = {(step.task_id, step.step): step.calls for step in facts.steps}
    for key in rows.keys() | counts.keys():
        if rows[key] != counts.get(key):
            yield f"task {key[0]} {key[1]}: {rows[key]} rows in the ledger, the step counts {counts.get(key)}"


def the_cap_holds(facts: Facts) -> Iterator[str]:
    """No user has more tasks of a kind running than the cap, over all replicas."""
    for sample in facts.samples:
        for (user, kind), running in sample.running.items():
            if running > facts.per_user:
                yield f"user {user} had {running} of kind {kind} running, the cap is {facts.per_user}"


def fences_only_rise(facts: Facts) -> Iterator[str]:
    """A task's fence never falls."""
    highest: dict[int, int] = {}
    last = Sample({}, {task.id: task.fence for task in facts.tasks})
    for sample in [*facts.samples, last]:
        for task_id, fence in sample.fences.items():
            if fence < highest.get(task_id, 0):
                yield f"the fence of task {task_id} fell from {highest[task_id]} to {fence}"
            highest[task_id] = max(fence, highest.get(task_id, 0))


def events_have_no_gap(facts: Facts) -> Iterator[str]:
    """The events of a task count from 1 to its last; progress never falls, and who is completed is at the top."""
    for task in facts.tasks:
        events = facts.events.get(task.id, [])
        numbers = [seq for seq, _ in events]
        if numbers != list(range(1, task.last_seq + 1)):
            yield f"task {task.id} has the events {numbers}, its row says {task.last_seq}"
        where, top = SCALES[task.kind]
        reached = [at for _, text in events if (at := json.loads(text)[where]) >= 0]
        if reached != sorted(reached):
            yield f"task {task.id} went back: {reached}"
        if reached and (reached[-1] > top or (task.status == "completed" and reached[-1] < top)):
            yield f"task {task.id} is {task.status} at {reached[-1]} of {top}"


def the_last_event_is_the_row(facts: Facts) -> Iterator[str]:
    """What watchers are told at the end is what the table says, and nothing follows it."""
    for task in facts.tasks:
        told = [json.loads(text) for _, text in facts.events.get(task.id, [])]
        ends = [number for number, event in enumerate(told, start=1) if event["status"] in FINAL]
        if task.status in FINAL and ends != [len(told)]:
            yield f"task {task.id} is {task.status}, and ends at the events {ends} of {len(told)}"
        elif task.status in FINAL and (wrong := _differences(task, told[-1])):
            yield f"task {task.id}: the last event and the row differ in {wrong}"


def watchers_saw_everything_once(facts: Facts) -> Iterator[str]:
    """Who watched saw every event once, in order, word for word, to the last."""
    for watched in facts.watched:
        if watched.events != facts.events.get(watched.task_id, []):
            seen = [seq for seq, _ in watched.events]
            has = [seq for seq, _ in facts.events.get(watched.task_id, [])]
            texts = "" if seen != has else ", in other words"
            yield f"a client saw {seen} of task {watched.task_id}, the table has {has}{texts}"


def originals_are_stored(facts: Facts) -> Iterator[str]:
    """What was uploaded for a task is in the store, however the upload ended."""
    for task_id, path in facts.originals.items():
        if path not in facts.files:
            yield f"task {task_id} is there without {path}"


def results_are_stored(facts: Facts) -> Iterator[str]:
    """The files that a completed task names are in the store."""
    for task in facts.tasks:
        wanted = facts.results.get(task.id, ())
        if task.status == "completed" and (missing := [path for path in wanted if path not in facts.files]):
            yield f"task {task.id} is completed without {missing}"


INVARIANTS: tuple[Invariant, ...] = (
    every_202_exists,
    every_task_ends,
    attempts_are_bounded,
    no_call_after_done,
    looked_at_is_never_ordered_anew,
    every_look_is_at_an_order,
    no_two_calls_overlap,
    second_bills_are_recorded,
    every_call_was_intended,
    ledger_counts_agree,
    the_cap_holds,
    fences_only_rise,
    events_have_no_gap,
    the_last_event_is_the_row,
    watchers_saw_everything_once,
    originals_are_stored,
    results_are_stored,
)


def _calls_by_step(facts: Facts) -> dict[tuple[int, str], list[ProviderCall]]:
    """Calls that the provider has read, by task and step, the first first."""
    ids = {task.token: task.id for task in facts.tasks}
    found: dict[tuple[int, str], list[ProviderCall]] = defaultdict(list)
    for call in sorted(facts.calls, key=lambda call: call.started):
        if call.token:
            found[ids.get(call.token, 0), call.step].append(call)
    return found


def _disagreements(rows: Sequence[LedgerRow], calls: Sequence[ProviderCall]) -> Iterator[str]:
    """Each call belongs to the last row before it, and no row has two."""
    rows = sorted(rows, key=lambda row: row.started_at)
    matched: dict[int, ProviderCall] = {}
    for call in calls:
        before = [number for number, row in enumerate(rows) if row.started_at <= call.started + SKEW]
        if not before:
            yield f"a call began before any was intended ({call.outcome})"
        elif before[-1] in matched:
            yield f"two calls for the one intent of fence {rows[before[-1]].fence}"
        else:
            matched[before[-1]] = call
    for number, row in enumerate(rows):
        found = matched.get(number)
        if row.outcome == "done" and (found is None or found.outcome != "answered"):
            yield f"fence {row.fence} is done, the provider says {found and found.outcome}"
        if row.outcome == "refused" and found is not None and found.billed:
            yield f"fence {row.fence} is refused, the provider has billed it"


def _differences(task: TaskRow, event: Mapping[str, object]) -> list[str]:
    failed = task.status == "failed"
    row: Iterable[tuple[str, object]] = (
        ("status", task.status),
        (SCALES[task.kind][0], -1 if failed else task.progress),
        *((("error", task.error_message), ("error_code", task.error_code)) if failed else (("message", task.message),)),
    )
    return [name for name, value in row if event.get(name) != value]
