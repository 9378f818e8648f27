"""Whether a service may have several containers, or others than it has: nothing that can be held only once. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remediator.containers import Container


def not_stateless(service: Mapping[str, Any], containers: Sequence[Container]) -> tuple[str, ...]:
    """Every reason against a second container of it; `service` is as compose resolves it."""
    return tuple(
        dict.fromkeys(
            (
                *_in_files(service),
                *_of_network(service),
                *_of_deployment(service),
                *_in_containers(containers),
            )
        )
    )


def _in_files(service: Mapping[str, Any]) -> Iterator[str]:
    if service.get("container_name"):
        yield f"it has the fixed name {service['container_name']}"
    for port in service.get("ports") or ():
        if port.get("published"):
            yield f"it holds the host's port {port['published']}"
    for volume in service.get("volumes") or ():
        if volume["type"] == "volume" or (volume["type"] == "bind" and not volume.get("read_only")):
            yield f"it keeps data in {volume['target']}"


def _of_network(service: Mapping[str, Any]) -> Iterator[str]:
    mode = service.get("network_mode") or ""
    if mode == "host" or mode.startswith(("service:", "container:")):
        yield f"it uses a network that is not its own ({mode})"
    for name, network in (service.get("networks") or {}).items():
        if (network or {}).get("ipv4_address") or (network or {}).get("ipv6_address"):
            yield f"it has a fixed address in {name}"
    if service.get("mac_address") or service.get("hostname"):
        yield "it has a fixed host name or address"


def _of_deployment(service: Mapping[str, Any]) -> Iterator[str]:
    deploy = service.get("deploy") or {}
    if deploy.get("mode", "replicated") != "replicated":
        yield f"its mode is {deploy['mode']}"
    devices = ((deploy.get("resources") or {}).get("reservations") or {}).get("devices")
    if devices or service.get("devices") or service.get("gpus"):
        yield "it holds a device"


def _in_containers(containers: Sequence[Container]) -> Iterator[str]:
    # The image itself may declare volumes, of which the files say nothing.
    for container in containers:
        for where in container.volumes:
            yield f"it keeps data in {where}"
