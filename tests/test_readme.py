"""The README stays true."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from enhancer.cli import _parser
from enhancer.settings import Settings
from enhancer.web.routes import ROUTES

README = Path(__file__).parent.parent / "README.md"


def settings_table() -> str:
    """What belongs between the settings markers; `python -m tests.test_readme` writes it there."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in {None, PydanticUndefined} else f"`{field.default}`"
        choices = getattr(field.annotation, "__args__", ())
        values = (
            f" ({', '.join(f'`{c}`' for c in choices)})" if choices and all(isinstance(c, str) for c in choices) else ""
        )
        rows.append(f"| `{name.upper()}` | {default} | {field.description}{values} |")
    return "\n".join(rows)


def test_every_setting_is_in_the_table() -> None:
    assert settings_table() in README.read_text(encoding="utf-8"), "run: python -m tests.test_readme"


def test_no_secret_has_a_default() -> None:
    for name, field in Settings.model_fields.items():
        if SecretStr in getattr(field.annotation, "__args__", ()):
            assert field.default is None, name


def test_every_call_of_the_interface_is_shown() -> None:
    text = README.read_text(encoding="utf-8")
    for route in ROUTES:
        if route.path.startswith("/api/"):
            assert f"`{route.method} {route.path}`" in text


def test_every_command_is_named() -> None:
    text = README.read_text(encoding="utf-8").partition("## Command line")[2]
    [commands] = [action.choices for action in _parser()._actions if action.choices]
    for command in commands:
        assert re.search(rf"\b{command}\b", text), command


def write() -> None:
    """Put the table in its place."""
    text = README.read_text(encoding="utf-8")
    marked = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
    README.write_text(marked.sub(lambda _: f"\n{settings_table()}\n\n", text), encoding="utf-8")


if __name__ == "__main__":
    write()
