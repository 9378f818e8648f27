"""The few kinds of transition that all of the machine is made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from remediator.domain.events import Event
from remediator.domain.remediations import Command, Do, Phase, Remediation, Transition


def go(
    before: Remediation, phase: Phase, do: Do, *events: Event, step: int = 0, **changes: Any
) -> Transition:
    """To a phase, with a command to carry out."""
    return Transition(replace(before, phase=phase, pending=Command(do, step), **changes), events)


def wait(before: Remediation, phase: Phase, until: datetime, *events: Event, **changes: Any) -> Transition:
    """To a phase, until a time."""
    return Transition(replace(before, phase=phase, pending=Command(Do.WAIT, until=until), **changes), events)


def end(before: Remediation, outcome: Phase, reason: str, now: datetime, *events: Event) -> Transition:
    """To an outcome: nothing more happens."""
    after = replace(before, phase=outcome, outcome=outcome, reason=reason, pending=None, finished_at=now)
    return Transition(after, (*events, Event("finished", {"outcome": outcome.value, "reason": reason})))


def escalate(before: Remediation, outcome: Phase, reason: str, *events: Event) -> Transition:
    """To people; `outcome` is how it ends once they are told."""
    told = Event("escalating", {"outcome": outcome.value, "reason": reason, "to": list(before.escalate_to)})
    return go(before, Phase.ESCALATING, Do.ESCALATE, *events, told, outcome=outcome, reason=reason)


def preceded(first: Event, transition: Transition) -> Transition:
    """The same transition, with an event told first."""
    return replace(transition, events=(first, *transition.events))


def next_rung(before: Remediation, reason: str, *events: Event) -> Transition:
    """The next rung of the ladder, judged from the start."""
    told = Event("next_rung", {"rung": before.rung + 1, "reason": reason})
    climbed = replace(
        before,
        rung=before.rung + 1,
        plan=None,
        plans_made=0,
        agreed=(),
        step=0,
        results=(),
        verify_from=None,
        held_since=None,
        expires_at=None,
        outcome=None,
        reason=reason,
    )
    return go(climbed, Phase.MATCHED, Do.JUDGE, *events, told)
