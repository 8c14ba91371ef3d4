"""The tables `subscriptions` and `task_usage`."""

from __future__ import annotations

from datetime import timedelta

from enhancer.domain.accounts import Subscription
from enhancer.storage.database import Pool


async def activate(pool: Pool, user_id: int, *, plan: str, quota: int | None, days: int) -> None:
    """Give the user an active subscription for `days` from now; `quota` tasks a month, None for no limit."""
    await pool.execute(
        """
        INSERT INTO subscriptions (user_id, plan, status, period_end, monthly_quota)
        VALUES ($1, $2, 'active', now() + $3::interval, $4)
        ON CONFLICT (user_id) DO UPDATE
        SET plan = excluded.plan, status = 'active', period_end = excluded.period_end,
            monthly_quota = excluded.monthly_quota, updated_at = now()
        """,
        user_id,
        plan,
        timedelta(days=days),
        quota,
    )


async def get(pool: Pool, user_id: int) -> Subscription | None:
    """The user's subscription and what was used of it in this calendar month."""
    row = await pool.fetchrow(
        """
        SELECT plan, status = 'active' AND period_end > now() AS active, period_end, monthly_quota,
               coalesce(tasks, 0) AS used
        FROM subscriptions LEFT JOIN task_usage
          ON task_usage.user_id = subscriptions.user_id
         AND month = date_trunc('month', now() AT TIME ZONE 'utc')::date
        WHERE subscriptions.user_id = $1
        """,
        user_id,
    )
    return Subscription(**row) if row else None
