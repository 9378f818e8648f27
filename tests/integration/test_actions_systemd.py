"""The contract of every action on units, on a real systemd over its D-Bus socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.systemd import RestartUnit, StartUnit, StopUnit
from remediator.domain.plans import Effect, Progress
from remediator.domain.rules import Mode
from remediator.errors import (
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from remediator.privilege.forms import render
from remediator.privilege.uses import Use
from tests.support.bus_line import BusLine
from tests.support.contract import each_of
from tests.support.cutline import When
from tests.support.dockerd import DockerEngine
from tests.support.processes import program
from tests.support.systemd import SystemdHost
from tests.support.systemd_cases import (
    ABOVE,
    ALIAS,
    BASE,
    BESIDE,
    FILES,
    FLAKY,
    FOE,
    FORGOTTEN,
    MAKERS,
    ONCE,
    SLOW,
    UNIT,
    Case,
    fresh,
    runs,
)
from tests.support.waiting import until

Make = Callable[[str], Case]
NOBODY, OURS = 65534, 4242


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture(scope="module")
def host_once(docker_engine_once: DockerEngine) -> Iterator[SystemdHost]:
    """The module's host. Tests take `host`, which is this one, its units as after a boot."""
    host = SystemdHost(docker_engine_once, FILES)
    yield host
    host.close()
    docker_engine_once.start()
    docker_engine_once.clean()


@pytest.fixture
def host(host_once: SystemdHost) -> SystemdHost:
    """A host whose units are as after a boot."""
    fresh(host_once)
    return host_once


@pytest.fixture
def make(host_once: SystemdHost) -> Make:
    """Prepare the host for a use of an action."""
    return lambda kind: MAKERS[kind](host_once)


async def planned(action: Any, case: Case, **more: Any) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    params = case.parameters(**more)
    (effect,) = action.plan(params, await action.observe(params))
    return Effect(**json.loads(json.dumps(asdict(effect))))


def but_for_runs(look: Any) -> Any:
    """What an administrator sees, without which run it is."""
    return {name: {**shown, "InvocationID": ""} for name, shown in look.items()}


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(kind: str, make: Make) -> None:
    """Observing and planning twice gives the same effect, and leaves every unit in its run."""
    case = make(kind)
    before = case.look()
    action = case.action(case.connection())
    first, second = await planned(action, case), await planned(action, case)
    seen = await action.observe(case.parameters())

    assert first == second
    assert kind == first.action
    assert case.undoes == bool(first.undo)
    assert {"units": 1} == first.figures
    assert before[UNIT]["InvocationID"] == first.before["invocation"]
    assert action.progress(first, seen) is Progress.UNTOUCHED
    assert before == case.look()


@each("apply")
async def test_apply_does_what_was_planned(kind: str, make: Make) -> None:
    """After apply the unit is in the wanted state and run, and no other unit was touched."""
    case = make(kind)
    before = case.look()
    action = case.action(case.connection())
    effect = await planned(action, case)
    result = await action.apply(effect)
    after = case.look()

    assert result.changed
    assert case.wanted == after[UNIT]["ActiveState"]
    assert (kind == "systemd.stop") == (before[UNIT]["InvocationID"] == after[UNIT]["InvocationID"])
    assert {**before, UNIT: after[UNIT]} == after
    assert action.progress(effect, await action.observe(case.parameters())) is Progress.DONE
    assert json.dumps([result.evidence, result.captured])


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, make: Make) -> None:
    """Applying the same effect again leaves the unit in the run that the first apply gave it."""
    case = make(kind)
    action = case.action(case.connection())
    effect = await planned(action, case)
    await action.apply(effect)
    after = case.look()
    again = await action.apply(effect)

    assert not again.changed
    assert after == case.look()


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, make: Make) -> None:
    """What somebody else has changed since is left as they left it."""
    case = make(kind)
    action = case.action(case.connection())
    effect = await planned(action, case)
    case.spoil()
    spoilt = case.look()
    with pytest.raises(Drifted):
        await action.apply(effect)

    assert spoilt == case.look()


