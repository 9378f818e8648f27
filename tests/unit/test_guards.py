"""Every guard, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from remediator.domain.guards import (
    GUARDS,
    RECHECK,
    Allow,
    Deny,
    Facts,
    Limits,
    Verdict,
    World,
    claim,
    concurrency,
    cooldown,
    denials,
    firing,
    freshness,
    gates,
    inhibition,
    judge,
    kill_switch,
    maintenance_window,
    pause,
    rate_limit,
    resolved,
    silence,
)
from remediator.domain.windows import MaintenanceWindow
from remediator.testing import NOON as NOW

MINUTE = timedelta(minutes=1)
CALM = Facts(now=NOW, subject="redis-1", received_at=NOW, world=World(True, (), ()))


def resting(until: object) -> Deny:
    """The verdict of a cooldown that is not over."""
    return Deny("cooldown", "redis-1 is still resting", until=until)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last_finished_at", "expected"),
    [
        pytest.param(None, Allow("cooldown"), id="never-remediated"),
        pytest.param(NOW - 10 * MINUTE, Allow("cooldown"), id="rested-to-the-second"),
        pytest.param(NOW - 9 * MINUTE, resting(NOW + MINUTE), id="a-minute-early"),
        pytest.param(NOW + MINUTE, resting(NOW + 11 * MINUTE), id="clock-ran-back"),
    ],
)
def test_cooldown(last_finished_at: datetime | None, expected: Verdict) -> None:
    """A subject rests for the whole cooldown, and not a second longer."""
    facts = replace(CALM, last_finished_at=last_finished_at)

    assert expected == cooldown(facts, Limits(cooldown=10 * MINUTE))


# NOW is Thursday, 12:00 UTC.
LATER = Deny("maintenance_window", "the window w opens at 2026-01-15 14:00 UTC", until=NOW + 120 * MINUTE)
ALLOWED = Allow("maintenance_window")


@pytest.mark.parametrize(
    ("facts", "start_minute", "expected"),
    [
        pytest.param({}, None, ALLOWED, id="no-window"),
        pytest.param({}, 14 * 60, LATER, id="opens-later"),
        pytest.param({}, 12 * 60, ALLOWED, id="just-opened"),
        pytest.param({}, 11 * 60 + 1, ALLOWED, id="its-last-minute"),
        pytest.param({"critical": True}, 14 * 60, ALLOWED, id="critical-never-waits"),
        pytest.param({"acting": False}, 14 * 60, ALLOWED, id="a-dry-run-changes-nothing"),
        pytest.param({"begun": True}, 14 * 60, ALLOWED, id="what-has-begun-goes-on"),
        pytest.param({"alertless": True}, 14 * 60, LATER, id="the-clock-is-no-excuse"),
    ],
)
def test_maintenance_window(facts: dict[str, Any], start_minute: int | None, expected: Verdict) -> None:
    """A change begins inside its window of an hour, and the verdict says when that opens."""
    window = None if start_minute is None else MaintenanceWindow("w", (3,), start_minute, 60)

    assert expected == maintenance_window(replace(CALM, **facts), Limits(window=window))


@pytest.mark.parametrize(
    ("minutes_ago", "expected"),
    [
        pytest.param((), None, id="none"),
        pytest.param((5,), None, id="one-below"),
        pytest.param((5, 50), NOW + 10 * MINUTE, id="full-until-the-older-leaves"),
        pytest.param((5, 60), None, id="the-older-just-left"),
        pytest.param((1, 5, 50), NOW + 55 * MINUTE, id="over-full-waits-for-the-second"),
    ],
)
def test_rate_limit(minutes_ago: tuple[int, ...], expected: object) -> None:
    """At most two runs in any hour, and the verdict says when there is room again."""
    facts = replace(CALM, runs=tuple(NOW - ago * MINUTE for ago in minutes_ago))

    verdict = rate_limit(facts, Limits(rate=2, rate_window=60 * MINUTE))

    assert expected == (verdict.until if isinstance(verdict, Deny) else None)


@pytest.mark.parametrize(
    ("guard", "facts", "expected"),
    [
        pytest.param(kill_switch, {}, "allow", id="kill-off"),
        pytest.param(
            kill_switch, {"killed": "x", "begun": True}, "final quiet", id="kill-stops-what-has-begun"
        ),
        pytest.param(pause, {}, "allow", id="pause-off"),
        pytest.param(pause, {"paused": "x"}, "held quiet", id="pause-holds"),
        pytest.param(pause, {"paused": "x", "begun": True}, "allow", id="pause-lets-what-has-begun-go-on"),
        pytest.param(resolved, {}, "allow", id="open"),
        pytest.param(resolved, {"resolved": True}, "final quiet", id="resolved"),
        pytest.param(firing, {}, "allow", id="fires"),
        pytest.param(firing, {"world": World(False, (), ())}, "held quiet", id="does-not-fire"),
        pytest.param(firing, {"world": World(None, (), ())}, "held loud", id="prometheus-silent-is-no-yes"),
        pytest.param(silence, {}, "allow", id="not-silenced"),
        pytest.param(silence, {"world": World(True, ("s1",), ())}, "held quiet", id="silenced"),
        pytest.param(
            silence, {"world": World(True, None, None)}, "held loud", id="alertmanager-silent-is-no-yes"
        ),
        pytest.param(inhibition, {}, "allow", id="not-inhibited"),
        pytest.param(inhibition, {"world": World(True, (), ("a",))}, "held quiet", id="inhibited"),
        pytest.param(inhibition, {"world": World(True, None, None)}, "held loud", id="inhibition-unknown"),
        pytest.param(freshness, {"received_at": NOW - 300 * MINUTE}, "allow", id="old-to-the-second"),
        pytest.param(freshness, {"received_at": NOW - 301 * MINUTE}, "final loud", id="stale"),
        pytest.param(gates, {}, "allow", id="gates-met"),
        pytest.param(gates, {"gates_open": ("g",)}, "held loud", id="a-gate-is-open"),
        pytest.param(concurrency, {}, "allow", id="alone"),
        pytest.param(concurrency, {"active": 1}, "held loud", id="another-is-active"),
        pytest.param(claim, {}, "allow", id="unclaimed"),
        pytest.param(claim, {"claimed_by": "r2"}, "held loud", id="claimed"),
    ],
)
def test_guard(guard: Any, facts: dict[str, Any], expected: str) -> None:
    """Each guard allows, holds (and says until when) or denies for good; wishes are quiet, doubts are loud."""
    verdict = guard(replace(CALM, **facts), Limits())

    told = "allow"
    if isinstance(verdict, Deny):
        told = (
            f"{'held' if verdict.until == NOW + RECHECK else 'final'} {'quiet' if verdict.quiet else 'loud'}"
        )
    assert expected == told


def test_every_guard_is_asked() -> None:
    """One denial hides no other: the journal shows all the reasons."""
    verdicts = judge(replace(CALM, killed="x", paused="y", resolved=True), Limits())

    assert len(GUARDS) == len(verdicts)
    assert [deny.guard for deny in denials(verdicts)] == ["kill_switch", "pause", "resolved"]


def test_a_calm_world_passes() -> None:
    """With nothing against it, every guard allows."""
    assert denials(judge(CALM, Limits())) == ()


def test_each_guard_names_itself() -> None:
    """A verdict carries its guard's name, so that metrics and journal agree."""
    assert [guard.__name__ for guard in GUARDS] == [verdict.guard for verdict in judge(CALM, Limits())]
