"""docker.start: start one container that is there and does not run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.docker.connection import ContainerName, DockerAction, calls, told
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions

STARTABLE = ("created", "exited")


class StartParams(BaseModel):
    """Parameters of `docker.start`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    container: ContainerName = Field(description="its name; the connection must allow it")
    ready_seconds: int = Field(
        default=60, ge=2, le=600, description="in which it has to be healthy, or run without a health check"
    )
    stop_timeout_seconds: int = Field(
        default=10, ge=0, le=300, description="before it is killed, when the start is undone"
    )


class Start(DockerAction):
    """Start a stopped container by the id that was seen, and wait until it is healthy."""

    kind: ClassVar[str] = "docker.start"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = StartParams

    async def observe(self, params: StartParams) -> Container:
        """Inspect it by its configured name."""
        return await self._named(params.container)

    def plan(self, params: StartParams, seen: Container) -> tuple[Effect, ...]:
        """One effect on exactly this id, since it last ended."""
        if seen.status in ("running", "restarting"):
            raise NothingSelected(f"container {seen.name} runs already ({seen.status})")
        if seen.status not in STARTABLE:
            raise Refused(f"container {seen.name} is {seen.status}; only a stopped one is started")
        return (
            Effect(
                action=self.kind,
                subject=f"container {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"start container {told(seen)}",
                before={"id": seen.id, "started_at": seen.started_at, "finished_at": seen.finished_at},
                figures={"containers": 1},
                undo="stop it again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Start it, unless that was done since it was planned."""
        params = StartParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        if seen.status == "running":
            return Result(f"{seen.name} runs already, since {seen.started_at}", changed=False)
        if (seen.started_at, seen.finished_at) != (
            effect.before["started_at"],
            effect.before["finished_at"],
        ):
            raise Drifted(f"{seen.name} was started since and is {seen.status}")
        await self._engine.start(seen)
        after = await self._engine.ready(seen, params.ready_seconds)
        return Result(
            f"started {seen.name}, now {after.status}{', ' * bool(after.health)}{after.health}",
            evidence={"started_at": after.started_at},
            captured={"id": seen.id, "started_at": after.started_at},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Stop it again, if it is still the run that we began."""
        params = StartParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        if not seen.active:
            return Result(f"{seen.name} is {seen.status} already", changed=False)
        if seen.started_at != result.captured["started_at"]:
            raise Refused(f"{seen.name} was started again at {seen.started_at}: that run is not ours")
        await self._engine.stop(seen, params.stop_timeout_seconds)
        after = await self._engine.afterwards(seen.id, f"stop {seen.name}")
        if after.active:
            raise OutcomeUnknown(f"{seen.name} was stopped and is {after.status}")
        return Result(f"stopped {seen.name} again")

    def progress(self, effect: Effect, seen: Container) -> Progress:
        """Done where the same container runs since a later time."""
        if seen.id != effect.before["id"]:
            return Progress.UNCLEAR
        if seen.started_at == effect.before["started_at"]:
            return Progress.UNTOUCHED
        well = seen.status == "running" and seen.health in ("", "healthy")
        return Progress.DONE if well else Progress.UNCLEAR

    def permissions(self, params: StartParams) -> Permissions:
        """Looking at one container, starting it, and stopping it as the undo does."""
        changes = ("POST /containers/{id}/start", "POST /containers/{id}/stop")
        return Permissions(docker=calls(params.container, *changes))
