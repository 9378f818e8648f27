"""Playbooks: the machine's steps, generic, and bound to parameters by a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from remediator.domain.alerts import Labels

Value = Any
"""A JSON value."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An argument that an alert's label chooses among values written in the rule; it never names a new one."""

    label: str
    among: Mapping[str, Value]

    def resolve(self, labels: Labels) -> Value:
        """The value for this alert.

        Raises:
            KeyError: when the label is none of the allowed ones.
        """
        return self.among[labels.get(self.label, "")]


@dataclass(frozen=True, slots=True)
class Reference:
    """A step's value that is a parameter of its playbook, written `$name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A playbook's parameter. `connection` names the kind of connection where the value is one."""

    name: str
    description: str = ""
    default: Value = None
    required: bool = True
    connection: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The use of an action in a playbook."""

    name: str
    action: str
    arguments: Mapping[str, Value | Reference]
    timeout: timedelta = timedelta(minutes=1)
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Gate:
    """Something that must hold before the playbook acts: a PromQL expression with a sample, or a person's word."""

    id: str
    promql: str = ""
    confirm: str = ""


@dataclass(frozen=True, slots=True)
class Playbook:
    """Steps with parameters. One without steps is a runbook: its checklist is done by a person."""

    name: str
    title: str
    risk: str
    steps: tuple[Step, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    checklist: tuple[str, ...] = ()
    undo: bool = True
    """Whether a failed verification undoes what can be undone; a containment is never lifted by itself."""

    @property
    def is_runbook(self) -> bool:
        """Whether a person carries it out."""
        return not self.steps


@dataclass(frozen=True, slots=True)
class BoundStep:
    """A step with every value filled in; what an action is given."""

    name: str
    action: str
    arguments: Mapping[str, Value]
    timeout: timedelta
    tries: int


def bind(
    playbook: Playbook, arguments: Mapping[str, Value | Choice], labels: Labels
) -> tuple[BoundStep, ...]:
    """Fill in a playbook's steps. Values are replaced whole: nothing is ever spliced into a text.

    Raises:
        ValueError: when a parameter is missing, unknown, or a label chooses none of the allowed values.
    """
    unknown = sorted(set(arguments) - set(playbook.parameters))
    if unknown:
        raise ValueError(f"{playbook.name} has no parameter {', '.join(unknown)}")
    values: dict[str, Value] = {}
    for name, parameter in playbook.parameters.items():
        if name in arguments:
            values[name] = _resolve(name, arguments[name], labels)
        elif parameter.required:
            raise ValueError(f"{playbook.name} needs the parameter {name}")
        else:
            values[name] = parameter.default
    return tuple(
        BoundStep(step.name, step.action, _fill(step.arguments, values), step.timeout, step.tries)
        for step in playbook.steps
    )


def _resolve(name: str, argument: Value | Choice, labels: Labels) -> Value:
    if not isinstance(argument, Choice):
        return argument
    try:
        return argument.resolve(labels)
    except KeyError as error:
        allowed = ", ".join(sorted(argument.among))
        raise ValueError(
            f"{name}: the label {argument.label}={labels.get(argument.label, '')!r} is none of {allowed}"
        ) from error


def _fill(value: Value, values: Mapping[str, Value]) -> Value:
    if isinstance(value, Reference):
        return values[value.name]
    if isinstance(value, Mapping):
        return {key: _fill(inner, values) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fill(inner, values) for inner in value]
    return value
