"""
Tokens: who may call, watch one stream, or open one file.

All are JWTs (HS256). An account token has `sub` (the user's id) and `exp`, so that another program that knows the
key can make one; the scoped ones name in `aud` what they are for, and open nothing else. `epoch` counts how often the
user's tokens were revoked (absent: never); one of an earlier epoch is worth nothing.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt

from enhancer.errors import Unauthenticated

ISSUER = "enhancer"
STREAM_LIFETIME = 3600  # seconds; longer than any task may take, so that a reconnect works to the end
ROUND = 3600  # seconds; links to a file stay the same for this long, so that browsers can cache what they open

Claims = dict[str, object]


def _never(user_id: int) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """
    Makes and checks tokens. Lifetimes in seconds.

    `key` signs. `former_keys` are still believed, so that a key can be replaced without signing everybody out.
    `epoch_of`: a user's epoch as far as it is known.
    """

    key: str = field(repr=False)
    account_lifetime: int
    link_lifetime: int
    former_keys: tuple[str, ...] = field(default=(), repr=False)
    epoch_of: Callable[[int], int] = _never

    def account(self, user_id: int) -> str:
        """A token for every call of this user."""
        return self._sign(user_id, "account", _now() + self.account_lifetime)

    def stream(self, user_id: int, channel: str) -> str:
        """A token for one stream, such as enhancement:1."""
        return self._sign(user_id, f"stream {channel}", _now() + STREAM_LIFETIME)

    def file(self, path: str, *, seconds: int | None = None) -> str:
        """A token for one file, for `seconds` or as long as links live, and as long as its owner's tokens are good."""
        expires = _now() + seconds if seconds else math.ceil(_now() / ROUND) * ROUND + self.link_lifetime
        return self._sign(owner(path), f"file {path}", expires)

    def read_account(self, token: str) -> int:
        """The user's id. Raises Unauthenticated, also for a scoped token."""
        return self._read(token, "account", required=["sub", "exp"])

    def read_stream(self, token: str, channel: str) -> int:
        """The user's id. Raises Unauthenticated, also for another stream's token."""
        return self._read(token, f"stream {channel}", required=["sub", "exp", "aud", "iss"])

    def read_file(self, token: str, path: str) -> None:
        """Raises Unauthenticated unless the token is for this file."""
        if self._read(token, f"file {path}", required=["sub", "exp", "aud", "iss"]) != owner(path):
            raise Unauthenticated("The token is for something else.")

    def bearer(self, token: str) -> int:
        """Whose token it is, whatever it is for and from whatever epoch. Raises Unauthenticated."""
        return _subject(self._claims(token, required=["sub", "exp"]))

    def _sign(self, user_id: int, audience: str, expires: int) -> str:
        claims: Claims = {"iss": ISSUER, "sub": str(user_id), "aud": audience, "exp": expires}
        return jwt.encode(claims | {"epoch": self.epoch_of(user_id)}, self.key, algorithm="HS256")

    def _read(self, token: str, audience: str, *, required: list[str]) -> int:
        claims = self._claims(token, required=required)
        if claims.get("aud", audience) != audience or claims.get("iss", ISSUER) != ISSUER:
            raise Unauthenticated("The token is for something else.")
        user_id, epoch = _subject(claims), claims.get("epoch", 0)
        if type(epoch) is not int or epoch != self.epoch_of(user_id):
            raise Unauthenticated("The token was revoked.")
        return user_id

    def _claims(self, token: str, *, required: list[str]) -> Claims:
        """What a token says that was signed with one of the keys. Raises Unauthenticated."""
        try:
            for key in (self.key, *self.former_keys):
                with contextlib.suppress(jwt.InvalidSignatureError):
                    return _decoded(token, key, required)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired.") from None
        except (jwt.InvalidTokenError, UnicodeError):  # a token that is no text at all
            pass
        raise Unauthenticated("The token is not valid.")


def owner(path: str) -> int:
    """The id of the user whose file it is: user_7/enhanced/x.jpg -> 7; 0 when the path names none."""
    match = re.match(r"user_([0-9]{1,18})/", path)
    return int(match[1]) if match else 0


def _decoded(token: str, key: str, required: list[str]) -> Claims:
    claims: Claims = jwt.decode(
        token,
        key,
        algorithms=["HS256"],
        options={"require": required, "verify_aud": False, "verify_sub": False, "verify_iss": False},
    )
    return claims


def _subject(claims: Claims) -> int:
    subject = str(claims["sub"])
    if not (subject.isascii() and subject.isdigit() and len(subject) <= 18):
        raise Unauthenticated("The token is not valid.")
    return int(subject)


def _now() -> int:
    return int(time.time())
