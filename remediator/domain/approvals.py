"""Approvals: who may permit one exact plan, how many, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was authenticated, and the groups that configuration puts them in."""

    name: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Approval:
    """What a rung asks for. `approvers` are names of people or groups; `votes` different people must agree."""

    approvers: frozenset[str] = frozenset()
    votes: int = 1
    expires: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's word on one plan. `via` is slack, api, cli or web."""

    by: Person
    approve: bool
    digest: str
    via: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a vote does not count, in words for the one who gave it."""

    reason: str


def admit(
    vote: Vote,
    approval: Approval,
    *,
    digest: str,
    agreed: tuple[str, ...],
    expires_at: datetime,
    now: datetime,
    started_by: str = "",
) -> Refused | None:
    """None where the vote counts. Every doubt refuses.

    `agreed` are the people who approved this plan already: one person is one vote. Whoever started it on demand
    (`started_by`) may take it back, and not permit it.
    """
    if now >= expires_at:
        return Refused("this approval has expired; a new plan will be made if the alert is still firing")
    if vote.digest != digest:
        return Refused("the plan has changed since you saw it; look at the new one")
    if not (approval.approvers & ({vote.by.name} | vote.by.groups)):
        allowed = ", ".join(sorted(approval.approvers)) or "nobody"
        return Refused(f"{vote.by.name} is not among the approvers ({allowed})")
    if vote.approve and vote.by.name == started_by:
        return Refused(f"{vote.by.name} started it; another person has to agree")
    if vote.approve and vote.by.name in agreed:
        return Refused(f"{vote.by.name} has approved already; another person is needed")
    return None
