"""The kit for tests, ours and yours: alerts, a clock that only moves when told, a ledger in memory, actions that
touch nothing, a world that says what you want.

    clock = VirtualClock()
    app = await assemble(rulebook, clock=clock, world=FakeWorld(firing=True), actions=FakeActions())
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from remediator.domain.alerts import Alert, Labels, Status
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, NothingSelected, WorldUnavailable
from remediator.pipeline.ports import Outgoing, Permissions

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""A time that tests begin at."""


class VirtualClock:
    """Time that moves only when told, or when somebody sleeps."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def now(self) -> datetime:
        """The time now."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self._now += timedelta(seconds=seconds)

    def to(self, now: datetime) -> None:
        """Move on to a time; never back."""
        self._now = max(now, self._now)


def make_alert(
    name: str = "CacheHitRateLow", *, at: datetime = NOON, status: Status = Status.FIRING, **labels: str
) -> Alert:
    """An alert with the labels that matter to a test."""
    full = {"alertname": name, "system": "brainstem", "severity": "warning", **labels}
    return Alert(labels=full, starts_at=at, status=status, annotations={"summary": f"{name} fires"})


def make_payload(*alerts: Alert, truncated: int = 0, receiver: str = "remediator", **fields: Any) -> bytes:
    """A webhook body as Alertmanager writes it."""
    firing = any(alert.status is Status.FIRING for alert in alerts)
    body = {
        "version": "4",
        "groupKey": '{}:{alertname="%s"}' % (alerts[0].name if alerts else ""),
        "truncatedAlerts": truncated,
        "status": "firing" if firing else "resolved",
        "receiver": receiver,
        "groupLabels": {"alertname": alerts[0].name} if alerts else {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [
            {
                "status": alert.status.value,
                "labels": dict(alert.labels),
                "annotations": dict(alert.annotations),
                "startsAt": alert.starts_at.isoformat(),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": alert.fingerprint,
            }
            for alert in alerts
        ],
        **fields,
    }
    return json.dumps(body).encode()


@dataclass
class FakeWorld:
    """Says what it is told to say; None for an answer means that nobody answers."""

    is_firing: bool | None = True
    silenced_by: tuple[str, ...] | None = ()
    inhibited_by: tuple[str, ...] = ()
    gone: bool | None = True
    rest: tuple[Alert, ...] = ()
    samples: dict[str, bool] = field(default_factory=dict)

    async def firing(self, labels: Labels) -> bool:
        """As told."""
        if self.is_firing is None:
            raise WorldUnavailable("Prometheus does not answer")
        return self.is_firing

    async def muted(self, labels: Labels, remediation: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As told."""
        if self.silenced_by is None:
            raise WorldUnavailable("Alertmanager does not answer")
        return self.silenced_by, self.inhibited_by

    async def sample(self, expr: str) -> tuple[bool | None, str]:
        """As told for this expression, else for all."""
        gone = self.samples.get(expr, self.gone)
        if gone is None:
            raise WorldUnavailable("Prometheus does not answer")
        return gone, "1" if gone else "no sample"

    async def alerts(self, group_labels: Labels) -> tuple[Alert, ...]:
        """As told."""
        return self.rest

    async def close(self) -> None:
        """Nothing to close."""


class FakeConnection(BaseModel):
    """A connection to nothing."""

    kind: Literal["fake"] = "fake"


class FakeParams(BaseModel):
    """Parameters of the fake action."""

    connection: str = "fake"
    to: int = 1


@dataclass
class FakeAction:
    """Sets a number. It counts what it was asked to do, and can be told to fail."""

    value: int = 0
    idempotent_: bool = True
    irreversible: bool = False
    applied: int = 0
    undone: int = 0
    fails: list[ActionError | None] = field(default_factory=list)

    kind: ClassVar[str] = "fake.set"
    Params: ClassVar[type[BaseModel]] = FakeParams
    Connection: ClassVar[type[BaseModel]] = FakeConnection

    @property
    def idempotent(self) -> bool:
        """As told."""
        return self.idempotent_

    async def observe(self, params: FakeParams) -> int:
        """The number."""
        return self.value

    def plan(self, params: FakeParams, seen: int) -> tuple[Effect, ...]:
        """One effect: the number changes."""
        if seen == params.to:
            raise NothingSelected(f"it is {seen} already")
        return (
            Effect(
                action=self.kind,
                subject="the number",
                params=params.model_dump(),
                summary=f"set {seen} -> {params.to}",
                before={"value": seen},
                after={"value": params.to},
                undo="" if self.irreversible else f"set it to {seen} again",
                irreversible=self.irreversible,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Set it, or fail as told."""
        failure = self.fails.pop(0) if self.fails else None
        if failure is not None:
            raise failure
        self.applied += 1
        before, self.value = self.value, effect.after["value"]
        return Result(f"set to {self.value}", changed=before != self.value, captured={"was": before})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set it back."""
        self.undone += 1
        self.value = result.captured["was"]
        return Result(f"set back to {self.value}")

    def progress(self, effect: Effect, seen: int) -> Progress:
        """By the number."""
        if seen == effect.after["value"]:
            return Progress.DONE
        return Progress.UNTOUCHED if seen == effect.before["value"] else Progress.UNCLEAR

    def permissions(self, params: FakeParams) -> Permissions:
        """None."""
        return Permissions()

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class FakeActions:
    """The same action for every kind and connection, or one per kind."""

    action: FakeAction = field(default_factory=FakeAction)
    by_kind: Mapping[str, FakeAction] = field(default_factory=dict)

    def get(self, kind: str, system: str, connection: str) -> Any:
        """The one for this kind."""
        return self.by_kind.get(kind, self.action)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class MemoryMessenger:
    """Keeps what people would be told."""

    delivered: list[Outgoing] = field(default_factory=list)

    async def deliver(self, outgoing: Outgoing) -> str:
        """Keep it."""
        self.delivered.append(outgoing)
        return outgoing.ref or f"message-{len(self.delivered)}"

    async def close(self) -> None:
        """Nothing to close."""
