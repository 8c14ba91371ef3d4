"""How errors become answers: application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from enhancer import errors
from enhancer.domain.tasks import encode
from enhancer.storage.database import UNREACHABLE

log = logging.getLogger(__name__)

STATUSES: Mapping[type[errors.RequestError], int] = {
    errors.RequestError: 400,
    errors.Unauthenticated: 401,
    errors.SubscriptionRequired: 402,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.RequestTimeout: 408,
    errors.UploadTooLarge: 413,
    errors.UnsupportedImage: 415,
    errors.InvalidImage: 422,
    errors.InvalidRequest: 422,
    errors.TooManyRequests: 429,
    errors.QueueFull: 503,
    errors.StorageUnavailable: 503,
    errors.VideoUnavailable: 503,
}

TASK_STATUSES: Mapping[str, int] = {"provider_rejected_image": 422, "timeout": 504, "internal": 500, "conflict": 409}
"""What the synchronous call answers for a failed task, by its error_code (conflict: cancelled); any other is 502."""

CLIENT_GONE = 499  # nobody reads it; nginx's number, for the log and the metrics

_PLAIN_CODES = {404: "not_found", 405: "method_not_allowed", 413: "upload_too_large"}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as a problem; say nothing of what went wrong inside."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = _plain(error)
    except Exception as error:
        answer = _answer(request, error)
    if request.writer.output_size and request.transport:  # another answer has begun: no more can be said in it
        request.transport.abort()
    return answer


def from_error(error: errors.RequestError) -> web.Response:
    """The answer to an error, its status found by walking up the error's classes."""
    status = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
    headers: dict[str, str] = {}
    more: dict[str, object] = {}
    if isinstance(error, errors.RetryLater) and error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="enhancer"'
    if isinstance(error, errors.InvalidRequest):
        more["errors"] = [{"field": field, "message": message} for field, message in error.errors]
    return problem(status, error.code, str(error), headers=headers, more=more)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> web.Response:
    """A problem document; `code` is stable, `detail` is a sentence for people."""
    body = {
        "type": f"urn:enhancer:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        **(more or {}),
    }
    return web.Response(
        status=status, text=encode(body), content_type="application/problem+json", headers=headers or {}
    )


def unreadable() -> web.Response:
    """The answer to what is no HTTP, or has lines that are too long."""
    return problem(400, "invalid_request", "This cannot be read as a request.")


def internal() -> web.Response:
    """The answer when something went wrong that nobody expected."""
    return problem(500, "internal", "Something went wrong on our side.")


def route_of(request: web.Request) -> str:
    """The route's pattern, such as /uploads/{path}: few values, no ids."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "(none)"


def _plain(error: web.HTTPException) -> web.Response:
    code = _PLAIN_CODES.get(error.status, "invalid_request")
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return problem(error.status, code, error.reason, headers=headers)


def _answer(request: web.Request, error: Exception) -> web.Response:
    if isinstance(error, errors.RequestError):
        return from_error(error)
    if isinstance(error, UNREACHABLE):
        if request.transport is None:
            return web.Response(status=CLIENT_GONE, reason="Client Closed Request")
        log.warning("database.unreachable", extra={"error": type(error).__name__})
        return from_error(errors.StorageUnavailable(retry_after=2))
    log.error("http.error", extra={"route": route_of(request)}, exc_info=error)
    return internal()
