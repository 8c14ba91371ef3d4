from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pytest_aiohttp.plugin import AiohttpClient

from enhancer import errors
from enhancer.domain.tasks import encode
from enhancer.service import Service
from enhancer.web import app, docs, openapi
from enhancer.web.errors import STATUSES
from enhancer.web.keys import DOCUMENT as SERVED
from enhancer.web.routes import ROUTES, Auth, Route
from tests.conftest import make_settings

SERVER = "https://ads.example.com"
DOCUMENT: Any = json.loads(encode(openapi.document(ROUTES, SERVER)))
COMPONENTS = DOCUMENT["components"]
OURS = [path for path in docs.ASSETS.iterdir() if path.suffix in {".html", ".js", ".css"}]


def named(value: object) -> str:
    return f"{value.method} {value.path}" if isinstance(value, Route) else str(value)


def operation(route: Route) -> Any:
    return DOCUMENT["paths"][route.path][route.method.lower()]


def every(key: str, within: Any = DOCUMENT) -> Iterator[Any]:
    """The values under a key, wherever in the document it is."""
    if isinstance(within, dict):
        yield from ([within[key]] if key in within else [])
        for value in within.values():
            yield from every(key, value)
    if isinstance(within, list):
        for value in within:
            yield from every(key, value)


def complaints(schema: Any, value: object) -> list[str]:
    """What is wrong with a value; the schema may refer to the document's components."""
    return [error.message for error in OAS31Validator({**schema, "components": COMPONENTS}).iter_errors(value)]


def dummy() -> Service:
    """As much of a service as the documentation asks for."""
    return cast("Service", SimpleNamespace(settings=make_settings(base_url=SERVER)))


def test_the_document_is_valid() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_component_is_used_and_every_reference_leads_somewhere() -> None:
    there = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in COMPONENTS[kind]}
    assert set(every("$ref")) == there
    assert {name for wanted in every("security") for way in wanted for name in way} == set(
        COMPONENTS["securitySchemes"]
    )


def test_what_is_served_is_what_is_described() -> None:
    resources = app.build(dummy()).router.routes()
    served = {
        (route.method, route.resource.canonical)
        for route in resources
        if route.method != "HEAD" and route.resource and not isinstance(route.resource, web.StaticResource)
    }
    described = {(method.upper(), path) for path, calls in DOCUMENT["paths"].items() for method in calls}
    assert served - {("GET", "/")} == described


