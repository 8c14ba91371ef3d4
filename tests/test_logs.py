from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import pytest

from enhancer.logs import JsonFormatter, TextFormatter

MOMENT = 1_700_000_000.123456
CLOCK = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(MOMENT))
PROGRESS: dict[str, object] = {"task": 12, "kind": "enhancement", "progress": 5, "text": "🚀 Enhancement task started"}


def record(event: str, level: int = logging.INFO, /, **fields: object) -> logging.LogRecord:
    """A line as `log.info(event, extra=fields)` makes it, at a fixed moment."""
    made = logging.getLogger("enhancer.pipeline.engine").makeRecord(
        "enhancer.pipeline.engine", level, "engine.py", 1, event, (), None, extra=fields
    )
    made.created = MOMENT
    return made


def failed(event: str) -> logging.LogRecord:
    """A line with a traceback."""
    made = record(event, logging.ERROR, task=12)
    try:
        break_in_two()
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def break_in_two() -> None:
    raise ValueError("broken\nin two")


def text(made: logging.LogRecord) -> str:
    return TextFormatter().format(made)


def parsed(made: logging.LogRecord) -> dict[str, object]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_progress_reads_as_its_watchers_see_it() -> None:
    line = text(record("task.progress", **PROGRESS))
    assert line == f"{CLOCK} INFO    [enhancement 12]   5% 🚀 Enhancement task started"


def test_percentages_stand_under_each_other() -> None:
    lines = [text(record("task.progress", **PROGRESS | {"progress": progress})) for progress in (5, 50, 100)]
    assert len({line.index("%") for line in lines}) == 1


def test_a_failure_reads_with_its_code() -> None:
    failure = PROGRESS | {"text": "The provider refused the request.", "error_code": "provider_refused"}
    assert text(record("task.finished", **failure)).endswith("% The provider refused the request. (provider_refused)")


def test_another_event_is_its_name_and_its_fields() -> None:
    line = text(record("database.unreachable", logging.WARNING, error="TimeoutError", pause=0.05))
    assert line == f"{CLOCK} WARNING database.unreachable error=TimeoutError pause=0.05"


def test_a_line_of_another_program_is_its_message() -> None:
    made = logging.getLogger("aiohttp.access").makeRecord(
        "aiohttp.access", logging.WARNING, "x.py", 1, "%s took %d s", ("GET /", 3), None
    )
    assert text(made).endswith("WARNING GET / took 3 s")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\x0b", "\x85"])
def test_nobody_writes_a_second_line_into_the_log(end: str) -> None:
    forged = f"nothing{end}2026-01-01 00:00:00 INFO    [enhancement 1] 100% forged"
    for made in (record("task.progress", **PROGRESS | {"text": forged}), record("event", error=forged), record(forged)):
        assert len(text(made).splitlines()) == 1
        parsed(made)


def test_a_traceback_follows_its_line() -> None:
    first, *rest = text(failed("task.error")).splitlines()
    assert first == f"{CLOCK} ERROR   task.error task=12"
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-2:] == ["ValueError: broken", "in two"]


def test_a_json_line_has_the_event_and_its_fields() -> None:
    assert parsed(record("task.progress", **PROGRESS)) == {
        "time": 1700000000.123,
        "level": "info",
        "logger": "enhancer.pipeline.engine",
        "event": "task.progress",
        **PROGRESS,
    }


def test_a_json_line_keeps_other_writings_readable() -> None:
    assert "🚀 Größe 图" in JsonFormatter().format(record("event", text="🚀 Größe 图"))


def test_a_json_line_carries_its_traceback() -> None:
    found = parsed(failed("task.error"))
    assert found["event"] == "task.error"
    assert str(found["traceback"]).endswith("ValueError: broken\nin two")


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    found = parsed(record("event", path=Path("/x"), tasks={1}, error=ValueError("why")))
    assert (found["path"], found["tasks"], found["error"]) == ("/x", "{1}", "why")


def test_both_forms_leave_out_what_logging_itself_adds() -> None:
    made = record("event")
    made.taskName = "Task-1"
    assert text(made) == f"{CLOCK} INFO    event"
    assert parsed(made).keys() == {"time", "level", "logger", "event"}
