from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import jwt
import pytest

from enhancer import tokens as tokens_module
from enhancer.errors import Unauthenticated
from enhancer.tokens import ISSUER, ROUND, STREAM_LIFETIME, Tokens, owner

KEY = "a secret key for tests that is long enough"
PATH = "user_1/enhanced/enhanced_x.jpg"
TOKENS = Tokens(KEY, account_lifetime=3600, link_lifetime=86400)
EXPIRED = Tokens(KEY, account_lifetime=-1, link_lifetime=-2 * ROUND)
SOON = int(time.time()) + 3600

Reader = Callable[[str], object]

READERS: dict[str, Reader] = {
    "account": TOKENS.read_account,
    "stream": lambda token: TOKENS.read_stream(token, "enhancement:1"),
    "file": lambda token: TOKENS.read_file(token, PATH),
}

GOOD = {"account": TOKENS.account(7), "stream": TOKENS.stream(7, "enhancement:1"), "file": TOKENS.file(PATH)}


def signed(claims: dict[str, object], *, key: str = KEY, algorithm: str = "HS256") -> str:
    """A token of another program's making."""
    return jwt.encode(claims, key, algorithm=algorithm)


def claims_of(token: str) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    return claims


def unsigned(claims: dict[str, object]) -> str:
    """A token that says that it needs no signature."""
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def test_an_account_token_names_its_user() -> None:
    assert TOKENS.read_account(TOKENS.account(7)) == 7
    assert claims_of(TOKENS.account(7)).keys() == {"iss", "sub", "aud", "exp", "epoch"}


def test_a_stream_token_names_its_user_and_opens_its_stream_alone() -> None:
    token = TOKENS.stream(7, "enhancement:1")
    assert TOKENS.read_stream(token, "enhancement:1") == 7
    for other in ("enhancement:2", "enhancement:11", "video:1", ""):
        with pytest.raises(Unauthenticated):
            TOKENS.read_stream(token, other)


def test_a_file_token_opens_its_file_alone() -> None:
    token = TOKENS.file(PATH)
    TOKENS.read_file(token, PATH)
    for other in (PATH + "x", PATH[:-1], "user_2/enhanced/enhanced_x.jpg", ""):
        with pytest.raises(Unauthenticated):
            TOKENS.read_file(token, other)


@pytest.mark.parametrize("made", GOOD)
@pytest.mark.parametrize("read", READERS)
def test_a_token_is_good_for_what_it_was_made_for(made: str, read: str) -> None:
    if made == read:
        READERS[read](GOOD[made])
    else:
        with pytest.raises(Unauthenticated):
            READERS[read](GOOD[made])


@pytest.mark.parametrize("kind", READERS)
def test_a_token_of_another_key_is_refused(kind: str) -> None:
    with pytest.raises(Unauthenticated, match="not valid"):
        READERS[kind](signed(claims_of(GOOD[kind]), key="another secret key that is long enough"))


@pytest.mark.parametrize("kind", READERS)
def test_a_token_without_a_signature_is_refused(kind: str) -> None:
    claims = claims_of(GOOD[kind])
    header, payload, signature = GOOD[kind].split(".")
    for token in (unsigned(claims), unsigned(claims) + signature, f"{header}.{payload}."):
        with pytest.raises(Unauthenticated, match="not valid"):
            READERS[kind](token)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    key = KEY * 2
    with pytest.raises(Unauthenticated):
        Tokens(key, 60, 60).read_account(signed({"sub": "7", "exp": SOON}, key=key, algorithm=algorithm))


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("token", ["", ".", "..", "x", "a.b.c", "\N{SNOWMAN}.x.y", "\udc80.x.y", "a" * 10_000])
def test_what_is_no_token_is_refused(kind: str, token: str) -> None:
    with pytest.raises(Unauthenticated, match="not valid"):
        READERS[kind](token)


def test_expired_tokens_are_refused_and_say_so() -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        TOKENS.read_account(EXPIRED.account(7))
    with pytest.raises(Unauthenticated, match="expired"):
        TOKENS.read_file(EXPIRED.file(PATH), PATH)
    stream = {"iss": ISSUER, "sub": "7", "aud": "stream enhancement:1", "exp": SOON - 7200}
    with pytest.raises(Unauthenticated, match="expired"):
        TOKENS.read_stream(signed(stream), "enhancement:1")


