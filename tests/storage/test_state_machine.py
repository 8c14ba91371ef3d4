"""
Everything that can happen to tasks, in any order.

Three workers, two users and a clock that is moved by hand. A worker keeps every lease that it was ever given and goes
on using it, so that most of what is tried here comes from workers that have lost their task without knowing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

import asyncpg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from enhancer.domain.tasks import FINAL, Event, Kind, Status, Task
from enhancer.storage import database, steps, tasks
from enhancer.storage.database import Connection, Pool
from tests.storage import new_user

CAP = 2
LEASE = 50.0  # seconds, as all below; the clock moves by twenties, so that nothing ends on the dot
TIME_LIMITS = {Kind.ENHANCEMENT: 150.0, Kind.VIDEO: 310.0}
LONGEST_CALL = 90.0
REPEATS = 1

T = TypeVar("T")
Several: TypeAlias = MultipleResults[T] | T  # what hypothesis says of `multiple`

workers = st.sampled_from(["a", "b", "c"])
paid = st.sampled_from(["redraw", "write"])


@dataclass
class World:
    """The database, and the loop that speaks with it."""

    loop: asyncio.AbstractEventLoop
    pool: Pool
    own: Connection
    users: list[int]

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return self.run(self.own.fetch(query, *arguments))

    def row(self, task_id: int) -> asyncpg.Record:
        [found] = self.fetch("SELECT *, lease_until > now() AS valid FROM tasks WHERE id = $1", task_id)
        return found


@contextmanager
def world(url: str) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    try:
        pool = loop.run_until_complete(stack.enter_async_context(database.connect(url, size=2)))
        own = loop.run_until_complete(stack.enter_async_context(pool.acquire()))
        users = [loop.run_until_complete(new_user(pool)) for _ in range(2)]
        yield World(loop, pool, own, users)
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


@dataclass(eq=False)
class Held:
    """A lease as a worker remembers it: the task as it was claimed, and the number of the last event it told."""

    task: Task
    seq: int

    def next_event(self) -> Event:
        return Event(self.seq + 1, "{}")

    def __repr__(self) -> str:
        return f"Held(task {self.task.id}, fence {self.task.fence})"


@dataclass(eq=False)
class Call:
    """A call of a provider that may be running."""

    held: Held
    step: str
    began: float
    ended: bool = False

    @property
    def key(self) -> tuple[int, str]:
        return self.held.task.id, self.step


class Life(RuleBasedStateMachine):
    """Rules are what workers do; invariants are what the service promises."""

    world: ClassVar[World]
    leases: Bundle[Held] = Bundle("leases")
    calls: Bundle[Call] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0.0
        self.fences: Counter[int] = Counter()
        self.progress: Counter[int] = Counter()
        self.refused: Counter[tuple[int, str]] = Counter()
        self.made: dict[tuple[int, str], list[Call]] = {}
        self.results: dict[tuple[int, str], object] = {}
        self.ended: dict[int, asyncpg.Record] = {}
        self.latest: dict[int, Held] = {}
        self.world.fetch("DELETE FROM tasks")

    # -- what happens

    @initialize(target=leases, attempts=st.integers(1, 3))
    def begin(self, attempts: int) -> Several[Held]:
        for user in (0, 0, 0, 1):
            self.insert(user, Kind.ENHANCEMENT, attempts)
        return self.claim("a", 2)

    @precondition(lambda self: len(self.fences) < 8)
    @rule(user=st.integers(0, 1), kind=st.sampled_from(Kind), attempts=st.integers(1, 3))
    def insert(self, user: int, kind: Kind, attempts: int) -> None:
        world = self.world
        assert world.run(tasks.insert(world.pool, world.users[user], kind, {}, max_attempts=attempts))

    @rule(target=leases, worker=workers, limit=st.integers(1, 3))
    def claim(self, worker: str, limit: int) -> Several[Held]:
        claimed = self.world.run(
            tasks.claim(self.world.pool, worker, limit=limit, per_user=CAP, lease=LEASE, time_limits=TIME_LIMITS)
        )
        assert len(claimed) <= limit
        assert all(task.fence == self.fences[task.id] + 1 for task in claimed)
        return multiple(*map(self.take, claimed))

    @rule(target=leases, worker=workers, seconds=st.sampled_from([60, 100]))
    def take_over(self, worker: str, seconds: float) -> Several[Held]:
        """All leases run out, and somebody is there at once."""
        self.let_time_pass(seconds)
        self.reap()
        return self.claim(worker, 2)

    @rule(target=leases)
    def give_up(self) -> Several[Held]:
        spent = sorted(self.world.run(tasks.exhausted(self.world.pool)), key=lambda task: task.id)
        assert all(task.attempts == task.max_attempts for task in spent)
        return multiple(*map(self.take, spent))

    @rule(worker=workers, held=st.lists(leases, max_size=4))
    def renew(self, worker: str, held: list[Held]) -> None:
        known = {one.task.id: one.task.fence for one in held}
        rows = [self.world.row(task_id) for task_id in known]
        renewal = self.world.run(tasks.renew(self.world.pool, worker, known, lease=LEASE))
        assert renewal.held == {
            row["id"] for row in rows if (row["worker"], row["fence"]) == (worker, known[row["id"]])
        }
        assert renewal.cancelled == {row["id"] for row in rows if row["cancel_requested_at"]} & renewal.held

    @rule(held=leases, progress=st.integers(0, 100), answer_lost=st.booleans())
    def advance(self, held: Held, progress: int, answer_lost: bool) -> None:
        holds = self.holds(held)
        for _ in range(1 + answer_lost):
            advanced = self.world.run(
                tasks.advance(self.world.pool, held.task, held.next_event(), progress=progress, message="", output={})
            )
            assert advanced == holds
        held.seq += advanced

    @rule(held=leases, status=st.sampled_from(sorted(FINAL)), answer_lost=st.booleans())
    def finish(self, held: Held, status: Status, answer_lost: bool) -> None:
        holds = self.holds(held)
        for _ in range(1 + answer_lost):
            finished = self.world.run(
                tasks.finish(
                    self.world.pool,
                    held.task,
                    held.next_event(),
                    status,
                    progress=100,
                    message="",
                    output={},
                    error=("internal", "why") if status is Status.FAILED else None,
                )
            )
            assert finished == holds
        held.seq += finished

    @rule(held=leases, seconds=st.sampled_from([0, 30]), refund=st.booleans(), told=st.booleans())
    def put_back(self, held: Held, seconds: float, refund: bool, told: bool) -> None:
        holds = self.holds(held)
        event = held.next_event() if told else None
        put = self.world.run(tasks.put_back(self.world.pool, held.task, seconds=seconds, event=event, refund=refund))
        assert put == holds
        held.seq += put and told

    @rule(target=calls, step=paid)
    def everybody_calls(self, step: str) -> Several[Call]:
        return multiple(*(call for held in self.latest.values() if (call := self.ask(held, step))))

    @rule(target=calls, worker=workers, step=paid)
    def call_after_a_crash(self, worker: str, step: str) -> Several[Call]:
        """Every process died; a new one goes on when nobody can still be in a call."""
        self.take_over(worker, 100)
        return self.everybody_calls(step)

    @rule(target=calls, held=leases, step=paid)
    def somebody_calls(self, held: Held, step: str) -> Several[Call]:
        call = self.ask(held, step)
        return multiple(call) if call else multiple()

    def ask(self, held: Held, step: str) -> Call | None:
        """At the gate."""
        call = Call(held, step, self.clock)
        key = call.key
        holds, row = self.holds(held), self.world.row(held.task.id)
        before = self.world.fetch("SELECT state FROM task_steps WHERE (task_id, step) = ($1, $2)", *key)
        permitted = self.world.run(
            steps.permit(self.world.pool, held.task, step, model="m", longest_call=LONGEST_CALL, repeats=REPEATS)
        )
        if not permitted:
            return None
        assert holds
        assert row["valid"]
        assert not row["cancel_requested_at"]
        assert key not in self.results
        assert not self.alive(key)
        self.made.setdefault(key, []).append(call)
        self.refused[key] += bool(before and before[0]["state"] == "refused")
        return call

    @rule(call=consumes(calls))
    def bring_home(self, call: Call) -> None:
        """A result arrives, however late."""
        result = {"by": call.held.task.fence}
        kept = self.world.run(steps.finish(self.world.pool, call.held.task, call.step, result=result, usage={}))
        assert kept == self.results.setdefault(call.key, result)
        call.ended = True

    @rule(call=consumes(calls), state=st.sampled_from([steps.State.REFUSED, steps.State.AMBIGUOUS]))
    def settle(self, call: Call, state: steps.State) -> None:
        """A call ends without a result."""
        self.world.run(steps.settle(self.world.pool, call.held.task, call.step, state))
        call.ended = True

    @rule(held=leases, often=st.integers(0, 4))
    def ask_to_cancel(self, held: Held, often: int) -> None:
        if often == 0 and held.task.id not in self.ended:
            self.world.fetch("UPDATE tasks SET cancel_requested_at = now() WHERE id = $1", held.task.id)

    @rule()
    def reap(self) -> None:
        [late] = self.world.fetch("SELECT count(*) FROM tasks WHERE lease_until < now()")
        assert self.world.run(tasks.reap(self.world.pool)) == late["count"]

    @rule(worker=workers)
    def adopt(self, worker: str) -> None:
        [own] = self.world.fetch("SELECT count(*) FROM tasks WHERE worker = $1", worker)
        assert self.world.run(tasks.adopt(self.world.pool, worker)) == own["count"]

    @rule(seconds=st.sampled_from([20, 60, 100]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock += seconds
        self.world.fetch(
            """
            WITH called AS (
                UPDATE task_steps SET started_at = started_at - make_interval(secs => $1))
            UPDATE tasks SET run_at = run_at - make_interval(secs => $1),
                   lease_until = lease_until - make_interval(secs => $1),
                   deadline_at = deadline_at - make_interval(secs => $1),
                   started_at = started_at - make_interval(secs => $1)
            WHERE completed_at IS NULL
            """,
            seconds,
        )

    # -- what always holds

    @invariant()
    def tasks_are_in_order(self) -> None:
        rows = self.world.fetch("SELECT * FROM tasks")
        for row in rows:
            assert 0 <= row["attempts"] <= row["max_attempts"]
            assert row["fence"] >= self.fences[row["id"]]
            assert row["progress"] >= self.progress[row["id"]]
            self.fences[row["id"]], self.progress[row["id"]] = row["fence"], row["progress"]
            if row["status"] in FINAL:
                assert self.ended.setdefault(row["id"], row) == row
        assert {row["id"] for row in rows} >= self.ended.keys()

    @invariant()
    def nobody_runs_more_than_the_cap(self) -> None:
        running = self.world.fetch("SELECT count(worker) FROM tasks WHERE status = 'processing' GROUP BY user_id")
        assert all(row["count"] <= CAP for row in running)

    @invariant()
    def events_have_no_gaps(self) -> None:
        wrong = self.world.fetch(
            """
            SELECT id FROM tasks LEFT JOIN task_events ON task_id = id GROUP BY id
            HAVING (count(seq), coalesce(max(seq), 0), coalesce(min(seq), 1)) <> (last_seq, last_seq, 1)
            """
        )
        assert wrong == []

    @invariant()
    def what_was_called_is_accounted_for(self) -> None:
        for row in self.world.fetch("SELECT * FROM task_steps"):
            key = (row["task_id"], row["step"])
            assert row["calls"] == len(self.made[key])
            assert row["calls"] - 1 <= row["ambiguous"] + self.refused[key]
            assert row["ambiguous"] <= REPEATS
            assert row["result"] == self.results.get(key)
            assert (row["state"] == "done") == (key in self.results)

    # -- what the rules ask

    def take(self, task: Task) -> Held:
        """A lease that was just given."""
        self.latest[task.id] = held = Held(task, task.last_seq)
        return held

    def holds(self, held: Held) -> bool:
        """Whether the lease is still the one that counts."""
        row = self.world.row(held.task.id)
        return (row["status"], row["fence"]) == ("processing", held.task.fence)

    def alive(self, key: tuple[int, str]) -> bool:
        """Whether a call may still be running."""
        return any(not call.ended and self.clock - call.began < LONGEST_CALL for call in self.made.get(key, ()))


def test_no_order_of_events_breaks_a_promise(database_url: str) -> None:
    with world(database_url) as real:
        Life.world = real
        run_state_machine_as_test(
            Life, settings=settings(max_examples=40, stateful_step_count=40, deadline=None, database=None)
        )
