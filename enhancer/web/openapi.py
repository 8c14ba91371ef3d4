"""The interface as an OpenAPI 3.1 document, built from the table of routes and the models."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

import enhancer
from enhancer import errors
from enhancer.domain.images import Format
from enhancer.domain.tasks import Status
from enhancer.web.errors import TASK_STATUSES, from_error, problem
from enhancer.web.examples import Example
from enhancer.web.lists import LIMIT, MOST
from enhancer.web.models import Problem
from enhancer.web.routes import Answer, Auth, Body, Route

Json = dict[str, object]

_DESCRIPTION = """\
**1. Get a token**

```sh
curl SERVER/api/v1/auth/login -H 'Content-Type: application/json' \\
     -d '{"email": "you@example.com", "password": "..."}'
```

**2. Upload a photo.** It is answered at once with the task, its `id` and its `stream_url`.

```sh
curl SERVER/api/v1/ai/enhance-and-script-async -H "Authorization: Bearer $TOKEN" \\
     -F file=@espresso.jpg -F user_description='A strong espresso' -F duration=4 -F language=en
```

**3. Follow it,** in any browser:

```js
const source = new EventSource(task.stream_url);
source.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  console.log(event.progress, event.message ?? event.error);
  if (["completed", "failed", "cancelled"].includes(event.status)) source.close();
};
```

Errors are `application/problem+json` (RFC 9457); programs should look at their `code`, which is
stable. All codes are listed at the schema `Problem`.
"""

_TAGS: Mapping[str, str] = {
    "Enhancement": "A photo becomes an enhanced image and a script",
    "Video": "An enhancement or a photo becomes a video",
    "Events": "Following several tasks together",
    "Account": "Who may call",
    "Files": "What went in and what came out",
    "Operations": "For those who run the service",
    "Documentation": "What you are reading",
}

_SECURITY: Mapping[str, Json] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `access_token` of a sign-in",
    },
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "The token in a `stream_url` or in a link to a file",
    },
}

_CALLERS: Mapping[Auth, list[Json]] = {
    Auth.NONE: [],
    Auth.ACCOUNT: [{"bearer": []}],
    Auth.ACCOUNT_OR_LINK: [{"bearer": []}, {"link": []}],
}

_IN_PATH: Mapping[str, Json] = {
    "id": {
        "description": "The number of the task",
        "schema": {"type": "integer", "format": "int64", "minimum": 1},
        "example": 1,
    },
    "path": {
        "description": "As in the link; it has slashes",
        "schema": {"type": "string"},
        "example": "user_1/enhanced/enhanced_k3Vw9xPqLr2T.jpg",
    },
}

_LINK_TOKEN = "A token made for this address, or an account token, for clients that cannot send headers"  # noqa: S105
_EVENT_ID: Json = {"type": ["integer", "string"], "minimum": 0}
_VALUES: Mapping[str, Json] = {
    "last_event_id": _EVENT_ID,
    "Last-Event-ID": _EVENT_ID,
    "status": {"type": "array", "items": {"type": "string", "enum": [status.value for status in Status]}},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT},
}

_HEADERS: Mapping[str, tuple[str, Json]] = {
    "Accept-Ranges": ("`bytes`", {"type": "string"}),
    "Content-Range": ("Which bytes of how many", {"type": "string"}),
    "ETag": ("Of this version", {"type": "string"}),
    "Idempotent-Replayed": ("`true`: this task was accepted by an earlier request", {"type": "string"}),
    "Location": ("Where the task's status is", {"type": "string", "format": "uri"}),
    "Retry-After": ("Seconds to wait", {"type": "integer", "minimum": 0}),
    "WWW-Authenticate": ("`Bearer`", {"type": "string"}),
}

_PLAIN: Mapping[str, Json] = {
    "application/json": {"type": "object"},
    "text/html": {"type": "string"},
    "text/plain": {"type": "string"},
}
_BINARY: Json = {"type": "string", "format": "binary"}
_BODILESS = frozenset({204, 304, 416})
_PROBLEM = "application/problem+json"
_PHOTO: Json = {**_BINARY, "description": "The photo: JPEG, PNG or WebP by its bytes"}


def document(routes: Sequence[Route], server: str) -> Json:
    """The OpenAPI document of these routes; `server` is the address that their paths follow."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Enhancer",
            "version": enhancer.__version__,
            "summary": inspect.getdoc(enhancer),
            "description": _DESCRIPTION.replace("SERVER", server),
        },
        "servers": [{"url": server, "description": "This service"}],
        "tags": [_tag(name) for name in dict.fromkeys(route.tag for route in routes)],
        "paths": _paths(routes),
        "components": {
            "schemas": _schemas(routes),
            "responses": {"Problem": _any_problem()},
            "securitySchemes": dict(_SECURITY),
        },
    }


