"""Which systemd, and which of its units may be acted on; and what all actions on units share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remediator.actions.systemd.bus import Systemd, Verb
from remediator.actions.systemd.units import Unit
from remediator.actions.systemd.waits import Wait
from remediator.domain.plans import Effect
from remediator.errors import Drifted, OutcomeUnknown, PermanentFailure, Refused
from remediator.pipeline.ports import Permissions

UnitName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9:_.\\@-]{0,200}\.(service|socket|timer)$")
]
"""A unit's full name, without a slash or a wildcard."""

BusAddress = Annotated[str, StringConstraints(pattern=r"^unix:path=/[A-Za-z0-9_./-]{1,200}$")]

MANAGE = "org.freedesktop.systemd1.manage-units"
"""The action that polkit is asked about."""

NEVER = ("dbus.service", "dbus.socket", "dbus-broker.service", "polkit.service")
"""Without these systemd cannot be asked to undo anything."""


class SystemdConnection(BaseModel):
    """The systemd of one host, by its D-Bus socket. `units` are the only ones that may be acted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["systemd"]
    bus_address: BusAddress = Field(
        default="unix:path=/run/dbus/system_bus_socket", description="of the system bus, as unix:path=..."
    )
    units: tuple[UnitName, ...] = Field(
        default=(), description="full names of the units that may be acted on"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="of one call to systemd")

    @field_validator("units")
    @classmethod
    def _not_our_own_line(cls, units: tuple[str, ...]) -> tuple[str, ...]:
        if cut := [unit for unit in units if unit in NEVER or unit.startswith("systemd-")]:
            raise ValueError(f"{', '.join(cut)}: systemd itself, or the line to it, is never acted on")
        return units


class SystemdAction:
    """What all of them share: the connection, and a line to systemd for as long as one use lasts."""

    Connection: ClassVar[type[BaseModel]] = SystemdConnection
    verb: ClassVar[Verb]
    inverse: ClassVar[Verb | None] = None

    def __init__(self, connection: SystemdConnection) -> None:
        self._connection = connection

    async def close(self) -> None:
        """Nothing is held between uses."""

    @asynccontextmanager
    async def _systemd(self) -> AsyncIterator[Systemd]:
        async with Systemd.reached(self._connection.bus_address, self._connection.timeout_seconds) as systemd:
            yield systemd

    def _allowed(self, unit: str) -> None:
        """Raise Refused unless the connection names it."""
        if unit not in self._connection.units:
            told = ", ".join(self._connection.units) or "none"
            raise Refused(f"{unit} is not among the units that the connection allows ({told})")

    async def _look(self, unit: str) -> Unit:
        self._allowed(unit)
        async with self._systemd() as systemd:
            return await systemd.unit(unit)

    def _permissions(self, unit: str) -> Permissions:
        verbs = [self.verb, *([self.inverse] if self.inverse else [])]
        return Permissions(systemd=tuple({"action": MANAGE, "unit": unit, "verb": verb} for verb in verbs))


def same_kind(effect: Effect, seen: Unit) -> None:
    """Raise Drifted where what systemd knows of the unit is not what was planned on, but for its run."""
    if seen.load != effect.before["load"]:
        raise Drifted(f"unit {seen.name} is {seen.load} and was {effect.before['load']}")
    if seen.job:
        raise Drifted(f"systemd has a job for {seen.name} already ({seen.job})")


async def carried_out(systemd: Systemd, verb: Verb, seen: Unit, within_seconds: float, wait: Wait) -> Unit:
    """Have systemd do it, await its job and then what is waited for; returns the unit as it is then.

    Raises:
        PermanentFailure: where the job came to nothing and the unit is as it was.
        OutcomeUnknown: where the job failed, or did not end in time: the unit is told as it is now.
    """
    outcome = await systemd.do(verb, seen.name, within_seconds)
    if outcome != "done":
        after = await systemd.afterwards(seen.name, verb)
        if (after.invocation, after.active, after.job) == (seen.invocation, seen.active, seen.job):
            raise PermanentFailure(
                f"systemd did not {verb} {seen.name}: its job was {outcome}; it is {after.told}"
            )
        raise OutcomeUnknown(f"the {verb} of {seen.name} is {outcome}; it is {after.told}")
    return await wait(seen)
