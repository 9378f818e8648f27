"""Actions on units: what their pure parts make of what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.systemd import (
    RestartUnit,
    RestartUnitParams,
    StartUnit,
    StartUnitParams,
    StopUnit,
    StopUnitParams,
    SystemdConnection,
    Unit,
)
from remediator.actions.systemd.connection import MANAGE
from remediator.actions.systemd.units import unit_of
from remediator.domain.plans import Effect, Progress
from remediator.errors import NothingSelected, Refused

NAME = "api.service"
HOST = SystemdConnection(kind="systemd", units=(NAME, "site.service"))
UP = Unit(NAME, "loaded", "active", "running", "run-1")
DOWN = replace(UP, active="inactive", sub="dead")
FAILED = replace(UP, active="failed", sub="failed", result="exit-code")
ONCE = replace(DOWN, oneshot=True, result="success")

ACTIONS: dict[str, tuple[Any, Any]] = {
    "restart": (RestartUnit(HOST), RestartUnitParams(connection="host", unit=NAME)),
    "stop": (StopUnit(HOST), StopUnitParams(connection="host", unit=NAME)),
    "start": (StartUnit(HOST), StartUnitParams(connection="host", unit=NAME)),
}


def plan(verb: str, seen: Unit) -> Effect:
    """The one effect."""
    action, params = ACTIONS[verb]
    (effect,) = action.plan(params, seen)
    assert isinstance(effect, Effect)
    return effect


@pytest.mark.parametrize(
    "unit", ["api", "*.service", "a/b.service", "api.service\n", "-H.service", "a b.service", ".."]
)
def test_a_unit_is_a_full_name(unit: str) -> None:
    """No pattern, path or option is a unit's name."""
    with pytest.raises(ValidationError):
        RestartUnitParams(connection="host", unit=unit)


@pytest.mark.parametrize("unit", ["dbus.service", "dbus.socket", "systemd-logind.service", "polkit.service"])
def test_the_line_to_systemd_cannot_be_allowed(unit: str) -> None:
    """A connection that would let us cut our own line is refused."""
    with pytest.raises(ValidationError, match="never acted on"):
        SystemdConnection(kind="systemd", units=(unit,))


@pytest.mark.parametrize(
    "address",
    ["tcp:host=1.2.3.4,port=1", "unix:path=/run/x,guid=1", "unixexec:path=/bin/sh", "unix:path=run"],
)
def test_the_bus_is_a_socket_of_this_host(address: str) -> None:
    """Neither a network address nor one that starts a program is a bus address."""
    with pytest.raises(ValidationError):
        SystemdConnection(kind="systemd", bus_address=address)


@pytest.mark.parametrize(
    ("verb", "seen", "expected"),
    [
        pytest.param("restart", UP, "restart api.service, active (running)", id="restart"),
        pytest.param(
            "restart", FAILED, "restart api.service, failed (failed, exit-code)", id="restart-failed"
        ),
        pytest.param(
            "restart",
            replace(UP, dependents=("site.service",)),
            "restart api.service, active (running), and with it site.service",
            id="restart-two",
        ),
        pytest.param("stop", UP, "stop api.service, active (running)", id="stop"),
        pytest.param(
            "stop",
            replace(UP, triggers=("api.socket",)),
            "stop api.service, active (running); api.socket can start it again",
            id="stop-triggered",
        ),
        pytest.param("start", DOWN, "start api.service, inactive (dead), with what it requires", id="start"),
    ],
)
def test_the_plan_in_words(verb: str, seen: Unit, expected: str) -> None:
    """One line tells the unit, its state and what else is touched."""
    assert expected == plan(verb, seen).summary


@pytest.mark.parametrize(
    ("verb", "seen", "error"),
    [
        pytest.param("restart", DOWN, NothingSelected, id="restart-down"),
        pytest.param("restart", replace(UP, load="not-found"), NothingSelected, id="unknown"),
        pytest.param("restart", replace(UP, load="masked"), Refused, id="masked"),
        pytest.param("restart", replace(UP, job="stop running"), Refused, id="job"),
        pytest.param("restart", replace(UP, stale=True), Refused, id="file-changed"),
        pytest.param("restart", replace(UP, stoppable=False), Refused, id="not-by-hand"),
        pytest.param("restart", replace(UP, conflicts=("x.service",)), Refused, id="conflict"),
        pytest.param("restart", replace(UP, dependents=("db.service",)), Refused, id="takes-others-down"),
        pytest.param(
            "restart", replace(UP, active="activating", sub="auto-restart"), Refused, id="restarts-by-itself"
        ),
        pytest.param("stop", DOWN, NothingSelected, id="stop-down"),
        pytest.param("stop", FAILED, NothingSelected, id="stop-failed"),
        pytest.param("stop", replace(UP, dependents=("site.service",)), Refused, id="stop-others"),
        pytest.param("start", UP, NothingSelected, id="start-up"),
        pytest.param("start", replace(DOWN, startable=False), Refused, id="start-not-by-hand"),
        pytest.param("start", replace(DOWN, conflicts=("x.service",)), Refused, id="start-conflict"),
    ],
)
def test_what_is_not_planned(verb: str, seen: Unit, error: type[Exception]) -> None:
    """Where nothing is to do, or more would be done than is told, there is no plan."""
    with pytest.raises(error):
        plan(verb, seen)


