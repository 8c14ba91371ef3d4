"""What a call asks of its caller."""

from __future__ import annotations

from enum import Enum


class Auth(Enum):
    """`ACCOUNT_OR_LINK`: also a token in the address, for this one stream or file."""

    NONE = "none"
    ACCOUNT = "account"
    ACCOUNT_OR_LINK = "account or link"
