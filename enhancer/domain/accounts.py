"""Users and their subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class User:
    """A row of the table `users`, without the password's hash."""

    id: int
    email: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    What a user may do.

    `monthly_quota`: tasks accepted a calendar month (UTC), None for no limit; `used`: those accepted in this one.
    """

    plan: str
    active: bool
    period_end: datetime
    monthly_quota: int | None
    used: int
