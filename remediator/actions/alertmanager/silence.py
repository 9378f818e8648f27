"""alertmanager.silence: exactly the alerts that our work causes are silenced while it lasts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from remediator.actions.alertmanager.connection import (
    AlertmanagerConnection,
    LabelsParams,
    Way,
    holds,
    printable,
    shown,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.domain.silences import comment
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions

Words = Annotated[str, StringConstraints(max_length=200), AfterValidator(printable)]


class SilenceParams(LabelsParams):
    """Parameters of `alertmanager.silence`."""

    minutes: int = Field(default=15, ge=1, le=1440, description="for how long; the connection sets the most")
    max_alerts: int = Field(default=1, ge=1, le=50, description="how many firing alerts it may cover")
    reason: Words = Field(default="", description="for the comment")


@dataclass(frozen=True, slots=True)
class Seen:
    """The active alerts with these labels, and our silences for them: all that there were, and those that hold."""

    alerts: tuple[str, ...]
    ours: tuple[str, ...]
    active: Mapping[str, str]
    """Ids of our silences that hold, and their comments."""


class Silence:
    """Silence the alerts with exactly these labels for a bounded time, with the remediation's id in the comment."""

    kind: ClassVar[str] = "alertmanager.silence"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SilenceParams
    Connection: ClassVar[type[BaseModel]] = AlertmanagerConnection

    def __init__(self, connection: AlertmanagerConnection) -> None:
        self._connection, self._way = connection, Way(connection)

    async def close(self) -> None:
        """Nothing is held."""

    async def observe(self, params: SilenceParams) -> Seen:
        """Read the alerts that it would cover and the silences that there are."""
        self._check(params)
        # Only to read less: what counts is compared below.
        narrowed = {"filter": f"alertname={json.dumps(params.labels['alertname'], ensure_ascii=False)}"}
        found = await self._way.caller.call("GET", "/api/v2/alerts", query=narrowed)
        wanted = dict(params.labels).items()
        alerts = tuple(sorted(one["fingerprint"] for one in found if wanted <= one["labels"].items()))
        ours = await self._way.ours(params.labels)
        active = {one["id"]: one["comment"] for one in ours if holds(one)}
        return Seen(alerts, tuple(sorted(one["id"] for one in ours)), active)

    def plan(self, params: SilenceParams, seen: Seen) -> tuple[Effect, ...]:
        """One effect: a silence for just these alerts."""
        told, count = shown(params.labels), len(seen.alerts)
        if not seen.alerts:
            raise NothingSelected(f"no alert with {told} is active")
        if count > params.max_alerts:
            raise Refused(f"{told} covers {count} alerts, and {params.max_alerts} are allowed")
        if seen.active:
            raise NothingSelected(f"{told} is silenced by us already ({', '.join(seen.active)})")
        before = {"alerts": list(seen.alerts), "silences": list(seen.ours)}
        return (
            Effect(
                action=self.kind,
                subject=f"alerts with {told}",
                params=params.model_dump(mode="json"),
                summary=f"silence {count} alert{'s' if count > 1 else ''} with {told} for {params.minutes} min",
                before=before,
                after={"comment": self._comment(params, before)},
                figures={"alerts": count, "silence_seconds": params.minutes * 60},
                at_most={"alerts": params.max_alerts},
                undo="expire the silence",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Make the silence, unless it is there."""
        params = SilenceParams.model_validate(effect.params)
        wanted = self._comment(params, effect.before)
        seen = await self.observe(params)
        for id_, told in seen.active.items():
            if told == wanted:
                return Result(f"silence {id_} is there already", changed=False, captured={"silence": id_})
        if list(effect.before["silences"]) != list(seen.ours):
            raise Drifted("a silence of ours for these labels came or went since it was planned")
        if list(effect.before["alerts"]) != list(seen.alerts):
            raise Drifted(f"the active alerts with {shown(params.labels)} are not those that were planned on")
        ends_at = datetime.now(UTC) + timedelta(minutes=params.minutes)
        id_ = await self._way.make(params.labels, ends_at, wanted)
        return Result(
            f"silenced {shown(params.labels)} for {params.minutes} min ({id_})",
            evidence={"silence": {"id": id_, "comment": wanted, "minutes": params.minutes}},
            captured={"silence": id_},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Expire it."""
        params = SilenceParams.model_validate(effect.params)
        wanted = self._comment(params, effect.before)
        seen = await self.observe(params)
        ids = [id_ for id_, told in seen.active.items() if told == wanted]
        if not ids:
            return Result("the silence is over already", changed=False)
        for id_ in ids:
            await self._way.expire(id_)
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
        self._way.check(params.labels)

    def _comment(self, params: SilenceParams, before: Mapping[str, Any]) -> str:
        """The same for one effect wherever it is made, and another once a silence of it was."""
        text = json.dumps([params.model_dump(mode="json"), dict(before)], sort_keys=True)
        return comment(params.remediation, hashlib.sha256(text.encode()).hexdigest()[:16], params.reason)
