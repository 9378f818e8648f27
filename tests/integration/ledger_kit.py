"""What the ledger's tests are made of: a clock, alerts, remediations and deliveries, all small and named."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remediator.adapters.ledger import SqlLedger
from remediator.domain.alerts import Alert, Status
from remediator.domain.approvals import Approval
from remediator.domain.facts import Judged
from remediator.domain.guards import Facts, Limits, World, judge
from remediator.domain.machine import decide
from remediator.domain.playbooks import Choice
from remediator.domain.remediations import Phase, Remediation, Transition
from remediator.domain.rules import Mode, Rung, Verify
from remediator.pipeline.ports import Delivery, Message, Sighting

NOW = datetime(2025, 9, 10, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

FINE = World(firing=True, silenced_by=(), inhibited_by=())
LIMITS = Limits(concurrency=10)
LADDER = (
    Rung(
        "redis-clear-prefix",
        {"prefix": "seg:", "db": Choice("db", {"cache": 0, "queue": 1})},
        Mode.AUTO,
        Approval(frozenset({"ops", "anna"}), votes=2),
        Verify("hit_rate > 0.3"),
    ),
    Rung("page-a-person", mode=Mode.NOTIFY),
)


class StillClock:
    """A clock that shows what it was set to."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        """The time it was set to."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Nothing in the ledger waits by the clock."""
        raise AssertionError(seconds)


def alert(name: str = "a", *, starts_at: datetime = NOW, over: bool = False) -> Alert:
    """An alert that is told from others by its instance."""
    labels = {"alertname": "CacheHitRateLow", "instance": name}
    return Alert(labels, starts_at, Status.RESOLVED if over else Status.FIRING, {"summary": f"on {name} ü"})


def draft(
    of: Alert,
    rule: str = "cache",
    *,
    system: str = "redis",
    subject: str = "",
    cap: Mode = Mode.AUTO,
    created_at: datetime = NOW,
    limits: Limits = LIMITS,
    ladder: tuple[Rung, ...] = LADDER,
) -> Remediation:
    """What a rule would begin for an alert."""
    return Remediation(
        id=f"{rule}-{of.labels['instance']}-{of.starts_at:%H%M%S}",
        rule=rule,
        system=system,
        subject=subject or of.labels["instance"],
        episode=of.episode,
        fingerprint=of.fingerprint,
        labels=of.labels,
        annotations=of.annotations,
        starts_at=of.starts_at,
        created_at=created_at,
        ladder=ladder,
        cap=cap,
        limits=limits,
        escalate_to=("slack",),
    )


def sighting(of: Alert, *rules: str) -> Sighting:
    """The alert, with what these rules would begin."""
    return Sighting(of, tuple(draft(of, rule) for rule in rules))


def delivery(*alerts: Alert, at: datetime = NOW, source: str = "10.0.0.1") -> Delivery:
    """A post of these alerts."""
    told = [[alert.fingerprint, str(alert.starts_at), alert.status.value] for alert in alerts]
    return Delivery(json.dumps(told).encode(), at, source)


def post(*sightings: Sighting, at: datetime = NOW) -> tuple[Delivery, Sequence[Sighting]]:
    """What `accept` takes: `accept(*post(...))`."""
    return delivery(*(s.alert for s in sightings), at=at), sightings


def facts(remediation: Remediation, now: datetime = NOW) -> Facts:
    """Facts of a world in which nothing stands in the way."""
    return Facts(now=now, subject=remediation.subject, received_at=now, world=FINE)


async def reserve(ledger: SqlLedger, remediation: Remediation, now: datetime = NOW) -> Remediation:
    """Reserve it as the pipeline does, in a world in which nothing stands in the way."""

    def settle(complete: Facts) -> tuple[Transition, tuple[Message, ...]]:
        verdicts = judge(complete, remediation.limits)
        return decide(remediation, Judged(verdicts), complete.now), (Message("card"),)

    return await ledger.reserve(remediation, facts(remediation, now), settle)


def ended(remediation: Remediation, now: datetime = NOW, outcome: Phase = Phase.REMEDIATED) -> Transition:
    """The transition that ends it."""
    after = replace(remediation, phase=outcome, outcome=outcome, pending=None, finished_at=now)
    return Transition(after)
