from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from enhancer.domain.tasks import Kind
from enhancer.storage import subscriptions, tasks, users
from enhancer.storage.database import Pool
from tests.storage import new_user, order


async def test_a_user_has_none_at_first(pool: Pool) -> None:
    user = await users.insert(pool, "ann@example.com", "hash")
    assert await subscriptions.get(pool, user.id) is None


async def test_an_activated_one_runs_for_its_days_with_its_quota(pool: Pool) -> None:
    user = await users.insert(pool, "ann@example.com", "hash")
    await subscriptions.activate(pool, user.id, plan="pro", quota=7, days=30)
    found = await subscriptions.get(pool, user.id)
    assert found is not None
    assert (found.plan, found.active, found.monthly_quota, found.used) == ("pro", True, 7, 0)
    assert timedelta(days=29) < found.period_end - datetime.now(UTC) <= timedelta(days=30)


async def test_activating_again_replaces_plan_quota_and_end(pool: Pool) -> None:
    user = await new_user(pool, quota=1)
    await subscriptions.activate(pool, user, plan="bigger", quota=None, days=60)
    found = await subscriptions.get(pool, user)
    assert found is not None
    assert (found.plan, found.monthly_quota) == ("bigger", None)
    assert found.period_end - datetime.now(UTC) > timedelta(days=59)


async def test_activating_revives_a_cancelled_one(pool: Pool) -> None:
    user = await new_user(pool)
    await pool.execute("UPDATE subscriptions SET status = 'cancelled'")
    await subscriptions.activate(pool, user, plan="test", quota=None, days=30)
    found = await subscriptions.get(pool, user)
    assert found is not None
    assert found.active


async def test_a_cancelled_unpaid_or_expired_one_is_not_active(pool: Pool) -> None:
    for change in ("status = 'cancelled'", "status = 'past_due'", "period_end = now()"):
        user = await new_user(pool)
        await pool.execute(f"UPDATE subscriptions SET {change} WHERE user_id = $1", user)
        found = await subscriptions.get(pool, user)
        assert found is not None
        assert not found.active, change


async def test_accepted_tasks_of_this_month_are_counted_for_their_user(pool: Pool) -> None:
    ann, bob = await new_user(pool, quota=5), await new_user(pool)
    for user in (ann, ann, bob):
        await order(pool, user)
    found = await subscriptions.get(pool, ann)
    assert found is not None
    assert found.used == 2


async def test_a_deleted_task_stays_counted(pool: Pool) -> None:
    user = await new_user(pool, quota=1)
    await order(pool, user)
    await pool.execute("DELETE FROM tasks")
    assert await tasks.insert(pool, user, Kind.ENHANCEMENT, {}, max_attempts=1) is None


async def test_a_new_month_starts_from_nothing(pool: Pool) -> None:
    user = await new_user(pool, quota=1)
    await order(pool, user)
    await pool.execute("UPDATE task_usage SET month = month - interval '1 month'")
    found = await subscriptions.get(pool, user)
    assert found is not None
    assert found.used == 0
    await order(pool, user)


async def test_a_negative_quota_is_refused_by_the_schema(pool: Pool) -> None:
    user = await users.insert(pool, "ann@example.com", "hash")
    with pytest.raises(asyncpg.CheckViolationError):
        await subscriptions.activate(pool, user.id, plan="test", quota=-1, days=30)
