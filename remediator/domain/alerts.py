"""Alerts as Alertmanager sends them, and the identity of an episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

Labels = Mapping[str, str]

_FNV_OFFSET = 14695981039346656037
_FNV_PRIME = 1099511628211
_MASK = (1 << 64) - 1


class Status(StrEnum):
    """An alert's own state; the notification's top-level status is never trusted."""

    FIRING = "firing"
    RESOLVED = "resolved"


def fingerprint(labels: Labels) -> str:
    """The identity of a label set: 64-bit FNV-1a over the sorted labels, as Prometheus computes it.

    It is computed and never read from a payload: senders leave it out or get it wrong.
    """
    sum_ = _FNV_OFFSET
    for name in sorted(labels):
        for byte in b"%b\xff%b\xff" % (name.encode(), labels[name].encode()):
            sum_ = ((sum_ ^ byte) * _FNV_PRIME) & _MASK
    return f"{sum_:016x}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One label set's state. `starts_at` is when it began to fire, by Prometheus's clock."""

    labels: Labels
    starts_at: datetime
    status: Status = Status.FIRING
    annotations: Labels = field(default_factory=dict)
    generator_url: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.labels))

    @property
    def name(self) -> str:
        """The `alertname` label, empty where a sender left it out."""
        return self.labels.get("alertname", "")

    @property
    def episode(self) -> str:
        """One firing period of one alert: fingerprint and start, whoever sent it and how often."""
        return episode_key(self.fingerprint, self.starts_at)


def episode_key(fingerprint_: str, starts_at: datetime) -> str:
    """`fingerprint@start`, the start in UTC to the microsecond, so that two senders agree."""
    return f"{fingerprint_}@{starts_at.astimezone(UTC).isoformat(timespec='microseconds')}"
