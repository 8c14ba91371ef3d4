"""
Lists of a user's tasks of one kind, newest first, a page at a time.

A page ends where the next one begins: at a task's id. The cursor is that id, in a form that nobody is tempted to
count with.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from aiohttp import web

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.errors import InvalidRequest
from enhancer.storage import tasks
from enhancer.web import auth
from enhancer.web.keys import SERVICE

LIMIT = 20  # tasks on a page, unless the caller asks for another number
MOST = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Some tasks, and where to go on; None: there are no more."""

    tasks: list[Task]
    next_cursor: str | None


async def page(request: web.Request, kind: Kind) -> Page:
    """The part of the caller's list that `cursor`, `limit` and `status` ask for. Raises InvalidRequest."""
    user_id = auth.caller(request)
    limit = _limit(request.query.get("limit"))
    found = await tasks.listed(
        request.app[SERVICE].pool,
        user_id,
        kind,
        _statuses(request.query.getall("status", [])),
        before=_read(request.query.get("cursor")),
        limit=limit + 1,  # one more tells whether there is another page
    )
    return Page(found[:limit], _cursor(found[limit - 1].id) if len(found) > limit else None)


def _limit(given: str | None) -> int:
    if given is None:
        return LIMIT
    if not re.fullmatch(r"[0-9]{1,9}", given) or not 1 <= int(given) <= MOST:
        raise InvalidRequest(("limit", f"Send a whole number from 1 to {MOST}."))
    return int(given)


def _statuses(given: list[str]) -> list[Status]:
    try:
        return list(dict.fromkeys(map(Status, given))) or list(Status)
    except ValueError:
        raise InvalidRequest(("status", f"Send any of {', '.join(Status)}.")) from None


def _cursor(task_id: int) -> str:
    return base64.urlsafe_b64encode(task_id.to_bytes(8)).decode().rstrip("=")


def _read(cursor: str | None) -> int:
    """The id that a cursor stands for; without one, an id that no task reaches."""
    if not cursor:
        return auth.MAX_ID
    if re.fullmatch(r"[A-Za-z0-9_-]{11}", cursor):
        before = int.from_bytes(base64.urlsafe_b64decode(f"{cursor}="))
        if 0 < before <= auth.MAX_ID:
            return before
    raise InvalidRequest(("cursor", "Send a next_cursor as it came, or none."))
