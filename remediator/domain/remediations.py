"""What a remediation is: where it stands, what it knows, and what is to be carried out next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remediator.domain.alerts import Labels
from remediator.domain.events import Event
from remediator.domain.guards import Limits
from remediator.domain.plans import Plan, Result
from remediator.domain.rules import Mode, Rung


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
    """Whether the clock started it and not an alert."""
    started_by: str = ""
    """The person who started it on demand; empty where nobody did. Their own approval does not count."""

    @property
    def alertless(self) -> bool:
        """Whether no alert stands behind it: then Prometheus has nothing to say of it."""
        return self.scheduled or bool(self.started_by)

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
