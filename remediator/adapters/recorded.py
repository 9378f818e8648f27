"""The world and the actions as a cassette recorded them: nothing outside is asked, and nothing is touched."""

from __future__ import annotations

from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter

from remediator.adapters.cassettes import Answers, Cassette, Observation
from remediator.adapters.registry import action_class
from remediator.domain.alerts import Alert, Labels
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import PermanentFailure, TemporaryFailure, WorldUnavailable
from remediator.pipeline.ports import Clock, Permissions


class RecordedWorld:
    """Answers as of the clock's time."""

    def __init__(self, cassette: Cassette, clock: Clock) -> None:
        self._answers = sorted(cassette.world, key=lambda answers: answers.since)
        self._clock = clock

    async def firing(self, labels: Labels) -> bool:
        """As recorded for the alert's name."""
        firing = self._now().firing.get(labels.get("alertname", ""))
        if firing is None:
            raise WorldUnavailable("the recording does not say whether it fires")
        return firing

    async def muted(self, labels: Labels, remediation: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As recorded."""
        answers = self._now()
        return tuple(answers.silenced_by), tuple(answers.inhibited_by)

    async def sample(self, expr: str) -> tuple[bool | None, str]:
        """As recorded; an expression that was not recorded has no sample."""
        gone = self._now().samples.get(expr, False)
        return gone, "recorded sample" if gone else "no sample"

    async def alerts(self, group_labels: Labels) -> tuple[Alert, ...]:
        """A recording holds only what was posted."""
        raise WorldUnavailable("the recording does not hold the rest of the group")

    async def close(self) -> None:
        """Nothing to close."""

    def _now(self) -> Answers:
        now = self._clock.now()
        current = [answers for answers in self._answers if answers.since <= now]
        if not current or current[-1].unavailable:
            raise WorldUnavailable("nobody answers in the recording at this time")
        return current[-1]


class RecordedAction:
    """An action whose look is recorded, whose plan is the real one, and whose apply touches nothing."""

    def __init__(self, class_: Any, connection: BaseModel, observation: Observation | None) -> None:
        self._real = class_(connection)
        self._observation = observation
        self.kind: str = class_.kind
        self.idempotent: bool = class_.idempotent
        self.Params: type[BaseModel] = class_.Params
        self.Connection: type[BaseModel] = class_.Connection
        self._seen = TypeAdapter(get_type_hints(class_.observe)["return"])

    async def observe(self, params: Any) -> Any:
        """What was recorded."""
        if self._observation is None:
            raise TemporaryFailure(f"the recording holds no look of {self.kind} at {params.connection}")
        return self._seen.validate_python(self._observation.seen)

    def plan(self, params: Any, seen: Any) -> tuple[Effect, ...]:
        """The real plan."""
        effects: tuple[Effect, ...] = self._real.plan(params, seen)
        return effects

    async def apply(self, effect: Effect) -> Result:
        """What was recorded, or that nothing was."""
        recorded = self._observation
        if recorded is not None and recorded.fails:
            raise PermanentFailure(recorded.fails)
        return Result((recorded.result if recorded else "") or f"(recording) {effect.summary}")

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Touches nothing."""
        return Result(f"(recording) {effect.undo}")

    def progress(self, effect: Effect, seen: Any) -> Progress:
        """The real judgement."""
        progress: Progress = self._real.progress(effect, seen)
        return progress

    def permissions(self, params: Any) -> Permissions:
        """The real ones."""
        permissions: Permissions = self._real.permissions(params)
        return permissions

    async def close(self) -> None:
        """Nothing was opened."""


class RecordedActions:
    """The actions of a recording, by kind and connection."""

    def __init__(self, cassette: Cassette, connections: Any) -> None:
        self._observations = {(seen.action, seen.connection): seen for seen in cassette.observed}
        self._connections = connections

    def get(self, kind: str, system: str, connection: str) -> Any:
        """The recorded action. Raises Refused where configuration names no such action."""
        class_ = action_class(kind)
        try:
            model = self._connections[system][connection]
        except KeyError as error:
            raise PermanentFailure(f"{system} has no connection {connection!r}") from error
        return RecordedAction(class_, model, self._observations.get((kind, connection)))

    async def close(self) -> None:
        """Nothing to close."""
