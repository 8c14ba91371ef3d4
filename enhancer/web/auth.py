"""Who is calling, and what is theirs."""

from __future__ import annotations

from aiohttp import web

from enhancer.domain.tasks import Kind, Task
from enhancer.errors import InvalidRequest, NotFound, Unauthenticated
from enhancer.storage import tasks
from enhancer.web.access import Auth
from enhancer.web.keys import SERVICE

MAX_ID = 2**63 - 1  # of PostgreSQL's bigint


def caller(request: web.Request) -> int:
    """The id of the user whose account token the request carries. Raises Unauthenticated."""
    return request.app[SERVICE].tokens.read_account(_bearer(request))


def bearer(request: web.Request, wanted: Auth) -> int | None:
    """Whose token the request carries where this kind of call looks for one; None: no valid one."""
    tokens = request.app[SERVICE].tokens
    linked = request.query.get("token") if wanted is Auth.ACCOUNT_OR_LINK else None
    try:
        return tokens.bearer(linked or _bearer(request))
    except Unauthenticated:
        return None


def watcher(request: web.Request, channel: str) -> int:
    """Like `caller`, for a stream: `?token=` is taken too, also one for this stream alone."""
    tokens = request.app[SERVICE].tokens
    if token := request.query.get("token"):
        try:
            return tokens.read_stream(token, channel)
        except Unauthenticated:
            return tokens.read_account(token)
    return caller(request)


def opener(request: web.Request, path: str) -> None:
    """Whether the file may be opened: by its link, or by its owner. Raises Unauthenticated or NotFound."""
    tokens = request.app[SERVICE].tokens
    token = request.query.get("token")
    if token:
        try:
            tokens.read_file(token, path)
        except Unauthenticated:
            user_id = tokens.read_account(token)
        else:
            return
    else:
        user_id = caller(request)
    if not path.startswith(f"user_{user_id}/"):
        raise NotFound


async def own_task(request: web.Request, kind: Kind, user_id: int) -> Task:
    """The task in the address. Raises NotFound when there is none, or it is somebody else's."""
    task_id = int(request.match_info["id"])
    task = await tasks.get(request.app[SERVICE].pool, task_id) if task_id <= MAX_ID else None
    if task is None or task.user_id != user_id or task.kind is not kind:
        raise NotFound("There is no such task.")
    return task


def idempotency_key(request: web.Request) -> str | None:
    """What the client calls its order. Raises InvalidRequest when it is no name."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (key.isascii() and key.isprintable() and 1 <= len(key) <= 255):
        raise InvalidRequest(("Idempotency-Key", "Send 1 to 255 printable ASCII characters."))
    return key


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()
