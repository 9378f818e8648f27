"""docker.restart: stop and start a container, the very one that was seen."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.docker.connection import ContainerName, DockerAction, calls, told
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Refused
from remediator.pipeline.ports import Permissions


class RestartParams(BaseModel):
    """Parameters of `docker.restart`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    container: ContainerName = Field(description="its name; the connection must allow it")
    stop_timeout_seconds: int = Field(default=10, ge=0, le=300, description="before it is killed")


class Restart(DockerAction):
    """Stop and start a container by the id that was seen, never by its name."""

    kind: ClassVar[str] = "docker.restart"
    # Not idempotent: while a first restart still waits for the process to stop, a look sees nothing changed,
    # and a second one would stop the container again.
    idempotent: ClassVar[bool] = False
    Params: ClassVar[type[BaseModel]] = RestartParams

    async def observe(self, params: RestartParams) -> Container:
        """Inspect it by its configured name."""
        return await self._named(params.container)

    def plan(self, params: RestartParams, seen: Container) -> tuple[Effect, ...]:
        """One effect on exactly this id and run."""
        return (
            Effect(
                action=self.kind,
                subject=f"container {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"restart container {told(seen)}",
                before={"id": seen.id, "started_at": seen.started_at, "image": seen.image},
                figures={"containers": 1},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Restart it, unless that was done since it was planned."""
        params = RestartParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        if seen.started_at != effect.before["started_at"]:
            return Result(f"{seen.name} was already started again at {seen.started_at}", changed=False)
        what, wait = f"restart {seen.name}", params.stop_timeout_seconds
        await self._engine.change(lambda api: api.restart(seen.id, wait), what)
        after = await self._engine.afterwards(seen.id, what)
        return Result(f"restarted {seen.name}, now {after.status}", evidence={"started_at": after.started_at})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Nothing to take back: the same container runs again."""
        raise Refused("a restart has no inverse")

    def progress(self, effect: Effect, seen: Container) -> Progress:
        """Done where the same container runs since a later time."""
        if seen.id != effect.before["id"]:
            return Progress.UNCLEAR
        if seen.started_at != effect.before["started_at"]:
            return Progress.DONE if seen.status == "running" else Progress.UNCLEAR
        # One that does not run may have been stopped by us and not been started.
        return Progress.UNTOUCHED if seen.active else Progress.UNCLEAR

    def permissions(self, params: RestartParams) -> Permissions:
        """Looking at one container, and restarting it."""
        return Permissions(docker=calls(params.container, "POST /containers/{id}/restart"))
