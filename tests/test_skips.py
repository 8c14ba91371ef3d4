from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_in_ci_a_skipped_test_fails_the_run_unless_it_is_opt_in(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_sessionfinish\n")
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        "def test_run(): pass\n"
        "@pytest.mark.skip(reason='no browser here')\ndef test_hidden(): pass\n"
        "@pytest.mark.skip(reason='opt-in: needs a key')\ndef test_not_asked_for(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:valkey", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CI": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "not run in CI: Skipped: no browser here" in done.stdout
    assert "not run in CI: Skipped: opt-in" not in done.stdout
