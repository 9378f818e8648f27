"""Cassettes: a frozen episode. The payloads, the clock, what the world answered, and the timeline to expect.

A file with a bare Alertmanager payload is one too: what it leaves out is assumed, and said.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from remediator.domain.rules import Mode
from remediator.errors import ConfigError, Finding
from remediator.pipeline.payload import WebhookModel, starts_at


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecordedDelivery(_Part):
    """One post: when it came, and its body."""

    at: AwareDatetime
    body: dict[str, Any]


class Answers(_Part):
    """What the world says from a time on. An alert or expression that is not named has no answer."""

    since: AwareDatetime
    firing: dict[str, bool] = {}
    """Alert name to whether Prometheus says that it fires."""
    silenced_by: list[str] = []
    inhibited_by: list[str] = []
    samples: dict[str, bool] = {}
    """PromQL expression to whether it returns a sample."""
    unavailable: bool = False


class Observation(_Part):
    """What one action sees, and what came of applying it."""

    action: str
    connection: str
    seen: dict[str, Any]
    result: str = ""
    fails: str = ""
    """Why applying it fails, where it does."""


class RecordedVote(_Part):
    """A person's word, on whatever plan waits then."""

    at: AwareDatetime
    by: str
    groups: list[str] = []
    approve: bool = True


class Cassette(_Part):
    """One recording."""

    name: str
    about: str = ""
    mode: Mode = Mode.SUGGEST
    deliveries: list[RecordedDelivery] = Field(min_length=1)
    world: list[Answers] = []
    observed: list[Observation] = []
    votes: list[RecordedVote] = []
    until: AwareDatetime | None = None
    expected: list[str] = []
    assumed: list[str] = []

    def shifted(self, to: datetime) -> Cassette:
        """The same recording, beginning at another time."""
        return Cassette.model_validate(_shift(self.model_dump(), to - self.deliveries[0].at))


def read(path: Path) -> Cassette:
    """Read a cassette or a bare payload.

    Raises:
        ConfigError: when the file is neither.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError((Finding(str(path), 0, 0, f"it cannot be read: {error.strerror}"),)) from error
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise ConfigError((Finding(str(path), line, column, f"it is not JSON: {error}"),)) from error
    try:
        if isinstance(found, dict) and "alerts" in found:
            return _from_payload(path.stem, found)
        return Cassette.model_validate(found)
    except ValidationError as error:
        raise ConfigError(
            tuple(
                Finding(str(path), 1, 1, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
                for fault in error.errors(include_url=False)
            )
        ) from error


def body(delivery: RecordedDelivery) -> bytes:
    """The post as it came."""
    return json.dumps(delivery.body).encode()


def _from_payload(name: str, body: dict[str, Any]) -> Cassette:
    payload = WebhookModel.model_validate(body)
    at = max(map(starts_at, payload.alerts)).astimezone(UTC)
    firing = {alert.labels.get("alertname", ""): alert.status == "firing" for alert in payload.alerts}
    return Cassette(
        name=name,
        deliveries=[RecordedDelivery(at=at, body=body)],
        world=[Answers(since=at, firing=firing)],
        assumed=[
            "the alerts fire, or not, as the payload says",
            "nothing is silenced or inhibited",
            "no expression has a sample, and no action can look",
        ],
    )


def _shift(value: Any, by: timedelta) -> Any:
    if isinstance(value, datetime):
        return value + by
    if isinstance(value, dict):
        return {
            key: _shift_text(inner, by) if key in ("startsAt", "endsAt") else _shift(inner, by)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_shift(inner, by) for inner in value]
    return value


def _shift_text(value: Any, by: timedelta) -> Any:
    if not isinstance(value, str) or value.startswith("0001-"):
        return value
    return (datetime.fromisoformat(value) + by).isoformat()