@each("undo")
async def test_undo_restores_or_says_that_nothing_can(kind: str, make: Make) -> None:
    """Stop and start undo each other, once; a restart says that it has no inverse."""
    case = make(kind)
    before = case.look()
    action = case.action(case.connection())
    effect = await planned(action, case)
    result = await action.apply(effect)
    if not case.undoes:
        after = case.look()
        with pytest.raises(Refused, match="no inverse"):
            await action.undo(effect, result)
        assert after == case.look()
        return
    undone, again = await action.undo(effect, result), await action.undo(effect, result)

    assert (True, False) == (undone.changed, again.changed)
    assert but_for_runs(before) == but_for_runs(case.look())


@pytest.mark.parametrize("kind", ["systemd.start", "systemd.stop"])
async def test_what_others_did_since_is_not_undone(kind: str, make: Make) -> None:
    """Where the unit has had another run since, the undo leaves it alone."""
    case = make(kind)
    action = case.action(case.connection())
    effect = await planned(action, case)
    result = await action.apply(effect)
    case.host.run("restart", UNIT, check=True)
    if kind == "systemd.stop":
        case.host.run("stop", UNIT, check=True)
    since = case.look()
    with pytest.raises(Refused, match=r"has run since|not ours"):
        await action.undo(effect, result)

    assert since == case.look()


HOSTILE: tuple[dict[str, Any], ...] = (
    *(
        {"unit": unit}
        for unit in (
            BESIDE,
            ALIAS,
            "../shop-api.service",
            "shop-api.service;reboot.target",
            "shop-api.service\n",
            "shop-*.service",
            "",
            "shop-api",
            "--now",
            "reboot.target",
            "x" * 300 + ".service",
        )
    ),
    {"ready_seconds": 0},
    {"ready_seconds": 10**6},
    {"steady_seconds": -1},
    {"shell": "id"},
)


@each("hostile")
async def test_hostile_parameters_are_refused(kind: str, make: Make) -> None:
    """Patterns, other units and what is out of bounds are refused; in a forged effect too."""
    case = make(kind)
    before = case.look()
    action = case.action(case.connection())
    effect = await planned(action, case)
    for hostile in HOSTILE:
        with pytest.raises((ValidationError, Refused)):
            await planned(action, case, **hostile)
        with pytest.raises((ValidationError, Refused)):
            await action.apply(replace(effect, params={**effect.params, **hostile}))

    assert before == case.look()


@each("hostile")
async def test_an_allowed_alias_is_refused(kind: str, make: Make) -> None:
    """A name that leads to another unit is not acted on, although the connection allows the name."""
    case = make(kind)
    before = case.look()
    action = case.action(case.connection(units=(ALIAS,)))
    with pytest.raises(Refused, match=f"another name of {BESIDE}"):
        await planned(action, case, unit=ALIAS)

    assert before == case.look()


@each("dies")
async def test_a_host_that_dies_leaves_a_defined_outcome(kind: str, make: Make) -> None:
    """Where the host dies at the change the outcome is unknown; when it has booted, a look tells how things stand."""
    case = make(kind)
    line = BusLine(case.host.socket, trigger=case.call, when="after", at_cut=case.host.crash)
    async with line:
        action = case.action(case.connection(bus_address=line.bus_address))
        effect = await planned(action, case)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
        with pytest.raises(TemporaryFailure):
            await action.observe(case.parameters())
    assert line.cut
    case.host.boot()
    action = case.action(case.connection())

    assert case.after_crash is action.progress(effect, await action.observe(case.parameters()))


@each("dies")
async def test_a_bus_that_is_not_there_is_told_as_such(kind: str, make: Make) -> None:
    """Where nothing was sent, nothing was changed, and that is what is said."""
    case = make(kind)
    effect = await planned(case.action(case.connection()), case)
    action = case.action(case.connection(bus_address="unix:path=/nowhere/bus"))
    with pytest.raises(TemporaryFailure):
        await action.observe(case.parameters())
    with pytest.raises(TemporaryFailure):
        await action.apply(effect)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", list(MAKERS))
