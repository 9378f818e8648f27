"""docker.rejoin: put one container that was isolated back into its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.actions.docker.connection import ContainerName, DockerAction, NetworkName, calls
from remediator.actions.docker.networks import NOWHERE, endpoints, join, leave
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions

Alias = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]


class Join(BaseModel):
    """How one network is joined."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aliases: tuple[Alias, ...] = Field(default=(), description="names under which it is found there")
    ipv4_address: IPv4Address | None = Field(
        default=None, description="fixed; the engine's choice where empty"
    )
    ipv6_address: IPv6Address | None = None


class RejoinParams(BaseModel):
    """Parameters of `docker.rejoin`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    container: ContainerName = Field(description="its name; the connection must allow it")
    networks: Mapping[NetworkName, Join] = Field(
        min_length=1, max_length=20, description="the networks it belongs to; the connection must allow each"
    )


@dataclass(frozen=True, slots=True)
class SeenNetworks:
    """The container, and the ids of the networks that it belongs to."""

    container: Container
    network_ids: Mapping[str, str]


class Rejoin(DockerAction):
    """Connect an isolated container to its networks again, with its aliases and fixed addresses."""

    kind: ClassVar[str] = "docker.rejoin"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RejoinParams

    async def observe(self, params: RejoinParams) -> SeenNetworks:
        """Inspect the container and each of the networks."""
        for name in params.networks:
            if name not in self._connection.networks:
                allowed = ", ".join(self._connection.networks) or "none"
                raise Refused(f"{name} is not among the networks that the connection allows ({allowed})")
        seen = await self._named(params.container)
        ids = {name: await self._network_id(name) for name in sorted(params.networks)}
        return SeenNetworks(seen, ids)

    def plan(self, params: RejoinParams, seen: SeenNetworks) -> tuple[Effect, ...]:
        """One effect: into every one of the networks that it is not in."""
        container, now = seen.container, sorted(endpoints(seen.container))
        missing = [name for name in sorted(params.networks) if name not in now]
        if not missing:
            raise NothingSelected(f"container {container.name} is in {', '.join(now)} already")
        if container.network_mode in ("host", NOWHERE) or container.network_mode.startswith("container:"):
            raise Refused(f"{container.name} has no network of its own ({container.network_mode})")
        return (
            Effect(
                action=self.kind,
                subject=f"container {container.name}",
                params=params.model_dump(mode="json"),
                summary=f"connect container {container.name} ({container.id[:12]}, {container.status}) "
                f"to {', '.join(missing)}",
                before={"id": container.id, "networks": now, "network_ids": dict(seen.network_ids)},
                after={"networks": sorted({*now, *missing})},
                figures={"networks": len(missing)},
                undo=f"disconnect it from {', '.join(missing)} again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Join what it is not in, unless that was done."""
        params = RejoinParams.model_validate(effect.params)
        seen = await self.observe(params)
        container = await self._planned(effect, params.container)
        before, after = set(effect.before["networks"]), set(effect.after["networks"])
        now = set(endpoints(container))
        if seen.network_ids != effect.before["network_ids"]:
            raise Drifted("a network was made anew since it was planned")
        if now == after:
            return Result(f"{container.name} is in {', '.join(sorted(now))} already", changed=False)
        # More than before, and only of ours, is an earlier try that was cut off.
        if not before <= now or not now <= after:
            raise Drifted(f"{container.name} is in {', '.join(sorted(now)) or 'no network'} now")
        await join(self._engine, container, _wanted(params, seen.network_ids))
        told = await self._engine.afterwards(container.id, f"join {container.name}")
        if set(endpoints(told)) != after:
            raise OutcomeUnknown(f"{container.name} was joined and is in {', '.join(told.networks)}")
        addresses = {name: found.get("IPAddress", "") for name, found in told.networks.items()}
        return Result(
            f"connected {container.name} to {', '.join(sorted(after - before))}", evidence=addresses
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Take it out of those that we put it into."""
        params = RejoinParams.model_validate(effect.params)
        container = await self._planned(effect, params.container)
        ours = set(effect.after["networks"]) - set(effect.before["networks"])
        leaving = ours & set(container.networks)
        if not leaving:
            return Result(f"{container.name} is in none of {', '.join(sorted(ours))}", changed=False)
        await leave(self._engine, container, leaving)
        return Result(f"disconnected {container.name} from {', '.join(sorted(leaving))} again")

    def progress(self, effect: Effect, seen: SeenNetworks) -> Progress:
        """Done where it is in all of them."""
        if seen.container.id != effect.before["id"] or seen.network_ids != effect.before["network_ids"]:
            return Progress.UNCLEAR
        now = sorted(endpoints(seen.container))
        if now == effect.after["networks"]:
            return Progress.DONE
        return Progress.UNTOUCHED if now == effect.before["networks"] else Progress.UNCLEAR

    def permissions(self, params: RejoinParams) -> Permissions:
        """Looking at one container and its networks, joining them, and leaving them as the undo does."""
        looks = tuple(f"GET /networks/{name}" for name in sorted(params.networks))
        changes = (
            "POST /networks/{id}/connect",
            "POST /networks/{id}/disconnect",
            f"POST /networks/{NOWHERE}/connect",
        )
        return Permissions(docker=calls(params.container, *looks, *changes))

    async def _network_id(self, name: str) -> str:
        found = await self._engine.look(
            lambda api: api.inspect_network(name), f"there is no network {name} to join"
        )
        return str(found["Id"])


def _wanted(params: RejoinParams, ids: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {
        name: {**one.model_dump(mode="json", exclude_none=True), "network_id": ids[name]}
        for name, one in params.networks.items()
    }