def test_lifetimes_are_as_set(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SOON - SOON % ROUND + 100
    monkeypatch.setattr(tokens_module, "_now", lambda: now)
    assert claims_of(TOKENS.account(7))["exp"] == now + 3600
    assert claims_of(TOKENS.stream(7, "video:1"))["exp"] == now + STREAM_LIFETIME
    assert claims_of(TOKENS.file(PATH))["exp"] == now - 100 + ROUND + 86400


def test_a_link_is_the_same_all_hour_and_never_short_of_its_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    hour = SOON - SOON % ROUND
    links = {}
    for now in (hour + 1, hour + 1800, hour + ROUND, hour + ROUND + 1):
        monkeypatch.setattr(tokens_module, "_now", lambda now=now: now)
        links[now - hour] = TOKENS.file(PATH)
        assert claims_of(TOKENS.file(PATH))["exp"] >= now + 86400  # type: ignore[operator]
    assert links[1] == links[1800] == links[ROUND]
    assert links[ROUND] != links[ROUND + 1]


@pytest.mark.parametrize("subject", ["7", 7])
def test_a_token_with_a_subject_and_an_end_is_all_another_program_needs(subject: object) -> None:
    assert TOKENS.read_account(signed({"sub": subject, "exp": SOON})) == 7
    assert TOKENS.read_account(signed({"sub": subject, "exp": SOON, "iat": SOON - 7200, "role": "x"})) == 7


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "7"},
        {"exp": SOON},
        {"sub": "7", "exp": "soon"},
        {"sub": "7", "exp": None},
        {"sub": "7", "exp": SOON, "nbf": SOON},
        {"sub": "7", "exp": SOON, "aud": "another service"},
        {"sub": "7", "exp": SOON, "aud": ["account", "another service"]},
        {"sub": "7", "exp": SOON, "aud": None},
        {"sub": "7", "exp": SOON, "iss": "another service"},
        {"sub": "7", "exp": SOON, "epoch": "0"},
        {"sub": "7", "exp": SOON, "epoch": False},
        {"sub": "7", "exp": SOON, "epoch": None},
        {"sub": "7", "exp": SOON, "epoch": 1},
    ],
    ids=lambda claims: str(claims).replace(str(SOON), "soon"),  # the same in every process that collects
)
def test_a_token_that_says_too_little_or_something_else_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(Unauthenticated):
        TOKENS.read_account(signed(claims))


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_a_scoped_token_must_say_what_it_is_for(kind: str) -> None:
    with pytest.raises(Unauthenticated):
        READERS[kind](signed({"sub": "7", "exp": SOON}))


@pytest.mark.parametrize(
    "subject",
    ["", " 7", "7 ", "-7", "+7", "7.0", 7.0, "1e3", "0x7", "٧", "seven", True, None, [7], {"id": 7}, "1" * 19],
)
def test_a_subject_that_is_no_id_is_refused(subject: object) -> None:
    for read, audience in (
        (READERS["account"], {}),
        (READERS["stream"], {"iss": ISSUER, "aud": "stream enhancement:1"}),
    ):
        with pytest.raises(Unauthenticated):
            read(signed({"sub": subject, "exp": SOON, **audience}))


@pytest.mark.parametrize("kind", ["account", "stream", "file"])
def test_a_key_can_be_replaced_without_signing_everybody_out(kind: str) -> None:
    new = "another secret key for tests that is long enough"
    replaced = Tokens(new, 3600, 86400, former_keys=(KEY,))
    readers: dict[str, Reader] = {
        "account": replaced.read_account,
        "stream": lambda token: replaced.read_stream(token, "enhancement:1"),
        "file": lambda token: replaced.read_file(token, PATH),
    }
    readers[kind](GOOD[kind])
    assert Tokens(new, 3600, 86400).read_account(replaced.account(7)) == 7, "the new key signs"
    with pytest.raises(Unauthenticated, match="not valid"):
        TOKENS.read_account(replaced.account(7))
    with pytest.raises(Unauthenticated, match="expired"):
        replaced.read_account(EXPIRED.account(7))
    with pytest.raises(Unauthenticated, match="not valid"):
        replaced.read_account(unsigned({"sub": "7", "exp": SOON}))


@pytest.mark.parametrize("kind", ["account", "stream", "file"])
def test_a_token_of_an_earlier_epoch_is_worth_nothing(kind: str) -> None:
    epochs = {7: 0, 1: 0}
    tokens = Tokens(KEY, 3600, 86400, epoch_of=epochs.__getitem__)
    make: dict[str, Callable[[], str]] = {
        "account": lambda: tokens.account(7),
        "stream": lambda: tokens.stream(7, "enhancement:1"),
        "file": lambda: tokens.file(PATH),
    }
    readers: dict[str, Reader] = {
        "account": tokens.read_account,
        "stream": lambda token: tokens.read_stream(token, "enhancement:1"),
        "file": lambda token: tokens.read_file(token, PATH),
    }
    former = make[kind]()
    readers[kind](former)
    epochs.update({7: 1, 1: 1})
    with pytest.raises(Unauthenticated, match="revoked"):
        readers[kind](former)
    readers[kind](make[kind]())


def test_a_link_is_its_owner_s() -> None:
    assert owner(PATH) == 1
    assert owner("user_00/x") == owner("other/user_1/x") == owner("") == 0
    another = signed({"iss": ISSUER, "sub": "2", "aud": f"file {PATH}", "exp": SOON})
    with pytest.raises(Unauthenticated):
        TOKENS.read_file(another, PATH)


def test_whose_a_token_is_can_be_told_whatever_it_is_for() -> None:
    assert {TOKENS.bearer(GOOD[kind]) for kind in ("account", "stream")} == {7}
    assert TOKENS.bearer(GOOD["file"]) == 1
    with pytest.raises(Unauthenticated):
        TOKENS.bearer(signed({"sub": "7", "exp": SOON}, key="another secret key for tests that is long"))
