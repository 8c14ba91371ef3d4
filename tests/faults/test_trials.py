"""The trials at the length of a test; `python -m tests.faults --trial NAME` is the long form."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.faults.checker import check
from tests.faults.stage import Site
from tests.faults.trials import TRIALS, Trial

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOTO = all(importlib.util.find_spec(name) for name in ("moto", "boto3", "flask", "flask_cors"))
NEEDS = {
    "disk": pytest.mark.skipif(os.geteuid() != 0, reason="opt-in: as root, who may mount a small disk"),
    "s3": pytest.mark.skipif(not MOTO, reason="opt-in: S3, with pip install 'moto[s3]' flask flask-cors"),
}
SHORT = [("kills", 20, 8.0), ("redis-frozen", 10, 3.0), ("sigterm", 10, 0.0), ("postgres", 10, 2.0)]
SHORT += [("disk", 2, 1.0), ("s3", 8, 1.0)]


@pytest.mark.parametrize(
    ("name", "tasks", "seconds"), [pytest.param(*short, marks=NEEDS.get(short[0], ()), id=short[0]) for short in SHORT]
)
async def test_trial(site: Site, name: str, tasks: int, seconds: float) -> None:
    """What the trial is about, and every invariant."""
    run, _, _ = TRIALS[name]
    assert not check(await run(Trial(site, tasks, seconds)))
