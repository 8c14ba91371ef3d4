"""The engine when something goes wrong: what is paid for, what is told, and how it ends."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from enhancer.domain.enhancements import EnhancementInput, EnhancementOutput
from enhancer.domain.tasks import Status, Task
from enhancer.pipeline import plans
from enhancer.providers import connecting
from enhancer.settings import Settings
from enhancer.storage.database import Pool
from enhancer.storage.files import Files
from enhancer.storage.steps import State
from tests.fakes.openai import CHAT_TOKENS, FakeOpenAI, faults
from tests.fakes.openai import Kind as CallKind
from tests.fakes.openai.faults import Fault
from tests.pipeline import pictures
from tests.pipeline.watching import (
    ended,
    listening,
    messages,
    outlive,
    points,
    put_back,
    reached,
    step_of,
    told,
    wish_end,
)
from tests.pipeline.workshop import ALL_POINTS, Place, Start, model_path, order

# failures that may pass


async def test_a_failure_that_passes_is_told_and_tried_again(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.status(503))
    task = await ended(pool, await order(await start(paid)))
    assert task.status is Status.COMPLETED
    assert await points(pool, task) == [5, 10, 15, 20, 25, 30, 30, *ALL_POINTS[6:]]
    told_once = (await told(pool, task))[6]
    assert told_once["message"] == "⏳ Retrying (1/3) in 0 s: The provider is not working at the moment (HTTP 503)."
    assert told_once["status"] == "processing"
    row = await step_of(pool, task, "redraw")
    assert (task.attempts, row.calls, row.ambiguous) == (2, 2, 0)


async def test_a_retry_is_told_in_the_language_of_the_task(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("chat", faults.status(500))
    task = await ended(pool, await order(await start(paid), language="zh-CN"))
    assert "⏳ 0 秒后重试（1/3）：模型服务暂时无法访问。" in await messages(pool, task)


async def test_a_step_that_is_done_is_not_paid_again_when_a_later_one_fails(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("chat", faults.status(502), times=3)
    task = await ended(pool, await order(await start(paid)))
    assert task.status is Status.COMPLETED
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)
    assert await points(pool, task) == [*ALL_POINTS[:12], 75, 75, 75, *ALL_POINTS[12:]]
    assert task.attempts == 4


@pytest.mark.parametrize("number", [500, 503])
async def test_four_failures_are_four_calls_with_growing_pauses_and_the_end(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, number: int
) -> None:
    openai.fail("edits", faults.status(number), times=9)
    place = await start(paid.model_copy(update={"retry_delay": 0.1}))
    task = await ended(pool, await order(place))
    assert (task.status, task.error_code, task.attempts) == (Status.FAILED, "provider_unavailable", 4)
    calls = openai.calls_of("edits")
    gaps = [after.started - before.ended for before, after in pairwise(calls)]
    assert len(calls) == 4
    assert all(gap >= 0.75 * pause for gap, pause in zip(gaps, [0.1, 0.2, 0.4], strict=True))
    retries = [re.match(r"⏳ Retrying \((\d/\d)\)", said) for said in await messages(pool, task)]
    assert [found[1] for found in retries if found] == ["1/3", "2/3", "3/3"]
    assert (await step_of(pool, task, "redraw")).ambiguous == 0


async def test_a_provider_that_names_a_pause_gets_it(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.status(503, headers={"Retry-After": "0.6"}))
    task = await ended(pool, await order(await start(paid)))
    first, second = openai.calls_of("edits")
    assert second.started - first.ended >= 0.6
    assert task.attempts == 2


async def test_a_rate_limit_is_waited_for_and_costs_no_attempt(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.rate_limited("0.7"), times=2)
    place = await start(paid.model_copy(update={"max_retries": 0}))
    task = await order(place)
    waiting = await put_back(pool, task)
    assert (waiting.attempts, waiting.progress) == (0, 30)
    task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    gaps = [after.started - before.ended for before, after in pairwise(openai.calls_of("edits"))]
    assert len(gaps) == 2
    assert min(gaps) >= 0.7
    assert (await messages(pool, task)).count("⏳ Waiting 1 s: The provider limits the rate of requests.") == 2


async def test_a_rate_limit_that_does_not_end_fails_the_task_after_some_hours(
    front: Place, paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.rate_limited("0"))
    task = await order(front)
    await pool.execute("UPDATE tasks SET started_at = now() - interval '7 hours'")
    await start(paid)
    task = await ended(pool, task)
    assert (task.status, task.error_code) == (Status.FAILED, "provider_rate_limited")


# failures that stay

FINAL = pytest.mark.parametrize(
    ("kind", "fault", "code"),
    [
        ("edits", faults.no_credit(), "provider_refused"),
        ("edits", faults.html(), "provider_bad_answer"),
        ("edits", faults.not_an_image(), "provider_bad_answer"),
        ("chat", faults.say("Sure!"), "provider_bad_answer"),
        ("chat", faults.refusal(), "provider_rejected_image"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)


@FINAL
async def test_a_failure_that_stays_is_one_call_and_the_end(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, kind: CallKind, fault: Fault, code: str
) -> None:
    openai.fail(kind, fault)
    task = await ended(pool, await order(await start(paid)))
    assert (task.status, task.error_code, task.attempts) == (Status.FAILED, code, 1)
    assert (await told(pool, task))[-1]["error_code"] == code
    assert len(openai.calls_of(kind)) == 1
    row = await step_of(pool, task, "redraw" if kind == "edits" else "write")
    assert row.state is (State.AMBIGUOUS if code == "provider_bad_answer" else State.REFUSED)


# calls of unknown outcome


@pytest.mark.parametrize("fault", [faults.truncated(), faults.hang()], ids=lambda fault: fault.name)
async def test_a_call_of_unknown_outcome_is_held_when_so_set(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, fault: Fault
) -> None:
    openai.fail("edits", fault)
    place = await start(paid.model_copy(update={"ambiguous_calls": "hold", "call_timeout": 0.5}))
    task = await ended(pool, await order(place))
    assert (task.status, task.error_code, task.attempts) == (Status.FAILED, "outcome_unknown", 1)
    assert len(openai.calls) <= 1  # one that hangs is not over yet
    row = await step_of(pool, task, "redraw")
    assert (row.state, row.calls, row.ambiguous) == (State.AMBIGUOUS, 1, 0)


@pytest.mark.parametrize("fault", [faults.dropped(), faults.hang()], ids=lambda fault: fault.name)
async def test_a_call_of_unknown_outcome_is_repeated_once_and_only_when_it_cannot_be_running_any_more(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, fault: Fault
) -> None:
    openai.fail("edits", fault)
    place = await start(paid.model_copy(update={"call_timeout": 3.0}))
    task = await order(place)
    waiting = await reached(pool, task, lambda found: found.message.startswith("⏳ Waiting "))
    assert waiting.attempts == 1  # the attempt that broke; the one that had to wait was given back
    assert (await step_of(pool, task, "redraw")).calls == 1
    await outlive(pool, task)
    task = await ended(pool, task)
    row = await step_of(pool, task, "redraw")
    assert task.status is Status.COMPLETED
    assert (row.state, row.calls, row.ambiguous) == (State.DONE, 2, 1)
    assert openai.billed("edits") <= 2
    assert openai.billed("chat") == 1
    assert [point for point in await points(pool, task) if point != 30] == [at for at in ALL_POINTS if at != 30]


async def test_the_second_call_begins_after_the_longest_life_of_the_first(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "MARGIN", 0.2)
    openai.fail("chat", faults.dropped())
    task = await ended(pool, await order(await start(paid.model_copy(update={"call_timeout": 4.0}))))
    first, second = openai.calls_of("chat")
    assert second.started - first.started > 4.0
    assert task.status is Status.COMPLETED
    assert (await step_of(pool, task, "write")).ambiguous == 1


async def test_a_second_unknown_outcome_is_the_end(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.dropped(), times=2)
    task = await order(await start(paid))
    await reached(pool, task, lambda found: found.message.startswith("⏳ Waiting"))
    await outlive(pool, task)
    task = await ended(pool, task)
    assert (task.status, task.error_code) == (Status.FAILED, "outcome_unknown")
    assert len(openai.calls) == 2
    assert (await step_of(pool, task, "redraw")).ambiguous == 1


async def test_an_image_that_was_stored_and_not_recorded_is_adopted(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.dropped())
    place = await start(paid)
    task = await order(place)
    await reached(pool, task, lambda found: found.message.startswith("⏳ Waiting"))
    await place.service.files.write(model_path(task), pictures.redrawn((1200, 800)))
    await pool.execute("UPDATE tasks SET run_at = now()")
    task = await ended(pool, task)
    output = EnhancementOutput.model_validate(task.output)
    assert task.status is Status.COMPLETED
    assert len(openai.calls_of("edits")) == 1
    assert (output.model_size, output.tokens_used) == ((1200, 800), CHAT_TOKENS)
    row = await step_of(pool, task, "redraw")
    assert (row.state, row.calls, row.ambiguous) == (State.DONE, 1, 0)


# the user, the clock, the store


async def test_a_waiting_task_that_is_cancelled_is_not_begun(
    front: Place, paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    task = await order(front)
    await wish_end(pool, task)
    await start(paid)
    task = await ended(pool, task)
    assert (task.status, task.progress) == (Status.CANCELLED, 0)
    assert [(event["progress"], event["status"]) for event in await told(pool, task)] == [(0, "cancelled")]
    assert openai.calls == []


async def test_a_task_cancelled_in_a_call_keeps_the_result_and_ends(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    place = await start(paid)
    task = await order(place)
    await held.arrived()
    await wish_end(pool, task)
    held.release()
    task = await ended(pool, task)
    assert task.status is Status.CANCELLED
    assert [call.kind for call in openai.calls] == ["edits"]
    assert (await step_of(pool, task, "redraw")).state is State.DONE
    assert pictures.opened(await place.service.files.read(model_path(task))).size == (1536, 1024)


async def test_a_task_that_waits_for_another_attempt_can_be_cancelled(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.rate_limited("60"))
    task = await order(await start(paid))
    await put_back(pool, task)
    await wish_end(pool, task)
    await pool.execute("UPDATE tasks SET run_at = now()")
    task = await ended(pool, task)
    assert (task.status, task.progress) == (Status.CANCELLED, 30)
    assert len(openai.calls) == 1


async def test_a_provider_that_hangs_meets_the_time_limit(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.hang())
    place = await start(paid.model_copy(update={"task_timeout": 5.0, "workers": 1}))
    task = await ended(pool, await order(place))
    assert (task.status, task.error_code, task.progress, task.attempts) == (Status.FAILED, "timeout", 30, 1)
    assert (await told(pool, task))[-1]["error"] == "The task took longer than its time limit."
    assert (await step_of(pool, task, "redraw")).state is State.AMBIGUOUS
    await order(place)
    await openai.arrived("edits", 2)  # the worker is free again


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience with the store that tests can wait for."""
    monkeypatch.setattr(plans, "STORE_PATIENCE", 0.3)