def problems() -> dict[str, web.Response]:
    """The answer with each code that there is, as a caller gets it."""
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and "code" in vars(cls)]
    requests = [_refused(cls) for cls in classes if issubclass(cls, errors.RequestError)]
    tasks = [_failed(cls) for cls in (*classes, errors.InternalError) if issubclass(cls, errors.TaskError)]
    return dict([*requests, *tasks])


def _refused(cls: type[errors.RequestError]) -> tuple[str, web.Response]:
    if issubclass(cls, errors.InvalidRequest):
        return cls.code, from_error(cls(("duration", "Input should be 4, 8 or 12")))
    if issubclass(cls, errors.RetryLater):
        return cls.code, from_error(cls(retry_after=10))
    return cls.code, from_error(cls())


def _failed(cls: type[errors.TaskError]) -> tuple[str, web.Response]:
    return cls.code, problem(TASK_STATUSES.get(cls.code, 502), cls.code, str(cls()), more={"task_id": 1})


def _tag(name: str) -> Json:
    return {"name": name, "description": _TAGS[name]} if name in _TAGS else {"name": name}


def _paths(routes: Iterable[Route]) -> Json:
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {**paths}


def _operation(route: Route) -> Json:
    module, name = route.handler.__module__.rpartition(".")[2], getattr(route.handler, "__name__", "")
    operation: Json = {
        "operationId": f"{module}_{name}",
        "tags": [route.tag],
        "summary": route.summary,
        "description": route.description or inspect.getdoc(route.handler) or "",
        "security": _CALLERS[route.auth],
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = _request_body(route.body)
    return operation | {"responses": _responses(route)}


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, **about}
        for name, about in _IN_PATH.items()
        if f"{{{name}}}" in route.path
    ]
    query = dict(route.query)
    if route.auth is Auth.ACCOUNT_OR_LINK:
        query = {"token": _LINK_TOKEN, **query}
    found += [_optional("query", name, means) for name, means in query.items()]
    found += [_optional("header", name, means) for name, means in route.headers.items()]
    return found


def _optional(place: str, name: str, means: str) -> Json:
    return {"name": name, "in": place, "description": means, "schema": _VALUES.get(name, {"type": "string"})}


def _request_body(body: Body) -> Json:
    contents: Json = {}
    if body.json:
        examples = {"examples": _named(body.examples)} if body.examples else {}
        contents["application/json"] = {"schema": _reference(body.model), **examples}
    if body.form:
        schema: Json = {"allOf": [_reference(body.model)], "properties": {"file": _PHOTO}}
        contents["multipart/form-data"] = {
            "schema": schema if body.json else _reference(body.model),
            "encoding": {"file": {"contentType": ", ".join(f.mime for f in Format)}},
        }
    return {"required": True, "content": contents}


def _responses(route: Route) -> Json:
    answers = {status: _response(status, answer) for status, answer in route.answers.items()}
    for status, response in _problems(route).items():
        answers[status] = _both(answers[status], response) if status in answers else response
    return {
        **{str(status): answers[status] for status in sorted(answers)},
        "default": {"$ref": "#/components/responses/Problem"},
    }


def _response(status: int, answer: Answer) -> Json:
    response: Json = {"description": answer.means}
    if answer.headers:
        response["headers"] = {name: _header(name) for name in answer.headers}
    if status not in _BODILESS:
        response["content"] = {answer.content_type: _content(answer)}
    return response


