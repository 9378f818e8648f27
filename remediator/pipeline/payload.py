"""The Alertmanager webhook payload, version 4, as it really comes: what is demanded, and nothing more."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remediator.domain.alerts import Alert, Labels, Status, fingerprint
from remediator.errors import BadPayload

_NonEmpty = Annotated[str, Field(min_length=1)]

_Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$".replace(r"\d", "[0-9]"))
]
"""A time as RFC 3339 has it, with its offset. A text, because most alerts were seen before: it is read when it is news."""


class AlertModel(BaseModel):
    """One alert. `fingerprint` and `endsAt` are not demanded: senders leave them out or get them wrong."""

    model_config = ConfigDict(extra="ignore")

    status: Literal["firing", "resolved"]
    labels: dict[str, str] = Field(min_length=1)
    annotations: dict[str, str] = {}
    startsAt: _Time  # noqa: N815 - Alertmanager's name
    generatorURL: str = ""  # noqa: N815
    fingerprint: str = ""
    """A hint where to look an alert up; its identity is computed from the labels."""


class WebhookModel(BaseModel):
    """One post. Unknown fields are tolerated: newer Alertmanagers add some."""

    model_config = ConfigDict(extra="ignore")

    version: Literal["4"]
    groupKey: _NonEmpty  # noqa: N815
    receiver: _NonEmpty
    status: Literal["firing", "resolved"]
    alerts: list[AlertModel] = Field(min_length=1)
    truncatedAlerts: int = Field(default=0, ge=0)  # noqa: N815
    groupLabels: dict[str, str] = {}  # noqa: N815
    notification_reason: str = ""


def parse(body: bytes) -> WebhookModel:
    """Read a body.

    Raises:
        BadPayload: with every fault, and where it stands.
    """
    try:
        return WebhookModel.model_validate_json(body)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:10]
        )
        raise BadPayload(f"not an Alertmanager webhook payload of version 4: {faults}") from error


class Fingerprints:
    """Fingerprints already computed, by a digest of the labels: the same alerts are sent again and again."""

    def __init__(self, size: int = 8192) -> None:
        self._size = size
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def of(self, labels: Labels) -> str:
        """The fingerprint of a label set."""
        text = "\xff".join([part for name in sorted(labels) for part in (name, labels[name])])
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = fingerprint(labels)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return known


def starts_at(model: AlertModel) -> datetime:
    """When it began.

    Raises:
        BadPayload: when there is no such time, as at 25 o'clock.
    """
    try:
        return datetime.fromisoformat(model.startsAt)
    except ValueError as error:
        name = model.labels.get("alertname", "")
        raise BadPayload(
            f"not an Alertmanager webhook payload of version 4: startsAt of {name!r}: {model.startsAt!r} is no time: {error}"
        ) from error


def to_alert(model: AlertModel, fingerprints: Fingerprints) -> Alert:
    """The domain's word for it: its own status and labels; nothing that is said of the group is trusted.

    Raises:
        BadPayload: when it began at a time that there is not.
    """
    return Alert(
        labels=model.labels,
        starts_at=starts_at(model),
        status=Status.FIRING if model.status == "firing" else Status.RESOLVED,
        annotations=model.annotations,
        generator_url=model.generatorURL,
        fingerprint=fingerprints.of(model.labels),
    )


def to_payload(alerts: tuple[Alert, ...], receiver: str, group_key: str) -> tuple[WebhookModel, bytes]:
    """What Alertmanager would have posted for alerts that came another way, and its bytes."""
    fetched = [
        AlertModel(
            status="firing" if alert.status is Status.FIRING else "resolved",
            labels=dict(alert.labels),
            annotations=dict(alert.annotations),
            startsAt=alert.starts_at.isoformat(),
            generatorURL=alert.generator_url,
        )
        for alert in alerts
    ]
    model = WebhookModel(
        version="4", groupKey=group_key, receiver=receiver, status=fetched[0].status, alerts=fetched
    )
    return model, model.model_dump_json().encode()
