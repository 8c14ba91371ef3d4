"""Interface 1: a photo becomes an enhanced image and a script."""

from __future__ import annotations

import contextlib

from aiohttp import web
from pydantic import BaseModel, ValidationError

from enhancer.domain.tasks import Kind, Status, Task
from enhancer.errors import InvalidRequest, Unauthenticated
from enhancer.pipeline.orders import Accepted
from enhancer.service import Service
from enhancer.storage import calls as ledger
from enhancer.storage import tasks, users
from enhancer.storage.database import UNREACHABLE
from enhancer.web import auth, errors, lists, uploads
from enhancer.web.hub import Ending
from enhancer.web.keys import HUB, SERVICE
from enhancer.web.models import (
    STATUS,
    Call,
    CallsResponse,
    EnhancementListResponse,
    EnhancementTaskCreateRequest,
    EnhancementTaskResponse,
    EnhancementTaskStatusResponse,
)


async def create(request: web.Request) -> web.Response:
    """POST /api/v1/ai/enhance-and-script-async, a form with `file` -> 202 and the pending task."""
    accepted = await _accept(request)
    return await _accepted(request, accepted.task, earlier=accepted.replayed)


async def create_and_wait(request: web.Request) -> web.Response:
    """POST /api/v1/ai/enhance-and-script, the same form -> 200 and the finished task, or 202 when it takes longer."""
    service = request.app[SERVICE]
    accepted = await _accept(request)
    task = accepted.task
    ending = Ending()
    with contextlib.suppress(*UNREACHABLE):  # the task is accepted, whatever happens now
        async with request.app[HUB].watching(task, 0, ending):
            await ending.wait(service.settings.sync_wait)
        task = await tasks.get(service.pool, task.id) or task
    if not task.status.final:
        return await _accepted(request, task, earlier=accepted.replayed)
    if task.status is Status.COMPLETED:
        return answer(EnhancementTaskResponse.of(service, task), headers=replayed(accepted.replayed))
    code = task.error_code or "conflict"
    return errors.problem(
        errors.TASK_STATUSES.get(code, 502),
        code,
        task.error_message or task.message,
        headers=replayed(accepted.replayed),
        more={"task_id": task.id},
    )


async def get(request: web.Request) -> web.Response:
    """GET /api/v1/ai/enhance-and-script/{id} -> 200 and the whole task, with a fresh `stream_url`."""
    service, task = await _own(request)
    return answer(EnhancementTaskResponse.of(service, task))


async def listing(request: web.Request) -> web.Response:
    """GET /api/v1/ai/enhance-and-script?status=&limit=&cursor= -> 200 and a page of the caller's tasks."""
    service = request.app[SERVICE]
    page = await lists.page(request, Kind.ENHANCEMENT)
    await service.forecast.look(*page.tasks)
    items = [EnhancementTaskResponse.of(service, task) for task in page.tasks]
    return answer(EnhancementListResponse(items=items, next_cursor=page.next_cursor))


async def status(request: web.Request) -> web.Response:
    """GET /api/v1/ai/enhance-and-script/{id}/status -> 200 and the short task."""
    service, task = await _own(request)
    return answer(EnhancementTaskStatusResponse.of(service, task))


async def cancel(request: web.Request) -> web.Response:
    """POST /api/v1/ai/enhance-and-script/{id}/cancel -> 200 and the short task; one that runs ends a little later."""
    service, task = await _own(request)
    return answer(EnhancementTaskStatusResponse.of(service, await service.lifecycle.cancel(task)))


async def retry(request: web.Request) -> web.Response:
    """POST /api/v1/ai/enhance-and-script/{id}/retry -> 202 and the pending task; what was paid for is kept."""
    service, task = await _own(request)
    await service.orders.admit_again(task.user_id)
    return await _accepted(request, await service.lifecycle.retry(task))


async def delete(request: web.Request) -> web.Response:
    """DELETE /api/v1/ai/enhance-and-script/{id} -> 204: the task, its events and its files are gone."""
    service, task = await _own(request)
    await service.lifecycle.delete(task)
    return web.Response(status=204)


async def calls(request: web.Request) -> web.Response:
    """GET /api/v1/ai/enhance-and-script/{id}/calls -> 200 and the ledger: every call of a provider for the task."""
    service, task = await _own(request)
    made = [Call.model_validate(call, from_attributes=True) for call in await ledger.of_task(service.pool, task.id)]
    return answer(CallsResponse(calls=made))


def answer(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A model as JSON."""
    return web.Response(
        status=status, text=model.model_dump_json(), content_type="application/json", headers=headers or {}
    )


async def _accept(request: web.Request) -> Accepted:
    service = request.app[SERVICE]
    user_id = auth.caller(request)
    key = auth.idempotency_key(request)
    if await users.get(service.pool, user_id) is None:
        raise Unauthenticated("The token's user does not exist any more.")
    await service.orders.admit(user_id, key)
    async with uploads.form(request, max_bytes=service.settings.max_upload_bytes) as form:
        try:
            order = EnhancementTaskCreateRequest.model_validate(form.fields)
        except ValidationError as error:
            raise InvalidRequest(*wrong(error)) from None
        return await service.orders.enhancement(
            user_id,
            form.file,
            user_description=order.user_description,
            duration=order.duration,
            language=order.language,
            key=key,
        )


async def _own(request: web.Request) -> tuple[Service, Task]:
    """Raises Unauthenticated or NotFound."""
    service = request.app[SERVICE]
    task = await auth.own_task(request, Kind.ENHANCEMENT, auth.caller(request))
    await service.forecast.look(task)
    return service, task


async def _accepted(request: web.Request, task: Task, *, earlier: bool = False) -> web.Response:
    service = request.app[SERVICE]
    await service.forecast.look(task)
    headers = {"Location": service.settings.public_url + STATUS.format(id=task.id), **replayed(earlier)}
    return answer(EnhancementTaskResponse.of(service, task), status=202, headers=headers)


def replayed(earlier: bool) -> dict[str, str]:
    """The header of an answer that an earlier request got, too."""
    return {"Idempotent-Replayed": "true"} if earlier else {}


def wrong(error: ValidationError) -> list[tuple[str, str]]:
    """(field, message) of each thing that is wrong."""
    return [(".".join(map(str, e["loc"])) or "form", e["msg"]) for e in error.errors(include_url=False)]
