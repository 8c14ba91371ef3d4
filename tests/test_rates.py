from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from enhancer import rates as rates_module
from enhancer.errors import TooManyRequests
from enhancer.rates import Rates, Rule, Spent

LONG = 100_000_000  # seconds; its window ends in the year 2027


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is waited for, however busy this machine is."""
    monkeypatch.setattr(rates_module, "PATIENCE", 30.0)


@pytest.fixture
def rule() -> Rule:
    """Three at most, of nobody else's."""
    return Rule(f"test-{uuid4()}", 3, LONG)


@pytest.fixture
async def rates(redis_url: str) -> AsyncIterator[Rates]:
    async with Rates.open(redis_url) as opened:
        yield opened


@contextmanager
def frozen() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
        yield f"redis://127.0.0.1:{deaf.getsockname()[1]}"


async def left(rates: Rates, rule: Rule, who: str = "me") -> int:
    spent = await rates.spend(rule, who)
    assert spent is not None
    return spent.left


@pytest.mark.usefixtures("patient")
async def test_what_is_left_goes_down_with_every_request(rates: Rates, rule: Rule) -> None:
    assert [await left(rates, rule) for _ in range(5)] == [2, 1, 0, -1, -2]
    assert await left(rates, rule, "another") == 2


@pytest.mark.usefixtures("patient")
async def test_all_replicas_count_together(rates: Rates, redis_url: str, rule: Rule) -> None:
    async with Rates.open(redis_url) as other:
        assert [await left(either, rule) for either in (rates, other, rates, other)] == [2, 1, 0, -1]


@pytest.mark.usefixtures("patient")
async def test_a_crowd_is_counted_one_by_one(rates: Rates) -> None:
    rule = Rule(f"test-{uuid4()}", 100, LONG)
    found = await asyncio.gather(*(left(rates, rule) for _ in range(100)))
    assert sorted(found) == list(range(100))


def test_nothing_left_is_too_many_and_says_when_to_come_back() -> None:
    rule = Rule("test", 3)
    Spent(rule, 0, 12.5).check()
    with pytest.raises(TooManyRequests) as refused:
        Spent(rule, -1, 12.5).check()
    assert refused.value.retry_after == 13


async def test_a_new_window_begins_anew(rates: Rates, rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    for _ in range(5):
        await rates.spend(rule, "me")
    now += LONG
    spent = await rates.spend(rule, "me")
    assert spent is not None
    assert spent.left == 2
    assert 0 < spent.reset <= LONG


async def test_no_amount_is_no_limit(rates: Rates) -> None:
    assert await rates.spend(Rule("test", 0), "me") is None


async def test_without_redis_this_process_counts_alone(rule: Rule) -> None:
    async with Rates.open("redis://127.0.0.1:1") as alone:
        assert [await left(alone, rule) for _ in range(5)] == [2, 1, 0, -1, -2]


async def test_a_redis_that_is_frozen_holds_nobody_up(rule: Rule) -> None:
    with frozen() as url:
        async with Rates.open(url) as alone:
            asked = [asyncio.create_task(left(alone, rule)) for _ in range(50)]
            assert sorted(await asyncio.gather(*asked)) == list(range(-47, 3))
            assert alone._resting_until > asyncio.get_running_loop().time() - rates_module.REST


async def test_a_flood_does_not_ask_redis(rule: Rule) -> None:
    with frozen() as url:
        async with Rates.open(url) as alone:
            for _ in range(4):
                await alone.spend(rule, "me")
            alone._resting_until = 0.0  # it would be asked again now
            assert await left(alone, rule) == -2
            assert alone._resting_until == 0.0


async def test_what_is_remembered_of_callers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "MANY", 10)
    async with Rates.open("redis://127.0.0.1:1") as alone:
        for number in range(100):
            await alone.spend(Rule("test", 3), str(number))
        assert len(alone._here) <= 11


def test_every_form_of_address_is_understood() -> None:
    for url in ("redis://x:1/0", "rediss://x:1", "unix:///tmp/x.sock"):
        assert Rates(url)._here == {}
