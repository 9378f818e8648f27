"""Alertmanager: silence exactly the alerts that our work causes, for a bounded time, under our name.

An alert that is silenced is not acted on (guard `silence`): silence what our change would raise, as the last thing
before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.httpcalls import BaseUrl, Caller
from remediator.pipeline.ports import Permissions

CREATED_BY = "remediator"
"""Whose silences ours are."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected text without control characters")
    return text


LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,127}$")]
LabelValue = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_printable)]
Words = Annotated[str, StringConstraints(max_length=200), AfterValidator(_printable)]


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


class SilenceParams(BaseModel):
    """Parameters of `alertmanager.silence`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    labels: Mapping[LabelName, LabelValue] = Field(
        min_length=2, max_length=30, description="the alert's labels: alertname and what tells it from others"
    )
    minutes: int = Field(default=15, ge=1, le=1440, description="for how long; the connection sets the most")
    max_alerts: int = Field(default=1, ge=1, le=50, description="how many firing alerts it may cover")
    reason: Words = Field(default="", description="for the comment")

    @model_validator(mode="after")
    def _of_one_name(self) -> Self:
        if "alertname" not in self.labels:
            raise ValueError("a silence without alertname covers more than one sort of alert")
        return self


@dataclass(frozen=True, slots=True)
class Seen:
    """The active alerts with these labels, and our silences for them: all that there were, and those that hold."""

    alerts: tuple[str, ...]
    ours: tuple[str, ...]
    active: Mapping[str, str]
    """Ids of our silences that hold, and their comments."""


class Silence:
    """Silence the alerts with exactly these labels for a bounded time, with our reference in the comment."""

    kind: ClassVar[str] = "alertmanager.silence"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SilenceParams
    Connection: ClassVar[type[BaseModel]] = AlertmanagerConnection

    def __init__(self, connection: AlertmanagerConnection) -> None:
        self._connection = connection
        self._caller = Caller(
            connection.url,
            name="Alertmanager",
            timeout_seconds=connection.timeout_seconds,
            token_file=connection.token_file,
        )

    async def close(self) -> None:
        """Nothing is held."""

    async def observe(self, params: SilenceParams) -> Seen:
        """Read the alerts that it would cover and the silences that there are."""
        self._check(params)
        # Only to read less: what counts is compared below.
        narrowed = {"filter": f"alertname={json.dumps(params.labels['alertname'], ensure_ascii=False)}"}
        found = await self._caller.call("GET", "/api/v2/alerts", query=narrowed)
        wanted = dict(params.labels).items()
        alerts = tuple(sorted(one["fingerprint"] for one in found if wanted <= one["labels"].items()))
        silences = await self._caller.call("GET", "/api/v2/silences")
        ours = [
            one
            for one in silences
            if one["createdBy"] == CREATED_BY and one["matchers"] == _sorted_as(one, params)
        ]
        active = {one["id"]: one["comment"] for one in ours if one["status"]["state"] != "expired"}
        return Seen(alerts, tuple(sorted(one["id"] for one in ours)), active)

    def plan(self, params: SilenceParams, seen: Seen) -> tuple[Effect, ...]:
        """One effect: a silence for just these alerts."""
        if not seen.alerts:
            raise NothingSelected(f"no alert with {_shown(params)} is active")
        if len(seen.alerts) > params.max_alerts:
            raise Refused(
                f"{_shown(params)} covers {len(seen.alerts)} alerts, and {params.max_alerts} are allowed"
            )
        if seen.active:
            raise NothingSelected(f"{_shown(params)} is silenced by us already ({', '.join(seen.active)})")
        before = {"alerts": list(seen.alerts), "silences": list(seen.ours)}
        return (
            Effect(
                action=self.kind,
                subject=f"alerts with {_shown(params)}",
                params=params.model_dump(mode="json"),
                summary=f"silence {len(seen.alerts)} alert{'s' if len(seen.alerts) > 1 else ''} with {_shown(params)} "
                f"for {params.minutes} min",
                before=before,
                after={"comment": self._comment(params, before)},
                figures={"alerts": len(seen.alerts), "silence_seconds": params.minutes * 60},
                at_most={"alerts": params.max_alerts},
                undo="expire the silence",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Make the silence, unless it is there."""
        params = SilenceParams.model_validate(effect.params)
        comment = self._comment(params, effect.before)
        seen = await self.observe(params)
        for id_, told in seen.active.items():
            if told == comment:
                return Result(f"silence {id_} is there already", changed=False, captured={"silence": id_})
        if list(effect.before["silences"]) != list(seen.ours):
            raise Drifted("a silence of ours for these labels came or went since it was planned")
        if list(effect.before["alerts"]) != list(seen.alerts):
            raise Drifted(f"the active alerts with {_shown(params)} are not those that were planned on")
        now = datetime.now(UTC)
        answer = await self._caller.call(
            "POST",
            "/api/v2/silences",
            body={
                "matchers": _matchers(params),
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(minutes=params.minutes)).isoformat(),
                "createdBy": CREATED_BY,
                "comment": comment,
            },
        )
        id_ = str((answer or {}).get("silenceID", ""))
        if not id_:
            raise OutcomeUnknown("Alertmanager took the silence and did not tell its id")
        return Result(
            f"silenced {_shown(params)} for {params.minutes} min ({id_})",
            evidence={"silence": {"id": id_, "comment": comment, "minutes": params.minutes}},
            captured={"silence": id_},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Expire it."""
        params = SilenceParams.model_validate(effect.params)
        comment = self._comment(params, effect.before)
        seen = await self.observe(params)
        ids = [id_ for id_, told in seen.active.items() if told == comment]
        if not ids:
            return Result("the silence is over already", changed=False)
        for id_ in ids:
            # The id is one that Alertmanager itself told us just now.
            await self._caller.call("DELETE", f"/api/v2/silence/{id_}")
        return Result(f"expired the silence {', '.join(ids)}")

    def progress(self, effect: Effect, seen: Seen) -> Progress:
        """Whether the silence with our reference holds."""
        if effect.after["comment"] in seen.active.values():
            return Progress.DONE
        before = (list(seen.alerts), list(seen.ours))
        same = before == (list(effect.before["alerts"]), list(effect.before["silences"]))
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: SilenceParams) -> Permissions:
        """Reading alerts and silences, making one, expiring it."""
        url = self._connection.url
        return Permissions(
            http=(
                f"GET {url}/api/v2/alerts",
                f"GET {url}/api/v2/silences",
                f"POST {url}/api/v2/silences",
                f"DELETE {url}/api/v2/silence/{{id}}",
            )
        )

    def _check(self, params: SilenceParams) -> None:
        if params.minutes > self._connection.max_minutes:
            raise Refused(f"the connection allows silences of at most {self._connection.max_minutes} min")
        for name, value in self._connection.labels.items():
            if params.labels.get(name) != value:
                raise Refused(f"the connection allows only alerts with {name}={value!r}")

    def _comment(self, params: SilenceParams, before: Mapping[str, Any]) -> str:
        """The same for one effect wherever it is made, and another once a silence of it was."""
        text = json.dumps([params.model_dump(mode="json"), dict(before)], sort_keys=True)
        reference = hashlib.sha256(text.encode()).hexdigest()[:16]
        return f"remediator {reference}: {params.reason or 'while we act'}"


def _matchers(params: SilenceParams) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": value, "isRegex": False, "isEqual": True}
        for name, value in sorted(params.labels.items())
    ]


def _sorted_as(silence: Mapping[str, Any], params: SilenceParams) -> Any:
    """Our matchers in the order in which that silence has its own; never equal where they are others."""
    ours = {one["name"]: one for one in _matchers(params)}
    names = [one["name"] for one in silence["matchers"]]
    return [ours[name] for name in names] if sorted(names) == sorted(ours) else None


def _shown(params: SilenceParams) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sorted(params.labels.items()))
