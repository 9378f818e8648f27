"""docker.stop: stop one container and leave it there."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.docker.connection import ContainerName, DockerAction, calls, told
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions


class StopParams(BaseModel):
    """Parameters of `docker.stop`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    container: ContainerName = Field(description="its name; the connection must allow it")
    stop_timeout_seconds: int = Field(default=10, ge=0, le=300, description="before it is killed")


class Stop(DockerAction):
    """Stop a container by the id that was seen; nothing of it is removed."""

    kind: ClassVar[str] = "docker.stop"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = StopParams

    async def observe(self, params: StopParams) -> Container:
        """Inspect it by its configured name."""
        return await self._named(params.container)

    def plan(self, params: StopParams, seen: Container) -> tuple[Effect, ...]:
        """One effect on exactly this id and run."""
        if not seen.active:
            raise NothingSelected(f"container {seen.name} is {seen.status} already")
        again = "; it starts again when the engine is restarted" if seen.comes_back else ""
        return (
            Effect(
                action=self.kind,
                subject=f"container {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"stop container {told(seen)}{again}",
                before={"id": seen.id, "started_at": seen.started_at},
                figures={"containers": 1},
                undo="start the same container again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Stop it, unless it does not run any more."""
        params = StopParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        if seen.started_at != effect.before["started_at"]:
            raise Drifted(f"{seen.name} was started again at {seen.started_at}: it is another run")
        if not seen.active:
            return Result(f"{seen.name} is {seen.status} already", changed=False)
        await self._engine.stop(seen, params.stop_timeout_seconds)
        after = await self._engine.afterwards(seen.id, f"stop {seen.name}")
        if after.active:
            raise OutcomeUnknown(f"{seen.name} was stopped and is {after.status}")
        return Result(
            f"stopped {seen.name}",
            evidence={"finished_at": after.finished_at},
            captured={"id": seen.id, "finished_at": after.finished_at},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Start it again, if nobody has done anything with it since."""
        params = StopParams.model_validate(effect.params)
        seen = await self._planned(effect, params.container)
        if seen.active:
            return Result(f"{seen.name} runs already", changed=False)
        if seen.finished_at != result.captured["finished_at"]:
            raise Refused(f"{seen.name} has run since and ended at {seen.finished_at}")
        await self._engine.start(seen)
        after = await self._engine.afterwards(seen.id, f"start {seen.name}")
        return Result(f"started {seen.name} again, now {after.status}")

    def progress(self, effect: Effect, seen: Container) -> Progress:
        """Done where the same run has ended."""
        if seen.id != effect.before["id"] or seen.started_at != effect.before["started_at"]:
            return Progress.UNCLEAR
        return Progress.UNTOUCHED if seen.active else Progress.DONE

    def permissions(self, params: StopParams) -> Permissions:
        """Looking at one container, stopping it, and starting it as the undo does."""
        changes = ("POST /containers/{id}/stop", "POST /containers/{id}/start")
        return Permissions(docker=calls(params.container, *changes))
