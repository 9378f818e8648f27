"""The machine before a step: the guards' verdicts, the plan, the votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from remediator.domain.applying import stop, verify
from remediator.domain.approvals import Refused, Vote, admit
from remediator.domain.events import Event
from remediator.domain.facts import Judged
from remediator.domain.guards import Verdict, denials
from remediator.domain.moves import end, escalate, go, next_rung, wait
from remediator.domain.plans import Plan
from remediator.domain.remediations import Do, Phase, Remediation, Transition
from remediator.domain.rules import Mode

MAX_PLANS = 4
"""How often a rung may be planned again because the world moved, before a person takes over."""


def judged(before: Remediation, fact: Judged, now: datetime) -> Transition:
    """The guards spoke, before anything was planned."""
    against = denials(fact.verdicts)
    told = Event("judged", _verdict_data(fact.verdicts))
    if not against:
        return go(before, Phase.JUDGED, Do.PLAN, told, reason="", held_at=None)
    return _held_or_ended(before, fact.verdicts, now, told)


def rechecked(before: Remediation, fact: Judged, now: datetime) -> Transition:
    """The guards spoke again, and the plan was compared with what is there: now it may begin, or not."""
    assert before.plan is not None
    against = denials(fact.verdicts)
    told = Event(
        "rechecked", {**_verdict_data(fact.verdicts), "step": before.step, "drift": list(fact.drift)}
    )
    reason = "; ".join(deny.reason for deny in against)
    begun = before.step > 0
    if against and not begun:
        return _held_or_ended(before, fact.verdicts, now, told)
    if against and _is_over(fact.verdicts):
        return verify(before, now, told)
    if against:
        return stop(before, f"stopped before step {before.step + 1}: {reason}", now, told)
    if fact.drift and begun:
        return stop(before, f"stopped before step {before.step + 1}: {'; '.join(fact.drift)}", now, told)
    if fact.drift:
        again = Event("drifted", {"digest": before.plan.digest, "drift": list(fact.drift)})
        return go(before, Phase.JUDGED, Do.PLAN, told, again, agreed=(), expires_at=None)
    step = before.plan.steps[before.step]
    intent = Event("intent", {"step": before.step, "action": step.action, "digest": before.plan.digest})
    return go(
        before,
        Phase.EXECUTING,
        Do.APPLY,
        told,
        intent,
        step=before.step,
        attempts=before.attempts + 1,
        begun_at=before.begun_at or now,
    )


def _held_or_ended(
    before: Remediation, verdicts: tuple[Verdict, ...], now: datetime, told: Event
) -> Transition:
    """Against it, before anything was done: held where every denial has a time, and ended where one has none.

    A plan that was approved meanwhile is made and asked for again. Not firing is held too: Prometheus forgets for a
    while after a restart, and the resolved notification says for sure.
    """
    against = denials(verdicts)
    reason = "; ".join(deny.reason for deny in against)
    if any(deny.guard == "resolved" for deny in against):
        return end(before, Phase.RESOLVED_ITSELF, reason, now, told)
    held_at = before.held_at or now
    untils = [deny.until for deny in against]
    if all(until is not None and until <= held_at + before.limits.hold for until in untils):
        until = max(until for until in untils if until is not None)
        # A held remediation is asked again and again: only a change of reasons is news for the journal.
        news = (told,) if reason != before.reason else ()
        return wait(
            before, Phase.MATCHED, until, *news, reason=reason, held_at=held_at, agreed=(), expires_at=None
        )
    if all(deny.quiet for deny in against):
        outcome = Phase.RESOLVED_ITSELF if _is_over(verdicts) else Phase.DENIED
        return end(before, outcome, reason, now, told)
    return escalate(before, Phase.DENIED, reason, told)


def _is_over(verdicts: tuple[Verdict, ...]) -> bool:
    return any(d.guard in ("resolved", "firing") and d.quiet for d in denials(verdicts))


def _verdict_data(verdicts: tuple[Verdict, ...]) -> Mapping[str, Any]:
    return {
        "denied": [
            {"guard": d.guard, "reason": d.reason, "until": d.until.isoformat() if d.until else None}
            for d in denials(verdicts)
        ],
        "allowed": [v.guard for v in verdicts if v not in denials(verdicts)],
    }


def planned(before: Remediation, plan: Plan, now: datetime) -> Transition:
    """A plan was made: suggested in a dry run, approved by policy, or asked for."""
    told = Event(
        "planned", {"digest": plan.digest, "playbook": plan.playbook, "effects": plan.summary.split("\n")}
    )
    planned = replace(
        before, plan=plan, plans_made=before.plans_made + 1, agreed=(), step=0, attempts=0, results=()
    )
    if planned.plans_made > MAX_PLANS:
        return escalate(planned, Phase.FAILED, "what is there keeps changing while it is being planned", told)
    runbook = not plan.steps
    if before.cap is Mode.SUGGEST or (before.mode is Mode.SUGGEST and not runbook):
        return end(planned, Phase.SUGGESTED, "dry run: nothing was touched", now, told)
    if before.mode is Mode.AUTO and not runbook and not plan.irreversible:
        return go(
            planned, Phase.APPROVED, Do.RECHECK, told, Event("approved", {"by": "policy", "mode": "auto"})
        )
    expires_at = now + before.current.approval.expires
    asked = Event("approval_asked", {"digest": plan.digest, "expires_at": expires_at.isoformat()})
    return go(planned, Phase.AWAITING_APPROVAL, Do.ASK, told, asked, expires_at=expires_at)


def late(before: Remediation) -> Transition:
    """A vote on what does not wait for one."""
    return Transition(before, refused=f"there is nothing to decide: this remediation is {before.phase}")


def voted(before: Remediation, vote: Vote, now: datetime) -> Transition:
    """A vote counts, is refused with its reason, or decides."""
    assert before.plan is not None and before.expires_at is not None
    refused = admit(
        vote,
        before.current.approval,
        digest=before.plan.digest,
        agreed=before.agreed,
        expires_at=before.expires_at,
        now=now,
        # Who does a runbook says that it is done: that permits nothing that we would do.
        started_by=before.started_by if before.plan.steps else "",
    )
    data = {"by": vote.by.name, "via": vote.via, "digest": vote.digest, "reason": vote.reason}
    if isinstance(refused, Refused):
        told = Event("vote_refused", {**data, "why": refused.reason})
        return Transition(before, (told,), refused=refused.reason)
    if not vote.approve:
        return _declined(before, vote, now, Event("rejected", data))
    agreed = (*before.agreed, vote.by.name)
    told = Event("vote", {**data, "votes": len(agreed), "needed": before.current.approval.votes})
    counted = replace(before, agreed=agreed)
    if len(agreed) < before.current.approval.votes:
        return Transition(counted, (told,))
    approved = Event("approved", {"by": list(agreed), "digest": vote.digest})
    if not before.plan.steps:
        return verify(counted, now, told, Event("confirmed", {"by": list(agreed)}))
    return go(counted, Phase.APPROVED, Do.RECHECK, told, approved, expires_at=None)


def _declined(before: Remediation, vote: Vote, now: datetime, told: Event) -> Transition:
    reason = f"rejected by {vote.by.name}" + (f": {vote.reason}" if vote.reason else "")
    runbook = before.plan is not None and not before.plan.steps
    if runbook and before.rung + 1 < len(before.ladder):
        return next_rung(before, f"{vote.by.name} says that it did not help", told)
    if runbook:
        return escalate(before, Phase.INEFFECTIVE, f"{vote.by.name} says that it did not help", told)
    return end(before, Phase.REJECTED, reason, now, told)