def _content(answer: Answer) -> Json:
    if answer.model is None:
        return {"schema": _PLAIN.get(answer.content_type, _BINARY)}
    content: Json = {"schema": _reference(answer.model)}
    if answer.examples:
        content["examples"] = _named(answer.examples)
    return content


def _problems(route: Route) -> dict[int, Json]:
    """What the route's errors answer, those of one status together."""
    known = problems()
    codes = route.problems if route.auth is Auth.NONE else ("unauthenticated", *route.problems)
    by_status: dict[int, dict[str, web.Response]] = {}
    for code in codes:
        by_status.setdefault(known[code].status, {})[code] = known[code]
    return {status: _problem(of_status) for status, of_status in by_status.items()}


def _problem(answers: Mapping[str, web.Response]) -> Json:
    bodies = {code: _body(answer) for code, answer in answers.items()}
    headers = dict.fromkeys(name for answer in answers.values() for name in answer.headers if name in _HEADERS)
    response: Json = {
        "description": "\n\n".join(f"`{code}`: {body['detail']}" for code, body in bodies.items()),
        "content": {_PROBLEM: {"schema": _reference(Problem), "examples": _named(bodies)}},
    }
    return response | ({"headers": {name: _header(name) for name in headers}} if headers else {})


def _any_problem() -> Json:
    other = _problem({"method_not_allowed": problem(405, "method_not_allowed", "Method Not Allowed")})
    return other | {"description": "Any other error, such as 405 `method_not_allowed` or 500 `internal`"}


def _codes() -> str:
    rows = (f"| `{code}` | {answer.status} | {_body(answer)['detail']} |" for code, answer in problems().items())
    return "\n".join(("| code | status | detail |", "| --- | --- | --- |", *rows))


def _body(answer: web.Response) -> Json:
    body: Json = json.loads(answer.text or "{}")
    return body


def _both(first: Json, second: Json) -> Json:
    """Two answers with the same status."""
    either: Json = {"description": f"{first['description']}\n\n{second['description']}"}
    for part in ("headers", "content"):
        if parts := {**_part(first, part), **_part(second, part)}:
            either[part] = parts
    return either


def _part(response: Json, name: str) -> Json:
    part = response.get(name)
    return part if isinstance(part, dict) else {}


def _header(name: str) -> Json:
    means, schema = _HEADERS[name]
    return {"description": means, "schema": schema}


def _named(examples: Mapping[str, Example]) -> Json:
    return {name.replace(" ", "_"): {"summary": name, "value": dict(value)} for name, value in examples.items()}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _schemas(routes: Iterable[Route]) -> Json:
    """All models of the routes; a form's gets the file beside its fields."""
    bodies = [route.body for route in routes if route.body]
    answers = [answer for route in routes for answer in route.answers.values()]
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(body.model, "validation") for body in bodies]
    wanted += [(answer.model, "serialization") for answer in answers if answer.model]
    wanted.append((Problem, "serialization"))
    _, found = models_json_schema(
        list(dict.fromkeys(wanted)), ref_template="#/components/schemas/{model}", schema_generator=_Schemas
    )
    schemas: dict[str, Json] = found["$defs"]
    for model in {body.model for body in bodies if body.form and not body.json}:
        form = schemas[model.__name__]
        form["properties"] = {"file": _PHOTO} | _part(form, "properties")
        form["required"] = ["file", *(name for name, field in model.model_fields.items() if field.is_required())]
    schemas["Problem"]["description"] = f"{schemas['Problem']['description']}\n\n{_codes()}"
    return {**schemas}


class _Schemas(GenerateJsonSchema):
    """pydantic's, without its titles; a field that is None by default is one that may be left out."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """See pydantic."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """See pydantic."""
        inner = schema["schema"]
        if inner["type"] == "nullable" and schema.get("default", ...) is None:
            return self.generate_inner(inner["schema"])
        return super().default_schema(schema)
