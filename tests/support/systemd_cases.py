"""One use of each action on units, with what a test needs to prepare it, to look at it and to spoil it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from remediator.actions.systemd import RestartUnit, StartUnit, StopUnit, SystemdConnection
from remediator.domain.plans import Progress
from tests.support.systemd import LINK, SystemdHost

UNIT, BESIDE, BASE, ABOVE = "shop-api.service", "shop-db.service", "shop-base.service", "shop-site.service"
FLAKY, SLOW, ALIAS, FOE = "shop-flaky.service", "shop-slow.service", "shop-alias.service", "shop-foe.service"
ONCE, FORGOTTEN = "shop-report.service", "shop-forgotten.service"

_RAN = "once-"
_RUNS_ONCE = (
    "[Unit]\nConditionPathExists=!/run/skipped\n"
    "[Service]\nType=oneshot\nExecStart=/usr/bin/test ! -e /run/broken\nExecStart=/bin/sleep 1.5\n"
    f"ExecStart=/usr/bin/mktemp /run/{_RAN}XXXXXX\n"
)
_LASTS = "ExecStart=/bin/sleep infinity\n"
FILES = {
    # Its start fails while /run/broken is there.
    UNIT: f"[Service]\nType=exec\nExecStartPre=/usr/bin/test ! -e /run/broken\n{_LASTS}",
    f"multi-user.target.wants/{UNIT}": f"{LINK}../{UNIT}",
    # What a loaded unit refers to, systemd remembers the runs of.
    BESIDE: f"[Unit]\nAfter={ONCE}\n[Service]\n{_LASTS}",
    ONCE: _RUNS_ONCE,
    FORGOTTEN: _RUNS_ONCE,
    f"multi-user.target.wants/{BESIDE}": f"{LINK}../{BESIDE}",
    BASE: f"[Service]\n{_LASTS}",
    ABOVE: f"[Unit]\nRequires={BASE}\nAfter={BASE}\n[Service]\n{_LASTS}",
    FOE: f"[Unit]\nConflicts={UNIT}\n[Service]\n{_LASTS}",
    FLAKY: "[Service]\nExecStart=/bin/sleep 0.3\n",
    SLOW: f"[Service]\nExecStartPre=/bin/sleep 3\nTimeoutStartSec=30\n{_LASTS}",
    ALIAS: f"{LINK}{BESIDE}",
}
"""The units of the tests' host, of which the first is allowed. The names of others look like it."""

Look = Mapping[str, Mapping[str, str]]


@dataclass
class Case:
    """A use of an action on a host that was prepared for it."""

    host: SystemdHost
    action: Any
    call: bytes
    """The D-Bus method that changes something."""
    wanted: str
    """The state when it is done."""
    spoil: Callable[[], None]
    """Make the plan stale."""
    after_crash: Progress
    """What a look tells when the host has booted again after a crash at the change."""
    undoes: bool = True

    def connection(self, *, bus_address: str = "", units: tuple[str, ...] = (UNIT,)) -> SystemdConnection:
        """The connection as a rule file would name it."""
        return SystemdConnection(
            kind="systemd", bus_address=bus_address or self.host.bus_address, units=units, timeout_seconds=10
        )

    def parameters(self, **more: Any) -> Any:
        """The parameters, validated."""
        given = {"unit": UNIT, "ready_seconds": 10, "steady_seconds": 0, **more}
        return self.action.Params.model_validate({"connection": "host", **given})

    def look(self) -> Look:
        """What an administrator sees of all units."""
        return self.host.show_all(UNIT, BESIDE, BASE, ABOVE, FLAKY, SLOW)


def fresh(host: SystemdHost) -> None:
    """All units as after a boot, in runs of their own."""
    host.boot()
    host.execute("rm", "-rf", "/run/broken", "/run/skipped", f"/run/systemd/system/{UNIT}.d", *runs(host))
    host.run("stop", ABOVE, BASE, FLAKY, SLOW, FOE, ONCE, FORGOTTEN, check=True)
    host.run("reset-failed", check=True)
    host.run("restart", UNIT, BESIDE, check=True)


def runs(host: SystemdHost) -> list[str]:
    """The files that the oneshot units left, one a run that came to its end."""
    code, out = host.execute("find", "/run", "-maxdepth", "1", "-name", f"{_RAN}*")
    assert code == 0, out
    return out.split()


def restart(host: SystemdHost) -> Case:
    """A unit that runs, beside another one."""
    fresh(host)

    def spoil() -> None:
        host.run("stop", UNIT, check=True)

    return Case(host, RestartUnit, b"RestartUnit", "active", spoil, Progress.DONE, undoes=False)


def stop(host: SystemdHost) -> Case:
    """A unit that runs, beside another one."""
    fresh(host)

    def spoil() -> None:
        host.run("restart", UNIT, check=True)

    return Case(host, StopUnit, b"StopUnit", "inactive", spoil, Progress.UNCLEAR)


def start(host: SystemdHost) -> Case:
    """A unit that was stopped, beside one that runs."""
    fresh(host)
    host.run("stop", UNIT, check=True)

    def spoil() -> None:
        host.run("start", UNIT, check=True)
        host.run("stop", UNIT, check=True)

    return Case(host, StartUnit, b"StartUnit", "active", spoil, Progress.DONE)


MAKERS: Mapping[str, Callable[[SystemdHost], Case]] = {
    "systemd.restart": restart,
    "systemd.start": start,
    "systemd.stop": stop,
}
