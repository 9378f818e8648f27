"""docker.isolate: cut one container off from all networks, without stopping it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.docker.connection import ContainerName, DockerAction, calls
from remediator.actions.docker.networks import NOWHERE, endpoints, isolated, join, leave
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions


class IsolateParams(BaseModel):
    """Parameters of `docker.isolate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    container: ContainerName = Field(description="its name; the connection must allow it")


class Isolate(DockerAction):
    """Disconnect a container from all networks; it goes on running, its memory and disk stay as they are."""

    kind: ClassVar[str] = "docker.isolate"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = IsolateParams

    async def observe(self, params: IsolateParams) -> Container:
        """Inspect it by its configured name."""
        return await self._named(params.container)

    def plan(self, params: IsolateParams, seen: Container) -> tuple[Effect, ...]:
        """One effect: out of every network that it is in now."""
        _refuse_shared(seen)
        joined = endpoints(seen)
        if not joined:
            raise NothingSelected(f"container {seen.name} is in no network")
        names = ", ".join(joined)
        return (
            Effect(
                action=self.kind,
                subject=f"container {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"disconnect container {seen.name} ({seen.id[:12]}, {seen.status}) from {names}",
                before={"id": seen.id, "networks": joined},
                after={"networks": {}},
                figures={"networks": len(joined)},
                undo=f"join {names} again, with the same aliases and fixed addresses",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Take it out of the networks that were planned, unless it is in none already."""
        params = IsolateParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        _refuse_shared(seen)
        if isolated(seen):
            return Result(f"{seen.name} is isolated already", changed=False)
        planned, now = effect.before["networks"], endpoints(seen)
        # Some of them are missing where an earlier try was cut off: it is gone on with.
        others = [name for name, endpoint in now.items() if planned.get(name) != endpoint]
        if others:
            raise Drifted(f"{seen.name} is in {', '.join(others)} otherwise than was planned on")
        await leave(self._engine, seen, now)
        after = await self._engine.afterwards(seen.id, f"isolate {seen.name}")
        if not isolated(after):
            raise OutcomeUnknown(f"{seen.name} was isolated and is in {', '.join(after.networks)}")
        addresses = {name: found.get("IPAddress", "") for name, found in seen.networks.items()}
        return Result(
            f"disconnected {seen.name} from {', '.join(planned)}",
            evidence={"addresses": addresses},
            captured={"networks": planned},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Join the networks again, if nobody has put it into another one since."""
        params = IsolateParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        planned = effect.before["networks"]
        others = set(seen.networks) - set(planned) - {NOWHERE}
        if others:
            raise Refused(f"{seen.name} was put into {', '.join(sorted(others))} since")
        if not await join(self._engine, seen, planned):
            return Result(f"{seen.name} is in {', '.join(planned)} already", changed=False)
        after = await self._engine.afterwards(seen.id, f"join {seen.name}")
        return Result(f"{seen.name} is in {', '.join(sorted(after.networks))} again")

    def progress(self, effect: Effect, seen: Container) -> Progress:
        """Done where it is in no network, untouched where it is in all as before."""
        if seen.id != effect.before["id"]:
            return Progress.UNCLEAR
        if isolated(seen):
            return Progress.DONE
        return Progress.UNTOUCHED if endpoints(seen) == effect.before["networks"] else Progress.UNCLEAR

    def permissions(self, params: IsolateParams) -> Permissions:
        """Looking at one container, taking it out of networks, and putting it back as the undo does."""
        changes = ("POST /networks/{id}/disconnect", "POST /networks/{id}/connect")
        return Permissions(docker=(*calls(params.container, *changes), f"POST /networks/{NOWHERE}/connect"))


def _refuse_shared(seen: Container) -> None:
    if seen.network_mode == "host":
        raise Refused(f"{seen.name} uses the host's own network; it can only be stopped")
    if seen.network_mode.startswith("container:"):
        raise Refused(f"{seen.name} uses the network of another container; isolate that one")
