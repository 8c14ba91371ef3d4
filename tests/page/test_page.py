"""The page as it is served: what it weighs, what it loads and when, what it may do, which language it speaks."""

from __future__ import annotations

import base64
import configparser
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from enhancer.service import Service
from enhancer.web import docs, home
from enhancer.web.keys import SERVICE

INDEX = (home.PAGE / "index.html").read_text()
CODE = sorted(path for path in home.PAGE.rglob("*.js") if path.parent.name != "i18n")
TEXTS = [home.PAGE / f"i18n/{language}.js" for language in home.LANGUAGES]
LANGUAGE = home.PAGE / "i18n/language.js"
VENDOR = home.PAGE / "vendor"

MOST = 100_000  # bytes, with the library and with both languages


class Document(HTMLParser):
    """What the page's document loads, and what of it would need a weaker policy."""

    def __init__(self) -> None:
        super().__init__()
        self.preloads: list[str] = []
        self.inline: list[str] = []
        self.references: list[str] = []
        self.feed(INDEX)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.inline += (
            [tag]
            if tag == "style" or (tag == "script" and given.get("type") != "importmap" and "src" not in given)
            else []
        )
        self.references += [given[name] for name in ("src", "href") if name in given]
        if given.get("rel") == "modulepreload":
            self.preloads.append(given["href"])


def modules(entry: Path) -> set[Path]:
    """A module and all that it imports by a fixed name, however deep."""
    bare = {"preact": "preact.js", "react": "preact-hooks.js", "htm": "htm.js"}
    found, waiting = set[Path](), [entry]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        names = re.findall(r"""\bfrom\s*["']([^"'$]+)["']""", module.read_text())
        waiting += [VENDOR / bare[name] if name in bare else (module.parent / name).resolve() for name in names]
    return found


def strings(path: Path) -> dict[str, str]:
    """The texts of a language."""
    return dict(re.findall(r'^  "([^"]+)": "(.*)",$', path.read_text(), re.MULTILINE))


def test_it_is_light() -> None:
    icon = docs.ASSETS / "icon.svg"
    loaded = [home.PAGE / "index.html", home.PAGE / "page.css", icon, LANGUAGE, *TEXTS, *CODE]
    assert sum(path.stat().st_size for path in loaded) < MOST


def test_all_modules_come_in_one_round() -> None:
    needed = {f"page/{path.relative_to(home.PAGE)}" for path in modules(home.PAGE / "app.js")}
    assert sorted(Document().preloads) == sorted((needed | {"page/i18n/en.js"}) - {"page/app.js"})
    assert modules(home.PAGE / "app.js") == {*CODE, LANGUAGE}, "and none is left over"


def test_it_loads_what_is_there_and_nothing_from_elsewhere() -> None:
    for reference in Document().references:
        assert reference in {"docs", "docs/assets/icon.svg"} or (home.PAGE.parent / reference).is_file(), reference


@pytest.mark.parametrize("path", [p for p in home.PAGE.rglob("*.*") if p.parent != VENDOR], ids=lambda p: p.name)
def test_nothing_names_another_host(path: Path) -> None:
    assert re.findall(r"https?://[a-z]|[\"'(]//|@import", path.read_text()) == []


def test_it_has_nothing_inline_but_the_import_map() -> None:
    assert Document().inline == []
    for path in CODE:
        assert not re.search(r"""\sstyle=["']|innerHTML|\beval\(""", path.read_text()) or path.parent == VENDOR, path


def test_everything_comes_with_the_wheel() -> None:
    package = configparser.ConfigParser()
    package.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = package["options.package_data"]["enhancer.web"].split()
    shipped = {path for pattern in patterns for path in home.PAGE.parent.glob(pattern) if path.is_file()}
    assert {path for path in home.PAGE.rglob("*") if path.is_file()} - shipped == {VENDOR / "refresh"}


def test_the_libraries_come_with_their_licences() -> None:
    assert "The MIT License" in (VENDOR / "preact.LICENSE.txt").read_text()
    assert "Apache License" in (VENDOR / "htm.LICENSE.txt").read_text()


def test_every_language_says_everything() -> None:
    english, chinese = map(strings, TEXTS)
    assert {key for key in set(english) ^ set(chinese) if not key.startswith("error.")} == set(), (
        "English comes as it is"
    )
    ours = set(english)
    for key in ours:
        assert sorted(re.findall(r"\{\w+\}", chinese[key])) == sorted(re.findall(r"\{\w+\}", english[key]))
    assert all(text.strip() for text in (*english.values(), *chinese.values()))


def test_every_text_is_there_and_used() -> None:
    code = "".join(path.read_text() for path in CODE)
    made = {f"step{n}" for n in range(10)} | {f"empty{n}{more}" for n in (1, 2, 3) for more in ("", "Text")}
    made |= {f"status.{status}" for status in ("pending", "processing", "completed", "failed", "cancelled")}
    known = {key for key in strings(TEXTS[0]) if not key.startswith("error.")}
    assert {key for key in known - made if f'"{key}"' not in code} == set()
    assert {*re.findall(r'\bt\("(\w+)"', code)} - known == set()


@pytest.fixture
def site() -> web.Application:
    """The page alone, in a service that takes photos of up to 7 MB."""
    site = web.Application()
    site[SERVICE] = cast("Service", SimpleNamespace(settings=SimpleNamespace(max_upload_mb=7)))
    site.router.add_get("/", home.page)
    return site


async def test_its_policy_lets_it_do_what_it_must_and_no_more(
    aiohttp_client: AiohttpClient, site: web.Application
) -> None:
    answer = await (await aiohttp_client(site)).get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    text = await answer.text()
    [import_map] = re.findall(r'<script type="importmap">(.*?)</script>', text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["style-src"] == policy["connect-src"] == "'self'"
    assert 'data-max-upload-mb="7"' in text
    assert answer.content_type == "text/html"


@pytest.mark.parametrize(
    ("wanted", "chosen", "spoken"),
    [
        (None, None, "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", None, "zh"),
        ("de-AT, fr;q=0.9, zh;q=0.3, en;q=0.2", None, "zh"),
        ("en-GB,zh;q=0.5", None, "en"),
        ("zh;q=0.1, en;q=0.7", None, "en"),
        ("de", None, "en"),
        ("zh", "en", "en"),
        ("en", "zh", "zh"),
        ("en", "<script>", "en"),
        (";;q=x, *;q=0", None, "en"),
    ],
)
async def test_it_speaks_the_language_that_was_chosen_or_is_wanted(
    aiohttp_client: AiohttpClient, site: web.Application, wanted: str | None, chosen: str | None, spoken: str
) -> None:
    client = await aiohttp_client(site, cookies={"language": chosen} if chosen else None)
    answer = await client.get("/", headers={"Accept-Language": wanted} if wanted else {})
    text = await answer.text()
    assert f'<html lang="{spoken}"' in text
    assert re.findall(r"page/i18n/(\w\w)\.js", text) == [spoken], "and loads no other"
    assert answer.headers["Vary"] == "Accept-Language, Cookie"
