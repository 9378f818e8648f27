"""A remediation is a state machine, and the machine is pure.

`decide(remediation, fact, now)` is the whole of it: the next phase, the events to journal, and at most one
command to carry out. Production, dry run, replay and the tests drive this same function.
"""

from __future__ import annotations

from datetime import datetime

from remediator.domain.applying import applied, reobserved, sampled, stop, undone
from remediator.domain.asking import judged, late, planned, rechecked, voted
from remediator.domain.events import Event
from remediator.domain.facts import (
    Applied,
    Begun,
    Escalated,
    Fact,
    Failed,
    Interrupted,
    Judged,
    Planned,
    Reobserved,
    Resolved,
    Sampled,
    Undone,
    Voted,
    Woken,
)
from remediator.domain.moves import end, escalate, go, preceded
from remediator.domain.remediations import FINAL, Do, Phase, Remediation, Transition
from remediator.errors import IllegalTransition


def decide(before: Remediation, fact: Fact, now: datetime) -> Transition:  # noqa: C901 - the machine's own table
    """What follows from `fact`.

    Raises:
        IllegalTransition: when the phase cannot take it.
    """
    match fact, before.phase:
        case Voted(vote), phase:
            return voted(before, vote, now) if phase is Phase.AWAITING_APPROVAL else late(before)
        case _, phase if phase in FINAL:
            return Transition(before)
        case Resolved(), _:
            return _alert_resolved(before, now)
        case Interrupted(), _:
            return _interrupted(before, now)
        case Begun(), Phase.MATCHED:
            return go(before, Phase.MATCHED, Do.JUDGE)
        case Woken(), _:
            return _woken(before, now)
        case Judged(), Phase.MATCHED:
            return judged(before, fact, now)
        case Judged(), Phase.APPROVED | Phase.EXECUTING:
            return rechecked(before, fact, now)
        case Planned(plan), Phase.JUDGED:
            return planned(before, plan, now)
        case Applied(result), Phase.EXECUTING:
            return applied(before, result, now)
        case Reobserved(progress), Phase.EXECUTING:
            return reobserved(before, progress, now)
        case Sampled(), Phase.VERIFYING:
            return sampled(before, fact, now)
        case Undone(result), Phase.UNDOING:
            return undone(before, result, now)
        case Escalated(), Phase.ESCALATING:
            return end(before, before.outcome or Phase.FAILED, before.reason, now)
        case Failed(), _:
            return _failed(before, fact, now)
    raise IllegalTransition(f"{before.id} in {before.phase} cannot take {type(fact).__name__}")


def _alert_resolved(before: Remediation, now: datetime) -> Transition:
    told = Event("alert_resolved")
    if before.phase in (Phase.MATCHED, Phase.JUDGED, Phase.AWAITING_APPROVAL):
        return end(before, Phase.RESOLVED_ITSELF, "the alert resolved before anything was done", now, told)
    if before.phase is Phase.APPROVED:
        return end(before, Phase.RESOLVED_ITSELF, "the alert resolved before the first step", now, told)
    # Something was begun: the recheck before the next step, or the verification, will see it.
    return Transition(before, (told,))


def _woken(before: Remediation, now: datetime) -> Transition:
    if before.pending is None or before.pending.do not in (Do.WAIT, Do.ASK):
        return Transition(before)
    if before.phase is Phase.AWAITING_APPROVAL:
        if before.expires_at is not None and now >= before.expires_at:
            return escalate(before, Phase.EXPIRED, "nobody decided in time", Event("expired"))
        return Transition(before)
    if before.pending.until is not None and now < before.pending.until:
        return Transition(before)
    if before.phase is Phase.VERIFYING:
        return go(before, Phase.VERIFYING, Do.SAMPLE)
    return go(before, before.phase, Do.JUDGE)


def _interrupted(before: Remediation, now: datetime) -> Transition:
    pending = before.pending
    told = Event("interrupted", {"phase": before.phase.value, "pending": pending.do.value if pending else ""})
    if pending is None or pending.do in (Do.WAIT, Do.ASK):
        return Transition(before)
    if pending.do is Do.APPLY:
        unknown = Event("unknown", {"step": pending.step})
        return go(before, Phase.EXECUTING, Do.REOBSERVE, told, unknown, step=pending.step)
    if pending.do is Do.UNDO:
        return escalate(before, Phase.UNKNOWN, f"the undo of step {pending.step + 1} was interrupted", told)
    # Judging, planning, sampling and telling people change nothing outside: they are simply done again.
    return Transition(before, (told,))


def _failed(before: Remediation, fact: Failed, now: datetime) -> Transition:
    pending = before.pending
    doing = pending.do if pending else Do.WAIT
    told = Event("failed", {"doing": doing.value, "reason": fact.reason, "certain": fact.certain})
    if doing is Do.APPLY and not fact.certain:
        return go(before, Phase.EXECUTING, Do.REOBSERVE, told, step=before.step)
    if doing is Do.REOBSERVE:
        return escalate(
            before, Phase.UNKNOWN, f"step {before.step + 1} may have happened: {fact.reason}", told
        )
    if doing is Do.APPLY:
        return stop(before, f"step {before.step + 1} failed: {fact.reason}", now, told)
    if doing is Do.UNDO:
        return escalate(before, Phase.UNKNOWN, f"the undo failed: {fact.reason}", told)
    if doing is Do.SAMPLE:
        return preceded(told, sampled(before, Sampled(None, fact.reason), now))
    if doing is Do.RECHECK and before.step > 0:
        return stop(before, f"stopped before step {before.step + 1}: {fact.reason}", now, told)
    return escalate(before, Phase.FAILED, fact.reason, told)
