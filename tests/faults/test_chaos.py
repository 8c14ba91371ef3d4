"""Chaos, short enough for every run of the tests; `python -m tests.faults` is the long form."""

from __future__ import annotations

import pytest

from tests.faults.chaos import Chaos
from tests.faults.checker import check
from tests.faults.stage import Site, Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("seed", [7])
async def test_chaos(site: Site, seed: int) -> None:
    """Whatever is killed, frozen, restarted and cut off: every invariant holds."""
    async with Stage.open(site, videos=True, delay=0.1, shutdown_grace=2) as stage:
        facts = await Chaos(stage, seed=seed, replicas=2, tasks=30, seconds=12).run()
        assert not check(facts)
        assert len(facts.accepted) >= 30
        assert {call.step for call in facts.calls} == {"redraw", "write", "render"}
