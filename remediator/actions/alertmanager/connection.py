"""One Alertmanager, how much of it may be silenced, and the silences of ours for given labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.domain.silences import CREATED_BY
from remediator.errors import OutcomeUnknown, Refused
from remediator.httpcalls import BaseUrl, Caller


def printable(text: str) -> str:
    """The text. Raises ValueError where it holds control characters."""
    if not text.isprintable():
        raise ValueError("expected text without control characters")
    return text


LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,127}$")]
LabelValue = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(printable)]


class AlertmanagerConnection(BaseModel):
    """One Alertmanager, and how much of it may be silenced."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["alertmanager"]
    url: BaseUrl = Field(description="http:// or https://, without credentials")
    token_file: Path | None = Field(default=None, description="a bearer token, read at each call")
    labels: Mapping[LabelName, LabelValue] = Field(
        min_length=1, description="labels that every silenced alert carries, such as `system: openalgebra`"
    )
    max_minutes: int = Field(default=30, ge=1, le=1440, description="the longest silence")
    timeout_seconds: float = Field(default=10, gt=0, le=60)


class LabelsParams(BaseModel):
    """What every action on silences is told: which alerts, and on whose behalf."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    labels: Mapping[LabelName, LabelValue] = Field(
        min_length=2, max_length=30, description="the alert's labels: alertname and what tells it from others"
    )
    remediation: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="whose silence it is; the planner fills in the id of the remediation, whatever a file says",
    )

    @model_validator(mode="after")
    def _of_one_name(self) -> Self:
        if "alertname" not in self.labels:
            raise ValueError("a silence without alertname covers more than one sort of alert")
        return self


class Way:
    """The calls that both actions make."""

    def __init__(self, connection: AlertmanagerConnection) -> None:
        self.connection = connection
        self.caller = Caller(
            connection.url,
            name="Alertmanager",
            timeout_seconds=connection.timeout_seconds,
            token_file=connection.token_file,
        )

    def check(self, labels: Mapping[str, str]) -> None:
        """Raise Refused where the connection does not allow alerts with these labels."""
        for name, value in self.connection.labels.items():
            if labels.get(name) != value:
                raise Refused(f"the connection allows only alerts with {name}={value!r}")

    async def ours(self, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """Every silence under our name with just these matchers, expired ones too."""
        silences: Sequence[Mapping[str, Any]] = await self.caller.call("GET", "/api/v2/silences")
        return [
            one
            for one in silences
            if one["createdBy"] == CREATED_BY and one["matchers"] == _sorted_as(one, labels)
        ]

    async def make(self, labels: Mapping[str, str], ends_at: datetime, comment: str) -> str:
        """Make a silence from now on, and return its id. Raises OutcomeUnknown where it was not told."""
        answer = await self.caller.call(
            "POST",
            "/api/v2/silences",
            body={
                "matchers": _matchers(labels),
                "startsAt": datetime.now(UTC).isoformat(),
                "endsAt": ends_at.isoformat(),
                "createdBy": CREATED_BY,
                "comment": comment,
            },
        )
        id_ = str((answer or {}).get("silenceID", ""))
        if not id_:
            raise OutcomeUnknown("Alertmanager took the silence and did not tell its id")
        return id_

    async def expire(self, id_: str) -> None:
        """End a silence now. The id is one that Alertmanager itself told us."""
        await self.caller.call("DELETE", f"/api/v2/silence/{id_}")


def holds(silence: Mapping[str, Any]) -> bool:
    """Whether it is not over."""
    return bool(silence["status"]["state"] != "expired")


def shown(labels: Mapping[str, str]) -> str:
    """The labels as a person would write them."""
    return ", ".join(f"{name}={value!r}" for name, value in sorted(labels.items()))


def _matchers(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": value, "isRegex": False, "isEqual": True}
        for name, value in sorted(labels.items())
    ]


def _sorted_as(silence: Mapping[str, Any], labels: Mapping[str, str]) -> Any:
    """Our matchers in the order in which that silence has its own; never equal where they are others."""
    ours = {one["name"]: one for one in _matchers(labels)}
    names = [one["name"] for one in silence["matchers"]]
    return [ours[name] for name in names] if sorted(names) == sorted(ours) else None
