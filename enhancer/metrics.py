"""What is counted, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge, Histogram

from enhancer.domain.tasks import Status, Task
from enhancer.errors import ProviderError

TASKS = Counter("enhancer_tasks_finished", "Tasks that reached a final state", ["kind", "status"])
TASK_SECONDS = Histogram(
    "enhancer_task_seconds",
    "From acceptance to the final state",
    ["kind"],
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
)
CALLS = Counter("enhancer_provider_calls", "Calls of providers", ["step", "model", "outcome"])
CALL_SECONDS = Histogram(
    "enhancer_provider_call_seconds",
    "Length of calls of providers",
    ["step", "model"],
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)
WAITING = Gauge("enhancer_tasks", "Tasks that are not finished, over all replicas", ["status"])
BUSY = Gauge("enhancer_workers_busy", "Workers of this process that hold a task")
STREAMS = Gauge("enhancer_streams", "Open streams")
EVENTS = Counter("enhancer_stream_events", "Events written to streams")
DROPPED = Counter("enhancer_streams_dropped", "Streams closed because their client did not read")
REQUESTS = Histogram(
    "enhancer_http_request_seconds",
    "Requests, streams not included",
    ["method", "route", "status"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 120),
)


@contextmanager
def call(step: str, model: str) -> Iterator[None]:
    """Count and time a provider's call; the outcome is "done" or the error's code."""
    outcome = "done"
    with CALL_SECONDS.labels(step, model).time():
        try:
            yield
        except ProviderError as error:
            outcome = error.code
            raise
        except BaseException:
            outcome = "interrupted"
            raise
        finally:
            CALLS.labels(step, model, outcome).inc()


def finished(task: Task, status: Status) -> None:
    """Count a task that has just ended."""
    TASKS.labels(task.kind.value, status.value).inc()
    TASK_SECONDS.labels(task.kind.value).observe((datetime.now(UTC) - task.created_at).total_seconds())
