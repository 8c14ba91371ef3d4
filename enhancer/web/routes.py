"""Every route, with what the documentation says about it: app.py serves them, openapi.py describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp.typedefs import Handler
from pydantic import BaseModel

from enhancer.web import accounts, docs, enhancements, examples, health, lists, media, models, several, streams, videos
from enhancer.web.access import Auth as Auth
from enhancer.web.examples import Example

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: a model as JSON, or as a form with a file beside it; with both, the file may be left out."""

    model: type[BaseModel]
    form: bool = False
    json: bool = False
    examples: Mapping[str, Example] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One status: what it means, and what comes with it (a model, or a content type). `examples` by their names."""

    means: str
    model: type[BaseModel] | None = None
    content_type: str = "application/json"
    headers: tuple[str, ...] = ()
    examples: Mapping[str, Example] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """
    A call. `query` and `headers`: what may be sent, with what it does.

    `problems`: the codes of the errors that are its own; those of `auth` come by themselves. `description`: Markdown,
    to be read after the summary.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    auth: Auth
    answers: Mapping[int, Answer]
    body: Body | None = None
    problems: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


_PHOTO = Body(models.EnhancementTaskCreateRequest, form=True)
_STREAM_DESCRIPTION = """\
First every event so far, then the live ones; each exactly once, also across reconnects and restarts. Events are
unnamed (`onmessage`), numbered from 1 by their `id`, and carry JSON:

```
retry: 2000

id: 7
data: {"progress": 50, "message": "✅ Image enhanced (1536x1024)", "status": "processing", "timestamp": 1772357409.417}
```

The last one carries the result or the error; then the server ends the response. A comment line comes every 15 seconds
of quiet. A task's `stream_url` carries a token for this stream alone.

A running task's events also tell `eta_seconds`, by what such tasks took lately; null when nobody knows.

Named events ride along (`addEventListener`), four a second at most. They show what is being made, have no `id`, and are
not kept; who connects late gets the latest of each as long as its step runs. A `preview` is a draft of the image, by a
link that lives ten minutes; a `script` is the text as far as it is written:

```
event: preview
data: {"image_url": "https://ads.example.com/uploads/...", "step": "redraw", "timestamp": 1772357405.02}

event: script
data: {"script": "[0:00-0:02] Steam rises from", "timestamp": 1772357412.5}
```
"""
_VIDEO = Body(
    models.VideoCreateRequest,
    form=True,
    json=True,
    examples={"of an enhancement": examples.VIDEO_ORDER, "in other words": examples.VIDEO_PROMPT},
)
_VIDEO_STREAM_DESCRIPTION = """\
As of an enhancement: first every event so far, then the live ones, each exactly once. Step 5 repeats, with the
provider's own percentage:

```
id: 9
data: {"step": 5, "progress": 62, "message": "🎬 Rendering video... 62%", "status": "processing", ...}
```

Steps: 0 started, 1 image loaded, 2 prompt composed, 3 frame fitted, 4 submitted, 5 rendering, 6 rendered, 7 downloaded
and checked, 8 saved, 9 completed; -1 failed.
"""
_KEY = {"Idempotency-Key": "A name of your own for this order: sent again, it brings the same task, not a second one"}
_PAGE = {
    "status": "Only tasks in this state; say it again for another one",
    "limit": f"Tasks on a page, 1 to {lists.MOST} (default: {lists.LIMIT})",
    "cursor": "The `next_cursor` of the page before",
}
_UPLOAD_PROBLEMS = (
    "conflict",
    "subscription_required",
    "upload_too_large",
    "unsupported_image",
    "invalid_image",
    "invalid_request",
    "too_many_requests",
    "queue_full",
    "storage_unavailable",
)

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{API}/ai/enhance-and-script-async",
        enhancements.create,
        "Enhancement",
        "Enhance a photo and write a script; answers at once",
        Auth.ACCOUNT,
        {
            202: Answer(
                "Accepted: stored and committed",
                models.EnhancementTaskResponse,
                headers=("Location", "Idempotent-Replayed"),
                examples={"pending": examples.TASK_PENDING},
            )
        },
        body=_PHOTO,
        headers=_KEY,
        problems=_UPLOAD_PROBLEMS,
        description=(
            "The answer comes once the photo is stored and the task is committed: from then on it is finished whatever "
            "happens to the service or to the connection. Follow it at `stream_url`, which any browser can open, or "
            "ask at `status_url`."
        ),
    ),
    Route(
        "POST",
        f"{API}/ai/enhance-and-script",
        enhancements.create_and_wait,
        "Enhancement",
        "The same, waiting for the result for up to SYNC_WAIT seconds",
        Auth.ACCOUNT,
        {
            200: Answer(
                "Finished",
                models.EnhancementTaskResponse,
                headers=("Idempotent-Replayed",),
                examples={"completed": examples.TASK_COMPLETED},
            ),
            202: Answer(
                "Not finished yet: follow it at Location",
                models.EnhancementTaskResponse,
                headers=("Location", "Idempotent-Replayed"),
                examples={"processing": examples.TASK_PROCESSING},
            ),
        },
        body=_PHOTO,
        headers=_KEY,
        problems=(
            *_UPLOAD_PROBLEMS,
            "provider_refused",
            "provider_rejected_image",
            "provider_unavailable",
            "provider_rate_limited",
            "provider_bad_answer",
            "timeout",
            "outcome_unknown",
            "internal",
        ),
        description=(
            "The same task on the same engine; only the answer waits. A task that failed is answered as a problem with "
            "the task's `error_code` as `code` and its `task_id`. A client that goes away cancels nothing."
        ),
    ),
    Route(
        "GET",
        models.TASK,
        enhancements.get,
        "Enhancement",
        "A task, with a fresh address of its stream",
        Auth.ACCOUNT,
        {
            200: Answer(
                "The whole task",
                models.EnhancementTaskResponse,
                examples={"processing": examples.TASK_PROCESSING, "completed": examples.TASK_COMPLETED},
            )
        },
        problems=("not_found", "storage_unavailable"),
    ),
    Route(
        "GET",
        f"{API}/ai/enhance-and-script",
        enhancements.listing,
        "Enhancement",
        "Your tasks, the newest first",
        Auth.ACCOUNT,
        {200: Answer("A page", models.EnhancementListResponse, examples={"the last page": examples.TASKS})},
        problems=("invalid_request", "storage_unavailable"),
        query=_PAGE,
    ),
    Route(
        "GET",
        models.STATUS,
        enhancements.status,
        "Enhancement",
        "How far a task is",
        Auth.ACCOUNT,
        {
            200: Answer(
                "The short task",
                models.EnhancementTaskStatusResponse,
                examples={
                    "processing": examples.SHORT_PROCESSING,
                    "completed": examples.SHORT_COMPLETED,
                    "failed": examples.SHORT_FAILED,
                },
            )
        },
        problems=("not_found", "storage_unavailable"),
        description="For clients that cannot follow the stream: ask every second or two until the status is final.",
    ),
    Route(
        "POST",
        models.CANCEL,
        enhancements.cancel,
        "Enhancement",
        "End a task",
        Auth.ACCOUNT,
        {
            200: Answer(
                "Cancelled, or about to be",
                models.EnhancementTaskStatusResponse,
                examples={"cancelled": examples.SHORT_CANCELLED},
            )
        },
        problems=("not_found", "conflict", "storage_unavailable"),
    ),
    Route(
        "POST",
        models.RETRY,
        enhancements.retry,
        "Enhancement",
        "Try a failed or cancelled task again; what was paid for is kept",
        Auth.ACCOUNT,
        {
            202: Answer(
                "Waiting again",
                models.EnhancementTaskResponse,
                headers=("Location",),
                examples={"pending": examples.TASK_PENDING},
            )
        },
        problems=(
            "not_found",
            "conflict",
            "subscription_required",
            "too_many_requests",
            "queue_full",
            "storage_unavailable",
        ),
    ),
    Route(
        "GET",
        models.CALLS,
        enhancements.calls,
        "Enhancement",
        "Every call of a provider that was made for a task",
        Auth.ACCOUNT,
        {200: Answer("The ledger", models.CallsResponse, examples={"calls": examples.CALLS})},
        problems=("not_found", "storage_unavailable"),
    ),
    Route(
        "DELETE",
        models.TASK,
        enhancements.delete,
        "Enhancement",
        "Remove a task, its events and its files",
        Auth.ACCOUNT,
        {204: Answer("Removed")},
        problems=("not_found", "conflict", "storage_unavailable"),
    ),
    Route(
        "GET",
        models.STREAM,
        streams.enhancement,
        "Enhancement",
        "Every event of a task as it happens (Server-Sent Events)",
        Auth.ACCOUNT_OR_LINK,
        {
            200: Answer(
                "Every event once, in order; the schema is that of the `data` of one event",
                models.EnhancementProgressEvent,
                "text/event-stream",
                examples=examples.EVENTS,
            ),
            204: Answer("The last event was seen already: an EventSource stops asking then"),
        },
        problems=("not_found", "storage_unavailable"),
        query={"last_event_id": "Go on after this event, for clients that cannot send the header"},
        headers={"Last-Event-ID": "Go on after this event; browsers send it by themselves when they reconnect"},
        description=_STREAM_DESCRIPTION,
    ),
    Route(
        "POST",
        f"{API}/videos/generate",
        videos.create,
        "Video",
        "Make a video of a finished enhancement or of a photo; answers at once",
        Auth.ACCOUNT,
        {
            202: Answer(
                "Accepted: stored and committed",
                models.VideoResponse,
                headers=("Location", "Idempotent-Replayed"),
                examples={"pending": examples.VIDEO_PENDING},
            )
        },
        body=_VIDEO,
        headers=_KEY,
        problems=("not_found", *_UPLOAD_PROBLEMS, "video_unavailable"),
        description=(
            "JSON with `enhancement_id`, whose image and script are the defaults, or a form with a photo as `file`. "
            "404 for an enhancement that is not yours, 409 for one that is not completed."
        ),
    ),
    Route(
        "GET",
        f"{API}/videos",
        videos.listing,
        "Video",
        "Your videos, the newest first",
        Auth.ACCOUNT,
        {200: Answer("A page", models.VideoListResponse, examples={"the last page": examples.VIDEOS})},
        problems=("invalid_request", "storage_unavailable"),
        query=_PAGE,
    ),
    Route(
        "GET",
        models.VIDEO,
        videos.status,
        "Video",
        "How far a video is",
        Auth.ACCOUNT,
        {
            200: Answer(
                "The video",
                models.VideoResponse,
                examples={
                    "processing": examples.VIDEO_PROCESSING,
                    "completed": examples.VIDEO_COMPLETED,
                    "failed": examples.VIDEO_FAILED,
                },
            )
        },
        problems=("not_found", "storage_unavailable"),
    ),
    Route(
        "POST",
        models.VIDEO_CANCEL,
        videos.cancel,
        "Video",
        "End a video; whoever renders it is told",
        Auth.ACCOUNT,
        {
            200: Answer(
                "Cancelled, or about to be",
                models.VideoResponse,
                examples={"cancelled": examples.VIDEO_CANCELLED},
            )
        },
        problems=("not_found", "conflict", "storage_unavailable"),
    ),
    Route(
        "POST",
        models.VIDEO_RETRY,
        videos.retry,
        "Video",
        "Try a failed or cancelled video again; it is ordered anew",
        Auth.ACCOUNT,
        {
            202: Answer(
                "Waiting again",
                models.VideoResponse,
                headers=("Location",),
                examples={"pending": examples.VIDEO_PENDING},
            )
        },
        problems=(
            "not_found",
            "conflict",
            "subscription_required",
            "too_many_requests",
            "queue_full",
            "storage_unavailable",
        ),
    ),
    Route(
        "GET",
        models.VIDEO_CALLS,
        videos.calls,
        "Video",
        "Every order that was placed for a video",
        Auth.ACCOUNT,
        {200: Answer("The ledger", models.CallsResponse, examples={"calls": examples.VIDEO_ORDERS})},
        problems=("not_found", "storage_unavailable"),
    ),
    Route(
        "DELETE",
        models.VIDEO,
        videos.delete,
        "Video",
        "Remove a video, its events and its files",
        Auth.ACCOUNT,
        {204: Answer("Removed")},
        problems=("not_found", "conflict", "storage_unavailable"),
    ),
    Route(
        "GET",
        models.VIDEO_STREAM,
        streams.video,
        "Video",
        "Every event of a video as it happens (Server-Sent Events)",
        Auth.ACCOUNT_OR_LINK,
        {
            200: Answer(
                "Every event once, in order; the schema is that of the `data` of one event",
                models.VideoProgressEvent,
                "text/event-stream",
                examples=examples.VIDEO_EVENTS,
            ),
            204: Answer("The last event was seen already: an EventSource stops asking then"),
        },
        problems=("not_found", "storage_unavailable"),
        query={"last_event_id": "Go on after this event, for clients that cannot send the header"},
        headers={"Last-Event-ID": "Go on after this event; browsers send it by themselves when they reconnect"},
        description=_VIDEO_STREAM_DESCRIPTION,
    ),
    Route(
        "GET",
        models.EVENTS,
        several.events,
        "Events",
        "The events of several tasks in one stream (Server-Sent Events)",
        Auth.ACCOUNT_OR_LINK,
        {
            200: Answer(
                "Every event of each once, in order; the schema is that of the `data` of one event",
                models.TaskEvent,
                "text/event-stream",
                examples=examples.SEVERAL_EVENTS,
            ),
            204: Answer("The last event of each was seen already: an EventSource stops asking then"),
        },
        problems=("not_found", "invalid_request", "storage_unavailable"),
        query={
            "tasks": f"Which tasks, up to {several.MOST}: `enhancement:1,video:2`",
            "last_event_id": "Go on after this event, for clients that cannot send the header",
        },
        headers={"Last-Event-ID": "Go on after this event; browsers send it by themselves when they reconnect"},
        description=(
            "As the stream of one task, with `task` in each event's data. An `id` tells how far all of them are "
            "(`enhancement:1=7,video:2=3`), so that a reconnect gets the rest of each. Named events come along. The "
            "stream ends when all tasks have."
        ),
    ),
    Route(
        "POST",
        models.EVENTS_LINK,
        several.link,
        "Events",
        "An address of such a stream that any browser can open",
        Auth.ACCOUNT,
        {200: Answer("The address", models.EventsResponse, examples={"two tasks": examples.SEVERAL_LINK})},
        body=Body(models.EventsRequest, json=True, examples={"two tasks": examples.SEVERAL}),
        problems=("not_found", "invalid_request", "storage_unavailable"),
        description="For an EventSource, which cannot send headers: the token in it opens this stream alone.",
    ),
    Route(
        "POST",
        f"{API}/auth/login",
        accounts.login,
        "Account",
        "Sign in",
        Auth.NONE,
        {200: Answer("A token", models.LoginResponse, examples={"token": examples.TOKEN})},
        body=Body(models.LoginRequest, json=True, examples={"you": examples.LOGIN}),
        problems=("unauthenticated", "invalid_request", "storage_unavailable"),
        description="The token goes into the header `Authorization: Bearer` of every other call.",
    ),
    Route(
        "GET",
        "/uploads/{path}",
        media.file,
        "Files",
        "An original or a result",
        Auth.ACCOUNT_OR_LINK,
        {
            200: Answer("The file: an image or a video", content_type="image/*", headers=("ETag", "Accept-Ranges")),
            206: Answer("The part that Range asks for", content_type="image/*", headers=("Content-Range",)),
            304: Answer("Unchanged since If-None-Match"),
            416: Answer("There is no such part", headers=("Content-Range",)),
        },
        problems=("not_found", "storage_unavailable"),
        headers={
            "Range": "One range of bytes",
            "If-Range": "The part is wanted only of the version with this ETag, else the whole",
            "If-None-Match": "The ETag of what is at hand already",
        },
        description=(
            "By the signed links in tasks, which anybody can open until they expire, or with the owner's token. "
            "A name is never used twice, so files may be cached."
        ),
    ),
    Route(
        "GET",
        "/healthz",
        health.healthz,
        "Operations",
        "Whether the process answers",
        Auth.NONE,
        {200: Answer("It does", models.Health, examples={"alive": examples.ALIVE})},
        description="For a liveness probe: it looks at nothing but itself.",
    ),
    Route(
        "GET",
        "/readyz",
        health.readyz,
        "Operations",
        "Whether tasks can be accepted",
        Auth.NONE,
        {
            200: Answer(
                "They can",
                models.Readiness,
                examples={"ready": examples.READY, "without Redis": examples.WITHOUT_REDIS},
            ),
            503: Answer("They cannot", models.Readiness, examples={"not ready": examples.NOT_READY}),
        },
        description="Redis away is reported and no reason to stop: streams then live from the database.",
    ),
    Route(
        "GET",
        "/metrics",
        health.expose,
        "Operations",
        "Figures for Prometheus",
        Auth.NONE,
        {200: Answer("Prometheus' text format", content_type="text/plain")},
        description="Requests, tasks that wait, calls of models, open streams and more, of this process.",
    ),
    Route(
        "GET",
        "/openapi.json",
        docs.openapi,
        "Documentation",
        "This description",
        Auth.NONE,
        {200: Answer("OpenAPI 3.1")},
        description="OpenAPI 3.1, for programs that make clients.",
    ),
    Route(
        "GET",
        "/docs",
        docs.page,
        "Documentation",
        "This description, to read and to try",
        Auth.NONE,
        {200: Answer("A page", content_type="text/html")},
        description="An account token in the address, as `#token=...`, signs in; it leaves the address at once.",
    ),
)
