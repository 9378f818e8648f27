"""alertmanager.lift: the silence that this remediation made ends with its work, not with its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel

from remediator.actions.alertmanager.connection import (
    AlertmanagerConnection,
    LabelsParams,
    Way,
    holds,
    shown,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.domain.silences import is_own
from remediator.errors import Drifted, Refused
from remediator.pipeline.ports import Permissions

_MOST = 1
"""One remediation makes one silence for the same labels; more than that is not what was planned on."""


class LiftParams(LabelsParams):
    """Parameters of `alertmanager.lift`."""


@dataclass(frozen=True, slots=True)
class SeenHeld:
    """The silences of this remediation for these labels that hold."""

    held: tuple[Mapping[str, str], ...]
    """Each with its id, comment and end."""


class Lift:
    """Lift the silence that this same remediation made for these labels, as the last step of its playbook."""

    kind: ClassVar[str] = "alertmanager.lift"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = LiftParams
    Connection: ClassVar[type[BaseModel]] = AlertmanagerConnection

    def __init__(self, connection: AlertmanagerConnection) -> None:
        self._connection, self._way = connection, Way(connection)

    async def close(self) -> None:
        """Nothing is held."""

    async def observe(self, params: LiftParams) -> SeenHeld:
        """Read which silences of this remediation hold."""
        if not params.remediation:
            raise Refused("only a remediation lifts a silence, and only its own")
        self._way.check(params.labels)
        return SeenHeld(
            tuple(
                {"id": one["id"], "comment": one["comment"], "ends_at": one["endsAt"]}
                for one in await self._way.ours(params.labels)
                if holds(one) and is_own(params.remediation, one["createdBy"], one["comment"])
            )
        )

    def plan(self, params: LiftParams, seen: SeenHeld) -> tuple[Effect, ...]:
        """One effect: none of its silences holds. An earlier step makes the silence, so there may be none as yet."""
        return (
            Effect(
                action=self.kind,
                subject=f"our silence of alerts with {shown(params.labels)}",
                params=params.model_dump(mode="json"),
                summary=f"lift our own silence of alerts with {shown(params.labels)}",
                figures={"silences": len(seen.held)},
                at_most={"silences": _MOST},
                undo="silence them again for the rest of the time",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Expire it, where it is not over by itself."""
        params = LiftParams.model_validate(effect.params)
        held = (await self.observe(params)).held
        if len(held) > _MOST:
            raise Drifted(f"{len(held)} silences of this remediation hold, and one was planned on")
        if not held:
            return Result("no silence of ours holds", changed=False)
        for one in held:
            await self._way.expire(one["id"])
        told = [dict(one) for one in held]
        return Result(
            f"lifted our silence of {shown(params.labels)} ({held[0]['id']})",
            evidence={"lifted": told},
            captured={"silences": told},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Silence the same alerts again, until the end that the silence had."""
        params = LiftParams.model_validate(effect.params)
        held = {one["comment"] for one in (await self.observe(params)).held}
        made = []
        for one in result.captured.get("silences", ()):
            ends_at = datetime.fromisoformat(one["ends_at"])
            if one["comment"] not in held and ends_at > datetime.now(UTC):
                made.append(await self._way.make(params.labels, ends_at, one["comment"]))
        if not made:
            return Result("it holds already, or its time is over", changed=False)
        return Result(f"silenced {shown(params.labels)} again ({', '.join(made)})")

    def progress(self, effect: Effect, seen: SeenHeld) -> Progress:
        """Done where none of its silences holds."""
        if not seen.held:
            return Progress.DONE
        return Progress.UNTOUCHED if len(seen.held) <= _MOST else Progress.UNCLEAR

    def permissions(self, params: LiftParams) -> Permissions:
        """Reading silences, expiring one, and making it again for an undo."""
        url = self._connection.url
        return Permissions(
            http=(
                f"GET {url}/api/v2/silences",
                f"DELETE {url}/api/v2/silence/{{id}}",
                f"POST {url}/api/v2/silences",
            )
        )
