"""A remediation is a state machine, and the machine is pure.

`decide(remediation, fact, now)` is the whole of it: the next phase, the events to journal, and at most one
command to carry out. Production, dry run, replay and the tests drive this same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from remediator.domain.alerts import Labels
from remediator.domain.approvals import Refused, Vote, admit
from remediator.domain.events import Event
from remediator.domain.guards import Limits, Verdict, denials
from remediator.domain.plans import Plan, Progress, Result
from remediator.domain.rules import Mode, Rung
from remediator.errors import IllegalTransition

MAX_PLANS = 4
"""How often a rung may be planned again because the world moved, before a person takes over."""

MAX_ATTEMPTS = 3
"""How often one step may be begun when its outcome is lost each time and a look finds it untouched."""


class Phase(StrEnum):
    """Where a remediation stands. Those from `suggested` on in `FINAL` are outcomes."""

    MATCHED = "matched"
    JUDGED = "judged"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    EXECUTING = "executing"
    VERIFYING = "verifying"
    UNDOING = "undoing"
    ESCALATING = "escalating"
    SUGGESTED = "suggested"
    REMEDIATED = "remediated"
    INEFFECTIVE = "ineffective"
    RESOLVED_ITSELF = "resolved_itself"
    FAILED = "failed"
    DENIED = "denied"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


FINAL = frozenset(
    {
        Phase.SUGGESTED,
        Phase.REMEDIATED,
        Phase.INEFFECTIVE,
        Phase.RESOLVED_ITSELF,
        Phase.FAILED,
        Phase.DENIED,
        Phase.REJECTED,
        Phase.EXPIRED,
        Phase.UNKNOWN,
    }
)


class Do(StrEnum):
    """What the shell is asked to carry out next."""

    JUDGE = "judge"
    PLAN = "plan"
    ASK = "ask"
    RECHECK = "recheck"
    APPLY = "apply"
    REOBSERVE = "reobserve"
    SAMPLE = "sample"
    UNDO = "undo"
    ESCALATE = "escalate"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Command:
    """At most one per transition. `step` is an index into the plan; `until` is when to wake, for a wait."""

    do: Do
    step: int = 0
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Remediation:
    """One ladder run for one episode of one rule. The ladder is a snapshot: a reload changes no running one."""

    id: str
    rule: str
    system: str
    subject: str
    episode: str
    fingerprint: str
    labels: Labels
    annotations: Labels
    starts_at: datetime
    created_at: datetime
    ladder: tuple[Rung, ...]
    cap: Mode
    limits: Limits
    escalate_to: tuple[str, ...] = ()
    phase: Phase = Phase.MATCHED
    rung: int = 0
    plan: Plan | None = None
    plans_made: int = 0
    agreed: tuple[str, ...] = ()
    expires_at: datetime | None = None
    step: int = 0
    attempts: int = 0
    """How often the current step was begun."""
    results: tuple[Result, ...] = ()
    begun_at: datetime | None = None
    verify_from: datetime | None = None
    held_since: datetime | None = None
    """Since when the symptom is gone without a break."""
    held_at: datetime | None = None
    """Since when the guards hold it back."""
    outcome: Phase | None = None
    reason: str = ""
    pending: Command | None = None
    finished_at: datetime | None = None
    version: int = 0
    scheduled: bool = False
    """Whether the clock started it and not an alert: then Prometheus has nothing to say of it."""

    @property
    def mode(self) -> Mode:
        """The rung's mode, bounded by the service's when it was matched."""
        return self.ladder[self.rung].mode.capped(self.cap)

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in FINAL

    @property
    def current(self) -> Rung:
        """The rung being tried."""
        return self.ladder[self.rung]


# What the shell saw: one of these is given to `decide` at a time.


@dataclass(frozen=True, slots=True)
class Begun:
    """It was matched, or moved on to its next rung."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The guards' verdicts, first time or again right before a step; `drift` is how the plan no longer fits."""

    verdicts: tuple[Verdict, ...]
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan was computed from what is there."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Failed:
    """The command could not be carried out. `certain` means that nothing was changed by it."""

    reason: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Voted:
    """An authenticated person's word."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class Woken:
    """The time that was waited for has come."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Alertmanager says that the alert is over."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A step was carried out, or was found to be done already."""

    result: Result


@dataclass(frozen=True, slots=True)
class Reobserved:
    """What a second look says of a step whose outcome was lost."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class Sampled:
    """What Prometheus says of the symptom: None where it has no sample or did not answer."""

    gone: bool | None
    value: str = ""


