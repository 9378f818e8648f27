"""Which addresses may be blocked at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from remediator.errors import Refused

Network = IPv4Network | IPv6Network

NEVER: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "unspecified": ("0.0.0.0/8", "::/128"),
    "multicast or reserved": ("224.0.0.0/3", "ff00::/8"),
    # An IPv4 address in the clothes of an IPv6 one would get around every range of IPv4.
    "a carrier of IPv4 addresses": ("::ffff:0:0/96", "::/96", "64:ff9b::/96", "2001::/32", "2002::/16"),
}
"""Never blocked, whatever is allowed."""

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Blocked only where the connection allows it: our own networks, and those behind a proxy, have such addresses."""


def _canonical(text: str) -> str:
    try:
        network = ip_network(text, strict=True)
    except ValueError as error:
        raise ValueError(
            f"expected an IPv4 or IPv6 address, or a network without host bits: {error}"
        ) from error
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address if alone else network)


Address = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?$"),
    AfterValidator(_canonical),
]
"""An address, or a network such as 203.0.113.0/28, in its shortest form."""


def must_be_blockable(
    network: Network, *, protected: Iterable[Network], allow_private: bool, widest: tuple[int, int]
) -> None:
    """Raise Refused for what must never be blocked. `widest` are the shortest prefixes of IPv4 and IPv6."""
    bound = widest[0] if network.version == 4 else widest[1]
    if network.prefixlen < bound:
        raise Refused(f"{network} is wider than /{bound}, which is the widest that the connection allows")
    for why, ranges in NEVER.items():
        for one in ranges:
            if _overlap(network, ip_network(one)):
                raise Refused(f"{network} is {why} ({one}), and never blocked")
    for own in protected:
        if _overlap(network, own):
            raise Refused(f"{network} touches {own}, one of our own ranges that the connection protects")
    if not allow_private:
        for one in PRIVATE:
            if _overlap(network, ip_network(one)):
                raise Refused(f"{network} is private ({one}), and the connection does not allow that")


def covers(network: Network, first: str, last: str) -> bool:
    """Whether the range from first to last holds the whole network."""
    low, high = int(ip_network(first).network_address), int(ip_network(last).broadcast_address)
    same = ip_network(first).version == network.version
    return same and low <= int(network.network_address) and int(network.broadcast_address) <= high


def meets(network: Network, first: str, last: str) -> bool:
    """Whether the range from first to last holds any of it."""
    low, high = int(ip_network(first).network_address), int(ip_network(last).broadcast_address)
    same = ip_network(first).version == network.version
    return same and low <= int(network.broadcast_address) and int(network.network_address) <= high


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
