"""Plans: exactly what would change, in figures a person can judge, under one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

Values = Mapping[str, Any]
"""JSON values by name."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One change on one subject, computed from what was seen, with what is needed to do it and to undo it.

    Attributes:
        action: the kind of action, such as `redis.unlink_prefix`.
        subject: what is acted on, as a person would say it.
        params: the validated parameters.
        before: what was seen and must still hold when it is applied; a difference is drift.
        after: what will be seen when it is done.
        summary: the change in one line, with figures.
        figures: the sizes behind the summary, in base units. They may move until the change is applied.
        at_most: the bounds this plan asks permission for; a figure above its bound is drift.
        undo: how it is undone, in one line; empty where there is nothing to take back, as after a restart.
        irreversible: whether it destroys something that nothing brings back; then it is never `auto`.
    """

    action: str
    subject: str
    params: Values
    summary: str
    before: Values = field(default_factory=dict)
    after: Values = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    undo: str = ""
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a plan. `timeout` bounds one try; `tries` above 1 only where the action is idempotent."""

    name: str
    action: str
    connection: str
    params: Values
    effects: tuple[Effect, ...]
    idempotent: bool = False
    timeout: timedelta = timedelta(minutes=1)
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Intent with effects. An approval names the digest of exactly this."""

    playbook: str
    steps: tuple[PlannedStep, ...]
    made_at: datetime
    checklist: tuple[str, ...] = ()
    """For a runbook: what a person does and confirms. For a playbook: what the approver vouches for."""
    undo: bool = True
    """Whether what can be undone is undone when it did not help."""

    @property
    def digest(self) -> str:
        """SHA-256 of what would be done: everything but the figures and the time, which move by themselves."""
        steps = [
            {
                **asdict(step),
                "timeout": step.timeout.total_seconds(),
                "effects": [_promise(e) for e in step.effects],
            }
            for step in self.steps
        ]
        text = json.dumps([self.playbook, steps, self.checklist], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def summary(self) -> str:
        """All effects in one line each."""
        lines = [effect.summary for step in self.steps for effect in step.effects]
        return "\n".join(lines or self.checklist)

    @property
    def irreversible(self) -> bool:
        """Whether any of its effects cannot be undone."""
        return any(effect.irreversible for step in self.steps for effect in step.effects)


def _promise(effect: Effect) -> dict[str, Any]:
    told = asdict(effect)
    del told["figures"], told["summary"]
    # 12340 and 12340.0 are one bound, whichever of the two a way through JSON made of it.
    return {**told, "at_most": {name: float(bound) for name, bound in effect.at_most.items()}}


@dataclass(frozen=True, slots=True)
class Result:
    """What an action did. `captured` is what its undo needs; `evidence` is for people. No secret in either."""

    summary: str
    changed: bool = True
    evidence: Values = field(default_factory=dict)
    captured: Values = field(default_factory=dict)


class Progress(StrEnum):
    """What a second look says of a step whose outcome was lost."""

    DONE = "done"
    UNTOUCHED = "untouched"
    UNCLEAR = "unclear"


def progress(effect: Effect, fresh: Iterable[Effect], done: bool) -> Progress:
    """Judge one effect by planning it again: `done` where the wanted state is there, untouched where it would
    be planned just as it was, unclear otherwise.
    """
    if done:
        return Progress.DONE
    if any(not differences(effect, again, {}) for again in fresh):
        return Progress.UNTOUCHED
    return Progress.UNCLEAR


def drift(approved: PlannedStep, fresh: PlannedStep, done: Iterable[PlannedStep] = ()) -> tuple[str, ...]:
    """How the world differs from what one step was planned on; empty where the plan still holds.

    What the `done` steps of the same plan changed themselves is no drift.
    """
    ours: dict[str, dict[str, Any]] = {}
    for step in done:
        for effect in step.effects:
            ours.setdefault(effect.subject, {}).update(effect.after)
    now = {effect.subject: effect for effect in fresh.effects}
    told: list[str] = []
    for effect in approved.effects:
        again = now.pop(effect.subject, None)
        if again is None:
            told.append(f"{effect.subject} is no longer there")
        else:
            told += differences(effect, again, ours.get(effect.subject, {}))
    told += [f"{subject} was not in the plan" for subject in now]
    return tuple(told)


def differences(approved: Effect, fresh: Effect, ours: Values) -> list[str]:
    """What differs between an approved effect and the same one planned afresh, one line each."""
    told = [f"{approved.subject}: parameters differ"] if approved.params != fresh.params else []
    expected = {key: ours.get(key, value) for key, value in approved.before.items()}
    told += [
        f"{approved.subject}: {key} was {value!r} and is {fresh.before.get(key)!r}"
        for key, value in expected.items()
        if fresh.before.get(key) != value
    ]
    told += [
        f"{approved.subject}: {name} is {fresh.figures[name]:,.0f}, above the approved {bound:,.0f}"
        for name, bound in approved.at_most.items()
        if fresh.figures.get(name, 0) > bound
    ]
    return told
