from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from enhancer.domain.tasks import Kind, Status
from enhancer.storage import database, events, tasks, users
from enhancer.storage.database import Pool
from tests.storage import (
    LEASE,
    TIME_LIMITS,
    claim,
    event,
    held,
    leased,
    let_lease_run_out,
    let_pause_end,
    new_user,
    order,
    reclaimed,
    stored,
    until_waiting,
)

CLAIMERS = 8


@pytest.fixture
async def pools(database_url: str) -> AsyncIterator[list[Pool]]:
    """Pools of eight replicas."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(database.connect(database_url, size=2)) for _ in range(CLAIMERS)]


async def order_many(pool: Pool, user_id: int, count: int) -> None:
    await pool.execute(
        """
        INSERT INTO tasks (user_id, kind, input, max_attempts)
        SELECT $1, 'enhancement', '{}', 4 FROM generate_series(1, $2)
        """,
        user_id,
        count,
    )


async def used(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT coalesce(sum(tasks), 0) FROM task_usage"))


# -- accepting


async def test_an_accepted_task_waits_untouched(pool: Pool) -> None:
    user = await new_user(pool)
    task = await tasks.insert(pool, user, Kind.VIDEO, {"prompt": "茶 \U0001f375", "n": 1.5, "x": None}, max_attempts=4)
    assert task is not None
    assert await tasks.get(pool, task.id) == task
    assert (task.user_id, task.kind, task.status) == (user, Kind.VIDEO, Status.PENDING)
    assert (task.input, task.output) == ({"prompt": "茶 \U0001f375", "n": 1.5, "x": None}, {})
    assert (task.progress, task.last_seq, task.attempts, task.max_attempts, task.fence) == (0, 0, 0, 4, 0)
    assert (task.started_at, task.completed_at, task.deadline_at, task.processing_time) == (None, None, None, None)


async def test_there_is_no_task_where_there_is_none(pool: Pool) -> None:
    assert await tasks.get(pool, 1) is None


async def test_without_a_subscription_nothing_is_accepted_or_counted(pool: Pool) -> None:
    user = await users.insert(pool, "ann@example.com", "hash")
    assert await tasks.insert(pool, user.id, Kind.ENHANCEMENT, {}, max_attempts=4) is None
    assert await used(pool) == await pool.fetchval("SELECT count(*) FROM tasks") == 0


async def test_a_subscription_that_allows_nothing_accepts_nothing(pool: Pool) -> None:
    for change in ("status = 'cancelled'", "status = 'past_due'", "period_end = now()", "monthly_quota = 0"):
        user = await new_user(pool)
        await pool.execute(f"UPDATE subscriptions SET {change} WHERE user_id = $1", user)
        assert await tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=4) is None, change
    assert await used(pool) == 0


async def test_a_quota_is_accepted_to_its_last_task(pool: Pool) -> None:
    user = await new_user(pool, quota=2)
    accepted = [await tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=4) for _ in range(4)]
    assert [task is not None for task in accepted] == [True, True, False, False]
    assert await used(pool) == 2


async def test_a_quota_that_was_lowered_or_raised_holds_at_once(pool: Pool) -> None:
    user = await new_user(pool, quota=5)
    await order(pool, user)
    await pool.execute("UPDATE subscriptions SET monthly_quota = 0")
    assert await tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=4) is None
    await pool.execute("UPDATE subscriptions SET monthly_quota = 2")
    await order(pool, user)
    assert await tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=4) is None


async def test_of_thirty_uploads_at_once_a_quota_of_ten_takes_ten(pool: Pool) -> None:
    user = await new_user(pool, quota=10)
    accepted = await asyncio.gather(
        *(tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=4) for _ in range(30))
    )
    assert sum(task is not None for task in accepted) == await used(pool) == 10
    assert await pool.fetchval("SELECT count(*) FROM tasks") == 10


async def test_the_quota_of_one_user_is_not_used_by_another(pool: Pool) -> None:
    ann, bob = await new_user(pool, quota=1), await new_user(pool, quota=1)
    await order(pool, ann)
    await order(pool, bob)


async def test_room_counts_what_waits_and_nothing_else(pool: Pool) -> None:
    ann, bob = await new_user(pool), await new_user(pool)
    assert await tasks.room(pool, ann) == tasks.Room(of_user=0, of_all=0)
    await order(pool, ann)
    await claim(pool)
    await order_many(pool, ann, 2)
    await order_many(pool, bob, 3)
    assert await tasks.room(pool, ann) == tasks.Room(of_user=2, of_all=5)


async def test_waiting_counts_both_states_that_are_not_final(pool: Pool) -> None:
    assert await tasks.waiting(pool) == {Status.PENDING: 0, Status.PROCESSING: 0}
    done = await leased(pool)
    await tasks.finish(pool, done, event(done), Status.COMPLETED, progress=100, message="", output={})
    await leased(pool)
    await order_many(pool, done.user_id, 3)
    assert await tasks.waiting(pool) == {Status.PENDING: 3, Status.PROCESSING: 1}


# -- claiming


async def test_a_claim_leases_the_task_and_charges_the_attempt(pool: Pool) -> None:
    waiting = await order(pool, kind=Kind.VIDEO)
    [task] = await claim(pool, "a")
    row = await pool.fetchrow("SELECT worker, lease_until - now() AS left, now() AS now FROM tasks")
    assert row is not None
    assert (task.status, task.attempts, task.fence) == (Status.PROCESSING, waiting.attempts + 1, waiting.fence + 1)
    assert row["worker"] == "a"
    assert timedelta(seconds=LEASE - 10) < row["left"] <= timedelta(seconds=LEASE)
    assert task == await stored(pool, task)


async def test_the_deadline_follows_the_kind(pool: Pool) -> None:
    for kind in Kind:
        await order(pool, kind=kind)
    for task in await claim(pool, limit=len(Kind)):
        assert task.started_at is not None
        assert task.deadline_at == task.started_at + timedelta(seconds=TIME_LIMITS[task.kind])


async def test_tasks_are_claimed_in_the_order_in_which_they_came(pool: Pool) -> None:
    user = await new_user(pool)
    came = [(await order(pool, user)).id for _ in range(5)]
    claimed = [task.id for _ in range(3) for task in await claim(pool, limit=2)]
    assert claimed == came


async def test_a_claim_takes_no_more_than_it_may(pool: Pool) -> None:
    await order_many(pool, await new_user(pool), 5)
    assert len(await claim(pool, limit=3)) == 3
    assert await claim(pool, limit=0) == []
    assert len(await claim(pool, limit=10)) == 2
    assert await claim(pool, limit=10) == []


async def test_one_task_goes_before_the_second_of_a_thousand(pool: Pool) -> None:
    many, one = await new_user(pool), await new_user(pool)
    await order_many(pool, many, 1_000)
    only = await order(pool, one)
    claimed = await claim(pool, limit=2)
    assert {task.user_id for task in claimed} == {many, one}
    assert only.id in {task.id for task in claimed}


async def test_whoever_has_least_running_comes_first(pool: Pool) -> None:
    busy, idle = await new_user(pool), await new_user(pool)
    await order_many(pool, busy, 2)
    await claim(pool, limit=2)
    await order_many(pool, busy, 5)
    await order_many(pool, idle, 5)
    claimed = await claim(pool, limit=4)
    assert Counter(task.user_id for task in claimed) == {busy: 1, idle: 3}


async def test_the_cap_of_a_user_counts_what_runs_already(pool: Pool) -> None:
    user = await new_user(pool)
    await order_many(pool, user, 5)
    assert len(await claim(pool, "a", limit=1, per_user=2)) == 1
    assert len(await claim(pool, "b", limit=4, per_user=2)) == 1
    assert await claim(pool, "c", limit=4, per_user=2) == []


async def test_a_cap_that_was_lowered_claims_nothing_above_it(pool: Pool) -> None:
    user = await new_user(pool)
    await order_many(pool, user, 5)
    await claim(pool, limit=3, per_user=3)
    assert await claim(pool, limit=3, per_user=2) == []


async def test_two_claims_that_overlap_keep_the_cap_together(pool: Pool, pools: list[Pool]) -> None:
    """The second sees a task that came while the first had chosen, and that goes before what the first chose."""
    user = await new_user(pool)
    async with held(pool, "UPDATE ON tasks"), pool.acquire() as late:
        uncommitted = late.transaction()
        await uncommitted.start()
        await late.execute("INSERT INTO tasks (user_id, kind, input, max_attempts) VALUES ($1, 'video', '{}', 4)", user)
        await order_many(pool, user, 2)
        first = asyncio.create_task(claim(pools[0], "a", limit=2, per_user=2))
        await until_waiting(pool, 1)
        await uncommitted.commit()
        second = asyncio.create_task(claim(pools[1], "b", limit=2, per_user=2))
        await until_waiting(pool, 2)
    claimed = [*await first, *await second]
    assert len(claimed) == 2


async def test_eight_claimers_never_run_more_than_the_cap(pool: Pool, pools: list[Pool]) -> None:
    cap, crowd = 2, [await new_user(pool) for _ in range(3)]
    for user in crowd:
        await order_many(pool, user, 40)
    finished: list[int] = []

    async def work(replica: int) -> None:
        own = pools[replica]
        while len(finished) < 120:
            for task in await claim(own, f"replica {replica}", limit=3, per_user=cap):
                finished.append(task.id)
                await tasks.finish(own, task, event(task), Status.COMPLETED, progress=1, message="", output={})

    async def watch() -> None:
        while len(finished) < 120:
            running = await pool.fetch("SELECT count(*) FROM tasks WHERE status = 'processing' GROUP BY user_id")
            assert all(row["count"] <= cap for row in running)

    async with asyncio.timeout(30):
        await asyncio.gather(watch(), *(work(replica) for replica in range(CLAIMERS)))
    assert len(set(finished)) == 120


async def test_tasks_that_are_locked_elsewhere_are_passed_over(pool: Pool) -> None:
    user = await new_user(pool)
    locked, free = await order(pool, user), await order(pool, user)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE", locked.id)
        assert [task.id for task in await claim(pool, limit=2)] == [free.id]


async def test_only_kinds_with_a_time_limit_are_claimed(pool: Pool) -> None:
    user = await new_user(pool)
    await order(pool, user, Kind.VIDEO)
    wanted = await order(pool, user, Kind.ENHANCEMENT)
    claimed = await tasks.claim(pool, "a", limit=9, per_user=1, lease=60, time_limits={Kind.ENHANCEMENT: 600.0})
    assert [task.id for task in claimed] == [wanted.id]


async def test_a_task_is_not_claimed_before_its_time(pool: Pool) -> None:
    task = await leased(pool)
    await tasks.put_back(pool, task, seconds=3600)
    assert await claim(pool) == []
    await let_pause_end(pool, task)
    assert len(await claim(pool)) == 1


async def test_a_task_without_an_attempt_left_is_not_claimed_and_holds_nobody_up(pool: Pool) -> None:
    user = await new_user(pool)
    spent = await order(pool, user, attempts=1)
    await claim(pool)
    await let_lease_run_out(pool, spent)
    await tasks.reap(pool)
    await let_pause_end(pool, spent)
    fresh = await order(pool, user)
    assert [task.id for task in await claim(pool, limit=1, per_user=1)] == [fresh.id]


async def test_the_fence_rises_and_the_start_stays_with_every_claim(pool: Pool) -> None:
    task = await leased(pool)
    await pool.execute("UPDATE tasks SET started_at = started_at - interval '1 hour'")
    first = await stored(pool, task)
    assert first.deadline_at is not None
    for fence in (2, 3, 4):
        task = await reclaimed(pool, task, f"worker {fence}")
        assert (task.fence, task.attempts, task.started_at) == (fence, fence, first.started_at)
        assert task.deadline_at is not None
        assert task.deadline_at >= first.deadline_at


# -- renewing


async def test_a_heartbeat_extends_the_leases_it_names(pool: Pool) -> None:
    named, other = await leased(pool), await leased(pool)
    await pool.execute("UPDATE tasks SET lease_until = now() + interval '1 second'")
    renewal = await tasks.renew(pool, "a", {named.id: named.fence}, lease=LEASE)
    left = await lease_left(pool)
    assert renewal == tasks.Renewal(held=frozenset({named.id}), cancelled=frozenset())
    assert left[named.id] > 50
    assert left[other.id] < 2


async def test_a_heartbeat_brings_the_wish_to_cancel(pool: Pool) -> None:
    wanted, unwanted = await leased(pool), await leased(pool)
    await pool.execute("UPDATE tasks SET cancel_requested_at = now() WHERE id = $1", unwanted.id)
    renewal = await tasks.renew(pool, "a", {wanted.id: 1, unwanted.id: 1}, lease=LEASE)
    assert renewal == tasks.Renewal(held=frozenset({wanted.id, unwanted.id}), cancelled=frozenset({unwanted.id}))


async def test_a_heartbeat_does_not_hold_what_another_has(pool: Pool) -> None:
    old = await leased(pool, "a")
    new = await reclaimed(pool, old, "b")
    assert (await tasks.renew(pool, "a", {old.id: old.fence}, lease=LEASE)).held == frozenset()
    assert (await tasks.renew(pool, "a", {new.id: new.fence}, lease=LEASE)).held == frozenset()
    assert (await tasks.renew(pool, "b", {new.id: new.fence}, lease=LEASE)).held == frozenset({new.id})


async def test_a_heartbeat_does_not_hold_an_earlier_lease_of_the_same_worker(pool: Pool) -> None:
    old = await leased(pool, "a")
    new = await reclaimed(pool, old, "a")
    assert (await tasks.renew(pool, "a", {old.id: old.fence}, lease=LEASE)).held == frozenset()
    assert (await tasks.renew(pool, "a", {new.id: new.fence}, lease=LEASE)).held == frozenset({new.id})


async def test_a_heartbeat_does_not_hold_what_has_ended_or_waits(pool: Pool) -> None:
    ended, back = await leased(pool), await leased(pool)
    await tasks.finish(pool, ended, event(ended), Status.COMPLETED, progress=1, message="", output={})
    await tasks.put_back(pool, back, seconds=0)
    renewal = await tasks.renew(pool, "a", {ended.id: 1, back.id: 1, 4711: 1}, lease=LEASE)
    assert renewal.held == frozenset()


async def test_a_lease_cannot_be_renewed_far_past_the_deadline(pool: Pool) -> None:
    task = await leased(pool)
    await pool.execute("UPDATE tasks SET deadline_at = now() - interval '1 hour'")
    await tasks.renew(pool, "a", {task.id: task.fence}, lease=LEASE)
    assert (await lease_left(pool))[task.id] < -3000
    assert await tasks.reap(pool) == 1


# -- progress


async def test_progress_and_its_event_are_one(pool: Pool) -> None:
    task = await leased(pool)
    spoken = event(task)
    assert await tasks.advance(pool, task, spoken, progress=15, message="✅ Image loaded", output={"a": 1})
    now = await stored(pool, task)
    assert (now.progress, now.message, now.output, now.last_seq) == (15, "✅ Image loaded", {"a": 1}, 1)
    assert now.status is Status.PROCESSING
    assert await events.after(pool, task.id, 0) == [spoken]


async def test_numbers_of_events_have_no_gaps(pool: Pool) -> None:
    task = await leased(pool)
    assert not await tasks.advance(pool, task, event(task, 1), progress=5, message="", output={})
    for n in range(3):
        assert await tasks.advance(pool, task, event(task, n), progress=5, message="", output={})
    assert [one.seq for one in await events.after(pool, task.id, 0)] == [1, 2, 3]


async def test_events_that_are_told_together_are_all_there_or_none(pool: Pool) -> None:
    task = await leased(pool)
    told = [event(task, n) for n in range(3)]
    assert not await tasks.advance(pool, task, *told[1:], progress=20, message="too early", output={})
    for _ in range(2):  # told again after a lost answer
        assert await tasks.advance(pool, task, *told, progress=20, message="the last", output={"a": 1})
    assert await events.after(pool, task.id, 0) == told
    now = await stored(pool, task)
    assert (now.progress, now.message, now.output, now.last_seq) == (20, "the last", {"a": 1}, 3)


async def test_progress_never_falls_and_what_was_found_is_kept(pool: Pool) -> None:
    task = await leased(pool)
    await tasks.advance(pool, task, event(task), progress=50, message="far", output={"a": 1, "b": 1})
    await tasks.advance(pool, task, event(task, 1), progress=20, message="again", output={"b": 2, "c": 3})
    now = await stored(pool, task)
    assert (now.progress, now.message, now.output) == (50, "again", {"a": 1, "b": 2, "c": 3})


async def test_what_was_found_is_stored_once_however_often_the_task_advances(pool: Pool) -> None:
    task = await leased(pool)
    await tasks.advance(pool, task, event(task), progress=90, message="", output={"script": secrets.token_hex(5_000)})
    where = "SELECT pg_column_toast_chunk_id(output) FROM tasks"
    stored_at = await pool.fetchval(where)
    assert stored_at is not None
    await tasks.advance(pool, task, event(task, 1), progress=95, message="", output={})
    await tasks.finish(pool, task, event(task, 2), Status.COMPLETED, progress=100, message="", output={})
    assert await pool.fetchval(where) == stored_at


async def test_an_event_told_again_after_a_lost_answer_is_there_once(pool: Pool) -> None:
    task = await leased(pool)
    for _ in range(3):
        assert await tasks.advance(pool, task, event(task), progress=5, message="once", output={})
    assert len(await events.after(pool, task.id, 0)) == 1
    assert (await stored(pool, task)).last_seq == 1


async def test_a_worker_that_lost_its_lease_changes_nothing(pool: Pool) -> None:
    old = await leased(pool, "a")
    new = await reclaimed(pool, old, "b")
    before = await everything(pool)
    for ending in (Status.COMPLETED, Status.FAILED, Status.CANCELLED):
        error = ("internal", "x") if ending is Status.FAILED else None
        assert not await tasks.finish(pool, old, event(old), ending, progress=9, message="", output={}, error=error)
    assert not await tasks.advance(pool, old, event(old), progress=9, message="zombie", output={"z": 1})
    assert not await tasks.put_back(pool, old, seconds=0)
    assert not await tasks.put_back(pool, old, seconds=0, event=event(old), message="zombie", refund=True)
    assert await everything(pool) == before
    assert await tasks.advance(pool, new, event(new), progress=9, message="alive", output={})


async def test_the_event_of_a_successor_is_not_taken_for_ones_own(pool: Pool) -> None:
    old = await leased(pool, "a")
    new = await reclaimed(pool, old, "b")
    await tasks.advance(pool, new, event(new), progress=9, message="", output={})
    assert not await tasks.advance(pool, old, event(old), progress=9, message="", output={})


async def test_a_reaped_task_listens_to_nobody_until_it_is_claimed(pool: Pool) -> None:
    task = await leased(pool)
    await let_lease_run_out(pool, task)
    await tasks.reap(pool)
    before = await everything(pool)
    assert not await tasks.advance(pool, task, event(task), progress=9, message="", output={})
    assert not await tasks.finish(pool, task, event(task), Status.COMPLETED, progress=9, message="", output={})
    assert not await tasks.put_back(pool, task, seconds=9, refund=True)
    assert await everything(pool) == before


# -- the end


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.COMPLETED, None),
        (Status.FAILED, ("provider_refused", "The provider refused the request.")),
        (Status.CANCELLED, None),
    ],
)
async def test_a_task_ends_with_its_event(pool: Pool, status: Status, error: tuple[str, str] | None) -> None:
    task = await leased(pool)
    await tasks.advance(pool, task, event(task), progress=60, message="", output={"a": 1})
    last = event(task, 1, status=status.value)
    assert await tasks.finish(pool, task, last, status, progress=42, message="end", output={"b": 2}, error=error)
    ended = await stored(pool, task)
    assert (ended.status, ended.progress, ended.message) == (status, 60, "end")
    assert (ended.output, ended.last_seq) == ({"a": 1, "b": 2}, 2)
    assert (ended.error_code, ended.error_message) == (error or (None, None))
    assert ended.completed_at is not None
    assert (await events.after(pool, task.id, 1)) == [last]
    assert await pool.fetchval("SELECT num_nulls(worker, lease_until) FROM tasks") == 2


async def test_an_end_told_again_after_a_lost_answer_is_there_once(pool: Pool) -> None:
    task = await leased(pool)
    for _ in range(2):
        assert await tasks.finish(pool, task, event(task), Status.COMPLETED, progress=100, message="", output={})
    assert len(await events.after(pool, task.id, 0)) == 1


async def test_nothing_comes_after_the_end(pool: Pool) -> None:
    task = await leased(pool)
    await tasks.finish(pool, task, event(task), Status.CANCELLED, progress=5, message="", output={})
    before = await everything(pool)
    late = event(task, 1)
    assert not await tasks.advance(pool, task, late, progress=9, message="", output={})
    assert not await tasks.finish(pool, task, late, Status.COMPLETED, progress=9, message="", output={})
    assert not await tasks.put_back(pool, task, seconds=0, event=late)
    assert await tasks.adopt(pool, "a") == await tasks.reap(pool) == 0
    assert await claim(pool) == await tasks.exhausted(pool) == []
    assert await everything(pool) == before


async def test_a_failure_without_a_reason_and_a_success_with_one_are_refused(pool: Pool) -> None:
    task = await leased(pool)
    before = await everything(pool)
    with pytest.raises(asyncpg.CheckViolationError):
        await tasks.finish(pool, task, event(task), Status.FAILED, progress=1, message="", output={})
    with pytest.raises(asyncpg.CheckViolationError):
        await tasks.finish(
            pool, task, event(task), Status.COMPLETED, progress=1, message="", output={}, error=("internal", "x")
        )
    assert await everything(pool) == before


async def test_a_task_cannot_be_finished_into_a_state_that_is_not_final(pool: Pool) -> None:
    task = await leased(pool)
    for status in (Status.PENDING, Status.PROCESSING):
        with pytest.raises(asyncpg.CheckViolationError):
            await tasks.finish(pool, task, event(task), status, progress=1, message="", output={})


async def test_the_time_taken_is_counted_from_the_first_claim(pool: Pool) -> None:
    task = await leased(pool)
    await pool.execute("UPDATE tasks SET started_at = started_at - interval '90 seconds'")
    task = await reclaimed(pool, task)
    await tasks.finish(pool, task, event(task), Status.COMPLETED, progress=100, message="", output={})
    taken = (await stored(pool, task)).processing_time
    assert taken is not None
    assert 90 <= taken < 120


# -- waiting again


async def test_a_task_that_is_put_back_waits_and_says_so(pool: Pool) -> None:
    task = await leased(pool)
    spoken = event(task)
    assert await tasks.put_back(pool, task, seconds=600, event=spoken, message="⏳ Retrying")
    back = await stored(pool, task)
    row = await pool.fetchrow("SELECT worker, lease_until, run_at FROM tasks")
    assert row is not None
    assert (back.status, back.message, back.last_seq, back.attempts) == (Status.PENDING, "⏳ Retrying", 1, 1)
    assert row["worker"] is row["lease_until"] is None
    assert 590 < (row["run_at"] - datetime.now(UTC)).total_seconds() < 610
    assert await events.after(pool, task.id, 0) == [spoken]


async def test_a_task_can_be_put_back_without_a_word(pool: Pool) -> None:
    task = await leased(pool)
    await tasks.advance(pool, task, event(task), progress=5, message="said before", output={})
    assert await tasks.put_back(pool, task, seconds=0)
    back = await stored(pool, task)
    assert (back.status, back.message, back.last_seq, back.progress) == (Status.PENDING, "said before", 1, 5)


async def test_a_refund_takes_the_charge_back(pool: Pool) -> None:
    task = await leased(pool, attempts=1)
    for _ in range(3):
        assert await tasks.put_back(pool, task, seconds=0, refund=True)
        assert (await stored(pool, task)).attempts == 0
        [task] = await claim(pool)
    assert (task.attempts, task.fence) == (1, 4)


async def test_putting_back_with_a_word_again_after_a_lost_answer_says_it_once(pool: Pool) -> None:
    task = await leased(pool)
    for _ in range(2):
        assert await tasks.put_back(pool, task, seconds=9, event=event(task), message="once", refund=True)
    assert len(await events.after(pool, task.id, 0)) == 1
    assert (await stored(pool, task)).attempts == 0


async def test_a_word_with_the_wrong_number_does_not_put_back(pool: Pool) -> None:
    task = await leased(pool)
    assert not await tasks.put_back(pool, task, seconds=0, event=event(task, 3))
    assert (await stored(pool, task)).status is Status.PROCESSING


async def test_a_task_goes_to_the_end_of_its_users_queue_when_it_is_put_back(pool: Pool) -> None:
    user = await new_user(pool)
    first, second = await order(pool, user), await order(pool, user)
    [task] = await claim(pool)
    await tasks.put_back(pool, task, seconds=0)
    assert [one.id for one in await claim(pool, limit=2)] == [second.id, first.id]


# -- after a worker's death


async def test_a_worker_adopts_what_its_former_self_held_and_nothing_else(pool: Pool) -> None:
    own, others = await leased(pool, "a"), await leased(pool, "b")
    assert await tasks.adopt(pool, "a") == 1
    assert await tasks.adopt(pool, "a") == 0
    assert (await stored(pool, own)).status is Status.PENDING
    assert await stored(pool, others) == others


async def test_only_leases_that_have_run_out_are_reaped(pool: Pool) -> None:
    dead, alive = await leased(pool, "a"), await leased(pool, "b")
    await let_lease_run_out(pool, dead)
    assert await tasks.reap(pool) == 1
    assert await tasks.reap(pool) == 0
    assert (await stored(pool, dead)).status is Status.PENDING
    assert await stored(pool, alive) == alive


async def test_reapers_at_once_put_a_task_back_once(pool: Pool) -> None:
    for _ in range(5):
        await let_lease_run_out(pool, await leased(pool))
    assert sum(await asyncio.gather(*(tasks.reap(pool) for _ in range(8)))) == 5


async def test_a_task_that_kills_its_worker_every_time_ends_up_exhausted(pool: Pool) -> None:
    task = await leased(pool, attempts=4)
    for _ in range(3):
        assert await tasks.exhausted(pool) == []
        task = await reclaimed(pool, task)
    await let_lease_run_out(pool, task)
    await tasks.reap(pool)
    assert await claim(pool) == []
    [given_up] = await tasks.exhausted(pool)
    assert (given_up.attempts, given_up.max_attempts, given_up.fence) == (4, 4, 5)
    assert not await tasks.advance(pool, task, event(task), progress=1, message="", output={})
    assert await tasks.finish(
        pool, given_up, event(given_up), Status.FAILED, progress=0, message="", output={}, error=("internal", "x")
    )


async def test_an_exhausted_task_is_given_to_one_of_many(pool: Pool) -> None:
    task = await leased(pool, attempts=1)
    await tasks.put_back(pool, task, seconds=0)
    found = await asyncio.gather(*(tasks.exhausted(pool) for _ in range(8)))
    assert sum(map(len, found)) == 1


async def test_an_exhausted_task_whose_last_keeper_dies_is_exhausted_again(pool: Pool) -> None:
    task = await leased(pool, attempts=1)
    await tasks.put_back(pool, task, seconds=0)
    [first] = await tasks.exhausted(pool)
    await let_lease_run_out(pool, task)
    assert await tasks.reap(pool) == 1
    [second] = await tasks.exhausted(pool)
    assert second.fence == first.fence + 1


# -- what the schema itself refuses


async def test_a_running_task_cannot_become_nonsense(pool: Pool) -> None:
    await leased(pool)
    for change in (
        "status = 'asleep'",
        "lease_until = NULL",
        "status = 'pending'",
        "completed_at = now()",
        "error_code = 'internal'",
        "attempts = -1",
        "attempts = max_attempts + 1",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(f"UPDATE tasks SET {change}")


async def test_an_idempotency_key_is_taken_once_by_a_user(pool: Pool) -> None:
    ann, bob = await new_user(pool), await new_user(pool)
    for user in (ann, bob):
        await order(pool, user)
        await pool.execute("UPDATE tasks SET idempotency_key = 'k' WHERE user_id = $1", user)
    twin = await order(pool, ann)
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.execute("UPDATE tasks SET idempotency_key = 'k' WHERE id = $1", twin.id)


# -- helpers


async def lease_left(pool: Pool) -> dict[int, float]:
    """Seconds that are left of each lease."""
    rows = await pool.fetch("SELECT id, extract(epoch FROM lease_until - now())::float8 AS left FROM tasks")
    return {row["id"]: row["left"] for row in rows}


async def everything(pool: Pool) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
    """All tasks and all events."""
    return await pool.fetch("SELECT * FROM tasks ORDER BY id"), await pool.fetch("SELECT * FROM task_events")
