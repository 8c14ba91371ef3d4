"""What the page's tests need from npm, installed once for all workers of a run."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder with what package.json names."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js with npm is not installed")
    wanted, installed = (HERE / "package.json").read_text(), HERE / ".installed"
    with (HERE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_text() != wanted:
            options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
            subprocess.run(["npm", "install", "--silent", *options], cwd=HERE, check=True)
            installed.write_text(wanted)
    return HERE / "node_modules"
