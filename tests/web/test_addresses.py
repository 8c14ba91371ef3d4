from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from enhancer.errors import SetupError
from enhancer.web.addresses import Proxies, client

PROXY, CLIENT, FORGED = "10.0.0.1", "203.0.113.9", "198.51.100.1"


@pytest.mark.parametrize(
    ("trust", "peer", "forwarded", "found"),
    [
        (None, PROXY, CLIENT, PROXY),
        ("", PROXY, CLIENT, PROXY),
        ("1", PROXY, CLIENT, CLIENT),
        ("1", PROXY, f"{FORGED}, {CLIENT}", CLIENT),
        ("1", PROXY, "", PROXY),
        ("2", PROXY, f"{FORGED}, {CLIENT}, 10.0.0.2", CLIENT),
        ("2", PROXY, CLIENT, CLIENT),
        ("1", PROXY, "nonsense", PROXY),
        ("2", PROXY, f"{CLIENT}, <script>", PROXY),
        ("1", PROXY, f"{CLIENT}:5123", CLIENT),
        ("1", PROXY, "[2001:db8::1]:443", "2001:db8::1"),
        ("1", "", CLIENT, CLIENT),
        ("10.0.0.0/8", PROXY, f"{FORGED}, {CLIENT}", CLIENT),
        ("10.0.0.0/8", PROXY, f"{FORGED}, {CLIENT}, 10.9.9.9", CLIENT),
        ("10.0.0.0/8", FORGED, CLIENT, FORGED),
        ("10.0.0.0/8, 2001:db8::/32", "2001:db8::5", CLIENT, CLIENT),
        ("10.0.0.0/8", PROXY, "10.1.1.1, 10.1.1.2", "10.1.1.1"),
        ("127.0.0.1", "127.0.0.1", CLIENT, CLIENT),
    ],
)
def test_the_client_is_the_one_that_our_own_proxies_saw(
    trust: str | None, peer: str, forwarded: str, found: str
) -> None:
    assert Proxies.parse(trust).client(peer, forwarded) == found


@pytest.mark.parametrize("trust", ["-1", "one", "10.0.0.0/40", "10.0.0.1/8", "10.0.0.0/8,", "*"])
def test_a_trust_that_cannot_be_understood_is_one_clear_line(trust: str) -> None:
    with pytest.raises(SetupError, match=r"^TRUST_PROXY is neither"):
        Proxies.parse(trust)


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        (None, ""),
    ],
)
def test_a_household_is_one_address(remote: str | None, found: str) -> None:
    request = cast("web.Request", SimpleNamespace(remote=remote, headers=CIMultiDict[str]()))
    assert client(request, Proxies()) == found