def break_store(settings: Settings, task: Task) -> None:
    """The folder of the results becomes a file."""
    folder = settings.uploads / f"user_{task.user_id}" / "enhanced"
    assert not folder.exists()
    folder.touch()


def mend_store(settings: Settings, task: Task) -> None:
    (settings.uploads / f"user_{task.user_id}" / "enhanced").unlink()


async def test_a_paid_image_waits_for_the_store_to_work_again(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    task = await order(await start(paid))
    await held.arrived()
    break_store(paid, task)
    with listening() as log:
        held.release()
        await log.says("storage.unreachable", times=2)
    mend_store(paid, task)
    task = await ended(pool, task)
    assert (task.status, task.attempts) == (Status.COMPLETED, 1)
    assert (openai.billed("edits"), openai.billed("chat")) == (1, 1)


async def test_a_paid_image_that_cannot_be_stored_is_not_paid_for_again(
    paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool, broken: None
) -> None:
    held = openai.hold("edits")
    task = await order(await start(paid))
    await held.arrived()
    break_store(paid, task)
    held.release()
    task = await ended(pool, task)
    assert (task.status, task.error_code, task.attempts) == (Status.FAILED, "internal", 1)
    assert openai.billed("edits") == 1


async def test_a_store_that_fails_before_anything_is_paid_costs_attempts_and_no_money(
    front: Place, paid: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    task = await order(front)
    await Files.local(paid.uploads).delete(EnhancementInput.model_validate(task.input).original)
    await start(paid)
    task = await ended(pool, task)
    assert (task.status, task.error_code, task.attempts) == (Status.FAILED, "internal", 4)
    assert openai.calls == []
