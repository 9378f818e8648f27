"""What nftables says of a table: the set, what is in it, and where rules drop that. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from remediator.actions.firewall.ranges import Network, covers, meets

_DROPS = ("drop", "reject")
_GOES_ON = ("jump", "goto")
_SOURCE = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a set: the range from first to last. `seconds` is how long it still stays; 0 for ever."""

    first: str
    last: str
    seconds: int = 0
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A set as it is. `handle` tells it from another one of its name; `hooks` are where its sources are dropped."""

    name: str
    handle: int
    type: str
    flags: tuple[str, ...]
    elements: tuple[Element, ...]
    hooks: tuple[str, ...]
    merges: bool = False

    def holding(self, network: Network) -> Element | None:
        """The element that blocks the whole network already."""
        return next((one for one in self.elements if covers(network, one.first, one.last)), None)

    def meeting(self, network: Network) -> Element | None:
        """An element that blocks any of it."""
        return next((one for one in self.elements if meets(network, one.first, one.last)), None)


def seen_of(listing: Sequence[Mapping[str, Any]], name: str, version: int) -> Seen | None:
    """The set of that name in the listing of its table, or None where there is none."""
    sets = [one["set"] for one in listing if "set" in one and one["set"]["name"] == name]
    if not sets:
        return None
    (found,) = sets
    flags, kind = found.get("flags", ()), found["type"]
    return Seen(
        name=name,
        handle=found["handle"],
        type=kind if isinstance(kind, str) else " . ".join(kind),
        flags=tuple(sorted([flags] if isinstance(flags, str) else flags)),
        # Of another type nothing is read: it is refused as a whole.
        elements=tuple(_elements(found.get("elem", ()))) if kind == type_of(version) else (),
        hooks=_hooks(listing, name, version),
        merges=bool(found.get("auto-merge", False)),
    )


def type_of(version: int) -> str:
    """What nftables calls addresses of this version."""
    return _SOURCE[version][1]


def value_of(network: Network) -> Any:
    """An address or network as nftables' JSON has it."""
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def _elements(rows: Iterable[Any]) -> Iterable[Element]:
    for row in rows:
        inner = row.get("elem") if isinstance(row, dict) else None
        about: Mapping[str, Any] = inner if inner is not None else {"val": row}
        value = about["val"]
        if isinstance(value, str):
            first = last = value
        elif "prefix" in value:
            network = ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")
            first, last = str(network.network_address), str(network.broadcast_address)
        else:
            first, last = value["range"]
        yield Element(first, last, about.get("expires", 0), about.get("comment", ""))


def _hooks(listing: Sequence[Mapping[str, Any]], name: str, version: int) -> tuple[str, ...]:
    """The hooks from which packets come to a rule that drops those whose source is in the set."""
    at = {one["chain"]["name"]: {one["chain"]["hook"]} for one in listing if one.get("chain", {}).get("hook")}
    rules = [one["rule"] for one in listing if "rule" in one]
    moved = True
    while moved:
        moved = False
        for rule in rules:
            came = at.get(rule["chain"], set())
            for target in _targets(rule["expr"]):
                if not came <= at.setdefault(target, set()):
                    at[target] |= came
                    moved = True
    found = [at.get(rule["chain"], set()) for rule in rules if _drops(rule["expr"], name, version)]
    return tuple(sorted(set().union(*found)))


def _targets(expr: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Where a rule sends every packet on to; under a condition it would be some of them only."""
    if any("match" in part for part in expr):
        return ()
    return (part[how]["target"] for part in expr for how in _GOES_ON if how in part)


def _drops(expr: Sequence[Mapping[str, Any]], name: str, version: int) -> bool:
    """Whether a rule drops every packet whose source is in the set: no other condition stands beside it."""
    conditions = [part["match"] for part in expr if "match" in part]
    if len(conditions) != 1 or not any(how in part for part in expr for how in _DROPS):
        return False
    (only,) = conditions
    source = {"payload": {"protocol": _SOURCE[version][0], "field": "saddr"}}
    return only["left"] == source and only["right"] == f"@{name}" and only["op"] in ("==", "in")