async def test_a_lost_answer_is_found_out_by_looking_again(kind: str, when: When, make: Make) -> None:
    """Where only the line is cut, a second look tells whether it was done, and going on does it once in all."""
    case = make(kind)
    before = case.look()
    async with BusLine(case.host.socket, trigger=case.call, when=when) as line:
        action = case.action(case.connection(bus_address=line.bus_address))
        effect = await planned(action, case)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
    if when == "after":
        until(lambda: settled(case, before), what="the end of the job")
    action = case.action(case.connection())
    progress = action.progress(effect, await action.observe(case.parameters()))
    again = await action.apply(effect)

    assert progress is (Progress.UNTOUCHED if when == "before" else Progress.DONE)
    assert (when == "before") == again.changed
    assert case.wanted == case.look()[UNIT]["ActiveState"]


def settled(case: Case, before: Any) -> bool:
    """Whether systemd has done what it was asked."""
    shown = case.host.show(UNIT)
    other_run = shown["InvocationID"] != before[UNIT]["InvocationID"]
    return case.wanted == shown["ActiveState"] and (other_run or case.wanted == "inactive")


def as_user(case: Case, rule: str, uid: int = NOBODY) -> str:
    """Use the action as that user, where polkit has just this rule."""
    case.host.write("etc/polkit-1/rules.d/50-remediator.rules", rule)
    case.host.run("restart", "polkit.service", check=True)
    argv = [
        program("nsenter", package="util-linux"),
        f"--target={case.host.pid}",
        "--pid",
        "--",
        sys.executable,
        "-m",
        "tests.support.use_unit",
        str(uid),
        case.action.kind,
        case.connection().model_dump_json(),
        case.parameters().model_dump_json(),
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=60, cwd=root, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout))


def as_nobody(case: Case, permissions: Sequence[Any]) -> str:
    """Use the action as a user whom polkit allows just that."""
    conditions = [
        f'(action.id == "{one["action"]}" && action.lookup("unit") == "{one["unit"]}"'
        f' && action.lookup("verb") == "{one["verb"]}")'
        for one in permissions
    ]
    return as_user(
        case,
        "polkit.addRule(function(action, subject) {"
        f' if (subject.user == "nobody" && ({" || ".join(conditions) or "false"})) return polkit.Result.YES; }});\n',
    )


@pytest.mark.parametrize("kind", list(MAKERS))
async def test_polkit_takes_the_rule_that_is_printed(kind: str, make: Make) -> None:
    """`remediator permissions --systemd`, as a file of polkit's: our system user may do it, and nobody else."""
    case = make(kind)
    case.host.execute("useradd", "--uid", str(OURS), "remediator")
    needs = case.action(case.connection()).permissions(case.parameters())
    asked = Use("shop", "host", case.connection(), "a-rule", "a-playbook", "a step", Mode.APPROVE, needs)
    rule = render([asked], ["systemd"])

    assert as_user(case, rule, NOBODY).startswith("PermanentFailure: we are not allowed to")
    assert "done" == as_user(case, rule, OURS)


@each("privilege")
async def test_the_printed_polkit_rule_is_enough_and_one_less_is_not(kind: str, make: Make) -> None:
    """A user without any privilege may do it by a rule of just what is printed, and not by one of less."""
    case = make(kind)
    printed = case.action(case.connection()).permissions(case.parameters()).systemd
    for missing in printed:
        told = as_nobody(make(kind), [one for one in printed if one != missing])
        assert told.startswith("PermanentFailure: we are not allowed to"), told

    assert "done" == as_nobody(make(kind), printed)


async def test_nothing_is_planned_where_nothing_is_to_do(host: SystemdHost) -> None:
    """A unit that runs is not started, one that is down is neither stopped nor restarted, an unknown one is told."""
    case = MAKERS["systemd.stop"](host)
    allowed = case.connection(units=(UNIT, BASE, "nowhere.service"))
    for action, unit, why in (
        (StartUnit, UNIT, "only one that is down is started"),
        (StopUnit, BASE, "already"),
        (RestartUnit, BASE, "only one that is up, or has failed"),
        (RestartUnit, "nowhere.service", "there is no unit"),
    ):
        bound = replace(case, action=action)
        with pytest.raises(NothingSelected, match=why):
            await planned(action(allowed), bound, unit=unit)


async def test_a_failed_unit_is_restarted(make: Make) -> None:
    """A unit whose process was killed has failed, and runs again after a restart."""
    case = make("systemd.restart")
    case.host.run("kill", "--signal=KILL", UNIT, check=True)
    until(lambda: case.host.show(UNIT)["ActiveState"] == "failed", what="the failure")
    action = case.action(case.connection())
    effect = await planned(action, case)
    await action.apply(effect)

    assert "failed, signal" in effect.summary
    assert "active" == case.look()[UNIT]["ActiveState"]