@pytest.mark.parametrize(
    ("verb", "first", "second", "expected"),
    [
        pytest.param("restart", UP, UP, Progress.UNTOUCHED, id="restart-same-run"),
        pytest.param("restart", UP, replace(UP, invocation="run-2"), Progress.DONE, id="restart-done"),
        pytest.param(
            "restart", UP, replace(FAILED, invocation="run-2"), Progress.UNCLEAR, id="restart-failed"
        ),
        pytest.param("restart", UP, DOWN, Progress.UNCLEAR, id="restart-stopped"),
        pytest.param("restart", UP, replace(UP, job="restart running"), Progress.UNCLEAR, id="restart-job"),
        pytest.param("stop", UP, DOWN, Progress.DONE, id="stop-done"),
        pytest.param("stop", UP, UP, Progress.UNTOUCHED, id="stop-same-run"),
        pytest.param("stop", UP, replace(UP, invocation="run-2"), Progress.UNCLEAR, id="stop-another-run"),
        pytest.param("start", DOWN, replace(UP, invocation="run-2"), Progress.DONE, id="start-done"),
        pytest.param("start", DOWN, DOWN, Progress.UNTOUCHED, id="start-same"),
        pytest.param("start", DOWN, replace(FAILED, invocation="run-2"), Progress.UNCLEAR, id="start-failed"),
        pytest.param("start", DOWN, replace(UP, load="masked"), Progress.UNCLEAR, id="masked"),
    ],
)
def test_progress(verb: str, first: Unit, second: Unit, expected: Progress) -> None:
    """Which run it is tells what has happened since the plan; a job under way tells nothing yet."""
    assert expected is ACTIONS[verb][0].progress(plan(verb, first), second)


def test_an_alias_is_refused() -> None:
    """A name that systemd resolves to another unit is told with that unit's name."""
    with pytest.raises(Refused, match=r"another name of db\.service"):
        unit_of(NAME, {"Id": "db.service"}, {})


@pytest.mark.parametrize(
    ("verb", "verbs"), [("restart", ["restart"]), ("stop", ["stop", "start"]), ("start", ["start", "stop"])]
)
def test_the_privilege_is_one_unit_and_the_verbs_that_are_used(verb: str, verbs: list[str]) -> None:
    """What polkit has to allow is the verb and that of the undo, on this unit only."""
    action, params = ACTIONS[verb]

    assert [{"action": MANAGE, "unit": NAME, "verb": one} for one in verbs] == list(
        action.permissions(params).systemd
    )


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(ONCE, Progress.UNTOUCHED, id="not-run-since"),
        pytest.param(replace(ONCE, invocation="run-2"), Progress.DONE, id="ran-and-ended-well"),
        pytest.param(
            replace(ONCE, invocation="run-2", active="failed", result="exit-code"),
            Progress.UNCLEAR,
            id="ran-and-failed",
        ),
        pytest.param(
            replace(ONCE, invocation="run-2", active="activating", job="start running"),
            Progress.UNCLEAR,
            id="runs",
        ),
        pytest.param(replace(ONCE, invocation=""), Progress.UNCLEAR, id="forgotten"),
    ],
)
def test_what_a_look_tells_of_a_oneshot_unit(seen: Unit, expected: Progress) -> None:
    """Done is another run that ended with success; what systemd has forgotten nobody can tell."""
    effect = plan("start", ONCE)

    assert "run api.service to its end, inactive (dead), with what it requires" == effect.summary
    assert not effect.undo
    assert expected is ACTIONS["start"][0].progress(effect, seen)


def test_a_oneshot_unit_is_not_restarted() -> None:
    """It is never up, so nothing would be up again."""
    with pytest.raises(Refused, match="never restarted"):
        plan("restart", replace(FAILED, oneshot=True))
