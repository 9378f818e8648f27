"""The shape of playbooks/<name>.yml. docs/playbooks.md shows it with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from remediator.adapters.ruleschema import Name
from remediator.adapters.schema import Span, Strict
from remediator.domain import promql

ActionParams = Mapping[str, type[BaseModel]]
"""The parameters' model of every action there is, by the action's kind."""


class ParameterRow(Strict):
    """A parameter; required where it has no default."""

    description: str = ""
    default: Any = None
    connection: str = ""


class StepRow(Strict):
    """The use of an action."""

    name: Name
    action: str
    arguments: dict[str, Any] = Field(default={}, alias="with")
    timeout: Span | None = None
    tries: int = Field(default=1, ge=1, le=10)


class GateRow(Strict):
    """Something that must hold first: an expression with a sample, or a person's word."""

    id: Name
    promql: str | None = Field(default=None, min_length=1)
    confirm: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.promql is None) == (self.confirm is None):
            raise ValueError("expected either promql or confirm")
        if self.promql is not None:
            promql.check(self.promql)
        return self


class PlaybookFile(Strict):
    """playbooks/<name>.yml."""

    playbook: Name
    title: str = Field(min_length=1)
    risk: Literal["low", "medium", "high"]
    kind: Literal["playbook", "runbook"] = "playbook"
    parameters: dict[str, ParameterRow] = {}
    steps: list[StepRow] = []
    gates: list[GateRow] = []
    checklist: list[Annotated[str, Field(min_length=1)]] = []
    undo: Literal["auto", "never"] = "auto"