@pytest.mark.parametrize("kind", ["systemd.restart", "systemd.start"])
async def test_a_start_that_fails_is_not_called_done(kind: str, make: Make) -> None:
    """Where the new run cannot start, the outcome says what the unit is now."""
    case = make(kind)
    case.host.execute("touch", "/run/broken")
    action = case.action(case.connection())
    with pytest.raises(OutcomeUnknown, match="failed"):
        await action.apply(await planned(action, case))


async def test_a_unit_that_does_not_last_is_not_called_done(host: SystemdHost) -> None:
    """A unit that starts well and ends at once has not been steady."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(FLAKY,)))
    with pytest.raises(OutcomeUnknown, match="without a break"):
        await action.apply(await planned(action, case, unit=FLAKY, ready_seconds=2, steady_seconds=1))


async def test_a_slow_start_is_bounded_and_left_to_systemd(host: SystemdHost) -> None:
    """When the time is over the job still runs: the outcome is unknown, and unclear until it has ended."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(SLOW,)))
    params = case.parameters(unit=SLOW, ready_seconds=1)
    effect = await planned(action, case, unit=SLOW, ready_seconds=1)
    with pytest.raises(OutcomeUnknown, match="running"):
        await action.apply(effect)
    assert Progress.UNCLEAR is action.progress(effect, await action.observe(params))
    until(lambda: host.show(SLOW)["ActiveState"] == "active", what="the slow start")

    assert Progress.DONE is action.progress(effect, await action.observe(params))
    assert not (await action.apply(effect)).changed


async def test_a_cancelled_start_leaves_a_state_that_a_look_tells(host: SystemdHost) -> None:
    """The job is carried out all the same; a look says so, and a second apply does nothing."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(SLOW,)))
    effect = await planned(action, case, unit=SLOW, ready_seconds=20)
    task = asyncio.create_task(action.apply(effect))
    while (await action.observe(case.parameters(unit=SLOW))).active != "activating":
        assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    until(lambda: host.show(SLOW)["ActiveState"] == "active", what="the slow start")

    assert not (await action.apply(effect)).changed


async def test_what_goes_down_with_a_unit_is_told_and_has_to_be_allowed(host: SystemdHost) -> None:
    """A unit that others require is not stopped under them, and restarted only where they are all allowed."""
    host.run("start", ABOVE, check=True)
    case = MAKERS["systemd.restart"](host)
    host.run("start", ABOVE, check=True)
    with pytest.raises(Refused, match=f"{ABOVE} would go down"):
        await planned(StopUnit(case.connection(units=(BASE,))), replace(case, action=StopUnit), unit=BASE)
    with pytest.raises(Refused, match=f"{ABOVE} is not among"):
        await planned(RestartUnit(case.connection(units=(BASE,))), case, unit=BASE)
    both = RestartUnit(case.connection(units=(BASE, ABOVE)))
    effect = await planned(both, case, unit=BASE)
    before = case.look()
    await both.apply(effect)
    after = case.look()

    assert {"units": 2} == effect.figures
    assert f"and with it {ABOVE}" in effect.summary
    for unit in (BASE, ABOVE):
        assert before[unit]["InvocationID"] != after[unit]["InvocationID"]


async def test_a_start_that_would_stop_another_unit_is_refused(host: SystemdHost) -> None:
    """A unit that conflicts with a running one is not started."""
    case = MAKERS["systemd.start"](host)
    host.run("start", UNIT, check=True)
    with pytest.raises(Refused, match=f"would stop {UNIT}"):
        await planned(StartUnit(case.connection(units=(FOE,))), case, unit=FOE)


@pytest.mark.contract("systemd.start", "reapply")
async def test_a_oneshot_unit_is_run_to_its_end_once(host: SystemdHost) -> None:
    """When apply returns its commands have ended; a second apply does not run them again; and nothing takes it back."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(ONCE,)))
    params = case.parameters(unit=ONCE)
    effect = await planned(action, case, unit=ONCE)
    result = await action.apply(effect)
    after = runs(host)
    again = await action.apply(effect)

    assert f"run {ONCE} to its end" in effect.summary
    assert result.changed
    assert 1 == len(after)
    assert Progress.DONE is action.progress(effect, await action.observe(params))
    assert not again.changed
    assert after == runs(host)
    with pytest.raises(Refused):
        await action.undo(effect, result)


