"""systemd.restart: restart one unit, and wait until it is well again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.systemd.bus import Verb
from remediator.actions.systemd.connection import SystemdAction, UnitName, carried_out, same_kind
from remediator.actions.systemd.units import Unit, must_be_loaded, must_start
from remediator.actions.systemd.waits import stays_up
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class RestartUnitParams(BaseModel):
    """Parameters of `systemd.restart`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    unit: UnitName = Field(description="its full name, such as api.service; the connection must allow it")
    ready_seconds: int = Field(default=120, ge=1, le=1800, description="in which it has to be up again")
    steady_seconds: int = Field(default=5, ge=0, le=300, description="how long it then has to stay up")


class RestartUnit(SystemdAction):
    """Restart a systemd unit that runs or has failed, and wait until its new run is steady."""

    kind: ClassVar[str] = "systemd.restart"
    # Not idempotent: while a first restart still stops the unit a look shows the old run, and a second one
    # would stop the new run again.
    idempotent: ClassVar[bool] = False
    Params: ClassVar[type[BaseModel]] = RestartUnitParams
    verb: ClassVar[Verb] = "restart"

    async def observe(self, params: RestartUnitParams) -> Unit:
        """Look at the unit."""
        return await self._look(params.unit)

    def plan(self, params: RestartUnitParams, seen: Unit) -> tuple[Effect, ...]:
        """One effect on exactly this run of the unit, and on those that go down with it."""
        must_be_loaded(seen)
        if seen.oneshot:
            raise Refused(f"{seen.name} runs to its end (oneshot): it is started, never restarted")
        if seen.sub == "auto-restart":
            raise Refused(
                f"systemd starts {seen.name} again and again by itself: one more start will not last"
            )
        if seen.active not in ("active", "failed"):
            raise NothingSelected(
                f"unit {seen.name} is {seen.told}; only one that is up, or has failed, is restarted"
            )
        must_start(seen)
        if not seen.stoppable:
            raise Refused(f"unit {seen.name} cannot be stopped by hand")
        for one in seen.dependents:
            self._allowed(one)
        also = f", and with it {', '.join(seen.dependents)}" if seen.dependents else ""
        return (
            Effect(
                action=self.kind,
                subject=f"unit {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"restart {seen.name}, {seen.told}{also}",
                before={
                    "load": seen.load,
                    "invocation": seen.invocation,
                    "dependents": list(seen.dependents),
                },
                figures={"units": 1 + len(seen.dependents)},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Restart it, unless that was done since it was planned; a job that we leave behind goes on."""
        params = RestartUnitParams.model_validate(effect.params)
        self._allowed(params.unit)
        async with self._systemd() as systemd:
            seen = await systemd.unit(params.unit)
            same_kind(effect, seen)
            if seen.invocation != effect.before["invocation"]:
                if seen.runs:
                    return Result(f"{seen.name} was already started again; it is {seen.told}", changed=False)
                raise Drifted(f"{seen.name} was started since it was planned, and is {seen.told}")
            if seen.active not in ("active", "failed"):
                raise Drifted(f"{seen.name} is {seen.told} now")
            if list(seen.dependents) != effect.before["dependents"]:
                raise Drifted(
                    f"other units would go down with {seen.name}: {', '.join(seen.dependents) or 'none'}"
                )
            for one in seen.dependents:
                self._allowed(one)
            must_start(seen)
            up = stays_up(systemd, params.ready_seconds, params.steady_seconds)
            after = await carried_out(systemd, self.verb, seen, params.ready_seconds, up)
        return Result(f"restarted {after.name}, now {after.told}", evidence={"invocation": after.invocation})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Nothing to take back: the same unit runs again."""
        raise Refused("a restart has no inverse")

    def progress(self, effect: Effect, seen: Unit) -> Progress:
        """Done where another run is up; untouched where the planned run is as it was."""
        if seen.job or seen.load != effect.before["load"]:
            return Progress.UNCLEAR
        if seen.invocation != effect.before["invocation"]:
            return Progress.DONE if seen.runs else Progress.UNCLEAR
        return Progress.UNTOUCHED if seen.active in ("active", "failed") else Progress.UNCLEAR

    def permissions(self, params: RestartUnitParams) -> Permissions:
        """Polkit's manage-units for this unit, with the verb restart."""
        return self._permissions(params.unit)
