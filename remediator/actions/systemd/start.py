"""systemd.start: start one unit that is down, and wait until it is well."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.systemd.bus import Verb
from remediator.actions.systemd.connection import SystemdAction, UnitName, carried_out, same_kind
from remediator.actions.systemd.units import Unit, must_be_loaded, must_start
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions

DOWN = ("inactive", "failed")


class StartUnitParams(BaseModel):
    """Parameters of `systemd.start`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    unit: UnitName = Field(description="its full name, such as api.service; the connection must allow it")
    ready_seconds: int = Field(default=120, ge=1, le=1800, description="in which it has to be up")
    steady_seconds: int = Field(default=5, ge=0, le=300, description="how long it then has to stay up")
    stop_seconds: int = Field(
        default=120, ge=1, le=1800, description="in which it has to be down when the start is undone"
    )


class StartUnit(SystemdAction):
    """Start a systemd unit that is down, and wait until it is steady."""

    kind: ClassVar[str] = "systemd.start"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = StartUnitParams
    verb: ClassVar[Verb] = "start"
    inverse: ClassVar[Verb] = "stop"

    async def observe(self, params: StartUnitParams) -> Unit:
        """Look at the unit."""
        return await self._look(params.unit)

    def plan(self, params: StartUnitParams, seen: Unit) -> tuple[Effect, ...]:
        """One effect on a unit that is down, since its last run."""
        must_be_loaded(seen)
        if seen.active not in DOWN:
            raise NothingSelected(f"unit {seen.name} is {seen.told}; only one that is down is started")
        must_start(seen)
        return (
            Effect(
                action=self.kind,
                subject=f"unit {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"start {seen.name}, {seen.told}, with what it requires",
                before={"load": seen.load, "invocation": seen.invocation, "active": seen.active},
                figures={"units": 1},
                undo="stop it again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Start it, unless it is up; a job that we leave behind goes on."""
        params = StartUnitParams.model_validate(effect.params)
        self._allowed(params.unit)
        async with self._systemd() as systemd:
            seen = await systemd.unit(params.unit)
            same_kind(effect, seen)
            if seen.runs:
                return Result(f"{seen.name} is up already, {seen.told}", changed=False)
            if (seen.invocation, seen.active) != (effect.before["invocation"], effect.before["active"]):
                raise Drifted(f"{seen.name} was started since it was planned, and is {seen.told}")
            must_start(seen)

            async def well(old: Unit) -> Unit:
                return await systemd.steady(
                    old.name, params.ready_seconds, params.steady_seconds, unlike=old.invocation
                )

            after = await carried_out(systemd, self.verb, seen, params.ready_seconds, well)
        return Result(
            f"started {after.name}, now {after.told}",
            evidence={"invocation": after.invocation},
            captured={"invocation": after.invocation},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Stop it again, if it is still the run that we began and nothing depends on it by now."""
        params = StartUnitParams.model_validate(effect.params)
        self._allowed(params.unit)
        async with self._systemd() as systemd:
            seen = await systemd.unit(params.unit)
            if seen.active in DOWN:
                return Result(f"{seen.name} is {seen.told} already", changed=False)
            if seen.invocation != result.captured["invocation"]:
                raise Refused(f"{seen.name} was started again: that run is not ours")
            if seen.dependents:
                raise Refused(f"{', '.join(seen.dependents)} would go down with {seen.name}")

            async def well(old: Unit) -> Unit:
                after = await systemd.afterwards(old.name, "stop")
                if after.active not in DOWN:
                    raise OutcomeUnknown(f"{old.name} was stopped and is {after.told}")
                return after

            after = await carried_out(systemd, self.inverse, seen, params.stop_seconds, well)
        return Result(f"stopped {after.name} again, now {after.told}")

    def progress(self, effect: Effect, seen: Unit) -> Progress:
        """Done where it is up, untouched where it is down since the same run."""
        if seen.job or seen.load != effect.before["load"]:
            return Progress.UNCLEAR
        if seen.runs:
            return Progress.DONE
        same = (seen.invocation, seen.active) == (effect.before["invocation"], effect.before["active"])
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: StartUnitParams) -> Permissions:
        """Polkit's manage-units for this unit, with the verb start, and stop as the undo needs."""
        return self._permissions(params.unit)
