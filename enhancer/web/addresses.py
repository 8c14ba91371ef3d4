"""Whose request it is: the address of the client, behind as many proxies as we were told to trust."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

from enhancer.errors import SetupError

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Proxies:
    """
    What `TRUST_PROXY` says: that so many proxies stand before us (`count`), or in which `networks` they are.

    Every proxy adds the address that it was called from at the right of X-Forwarded-For; what stands further left
    anybody may have written.
    """

    count: int = 0
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> Proxies:
        """Raises SetupError when it is neither a number nor a list of networks."""
        if not text:
            return cls()
        try:
            if text.strip().isdecimal():
                return cls(count=int(text))
            return cls(networks=tuple(ip_network(part.strip()) for part in text.split(",")))
        except ValueError as error:
            raise SetupError(f"TRUST_PROXY is neither a number of proxies nor a list of networks: {error}") from None

    def client(self, peer: str, forwarded: str) -> str:
        """The client's address: `peer` is who called us, `forwarded` what X-Forwarded-For says."""
        if not (self.count or self.networks):
            return peer
        chain = [*(part.strip() for part in forwarded.split(",") if part.strip()), peer]
        nearest = peer
        for passed, hop in enumerate(reversed(chain)):
            address = _address(hop)
            if address is None and passed:  # no proxy of ours wrote that
                break
            nearest = str(address) if address else peer
            if not self._trusts(passed, address):
                break
        return nearest

    def _trusts(self, passed: int, address: Address | None) -> bool:
        if self.count:
            return passed < self.count
        return address is not None and any(address in network for network in self.networks)


def client(request: web.Request, proxies: Proxies) -> str:
    """The address that limits count: of IPv6 the first half, which is what one household has."""
    found = proxies.client(request.remote or "", ",".join(request.headers.getall("X-Forwarded-For", ())))
    address = _address(found)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False).network_address)
    return found


def _address(text: str) -> Address | None:
    """An address as proxies write it, some with a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ip_address(text)
    except ValueError:
        return None
