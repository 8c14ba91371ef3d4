from __future__ import annotations

import asyncio

import pytest

from enhancer.errors import Conflict
from enhancer.storage import users
from enhancer.storage.database import Pool


async def test_a_user_is_found_by_id_and_by_address(pool: Pool) -> None:
    user = await users.insert(pool, "Ann@Example.com", "the hash")
    assert await users.get(pool, user.id) == user
    assert await users.find(pool, "Ann@Example.com") == (user, "the hash")


async def test_the_case_of_an_address_does_not_matter(pool: Pool) -> None:
    user = await users.insert(pool, "Ann@Example.com", "the hash")
    assert await users.find(pool, "aNN@eXAMPLE.COM") == (user, "the hash")
    assert user.email == "Ann@Example.com"


async def test_nobody_is_found_where_nobody_is(pool: Pool) -> None:
    assert await users.get(pool, 1) is None
    assert await users.find(pool, "ann@example.com") is None
    assert await users.listing(pool) == []


async def test_addresses_that_differ_by_case_conflict(pool: Pool) -> None:
    await users.insert(pool, "ann@example.com", "the hash")
    with pytest.raises(Conflict, match="already"):
        await users.insert(pool, "ANN@example.com", "another")
    assert len(await users.listing(pool)) == 1


async def test_of_two_who_take_an_address_at_once_one_gets_it(pool: Pool) -> None:
    outcomes = await asyncio.gather(
        *(users.insert(pool, "ann@example.com", f"hash {n}") for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
    assert len(await users.listing(pool)) == 1


async def test_a_password_is_replaced_for_its_user_alone(pool: Pool) -> None:
    ann = await users.insert(pool, "ann@example.com", "old")
    bob = await users.insert(pool, "bob@example.com", "old")
    await users.set_password(pool, ann.id, "new")
    assert await users.find(pool, ann.email) == (ann, "new")
    assert await users.find(pool, bob.email) == (bob, "old")


async def test_users_are_listed_the_oldest_first(pool: Pool) -> None:
    added = [await users.insert(pool, f"{name}@example.com", "hash") for name in ("zoe", "ann", "mia")]
    assert await users.listing(pool) == added
