"""systemd.stop: stop one unit and leave it stopped."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.systemd.bus import Verb
from remediator.actions.systemd.connection import SystemdAction, UnitName, carried_out, same_kind
from remediator.actions.systemd.units import DOWN, Unit, must_be_loaded
from remediator.actions.systemd.waits import is_down, stays_up
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class StopUnitParams(BaseModel):
    """Parameters of `systemd.stop`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    unit: UnitName = Field(description="its full name, such as api.service; the connection must allow it")
    stop_seconds: int = Field(default=120, ge=1, le=1800, description="in which it has to be down")
    ready_seconds: int = Field(
        default=120, ge=1, le=1800, description="in which it has to be up again when the stop is undone"
    )
    steady_seconds: int = Field(default=5, ge=0, le=300, description="how long it then has to stay up")


class StopUnit(SystemdAction):
    """Stop a systemd unit on which no other running unit depends."""

    kind: ClassVar[str] = "systemd.stop"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = StopUnitParams
    verb: ClassVar[Verb] = "stop"
    inverse: ClassVar[Verb] = "start"

    async def observe(self, params: StopUnitParams) -> Unit:
        """Look at the unit."""
        return await self._look(params.unit)

    def plan(self, params: StopUnitParams, seen: Unit) -> tuple[Effect, ...]:
        """One effect on exactly this run of the unit."""
        must_be_loaded(seen)
        if seen.active in DOWN:
            raise NothingSelected(f"unit {seen.name} is {seen.told} already")
        _must_stop(seen)
        again = f"; {', '.join(seen.triggers)} can start it again" if seen.triggers else ""
        return (
            Effect(
                action=self.kind,
                subject=f"unit {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"stop {seen.name}, {seen.told}{again}",
                before={"load": seen.load, "invocation": seen.invocation},
                figures={"units": 1},
                undo="start it again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Stop it, unless it does not run any more; a job that we leave behind goes on."""
        params = StopUnitParams.model_validate(effect.params)
        self._allowed(params.unit)
        async with self._systemd() as systemd:
            seen = await systemd.unit(params.unit)
            same_kind(effect, seen)
            if seen.active in DOWN:
                return Result(f"{seen.name} is {seen.told} already", changed=False)
            if seen.invocation != effect.before["invocation"]:
                raise Drifted(f"{seen.name} was started again since it was planned: it is another run")
            if seen.dependents:
                raise Drifted(f"{', '.join(seen.dependents)} would go down with {seen.name} now")
            after = await carried_out(systemd, self.verb, seen, params.stop_seconds, is_down(systemd))
        return Result(f"stopped {after.name}, now {after.told}", captured={"invocation": seen.invocation})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Start it again, if nobody has done anything with it since."""
        params = StopUnitParams.model_validate(effect.params)
        self._allowed(params.unit)
        async with self._systemd() as systemd:
            seen = await systemd.unit(params.unit)
            if seen.runs:
                return Result(f"{seen.name} runs already", changed=False)
            # systemd forgets the last run of a unit that nothing refers to.
            if seen.invocation not in ("", result.captured["invocation"]):
                raise Refused(f"{seen.name} has run since, and is {seen.told}")
            up = stays_up(systemd, params.ready_seconds, params.steady_seconds)
            after = await carried_out(systemd, self.inverse, seen, params.ready_seconds, up)
        return Result(f"started {after.name} again, now {after.told}")

    def progress(self, effect: Effect, seen: Unit) -> Progress:
        """Done where it is down, untouched where the planned run goes on."""
        if seen.job or seen.load != effect.before["load"]:
            return Progress.UNCLEAR
        if seen.active in DOWN:
            return Progress.DONE
        same = seen.runs and seen.invocation == effect.before["invocation"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: StopUnitParams) -> Permissions:
        """Polkit's manage-units for this unit, with the verb stop, and start as the undo needs."""
        return self._permissions(params.unit)


def _must_stop(seen: Unit) -> None:
    if not seen.stoppable:
        raise Refused(f"unit {seen.name} cannot be stopped by hand")
    if seen.dependents:
        raise Refused(f"{', '.join(seen.dependents)} would go down with {seen.name}: stop them first")
