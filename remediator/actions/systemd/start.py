"""systemd.start: start one unit that is down, and wait until it is well; a oneshot unit, until it has ended."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.systemd.bus import Verb
from remediator.actions.systemd.connection import SystemdAction, UnitName, carried_out, same_kind
from remediator.actions.systemd.units import DOWN, Unit, must_be_loaded, must_start
from remediator.actions.systemd.waits import has_ended_well, is_down, stays_up
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class StartUnitParams(BaseModel):
    """Parameters of `systemd.start`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    unit: UnitName = Field(description="its full name, such as api.service; the connection must allow it")
    ready_seconds: int = Field(
        default=120,
        ge=1,
        le=43_200,
        description="in which it has to be up; a oneshot unit, in which it has to have ended with success",
    )
    steady_seconds: int = Field(
        default=5,
        ge=0,
        le=300,
        description="how long it then has to stay up; of no meaning for a oneshot unit",
    )
    stop_seconds: int = Field(
        default=120, ge=1, le=1800, description="in which it has to be down when the start is undone"
    )


class StartUnit(SystemdAction):
    """Start a systemd unit that is down, and wait until it is steady; a oneshot unit is run to its end.

    Of a oneshot unit that no loaded unit refers to, systemd forgets the run: what was interrupted is then unclear.
    """

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
                summary=f"{'run' if seen.oneshot else 'start'} {seen.name}"
                f"{' to its end' if seen.oneshot else ''}, {seen.told}, with what it requires",
                before={"load": seen.load, "invocation": seen.invocation, "active": seen.active},
                figures={"units": 1},
                undo="" if seen.oneshot else "stop it again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Start it, unless it is up or was run since; a job that we leave behind goes on."""
        params = StartUnitParams.model_validate(effect.params)
        self._allowed(params.unit)
        async with self._systemd() as systemd:
            seen = await systemd.unit(params.unit)
            same_kind(effect, seen)
            if seen.runs:
                return Result(f"{seen.name} is up already, {seen.told}", changed=False)
            if _was_run(effect, seen):
                return Result(f"{seen.name} was run since it was planned, and ended well", changed=False)
            if (seen.invocation, seen.active) != (effect.before["invocation"], effect.before["active"]):
                raise Drifted(f"{seen.name} was started since it was planned, and is {seen.told}")
            must_start(seen)
            up = stays_up(systemd, params.ready_seconds, params.steady_seconds)
            wait = has_ended_well(systemd) if seen.oneshot else up
            after = await carried_out(systemd, self.verb, seen, params.ready_seconds, wait)
        return Result(
            f"{'ran' if seen.oneshot else 'started'} {after.name}, now {after.told}",
            evidence={"invocation": after.invocation},
            captured={"invocation": after.invocation},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Stop it again, if it is still the run that we began and nothing depends on it by now."""
        if not effect.undo:
            raise Refused("what a oneshot unit did is not taken back by stopping it")
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
            after = await carried_out(systemd, self.inverse, seen, params.stop_seconds, is_down(systemd))
        return Result(f"stopped {after.name} again, now {after.told}")

    def progress(self, effect: Effect, seen: Unit) -> Progress:
        """Done where it is up or was run to its end, untouched where it is down since the same run."""
        if seen.job or seen.load != effect.before["load"]:
            return Progress.UNCLEAR
        if seen.runs or _was_run(effect, seen):
            return Progress.DONE
        if seen.oneshot and not seen.invocation:
            return Progress.UNCLEAR  # never run, or run and forgotten
        same = (seen.invocation, seen.active) == (effect.before["invocation"], effect.before["active"])
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: StartUnitParams) -> Permissions:
        """Polkit's manage-units for this unit, with the verb start, and stop as the undo needs."""
        return self._permissions(params.unit)


def _was_run(effect: Effect, seen: Unit) -> bool:
    """Whether a oneshot unit has ended well in another run than the one that was planned on."""
    other = seen.invocation not in ("", effect.before["invocation"])
    return seen.oneshot and seen.ended_well and other and not seen.job
