"""The hooks and services: their types, and their own tests on Node, by Preact as the page does and by React."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.page.conftest import HERE

LIBRARY = HERE.parents[1] / "enhancer/web/page/lib"
TESTS = ("hooks/hooks.test.mjs", "hooks/services.test.mjs")


def run(*command: str, **environment: str) -> None:
    """A program that must end well; what it says is shown when it does not."""
    ended = subprocess.run(
        command, cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("renderer", ["preact", "react"])
def test_the_hooks_hold_what_they_promise(node_modules: Path, renderer: str) -> None:
    run("node", "--import", "./hooks/library.mjs", "--test", *TESTS, REACT=renderer)


def test_the_types_fit(node_modules: Path) -> None:
    run(str(node_modules / ".bin/tsc"), "--project", "tsconfig.json")


def test_the_declarations_say_what_the_code_says(node_modules: Path, tmp_path: Path) -> None:
    run(str(node_modules / ".bin/tsc"), "--project", "tsconfig.types.json", "--outDir", str(tmp_path))
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.d.ts")}
    kept = {path.relative_to(LIBRARY): path.read_text() for path in LIBRARY.glob("*/*.d.ts")}
    assert made == kept, "run `npm run types` in tests/page"
