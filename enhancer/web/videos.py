"""Interface 2: an enhancement or a photo becomes a video."""

from __future__ import annotations

from aiohttp import web
from pydantic import ValidationError

from enhancer.domain.tasks import Kind, Task
from enhancer.errors import InvalidRequest, Unauthenticated, VideoUnavailable
from enhancer.pipeline.orders import Accepted
from enhancer.service import Service
from enhancer.storage import calls as ledger
from enhancer.storage import users
from enhancer.web import auth, lists, uploads
from enhancer.web.enhancements import answer, replayed, wrong
from enhancer.web.keys import SERVICE
from enhancer.web.models import VIDEO, Call, CallsResponse, VideoCreateRequest, VideoListResponse, VideoResponse


async def create(request: web.Request) -> web.Response:
    """POST /api/v1/videos/generate, JSON or a form that may have a `file` -> 202 and the pending video."""
    service = request.app[SERVICE]
    user_id = auth.caller(request)
    key = auth.idempotency_key(request)
    if await users.get(service.pool, user_id) is None:
        raise Unauthenticated("The token's user does not exist any more.")
    if service.tools.videos is None:
        raise VideoUnavailable
    await service.orders.admit(user_id, key)
    accepted = await (_of_form if request.content_type == "multipart/form-data" else _of_json)(request, user_id, key)
    return await _accepted(service, accepted.task, headers=replayed(accepted.replayed))


async def listing(request: web.Request) -> web.Response:
    """GET /api/v1/videos?status=&limit=&cursor= -> 200 and a page of the caller's videos."""
    service = request.app[SERVICE]
    page = await lists.page(request, Kind.VIDEO)
    await service.forecast.look(*page.tasks)
    items = [VideoResponse.of(service, task) for task in page.tasks]
    return answer(VideoListResponse(items=items, next_cursor=page.next_cursor))


async def status(request: web.Request) -> web.Response:
    """GET /api/v1/videos/{id} -> 200 and the video."""
    service, task = await _own(request)
    return answer(VideoResponse.of(service, task))


async def cancel(request: web.Request) -> web.Response:
    """POST /api/v1/videos/{id}/cancel -> 200 and the video; one that is rendered ends a little later."""
    service, task = await _own(request)
    return answer(VideoResponse.of(service, await service.lifecycle.cancel(task)))


async def retry(request: web.Request) -> web.Response:
    """POST /api/v1/videos/{id}/retry -> 202 and the pending video, which is ordered anew."""
    service, task = await _own(request)
    await service.orders.admit_again(task.user_id)
    return await _accepted(service, await service.lifecycle.retry(task))


async def delete(request: web.Request) -> web.Response:
    """DELETE /api/v1/videos/{id} -> 204: the video, its events and its files are gone."""
    service, task = await _own(request)
    await service.lifecycle.delete(task)
    return web.Response(status=204)


async def calls(request: web.Request) -> web.Response:
    """GET /api/v1/videos/{id}/calls -> 200 and the ledger: every order of a provider for the video."""
    service, task = await _own(request)
    made = [Call.model_validate(call, from_attributes=True) for call in await ledger.of_task(service.pool, task.id)]
    return answer(CallsResponse(calls=made))


async def _of_form(request: web.Request, user_id: int, key: str | None) -> Accepted:
    service = request.app[SERVICE]
    async with uploads.form(request, max_bytes=service.settings.max_upload_bytes, file_needed=False) as form:
        fields = {name: value for name, value in form.fields.items() if value}  # a form sends what is left empty, too
        return await _order(service, user_id, key, fields, form)


async def _of_json(request: web.Request, user_id: int, key: str | None) -> Accepted:
    try:
        body = await request.json()
    except (ValueError, LookupError, RecursionError):  # LookupError: a charset that nobody knows
        raise InvalidRequest(("body", "Send JSON, or a multipart/form-data form.")) from None
    return await _order(request.app[SERVICE], user_id, key, body, None)


async def _order(service: Service, user_id: int, key: str | None, given: object, form: uploads.Form | None) -> Accepted:
    try:
        order = VideoCreateRequest.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(*wrong(error)) from None
    return await service.orders.video(
        user_id,
        form.file if form and form.has_file else None,
        enhancement_id=order.enhancement_id,
        prompt=order.prompt,
        duration=order.duration,
        language=order.language,
        key=key,
    )


async def _own(request: web.Request) -> tuple[Service, Task]:
    """Raises Unauthenticated or NotFound."""
    service = request.app[SERVICE]
    task = await auth.own_task(request, Kind.VIDEO, auth.caller(request))
    await service.forecast.look(task)
    return service, task


async def _accepted(service: Service, task: Task, *, headers: dict[str, str] | None = None) -> web.Response:
    await service.forecast.look(task)
    location = {"Location": service.settings.public_url + VIDEO.format(id=task.id)}
    return answer(VideoResponse.of(service, task), status=202, headers={**location, **(headers or {})})
