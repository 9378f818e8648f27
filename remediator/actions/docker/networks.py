"""A container's way out of its networks and back into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from remediator.containers import Container
from remediator.engine import Engine
from remediator.errors import Drifted, OutcomeUnknown, PermanentFailure, TemporaryFailure

NOWHERE = "none"
"""The engine's network without a way out. A container in no network at all would be put back into its first one
by the engine when it starts again; one in this stays alone."""

Endpoint = Mapping[str, Any]
Endpoints = Mapping[str, Endpoint]


def endpoints(seen: Container) -> dict[str, dict[str, Any]]:
    """What is needed to join each of its networks again as it is joined now."""
    return {
        name: _endpoint(seen, found or {}) for name, found in sorted(seen.networks.items()) if name != NOWHERE
    }


def isolated(seen: Container) -> bool:
    """Whether it is in no network but the one without a way out."""
    return set(seen.networks) == {NOWHERE}


def _endpoint(seen: Container, found: Mapping[str, Any]) -> dict[str, Any]:
    # An address that the engine chose itself is not asked for again: it would be pinned from then on.
    fixed = found.get("IPAMConfig") or {}
    return {
        "network_id": found.get("NetworkID") or "",
        # The engine adds the short id by itself.
        "aliases": sorted({alias for alias in found.get("Aliases") or () if alias != seen.id[:12]}),
        "links": sorted(found.get("Links") or ()),
        "ipv4_address": fixed.get("IPv4Address") or "",
        "ipv6_address": fixed.get("IPv6Address") or "",
        "driver_opts": dict(found.get("DriverOpts") or {}),
    }


async def leave(engine: Engine, seen: Container, names: Iterable[str]) -> bool:
    """Take it out of these networks; where none remains, into the one without a way out. Whether that changed it.

    Raises:
        OutcomeUnknown: when it was taken out of some and not of others.
    """
    done: list[str] = []
    leaving = [name for name in sorted(names) if name in seen.networks]
    alone = not set(seen.networks) - set(leaving)
    with_last = [*leaving, NOWHERE] if alone else leaving
    for name in with_last:
        if name == NOWHERE:
            await _one(engine, seen, done, f"leave {seen.name} alone", _join(seen, NOWHERE, {}))
        else:
            await _one(engine, seen, done, f"take {seen.name} out of {name}", _leave(seen, name))
        done.append(name)
    return bool(done)


async def join(engine: Engine, seen: Container, wanted: Endpoints) -> bool:
    """Put it into these networks, where it is not in them yet. Whether that changed it.

    Raises:
        OutcomeUnknown: when it was put into some and not into others.
    """
    done: list[str] = []
    joining = [name for name in sorted(wanted) if name not in seen.networks]
    if joining and NOWHERE in seen.networks:
        await _one(engine, seen, done, f"take {seen.name} out of {NOWHERE}", _leave(seen, NOWHERE))
        done.append(NOWHERE)
    for name in joining:
        await _one(engine, seen, done, f"put {seen.name} into {name}", _join(seen, name, wanted[name]))
        done.append(name)
    return bool(done)


async def _one(engine: Engine, seen: Container, done: list[str], what: str, call: Any) -> None:
    try:
        await engine.change(call, what)
    except (Drifted, PermanentFailure, TemporaryFailure) as error:
        if done:
            raise OutcomeUnknown(f"{error}; {', '.join(done)} was changed before that") from error
        raise


def _leave(seen: Container, name: str) -> Any:
    found = seen.networks[name] or {}
    network = found.get("NetworkID") or name
    return lambda api: api.disconnect_container_from_network(seen.id, network)


def _join(seen: Container, name: str, wanted: Endpoint) -> Any:
    network = wanted.get("network_id") or name
    return lambda api: api.connect_container_to_network(
        seen.id,
        network,
        aliases=list(wanted.get("aliases") or ()) or None,
        links=[tuple(link.split(":", 1)) for link in wanted.get("links") or ()] or None,
        ipv4_address=wanted.get("ipv4_address") or None,
        ipv6_address=wanted.get("ipv6_address") or None,
        driver_opt=dict(wanted.get("driver_opts") or {}) or None,
    )
