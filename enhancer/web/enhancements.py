"""Interface 1: a photo becomes an enhanced image and a script."""

from __future__ import annotations

import contextlib

from aiohttp import web
from pydantic import BaseModel, ValidationError

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.errors import InvalidRequest, Unauthenticated
from enhancer.storage import tasks, users
from enhancer.storage.database import UNREACHABLE
from enhancer.web import auth, errors, uploads
from enhancer.web.hub import Ending
from enhancer.web.keys import HUB, SERVICE
from enhancer.web.models import (
    STATUS,
    EnhancementTaskCreateRequest,
    EnhancementTaskResponse,
    EnhancementTaskStatusResponse,
)


async def create(request: web.Request) -> web.Response:
    """POST /api/v1/ai/enhance-and-script-async, a form with `file` -> 202 and the pending task."""
    return _accepted(request, await _accept(request))


async def create_and_wait(request: web.Request) -> web.Response:
    """POST /api/v1/ai/enhance-and-script, the same form -> 200 and the finished task, or 202 when it takes longer."""
    service = request.app[SERVICE]
    task = await _accept(request)
    ending = Ending()
    with contextlib.suppress(*UNREACHABLE):  # the task is accepted, whatever happens now
        async with request.app[HUB].watching(task, 0, ending):
            await ending.wait(service.settings.sync_wait)
        task = await tasks.get(service.pool, task.id) or task
    if not task.status.final:
        return _accepted(request, task)
    if task.status is Status.COMPLETED:
        return answer(EnhancementTaskResponse.of(service, task))
    code = task.error_code or "conflict"
    return errors.problem(
        errors.TASK_STATUSES.get(code, 502),
        code,
        task.error_message or task.message,
        more={"task_id": task.id},
    )


async def status(request: web.Request) -> web.Response:
    """GET /api/v1/ai/enhance-and-script/{id}/status -> 200 and the short task."""
    task = await auth.own_task(request, Kind.ENHANCEMENT, auth.caller(request))
    return answer(EnhancementTaskStatusResponse.of(request.app[SERVICE], task))


def answer(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A model as JSON."""
    return web.Response(
        status=status, text=model.model_dump_json(), content_type="application/json", headers=headers or {}
    )


async def _accept(request: web.Request) -> Task:
    service = request.app[SERVICE]
    user_id = auth.caller(request)
    if await users.get(service.pool, user_id) is None:
        raise Unauthenticated("The token's user does not exist any more.")
    await service.orders.admit(user_id)
    async with uploads.form(request, max_bytes=service.settings.max_upload_bytes) as form:
        try:
            order = EnhancementTaskCreateRequest.model_validate(form.fields)
        except ValidationError as error:
            raise InvalidRequest(*_wrong(error)) from None
        return await service.orders.enhancement(
            user_id,
            form.file,
            user_description=order.user_description,
            duration=order.duration,
            language=order.language,
        )


def _accepted(request: web.Request, task: Task) -> web.Response:
    service = request.app[SERVICE]
    location = service.settings.public_url + STATUS.format(id=task.id)
    return answer(EnhancementTaskResponse.of(service, task), status=202, headers={"Location": location})


def _wrong(error: ValidationError) -> list[tuple[str, str]]:
    return [(".".join(map(str, e["loc"])) or "form", e["msg"]) for e in error.errors(include_url=False)]
