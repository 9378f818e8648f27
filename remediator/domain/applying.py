"""The machine from the first step on: outcomes, verification, undo."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from remediator.domain.events import Event
from remediator.domain.facts import Sampled
from remediator.domain.moves import end, escalate, go, next_rung, preceded, wait
from remediator.domain.plans import Progress, Result
from remediator.domain.remediations import Do, Phase, Remediation, Transition

MAX_ATTEMPTS = 3
"""How often one step may be begun when its outcome is lost each time and a look finds it untouched."""


def applied(before: Remediation, result: Result, now: datetime) -> Transition:
    """The step is done: recheck before the next, or verify."""
    assert before.plan is not None
    told = Event("outcome", {"step": before.step, "changed": result.changed, "summary": result.summary})
    done = replace(before, step=before.step + 1, attempts=0, results=(*before.results, result))
    if done.step < len(before.plan.steps):
        return go(done, Phase.EXECUTING, Do.RECHECK, told, step=done.step)
    return verify(done, now, told)


def reobserved(before: Remediation, seen: Progress, now: datetime) -> Transition:
    """What a second look says decides: done, run again where that is safe, or a person."""
    assert before.plan is not None
    told = Event("reobserved", {"step": before.step, "progress": seen.value})
    if seen is Progress.DONE:
        return preceded(told, applied(before, Result("found done after the outcome was lost"), now))
    again = before.plan.steps[before.step].idempotent and before.attempts < MAX_ATTEMPTS
    if seen is Progress.UNTOUCHED and again:
        return go(before, Phase.EXECUTING, Do.RECHECK, told, step=before.step)
    reason = f"step {before.step + 1} ({before.plan.steps[before.step].action}) may or may not have happened"
    return escalate(before, Phase.UNKNOWN, reason, told)


def verify(before: Remediation, now: datetime, *events: Event) -> Transition:
    """Everything is done; now Prometheus has to say so, or nothing is called remediated."""
    if before.current.verify is None:
        if before.plan is not None and not before.plan.steps:
            return end(before, Phase.REMEDIATED, "a person confirmed it", now, *events)
        return escalate(
            before, Phase.INEFFECTIVE, "nothing says how to verify it, so it is not verified", *events
        )
    told = Event("verifying", {"expr": before.current.verify.expr})
    return go(before, Phase.VERIFYING, Do.SAMPLE, *events, told, verify_from=now, held_since=None)


def sampled(before: Remediation, fact: Sampled, now: datetime) -> Transition:
    """One look at the symptom: gone for long enough, not yet, or too late. No sample is never success."""
    verify, since = before.current.verify, before.verify_from
    assert verify is not None and since is not None
    held_since = (before.held_since or now) if fact.gone else None
    news = (
        (Event("sampled", {"gone": fact.gone, "value": fact.value}),)
        if held_since != before.held_since
        else ()
    )
    if held_since is not None and now - held_since >= verify.hold:
        if verify.closure == "human":
            return escalate(
                before, Phase.INEFFECTIVE, "the figure is good; a person has to close this one", *news
            )
        return end(before, Phase.REMEDIATED, f"verified: {verify.expr} held for {verify.hold}", now, *news)
    if now - since >= verify.within:
        why = (
            "no sample"
            if fact.gone is None
            else "the symptom is still there"
            if not fact.gone
            else "not for long"
        )
        missed = Event("not_verified", {"why": why, "value": fact.value})
        return stop(before, f"not verified within {verify.within}: {why}", now, *news, missed, failed=False)
    return wait(before, Phase.VERIFYING, now + verify.every, *news, held_since=held_since)


def stop(before: Remediation, reason: str, now: datetime, *events: Event, failed: bool = True) -> Transition:
    """A step failed or the verification did: undo what has an inverse, last first; then go on to people."""
    outcome = Phase.FAILED if failed else Phase.INEFFECTIVE
    stopped = replace(before, outcome=outcome, reason=reason)
    last = _last_undoable(stopped, len(stopped.results))
    if last is not None:
        return go(stopped, Phase.UNDOING, Do.UNDO, *events, Event("undoing", {"step": last}), step=last)
    return _after_undo(stopped, *events)


def _last_undoable(remediation: Remediation, below: int) -> int | None:
    plan = remediation.plan
    if plan is None or not plan.undo:
        return None
    for index in range(below - 1, -1, -1):
        if remediation.results[index].changed and any(effect.undo for effect in plan.steps[index].effects):
            return index
    return None


def undone(before: Remediation, result: Result, now: datetime) -> Transition:
    """One step is undone; the one before is next, then people."""
    assert before.pending is not None
    told = Event("undone", {"step": before.pending.step, "summary": result.summary})
    last = _last_undoable(before, before.pending.step)
    if last is not None:
        return go(before, Phase.UNDOING, Do.UNDO, told, Event("undoing", {"step": last}), step=last)
    return _after_undo(before, told)


def _after_undo(before: Remediation, *events: Event) -> Transition:
    if before.outcome is Phase.INEFFECTIVE and before.rung + 1 < len(before.ladder):
        return next_rung(before, before.reason, *events)
    return escalate(before, before.outcome or Phase.FAILED, before.reason, *events)
