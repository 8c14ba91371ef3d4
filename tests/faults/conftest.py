from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.faults.stage import Site


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """The servers of all scenarios, trials and chaos."""
    async with Site.open() as opened:
        yield opened
