"""What the shell saw: one of these is given to the machine at a time."""

from __future__ import annotations

from dataclasses import dataclass

from remediator.domain.approvals import Vote
from remediator.domain.guards import Verdict
from remediator.domain.plans import Plan, Progress, Result


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