@dataclass(frozen=True, slots=True)
class Undone:
    """A step was undone."""

    result: Result


@dataclass(frozen=True, slots=True)
class Escalated:
    """The hand-over to people is on its way."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """We were stopped with a command pending, and are back."""


Fact = (
    Begun
    | Judged
    | Planned
    | Failed
    | Voted
    | Woken
    | Resolved
    | Applied
    | Reobserved
    | Sampled
    | Undone
    | Escalated
    | Interrupted
)


@dataclass(frozen=True, slots=True)
class Transition:
    """What follows from one fact. `refused` answers a vote that does not count; then nothing else changed."""

    after: Remediation
    events: tuple[Event, ...] = ()
    refused: str = ""

    @property
    def command(self) -> Command | None:
        """What to carry out once this transition is written."""
        return self.after.pending


def decide(before: Remediation, fact: Fact, now: datetime) -> Transition:  # noqa: C901 - the machine's own table
    """What follows from `fact`.

    Raises:
        IllegalTransition: when the phase cannot take it.
    """
    match fact, before.phase:
        case Voted(vote), phase:
            return _voted(before, vote, now) if phase is Phase.AWAITING_APPROVAL else _late(before)
        case _, phase if phase in FINAL:
            return Transition(before)
        case Resolved(), _:
            return _resolved(before, now)
        case Interrupted(), _:
            return _interrupted(before, now)
        case Begun(), Phase.MATCHED:
            return _go(before, Phase.MATCHED, Do.JUDGE)
        case Woken(), _:
            return _woken(before, now)
        case Judged(), Phase.MATCHED:
            return _judged(before, fact, now)
        case Judged(), Phase.APPROVED | Phase.EXECUTING:
            return _rechecked(before, fact, now)
        case Planned(plan), Phase.JUDGED:
            return _planned(before, plan, now)
        case Applied(result), Phase.EXECUTING:
            return _applied(before, result, now)
        case Reobserved(progress), Phase.EXECUTING:
            return _reobserved(before, progress, now)
        case Sampled(), Phase.VERIFYING:
            return _sampled(before, fact, now)
        case Undone(result), Phase.UNDOING:
            return _undone(before, result, now)
        case Escalated(), Phase.ESCALATING:
            return _end(before, before.outcome or Phase.FAILED, before.reason, now)
        case Failed(), _:
            return _failed(before, fact, now)
    raise IllegalTransition(f"{before.id} in {before.phase} cannot take {type(fact).__name__}")


def _go(
    before: Remediation, phase: Phase, do: Do, *events: Event, step: int = 0, **changes: Any
) -> Transition:
    return Transition(replace(before, phase=phase, pending=Command(do, step), **changes), events)


def _wait(before: Remediation, phase: Phase, until: datetime, *events: Event, **changes: Any) -> Transition:
    return Transition(replace(before, phase=phase, pending=Command(Do.WAIT, until=until), **changes), events)


def _end(before: Remediation, outcome: Phase, reason: str, now: datetime, *events: Event) -> Transition:
    after = replace(before, phase=outcome, outcome=outcome, reason=reason, pending=None, finished_at=now)
    return Transition(after, (*events, Event("finished", {"outcome": outcome.value, "reason": reason})))


def _escalate(before: Remediation, outcome: Phase, reason: str, *events: Event) -> Transition:
    told = Event("escalating", {"outcome": outcome.value, "reason": reason, "to": list(before.escalate_to)})
    return _go(before, Phase.ESCALATING, Do.ESCALATE, *events, told, outcome=outcome, reason=reason)


def _verdict_data(verdicts: tuple[Verdict, ...]) -> Mapping[str, Any]:
    return {
        "denied": [
            {"guard": d.guard, "reason": d.reason, "until": d.until.isoformat() if d.until else None}
            for d in denials(verdicts)
        ],
        "allowed": [v.guard for v in verdicts if v not in denials(verdicts)],
    }


def _judged(before: Remediation, fact: Judged, now: datetime) -> Transition:
    against = denials(fact.verdicts)
    told = Event("judged", _verdict_data(fact.verdicts))
    if not against:
        return _go(before, Phase.JUDGED, Do.PLAN, told, reason="", held_at=None)
    return _held_or_ended(before, fact.verdicts, now, told)


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
        return _end(before, Phase.RESOLVED_ITSELF, reason, now, told)
    held_at = before.held_at or now
    untils = [deny.until for deny in against]
    if all(until is not None and until <= held_at + before.limits.hold for until in untils):
        until = max(until for until in untils if until is not None)
        # A held remediation is asked again and again: only a change of reasons is news for the journal.
        news = (told,) if reason != before.reason else ()
        return _wait(
            before, Phase.MATCHED, until, *news, reason=reason, held_at=held_at, agreed=(), expires_at=None
        )
    if all(deny.quiet for deny in against):
        outcome = Phase.RESOLVED_ITSELF if _is_over(verdicts) else Phase.DENIED
        return _end(before, outcome, reason, now, told)
    return _escalate(before, Phase.DENIED, reason, told)


def _is_over(verdicts: tuple[Verdict, ...]) -> bool:
    return any(d.guard in ("resolved", "firing") and d.quiet for d in denials(verdicts))


def _planned(before: Remediation, plan: Plan, now: datetime) -> Transition:
    told = Event(
        "planned", {"digest": plan.digest, "playbook": plan.playbook, "effects": plan.summary.split("\n")}
    )
    planned = replace(
        before, plan=plan, plans_made=before.plans_made + 1, agreed=(), step=0, attempts=0, results=()
    )
    if planned.plans_made > MAX_PLANS:
        return _escalate(
            planned, Phase.FAILED, "what is there keeps changing while it is being planned", told
        )
    runbook = not plan.steps
    if before.cap is Mode.SUGGEST or (before.mode is Mode.SUGGEST and not runbook):
        return _end(planned, Phase.SUGGESTED, "dry run: nothing was touched", now, told)
    if before.mode is Mode.AUTO and not runbook and not plan.irreversible:
        return _go(
            planned, Phase.APPROVED, Do.RECHECK, told, Event("approved", {"by": "policy", "mode": "auto"})
        )
    expires_at = now + before.current.approval.expires
    asked = Event("approval_asked", {"digest": plan.digest, "expires_at": expires_at.isoformat()})
    return _go(planned, Phase.AWAITING_APPROVAL, Do.ASK, told, asked, expires_at=expires_at)


def _late(before: Remediation) -> Transition:
    return Transition(before, refused=f"there is nothing to decide: this remediation is {before.phase}")


def _voted(before: Remediation, vote: Vote, now: datetime) -> Transition:
    assert before.plan is not None and before.expires_at is not None
    refused = admit(
        vote,
        before.current.approval,
        digest=before.plan.digest,
        agreed=before.agreed,
        expires_at=before.expires_at,
        now=now,
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
        return _verify(counted, now, told, Event("confirmed", {"by": list(agreed)}))
    return _go(counted, Phase.APPROVED, Do.RECHECK, told, approved, expires_at=None)


def _declined(before: Remediation, vote: Vote, now: datetime, told: Event) -> Transition:
    reason = f"rejected by {vote.by.name}" + (f": {vote.reason}" if vote.reason else "")
    runbook = before.plan is not None and not before.plan.steps
    if runbook and before.rung + 1 < len(before.ladder):
        return _next_rung(before, f"{vote.by.name} says that it did not help", told)
    if runbook:
        return _escalate(before, Phase.INEFFECTIVE, f"{vote.by.name} says that it did not help", told)
    return _end(before, Phase.REJECTED, reason, now, told)


def _rechecked(before: Remediation, fact: Judged, now: datetime) -> Transition:
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
        return _verify(before, now, told)
    if against:
        return _stop(before, f"stopped before step {before.step + 1}: {reason}", now, told)
    if fact.drift and begun:
        return _stop(before, f"stopped before step {before.step + 1}: {'; '.join(fact.drift)}", now, told)
    if fact.drift:
        again = Event("drifted", {"digest": before.plan.digest, "drift": list(fact.drift)})
        return _go(before, Phase.JUDGED, Do.PLAN, told, again, agreed=(), expires_at=None)
    step = before.plan.steps[before.step]
    intent = Event("intent", {"step": before.step, "action": step.action, "digest": before.plan.digest})
    return _go(
        before,
        Phase.EXECUTING,
        Do.APPLY,
        told,
        intent,
        step=before.step,
        attempts=before.attempts + 1,
        begun_at=before.begun_at or now,
    )


def _applied(before: Remediation, result: Result, now: datetime) -> Transition:
    assert before.plan is not None
    told = Event("outcome", {"step": before.step, "changed": result.changed, "summary": result.summary})
    done = replace(before, step=before.step + 1, attempts=0, results=(*before.results, result))
    if done.step < len(before.plan.steps):
        return _go(done, Phase.EXECUTING, Do.RECHECK, told, step=done.step)
    return _verify(done, now, told)


def _reobserved(before: Remediation, seen: Progress, now: datetime) -> Transition:
    assert before.plan is not None
    told = Event("reobserved", {"step": before.step, "progress": seen.value})
    if seen is Progress.DONE:
        return _with(told, _applied(before, Result("found done after the outcome was lost"), now))
    again = before.plan.steps[before.step].idempotent and before.attempts < MAX_ATTEMPTS
    if seen is Progress.UNTOUCHED and again:
        return _go(before, Phase.EXECUTING, Do.RECHECK, told, step=before.step)
    reason = f"step {before.step + 1} ({before.plan.steps[before.step].action}) may or may not have happened"
    return _escalate(before, Phase.UNKNOWN, reason, told)


def _with(first: Event, transition: Transition) -> Transition:
    return replace(transition, events=(first, *transition.events))


def _verify(before: Remediation, now: datetime, *events: Event) -> Transition:
    if before.current.verify is None:
        if before.plan is not None and not before.plan.steps:
            return _end(before, Phase.REMEDIATED, "a person confirmed it", now, *events)
        return _escalate(
            before, Phase.INEFFECTIVE, "nothing says how to verify it, so it is not verified", *events
        )
    told = Event("verifying", {"expr": before.current.verify.expr})
    return _go(before, Phase.VERIFYING, Do.SAMPLE, *events, told, verify_from=now, held_since=None)


def _sampled(before: Remediation, fact: Sampled, now: datetime) -> Transition:
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
            return _escalate(
                before, Phase.INEFFECTIVE, "the figure is good; a person has to close this one", *news
            )
        return _end(before, Phase.REMEDIATED, f"verified: {verify.expr} held for {verify.hold}", now, *news)
    if now - since >= verify.within:
        why = (
            "no sample"
            if fact.gone is None
            else "the symptom is still there"
            if not fact.gone
            else "not for long"
        )
        missed = Event("not_verified", {"why": why, "value": fact.value})
        return _stop(before, f"not verified within {verify.within}: {why}", now, *news, missed, failed=False)
    return _wait(before, Phase.VERIFYING, now + verify.every, *news, held_since=held_since)


def _stop(before: Remediation, reason: str, now: datetime, *events: Event, failed: bool = True) -> Transition:
    """A step failed or the verification did: undo what has an inverse, last first; then go on to people."""
    outcome = Phase.FAILED if failed else Phase.INEFFECTIVE
    stopped = replace(before, outcome=outcome, reason=reason)
    last = _last_undoable(stopped, len(stopped.results))
    if last is not None:
        return _go(stopped, Phase.UNDOING, Do.UNDO, *events, Event("undoing", {"step": last}), step=last)
    return _after_undo(stopped, *events)


def _last_undoable(remediation: Remediation, below: int) -> int | None:
    plan = remediation.plan
    if plan is None or not plan.undo:
        return None
    for index in range(below - 1, -1, -1):
        if remediation.results[index].changed and any(effect.undo for effect in plan.steps[index].effects):
            return index
    return None


def _undone(before: Remediation, result: Result, now: datetime) -> Transition:
    assert before.pending is not None
    told = Event("undone", {"step": before.pending.step, "summary": result.summary})
    last = _last_undoable(before, before.pending.step)
    if last is not None:
        return _go(before, Phase.UNDOING, Do.UNDO, told, Event("undoing", {"step": last}), step=last)
    return _after_undo(before, told)


def _after_undo(before: Remediation, *events: Event) -> Transition:
    if before.outcome is Phase.INEFFECTIVE and before.rung + 1 < len(before.ladder):
        return _next_rung(before, before.reason, *events)
    return _escalate(before, before.outcome or Phase.FAILED, before.reason, *events)


def _next_rung(before: Remediation, reason: str, *events: Event) -> Transition:
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
    return _go(climbed, Phase.MATCHED, Do.JUDGE, *events, told)


def _resolved(before: Remediation, now: datetime) -> Transition:
    told = Event("alert_resolved")
    if before.phase in (Phase.MATCHED, Phase.JUDGED, Phase.AWAITING_APPROVAL):
        return _end(before, Phase.RESOLVED_ITSELF, "the alert resolved before anything was done", now, told)
    if before.phase is Phase.APPROVED:
        return _end(before, Phase.RESOLVED_ITSELF, "the alert resolved before the first step", now, told)
    # Something was begun: the recheck before the next step, or the verification, will see it.
    return Transition(before, (told,))


def _woken(before: Remediation, now: datetime) -> Transition:
    if before.pending is None or before.pending.do not in (Do.WAIT, Do.ASK):
        return Transition(before)
    if before.phase is Phase.AWAITING_APPROVAL:
        if before.expires_at is not None and now >= before.expires_at:
            return _escalate(before, Phase.EXPIRED, "nobody decided in time", Event("expired"))
        return Transition(before)
    if before.pending.until is not None and now < before.pending.until:
        return Transition(before)
    if before.phase is Phase.VERIFYING:
        return _go(before, Phase.VERIFYING, Do.SAMPLE)
    return _go(before, before.phase, Do.JUDGE)


def _interrupted(before: Remediation, now: datetime) -> Transition:
    pending = before.pending
    told = Event("interrupted", {"phase": before.phase.value, "pending": pending.do.value if pending else ""})
    if pending is None or pending.do in (Do.WAIT, Do.ASK):
        return Transition(before)
    if pending.do is Do.APPLY:
        unknown = Event("unknown", {"step": pending.step})
        return _go(before, Phase.EXECUTING, Do.REOBSERVE, told, unknown, step=pending.step)
    if pending.do is Do.UNDO:
        return _escalate(before, Phase.UNKNOWN, f"the undo of step {pending.step + 1} was interrupted", told)
    # Judging, planning, sampling and telling people change nothing outside: they are simply done again.
    return Transition(before, (told,))


def _failed(before: Remediation, fact: Failed, now: datetime) -> Transition:
    pending = before.pending
    doing = pending.do if pending else Do.WAIT
    told = Event("failed", {"doing": doing.value, "reason": fact.reason, "certain": fact.certain})
    if doing is Do.APPLY and not fact.certain:
        return _go(before, Phase.EXECUTING, Do.REOBSERVE, told, step=before.step)
    if doing is Do.REOBSERVE:
        return _escalate(
            before, Phase.UNKNOWN, f"step {before.step + 1} may have happened: {fact.reason}", told
        )
    if doing is Do.APPLY:
        return _stop(before, f"step {before.step + 1} failed: {fact.reason}", now, told)
    if doing is Do.UNDO:
        return _escalate(before, Phase.UNKNOWN, f"the undo failed: {fact.reason}", told)
    if doing is Do.SAMPLE:
        return _with(told, _sampled(before, Sampled(None, fact.reason), now))
    if doing is Do.RECHECK and before.step > 0:
        return _stop(before, f"stopped before step {before.step + 1}: {fact.reason}", now, told)
    return _escalate(before, Phase.FAILED, fact.reason, told)
