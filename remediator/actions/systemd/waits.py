"""What is waited for once systemd has done a job: that the unit stays up, is down, or has run to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remediator.actions.systemd.bus import Systemd
from remediator.actions.systemd.units import DOWN, Unit
from remediator.errors import OutcomeUnknown, PermanentFailure

Wait = Callable[[Unit], Awaitable[Unit]]
"""Given the unit as it was before, returns it as it is; raises an ActionError where it is not as wanted."""


def stays_up(systemd: Systemd, ready_seconds: float, steady_seconds: float) -> Wait:
    """Up in another run within `ready_seconds`, and for `steady_seconds` without a break."""

    async def wait(old: Unit) -> Unit:
        return await systemd.steady(old.name, ready_seconds, steady_seconds, unlike=old.invocation)

    return wait


def is_down(systemd: Systemd) -> Wait:
    """Down."""

    async def wait(old: Unit) -> Unit:
        after = await systemd.afterwards(old.name, "stop")
        if after.active not in DOWN:
            raise OutcomeUnknown(f"{old.name} was stopped and is {after.told}")
        return after

    return wait


def has_ended_well(systemd: Systemd) -> Wait:
    """Of a oneshot unit: its job is done, which it is only when its commands have ended, and with success."""

    async def wait(old: Unit) -> Unit:
        after = await systemd.afterwards(old.name, "start")
        if after.skipped:
            raise PermanentFailure(f"{old.name} was not run: a condition of its file does not hold")
        if not (after.runs or after.ended_well):
            raise OutcomeUnknown(f"{old.name} was run and is {after.told}")
        return after

    return wait
