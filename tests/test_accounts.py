from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from enhancer import accounts
from enhancer.errors import Conflict, InvalidRequest, Unauthenticated
from enhancer.storage import database, subscriptions, users
from enhancer.storage.database import Pool

EMAIL = "ann@example.com"
PASSWORD = "correct horse battery staple"
HASHER = accounts._hasher

NO_ADDRESS = [
    "",
    "@",
    "ann",
    "ann@",
    "@example.com",
    "ann @example.com",
    " ann@example.com",
    "ann@example.com\n",
    "ann\0@example.com",
    "ann\u2028@example.com",
    "ann\u202e@example.com",
    "\ud800@example.com",
    "x" * 320 + "@example.com",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same hashes with less work: what makes them slow is of no use here."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=2, memory_cost=64, parallelism=1))
    accounts._nobody.cache_clear()
    yield
    accounts._nobody.cache_clear()


async def refusal(pool: Pool, email: str, password: str) -> str:
    """The words in which a sign-in is refused."""
    with pytest.raises(Unauthenticated) as refused:
        await accounts.sign_in(pool, email, password)
    return str(refused.value)


async def kept_hash(pool: Pool) -> str:
    found = await users.find(pool, EMAIL)
    assert found is not None
    return found[1]


async def test_who_was_added_can_sign_in(pool: Pool) -> None:
    user = await accounts.add(pool, EMAIL, PASSWORD)
    assert await accounts.sign_in(pool, EMAIL, PASSWORD) == user
    assert await accounts.sign_in(pool, EMAIL.upper(), PASSWORD) == user


def test_passwords_are_hashed_as_the_library_recommends() -> None:
    assert not PasswordHasher().check_needs_rehash(HASHER.hash(PASSWORD))


async def test_a_password_is_kept_as_an_argon2id_hash(pool: Pool) -> None:
    await accounts.add(pool, EMAIL, PASSWORD)
    kept = await kept_hash(pool)
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


async def test_a_wrong_password_and_an_unknown_address_are_refused_in_the_same_words(pool: Pool) -> None:
    await accounts.add(pool, EMAIL, PASSWORD)
    wrong = await refusal(pool, EMAIL, PASSWORD + "x")
    assert wrong == await refusal(pool, "bob@example.com", PASSWORD)
    assert wrong == await refusal(pool, EMAIL, "")
    assert EMAIL not in wrong


async def test_what_is_no_address_is_refused_as_unknown(pool: Pool) -> None:
    refusals = {await refusal(pool, email, PASSWORD) for email in NO_ADDRESS}
    assert refusals == {await refusal(pool, "bob@example.com", PASSWORD)}


async def test_a_stored_hash_that_is_none_opens_nothing(pool: Pool) -> None:
    await users.insert(pool, EMAIL, "no hash at all")
    assert await refusal(pool, EMAIL, "no hash at all") == await refusal(pool, EMAIL, PASSWORD)


async def test_a_hash_of_older_parameters_is_renewed_at_sign_in(pool: Pool) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=32, parallelism=1).hash(PASSWORD)
    user = await users.insert(pool, EMAIL, weak)
    await refusal(pool, EMAIL, "wrong")
    assert await kept_hash(pool) == weak
    assert await accounts.sign_in(pool, EMAIL, PASSWORD) == user
    renewed = await kept_hash(pool)
    assert renewed != weak
    assert await accounts.sign_in(pool, EMAIL, PASSWORD) == user
    assert await kept_hash(pool) == renewed


async def test_addresses_that_differ_by_case_conflict(pool: Pool) -> None:
    await accounts.add(pool, EMAIL, PASSWORD)
    with pytest.raises(Conflict):
        await accounts.add(pool, EMAIL.upper(), PASSWORD)


async def test_addresses_of_many_kinds_are_taken(pool: Pool) -> None:
    for email in ("a@b", "demo@localhost", "o'hara+tag@example.com", "jürgen@münchen.example"):
        user = await accounts.add(pool, email, PASSWORD)
        assert await accounts.sign_in(pool, email, PASSWORD) == user


async def test_what_is_no_address_cannot_be_added(pool: Pool) -> None:
    for email in NO_ADDRESS:
        with pytest.raises(InvalidRequest) as refused:
            await accounts.add(pool, email, PASSWORD)
        assert [field for field, _ in refused.value.errors] == ["email"]
    assert await users.listing(pool) == []


async def test_the_demo_user_has_a_subscription_without_limit(pool: Pool) -> None:
    user = await accounts.ensure_demo(pool)
    found = await subscriptions.get(pool, user.id)
    assert found is not None
    assert (user.email, found.active, found.monthly_quota) == ("demo@localhost", True, None)


async def test_the_demo_user_stays_the_same_and_is_renewed(pool: Pool) -> None:
    user = await accounts.ensure_demo(pool)
    await pool.execute("UPDATE subscriptions SET status = 'cancelled', period_end = now() - interval '1 day'")
    assert await accounts.ensure_demo(pool) == user
    found = await subscriptions.get(pool, user.id)
    assert found is not None
    assert found.active
    assert await users.listing(pool) == [user]


async def test_processes_that_start_at_once_share_the_demo_user(pool: Pool, database_url: str) -> None:
    async with database.connect(database_url, size=4) as other:
        made = await asyncio.gather(*(accounts.ensure_demo(one) for one in (pool, other) * 4))
    assert len({user.id for user in made}) == 1
    assert len(await users.listing(pool)) == 1