async def test_a_oneshot_unit_that_fails_is_not_called_done(host: SystemdHost) -> None:
    """Its status is what counts: the outcome is unknown, since its commands may have done something by then."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(ONCE,)))
    params = case.parameters(unit=ONCE)
    effect = await planned(action, case, unit=ONCE)
    host.execute("touch", "/run/broken")
    with pytest.raises(OutcomeUnknown, match="failed"):
        await action.apply(effect)
    progress = action.progress(effect, await action.observe(params))
    host.execute("rm", "/run/broken")
    await action.apply(await planned(action, case, unit=ONCE))

    assert Progress.UNCLEAR is progress
    assert 1 == len(runs(host))


async def test_a_oneshot_unit_that_is_skipped_is_not_called_done(host: SystemdHost) -> None:
    """Its job is called done where a condition does not hold; nothing was run, and that is what is said."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(ONCE,)))
    effect = await planned(action, case, unit=ONCE)
    host.execute("touch", "/run/skipped")
    with pytest.raises(PermanentFailure, match="was not run"):
        await action.apply(effect)
    assert [] == runs(host)
    host.execute("rm", "/run/skipped")

    assert (await action.apply(effect)).changed
    assert 1 == len(runs(host))


async def test_a_oneshot_unit_that_takes_longer_goes_on(host: SystemdHost) -> None:
    """When the time is over it is left to end by itself, and a look tells when it has."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(ONCE,)))
    params = case.parameters(unit=ONCE)
    await action.apply(await planned(action, case, unit=ONCE))
    effect = await planned(action, case, unit=ONCE, ready_seconds=1)
    before = await action.observe(params)
    with pytest.raises(OutcomeUnknown, match="running"):
        await action.apply(effect)
    meanwhile = await action.observe(params)
    until(lambda: len(runs(host)) == 2, what="the end of its commands")

    assert Progress.UNTOUCHED is action.progress(effect, before)
    assert Progress.UNCLEAR is action.progress(effect, meanwhile)
    until(lambda: host.show(ONCE)["ActiveState"] == "inactive", what="its end")
    assert Progress.DONE is action.progress(effect, await action.observe(params))


async def test_a_run_that_systemd_forgets_is_unclear(host: SystemdHost) -> None:
    """Where no unit refers to it, nothing tells afterwards whether it was run; and so it is not run a second time."""
    case = MAKERS["systemd.start"](host)
    action = StartUnit(case.connection(units=(FORGOTTEN,)))
    effect = await planned(action, case, unit=FORGOTTEN)
    assert (await action.apply(effect)).changed

    assert 1 == len(runs(host))
    until(lambda: not host.show(FORGOTTEN)["InvocationID"], what="systemd to forget it")
    seen = await action.observe(case.parameters(unit=FORGOTTEN))
    assert Progress.UNCLEAR is action.progress(effect, seen)


async def test_a_oneshot_unit_is_not_restarted(host: SystemdHost) -> None:
    """There is nothing that would be up again."""
    case = MAKERS["systemd.restart"](host)
    with pytest.raises(Refused, match="never restarted"):
        await planned(RestartUnit(case.connection(units=(ONCE,))), case, unit=ONCE)


@each("stale")
async def test_a_masked_unit_is_left_alone(kind: str, make: Make) -> None:
    """A person who masks a unit between plan and apply means it."""
    case = make(kind)
    action = case.action(case.connection())
    effect = await planned(action, case)
    case.host.execute("mkdir", "-p", "/run/systemd/system.control")
    case.host.execute("ln", "-sf", "/dev/null", f"/run/systemd/system.control/{UNIT}")
    case.host.run("daemon-reload", check=True)
    try:
        with pytest.raises(Drifted, match="masked"):
            await action.apply(effect)
        with pytest.raises((Refused, PermanentFailure)):
            await planned(action, case)
    finally:
        case.host.execute("rm", f"/run/systemd/system.control/{UNIT}")
        case.host.run("daemon-reload", check=True)
