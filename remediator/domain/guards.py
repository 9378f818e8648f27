"""Guards: pure questions that each remediation must pass, asked again right before every step.

Adding one is one function here, its line in `GUARDS`, and a table of cases in tests/unit/test_guards.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.domain.windows import MaintenanceWindow

RECHECK = timedelta(seconds=30)
"""How soon a verdict that can change by itself is asked for again. A choice of ours, no document names it."""


@dataclass(frozen=True, slots=True)
class Allow:
    """The guard has nothing against it."""

    guard: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The guard is against it. With `until` it is held and asked again then; without, it is final.

    `quiet` denials are somebody's wish (a silence, a pause), so people need not be called for them.
    """

    guard: str
    reason: str
    until: datetime | None = None
    quiet: bool = False


Verdict = Allow | Deny


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rule allows. `rate` counts runs of the rule within `rate_window`; `concurrency` counts
    remediations of the same system at once; `fresh` bounds the age of the newest notification; `window` is the
    only time in which it may begin.
    """

    cooldown: timedelta = timedelta(minutes=10)
    rate: int = 6
    rate_window: timedelta = timedelta(hours=1)
    concurrency: int = 1
    fresh: timedelta = timedelta(hours=5)
    hold: timedelta = timedelta(hours=1)
    window: MaintenanceWindow | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What Prometheus and Alertmanager say of one alert. None where nobody answered: that is never a yes."""

    firing: bool | None = None
    silenced_by: tuple[str, ...] | None = None
    inhibited_by: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards are told. The counts come from the ledger, inside the transaction that reserves the run.

    `acting` is false for a dry run, which changes nothing and therefore claims nothing.
    """

    now: datetime
    subject: str
    received_at: datetime
    resolved: bool = False
    paused: str = ""
    killed: str = ""
    world: World = World()
    gates_open: tuple[str, ...] = ()
    last_finished_at: datetime | None = None
    runs: tuple[datetime, ...] = ()
    active: int = 0
    claimed_by: str = ""
    begun: bool = False
    """Whether a first step was taken already: a pause stops new runs, the kill switch stops these too."""
    alertless: bool = False
    """Whether the clock or a person started it and not an alert."""
    acting: bool = True
    critical: bool = False
    """Whether the alert is critical: nothing that is has to wait for a quiet hour."""


def kill_switch(facts: Facts, limits: Limits) -> Verdict:
    """Stop before the next step."""
    if facts.killed:
        return Deny("kill_switch", f"the kill switch is on: {facts.killed}", quiet=True)
    return Allow("kill_switch")


def pause(facts: Facts, limits: Limits) -> Verdict:
    """Start nothing new; what has begun goes on."""
    if facts.paused and not facts.begun:
        return Deny("pause", f"paused: {facts.paused}", until=facts.now + RECHECK, quiet=True)
    return Allow("pause")


def resolved(facts: Facts, limits: Limits) -> Verdict:
    """Never act on an alert that Alertmanager told us is over."""
    if facts.resolved:
        return Deny("resolved", "the alert is resolved", quiet=True)
    return Allow("resolved")


def firing(facts: Facts, limits: Limits) -> Verdict:
    """Act only where Prometheus itself says that the alert is firing now; where there is none it says nothing."""
    if facts.alertless:
        return Allow("firing")
    if facts.world.firing is None:
        return Deny("firing", "Prometheus did not say whether the alert is firing", until=facts.now + RECHECK)
    if not facts.world.firing:
        reason = "Prometheus says that the alert is not firing"
        return Deny("firing", reason, until=facts.now + RECHECK, quiet=True)
    return Allow("firing")


def silence(facts: Facts, limits: Limits) -> Verdict:
    """An Alertmanager silence is the universal handbrake; the one that we made ourselves while we act is not."""
    silences = facts.world.silenced_by
    if silences is None:
        return Deny("silence", "Alertmanager did not say whether it is silenced", until=facts.now + RECHECK)
    if silences:
        return Deny("silence", f"silenced by {', '.join(silences)}", until=facts.now + RECHECK, quiet=True)
    return Allow("silence")


def inhibition(facts: Facts, limits: Limits) -> Verdict:
    """An inhibited alert is a consequence: its cause is acted on instead."""
    inhibitors = facts.world.inhibited_by
    if inhibitors is None:
        return Deny(
            "inhibition", "Alertmanager did not say whether it is inhibited", until=facts.now + RECHECK
        )
    if inhibitors:
        return Deny(
            "inhibition", f"inhibited by {', '.join(inhibitors)}", until=facts.now + RECHECK, quiet=True
        )
    return Allow("inhibition")


def freshness(facts: Facts, limits: Limits) -> Verdict:
    """Act only on news: a notification older than `fresh` may tell of a world that is gone."""
    age = facts.now - facts.received_at
    if age > limits.fresh:
        return Deny("freshness", f"the newest notification is {int(age.total_seconds())} s old")
    return Allow("freshness")


def gates(facts: Facts, limits: Limits) -> Verdict:
    """Every documented gate of the playbook must hold; one that nobody could answer does not."""
    if facts.gates_open:
        return Deny("gates", f"not met: {', '.join(facts.gates_open)}", until=facts.now + RECHECK)
    return Allow("gates")


def maintenance_window(facts: Facts, limits: Limits) -> Verdict:
    """A change that has a documented window begins in it; what has begun goes on, and what is critical never waits."""
    window = limits.window
    if window is None or facts.begun or facts.critical or not facts.acting:
        return Allow("maintenance_window")
    opens_at = window.opens_at(facts.now)
    if opens_at <= facts.now:
        return Allow("maintenance_window")
    reason = f"the window {window.name} opens at {opens_at:%Y-%m-%d %H:%M} UTC"
    return Deny("maintenance_window", reason, until=opens_at)


def cooldown(facts: Facts, limits: Limits) -> Verdict:
    """Let a subject rest for the whole cooldown after its last remediation."""
    if facts.last_finished_at is None:
        return Allow("cooldown")
    rested_at = facts.last_finished_at + limits.cooldown
    if facts.now >= rested_at:
        return Allow("cooldown")
    return Deny("cooldown", f"{facts.subject} is still resting", until=rested_at)


def rate_limit(facts: Facts, limits: Limits) -> Verdict:
    """At most `rate` runs of a rule within any window."""
    recent = sorted(run for run in facts.runs if run > facts.now - limits.rate_window)
    if len(recent) < limits.rate:
        return Allow("rate_limit")
    free_at = recent[-limits.rate] + limits.rate_window
    return Deny(
        "rate_limit", f"{len(recent)} runs within the window, {limits.rate} are allowed", until=free_at
    )


def concurrency(facts: Facts, limits: Limits) -> Verdict:
    """At most so many remediations of one system at once."""
    if facts.active < limits.concurrency:
        return Allow("concurrency")
    return Deny("concurrency", f"{facts.active} others are active in this system", until=facts.now + RECHECK)


def claim(facts: Facts, limits: Limits) -> Verdict:
    """One active remediation per subject."""
    if not facts.claimed_by:
        return Allow("claim")
    return Deny("claim", f"{facts.subject} is held by {facts.claimed_by}", until=facts.now + RECHECK)


Guard = Callable[[Facts, Limits], Verdict]

GUARDS: tuple[Guard, ...] = (
    kill_switch,
    pause,
    resolved,
    firing,
    silence,
    inhibition,
    freshness,
    gates,
    maintenance_window,
    cooldown,
    rate_limit,
    concurrency,
    claim,
)


def judge(facts: Facts, limits: Limits) -> tuple[Verdict, ...]:
    """Ask every guard, so that the journal shows all the reasons, not the first."""
    return tuple(guard(facts, limits) for guard in GUARDS)


def denials(verdicts: tuple[Verdict, ...]) -> tuple[Deny, ...]:
    """The verdicts against; empty means go."""
    return tuple(verdict for verdict in verdicts if isinstance(verdict, Deny))