def test_every_call_has_a_name_of_its_own() -> None:
    names = list(every("operationId"))
    assert len(set(names)) == len(names) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_a_call_says_what_it_is_for(route: Route) -> None:
    assert operation(route)["summary"]
    assert operation(route)["description"]


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_a_call_that_needs_a_token_says_so(route: Route) -> None:
    described = operation(route)
    assert bool(described["security"]) == (route.auth is not Auth.NONE)
    if route.auth is not Auth.NONE:
        assert "unauthenticated" in described["responses"]["401"]["content"]["application/problem+json"]["examples"]


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_what_the_address_names_is_described(route: Route) -> None:
    in_path = {p["name"] for p in operation(route).get("parameters", []) if p["in"] == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", route.path))


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_every_problem_in_the_table_is_known(route: Route) -> None:
    for code in route.problems:
        status = str(openapi.problems()[code].status)
        example = operation(route)["responses"][status]["content"]["application/problem+json"]["examples"][code]
        assert example["value"]["status"] == int(status)


@pytest.mark.parametrize("cls", [c for c in vars(errors).values() if isinstance(c, type) and "code" in vars(c)])
def test_every_error_has_a_status_and_is_documented(cls: type[errors.EnhancerError]) -> None:
    if issubclass(cls, errors.RequestError):
        assert openapi.problems()[cls.code].status == STATUSES[cls]
    if issubclass(cls, errors.RequestError | errors.TaskError):
        assert f"| `{cls.code}` |" in COMPONENTS["schemas"]["Problem"]["description"]


def test_every_example_is_one_of_its_schema() -> None:
    shown = [
        (content["schema"], example["value"])
        for contents in every("content")
        for content in contents.values()
        for example in content.get("examples", {}).values()
    ]
    wrong = [(value, found) for schema, value in shown if (found := complaints(schema, value))]
    assert shown
    assert wrong == []


def test_every_example_of_a_field_is_one_of_its_schema() -> None:
    fields = [field for properties in every("properties") for field in properties.values()]
    shown = [(field, value) for field in fields for value in field.get("examples", [])]
    assert [(value, found) for field, value in shown if (found := complaints(field, value))] == []


def test_every_answer_and_body_in_json_is_shown() -> None:
    contents = [content for found in every("content") for kind, content in found.items() if "json" in kind]
    assert [content for content in contents if "$ref" in content["schema"] and not content.get("examples")] == []


def test_the_stream_is_shown_running_and_at_each_end() -> None:
    events = DOCUMENT["paths"]["/api/v1/ai/enhance-and-script/{id}/stream"]["get"]["responses"]["200"]["content"]
    assert set(events["text/event-stream"]["examples"]) == {"running", "completed", "failed", "cancelled"}


def test_an_upload_is_a_form_with_a_file() -> None:
    body = DOCUMENT["paths"]["/api/v1/ai/enhance-and-script-async"]["post"]["requestBody"]["content"]
    form = COMPONENTS["schemas"][body["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]]
    assert form["required"] == ["file"]
    assert form["properties"]["duration"]["enum"] == [4, 8, 12]


def test_an_event_leaves_out_what_it_does_not_say() -> None:
    event = {"$ref": "#/components/schemas/EnhancementProgressEvent"}
    running = {"progress": 5, "message": "...", "status": "processing", "timestamp": 1.5}
    assert complaints(event, running) == []
    assert complaints(event, {**running, "script": None}) != []


class Page(HTMLParser):
    """What a page loads, and what of it would need a weaker policy."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value for name, value in attrs if name in {"src", "href", "action"} and value]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" else []
        self._script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


@pytest.fixture
def html() -> Page:
    page = Page()
    page.feed((docs.ASSETS / "docs.html").read_text())
    return page


def test_the_page_loads_what_is_there_and_nothing_else(html: Page) -> None:
    loaded = [reference for reference in html.references if not reference.startswith("#")]
    pages = {".", "docs", "openapi.json"}
    missing = [r for r in loaded if r not in pages and not (docs.ASSETS / r.removeprefix("docs/assets/")).is_file()]
    assert any(reference.endswith("swagger-ui-bundle.js") for reference in loaded)
    assert missing == []


def test_the_page_has_nothing_inline(html: Page) -> None:
    assert html.inline == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_of_ours_names_another_host(path: Path) -> None:
    assert re.findall(r"https?://|[\"'(]//|@import", path.read_text()) == []


def test_every_asset_comes_with_the_wheel() -> None:
    package = configparser.ConfigParser()
    package.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = package["options.package_data"]["enhancer.web"].split()
    shipped = {path for pattern in patterns for path in docs.ASSETS.parent.glob(pattern) if path.is_file()}
    assert {path for path in docs.ASSETS.rglob("*") if path.is_file()} - shipped == {docs.ASSETS / "refresh"}


def test_the_library_comes_with_its_licence() -> None:
    (library,) = (docs.ASSETS / "vendor").iterdir()
    assert "Apache License" in (library / "LICENSE").read_text()


@pytest.fixture
def site() -> web.Application:
    """The documentation alone."""
    site = web.Application()
    site[SERVED] = app.build(dummy())[SERVED]
    site.router.add_get("/docs", docs.page)
    site.router.add_get("/openapi.json", docs.openapi)
    return site


async def test_the_page_may_load_and_reach_only_its_own_host(
    aiohttp_client: AiohttpClient, site: web.Application
) -> None:
    client = await aiohttp_client(site)
    response = await client.get("/docs")
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert response.content_type == "text/html"
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


async def test_the_served_document_names_this_service(aiohttp_client: AiohttpClient, site: web.Application) -> None:
    client = await aiohttp_client(site)
    response = await client.get("/openapi.json")
    assert await response.json() == DOCUMENT
    assert DOCUMENT["servers"][0]["url"] == SERVER
