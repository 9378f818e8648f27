"""compose.stop_set: stop every container of a project that carries a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.compose.connection import ComposeAction, Label, ServiceName, allowed
from remediator.actions.compose.project import LABEL
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class StopSetParams(BaseModel):
    """Parameters of `compose.stop_set`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    label: Label = Field(description="key=value; the connection must allow it")
    must_include: tuple[ServiceName, ...] = Field(
        default=(), max_length=50, description="services that have to be among them, or nothing is stopped"
    )
    stop_timeout_seconds: int = Field(default=10, ge=0, le=300, description="before one is killed")
    max_containers: int = Field(default=20, ge=1, le=200, description="never more than so many")


@dataclass(frozen=True, slots=True)
class SeenSet:
    """Every container of the project with the label, running or not."""

    containers: tuple[Container, ...]

    @property
    def active(self) -> dict[str, str]:
        """Since when each of those that run does, by id."""
        return {one.id: one.started_at for one in self.containers if one.active}


class StopSet(ComposeAction):
    """Stop all containers of the project that carry a label; nothing is removed."""

    kind: ClassVar[str] = "compose.stop_set"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = StopSetParams

    async def observe(self, params: StopSetParams) -> SeenSet:
        """List the containers with the label."""
        allowed(params.label, "stopping by", self._connection.stop_labels)
        return SeenSet(await self._project.labelled(params.label))

    def plan(self, params: StopSetParams, seen: SeenSet) -> tuple[Effect, ...]:
        """One effect on exactly these containers."""
        there = {one.labels.get(f"{LABEL}.service", "") for one in seen.containers}
        missing = sorted(set(params.must_include) - there)
        if missing:
            raise Refused(
                f"no container of {', '.join(missing)} carries {params.label}: it would go on running"
            )
        stopping = [one for one in seen.containers if one.active]
        if not stopping:
            told = f"{len(seen.containers)} containers carry" if seen.containers else "no container carries"
            raise NothingSelected(f"{told} {params.label} and none of them runs")
        if len(stopping) > params.max_containers:
            raise Refused(f"{len(stopping)} containers carry {params.label}, above {params.max_containers}")
        back = [one.name for one in stopping if one.comes_back]
        again = f"; {', '.join(back)} would start again with the engine" if back else ""
        return (
            Effect(
                action=self.kind,
                subject=f"containers of {self._connection.project} with {params.label}",
                params=params.model_dump(mode="json"),
                summary=f"stop {len(stopping)} containers with {params.label}: "
                f"{', '.join(one.name for one in stopping)}{again}",
                before={"containers": seen.active},
                figures={"containers": len(stopping)},
                at_most={"containers": len(stopping)},
                undo="start the same containers again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Stop those of them that still run."""
        params = StopSetParams.model_validate(effect.params)
        seen = await self.observe(params)
        planned = effect.before["containers"]
        others = [one.name for one in seen.containers if one.active and planned.get(one.id) != one.started_at]
        if others:
            raise Drifted(f"{', '.join(others)} was started since it was planned")
        stopping = [one for one in seen.containers if one.active]
        if not stopping:
            return Result(f"none of them runs: {effect.subject}", changed=False)
        self.plan(params, seen)
        after = await self._engine.stop_all(stopping, params.stop_timeout_seconds)
        return Result(
            f"stopped {', '.join(one.name for one in stopping)}",
            evidence={"stopped": {one.name: one.finished_at for one in after}},
            captured={"finished_at": {one.id: one.finished_at for one in after}},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Start those again that we stopped, if nobody has run them since."""
        params = StopSetParams.model_validate(effect.params)
        seen = await self.observe(params)
        ours: dict[str, str] = result.captured["finished_at"]
        there = {one.id: one for one in seen.containers}
        gone = [id_[:12] for id_ in ours if id_ not in there]
        if gone:
            raise Refused(f"{', '.join(gone)} is gone: it cannot be started again")
        down = [there[id_] for id_ in ours if not there[id_].active]
        spoilt = [one.name for one in down if one.finished_at != ours[one.id]]
        if spoilt:
            raise Refused(f"{', '.join(spoilt)} has run since and ended")
        if not down:
            return Result(f"all of them run: {effect.subject}", changed=False)
        await self._engine.start_all(down)
        return Result(f"started {', '.join(one.name for one in down)} again")

    def progress(self, effect: Effect, seen: SeenSet) -> Progress:
        """Done where none of them runs, untouched where all run as they did."""
        if not seen.active:
            return Progress.DONE
        return Progress.UNTOUCHED if seen.active == effect.before["containers"] else Progress.UNCLEAR

    def permissions(self, params: StopSetParams) -> Permissions:
        """Listing containers, stopping them, and starting them as the undo does."""
        reads = ("GET /version", "GET /containers/json", "GET /containers/{id}/json")
        return Permissions(docker=(*reads, "POST /containers/{id}/stop", "POST /containers/{id}/start"))
