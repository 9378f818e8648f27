"""What a Docker engine says of one container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remediator.errors import Drifted

ACTIVE = ("running", "restarting", "paused")
"""The states in which a container's processes are there, or come back by themselves."""


@dataclass(frozen=True, slots=True)
class Container:
    """What the engine says of a container. `started_at` tells one run from the next."""

    id: str
    name: str
    image: str
    status: str
    health: str
    started_at: str
    finished_at: str = ""
    restart_policy: str = ""
    network_mode: str = ""
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Its endpoints as the engine shows them, by the network's name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    """Where in it anything is mounted that keeps data: volumes, and writable folders of the host."""

    @property
    def active(self) -> bool:
        """Whether it runs, is about to, or is paused."""
        return self.status in ACTIVE

    @property
    def comes_back(self) -> bool:
        """Whether the engine starts it again when the engine itself is restarted, even after a stop."""
        return self.restart_policy == "always"


def container_of(found: Mapping[str, Any]) -> Container:
    """A container as `GET /containers/{id}/json` shows it."""
    state, host = found["State"], found.get("HostConfig") or {}
    settings = found.get("NetworkSettings") or {}
    return Container(
        id=found["Id"],
        name=found["Name"].lstrip("/"),
        image=found["Image"],
        status=state["Status"],
        health=(state.get("Health") or {}).get("Status", ""),
        started_at=state["StartedAt"],
        finished_at=state.get("FinishedAt", ""),
        restart_policy=(host.get("RestartPolicy") or {}).get("Name", ""),
        network_mode=host.get("NetworkMode", ""),
        networks=settings.get("Networks") or {},
        labels=(found.get("Config") or {}).get("Labels") or {},
        volumes=_volumes(found.get("Mounts") or ()),
    )


def _volumes(mounts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(
        sorted(
            mount["Destination"]
            for mount in mounts
            if mount["Type"] == "volume" or (mount["Type"] == "bind" and mount.get("RW", True))
        )
    )


def same(seen: Container | None, effect_before: Mapping[str, Any], name: str) -> Container:
    """The very container that was planned on, under the name that is allowed.

    Raises:
        Drifted: when it is gone or has another name.
    """
    if seen is None:
        raise Drifted(f"the container {name} ({effect_before['id'][:12]}) is gone")
    if seen.name != name:
        raise Drifted(f"the container {effect_before['id'][:12]} is {seen.name}, and {name} was planned on")
    return seen
