"""
Tokens: who may call, watch one stream, or open one file.

All are JWTs (HS256). An account token has `sub` (the user's id) and `exp`, so that another program that knows the
key can make one; the scoped ones name in `aud` what they are for, and open nothing else.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import jwt

from enhancer.errors import Unauthenticated

STREAM_LIFETIME = 3600  # seconds; longer than any task may take, so that a reconnect works to the end
ROUND = 3600  # seconds; links to a file stay the same for this long, so that browsers can cache what they open


@dataclass(frozen=True, slots=True)
class Tokens:
    """Makes and checks tokens with one key. Lifetimes in seconds."""

    key: str
    account_lifetime: int
    link_lifetime: int

    def account(self, user_id: int) -> str:
        """A token for every call of this user."""
        return self._sign({"sub": str(user_id), "aud": "account", "exp": _now() + self.account_lifetime})

    def stream(self, user_id: int, channel: str) -> str:
        """A token for one stream, such as enhancement:1."""
        return self._sign({"sub": str(user_id), "aud": f"stream {channel}", "exp": _now() + STREAM_LIFETIME})

    def file(self, path: str) -> str:
        """A token for one file."""
        expires = math.ceil(_now() / ROUND) * ROUND + self.link_lifetime
        return self._sign({"aud": f"file {path}", "exp": expires})

    def read_account(self, token: str) -> int:
        """The user's id. Raises Unauthenticated, also for a scoped token."""
        return _subject(self._read(token, "account", required=["sub", "exp"]))

    def read_stream(self, token: str, channel: str) -> int:
        """The user's id. Raises Unauthenticated, also for another stream's token."""
        return _subject(self._read(token, f"stream {channel}", required=["sub", "exp", "aud"]))

    def read_file(self, token: str, path: str) -> None:
        """Raises Unauthenticated unless the token is for this file."""
        self._read(token, f"file {path}", required=["exp", "aud"])

    def _sign(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, self.key, algorithm="HS256")

    def _read(self, token: str, audience: str, *, required: list[str]) -> dict[str, object]:
        try:
            claims: dict[str, object] = jwt.decode(
                token,
                self.key,
                algorithms=["HS256"],
                options={"require": required, "verify_aud": False, "verify_sub": False},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired.") from None
        except (jwt.InvalidTokenError, UnicodeError):  # a token that is no text at all
            raise Unauthenticated("The token is not valid.") from None
        if claims.get("aud", audience) != audience:
            raise Unauthenticated("The token is for something else.")
        return claims


def _subject(claims: dict[str, object]) -> int:
    subject = str(claims["sub"])
    if not (subject.isascii() and subject.isdigit() and len(subject) <= 18):
        raise Unauthenticated("The token is not valid.")
    return int(subject)


def _now() -> int:
    return int(time.time())
