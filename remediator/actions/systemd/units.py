"""What systemd says of a unit, and what of that forbids to touch it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.errors import NothingSelected, Refused

RUNS = ("active", "reloading")
"""The states of a unit that is up."""

DOWN = ("inactive", "failed")
"""The states of a unit that is down."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as systemd shows it. `invocation` tells one run from the next; empty where none is remembered."""

    name: str
    load: str
    active: str
    sub: str
    invocation: str = ""
    job: str = ""
    """The state of a job that is queued or under way; empty where there is none."""
    result: str = ""
    restarts: int = 0
    """How often systemd has started it again by itself."""
    stale: bool = False
    """Whether its file was changed since systemd has read it."""
    startable: bool = True
    stoppable: bool = True
    dependents: tuple[str, ...] = ()
    """Running units that go down with it."""
    conflicts: tuple[str, ...] = ()
    """Running units that are stopped when it is started."""
    triggers: tuple[str, ...] = ()
    """Running sockets, timers and paths that can start it again."""
    oneshot: bool = False
    """Whether it runs commands to their end (Type=oneshot), rather than being up."""
    skipped: bool = False
    """Whether its conditions did not hold when it was to start last, so that nothing was run."""

    @property
    def runs(self) -> bool:
        """Whether it is up."""
        return self.active in RUNS

    @property
    def ended_well(self) -> bool:
        """Whether it is down, and not because its last run failed."""
        return self.active == "inactive" and self.result == "success"

    @property
    def told(self) -> str:
        """Its state, for a person."""
        why = f", {self.result}" if self.result not in ("", "success") else ""
        return f"{self.active} ({self.sub}{why})"


def unit_of(name: str, unit: Mapping[str, Any], service: Mapping[str, Any], job: str = "") -> Unit:
    """A unit from the properties of its two interfaces; what names other units is completed by who asks them.

    Raises:
        Refused: where the name is an alias of another unit.
    """
    if unit["Id"] != name:
        raise Refused(f"{name} is another name of {unit['Id']}: the connection has to allow that one")
    return Unit(
        name=name,
        load=unit["LoadState"],
        active=unit["ActiveState"],
        sub=unit["SubState"],
        invocation=bytes(unit["InvocationID"]).hex(),
        job=job,
        result=service.get("Result", ""),
        restarts=service.get("NRestarts", 0),
        stale=unit["NeedDaemonReload"],
        oneshot=service.get("Type") == "oneshot",
        # Before a first start there is no result, and systemd shows it as false.
        skipped=unit["ConditionTimestamp"] > 0 and not unit["ConditionResult"],
        startable=unit["CanStart"] and not unit["RefuseManualStart"],
        stoppable=unit["CanStop"] and not unit["RefuseManualStop"],
    )


def must_be_loaded(seen: Unit) -> None:
    """Raise unless systemd knows the unit, may be told about it, and has nothing under way for it."""
    if seen.load == "not-found":
        raise NothingSelected(f"there is no unit {seen.name}")
    if seen.load != "loaded":
        raise Refused(f"unit {seen.name} is {seen.load}")
    if seen.job:
        raise Refused(f"systemd has a job for {seen.name} already ({seen.job}); it is {seen.told}")


def must_start(seen: Unit) -> None:
    """Raise unless a start would start this file, and nothing else would be stopped for it."""
    if not seen.startable:
        raise Refused(f"unit {seen.name} cannot be started by hand")
    if seen.stale:
        raise Refused(
            f"the file of {seen.name} was changed and not loaded: daemon-reload is a person's decision"
        )
    if seen.conflicts:
        raise Refused(f"a start of {seen.name} would stop {', '.join(seen.conflicts)}")
