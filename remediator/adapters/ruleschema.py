"""The shape of rules/<system>.yml. docs/rules.md shows it with examples; rulefiles.py checks what it refers to."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from remediator.adapters.schema import Duration, Span, Strict, one_of, show
from remediator.domain import promql
from remediator.domain.matchers import Matcher, parse_matchers
from remediator.pipeline.schedule import check_cron, check_timezone

NAME = r"^[a-z0-9][a-z0-9-]*$"

Name = Annotated[str, Field(pattern=NAME)]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
ModeName = Literal["notify", "suggest", "approve", "auto"]
_PLACE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")


def _matchers(value: object) -> tuple[Matcher, ...]:
    """One line, which may hold several, as in an Alertmanager route."""
    if not isinstance(value, str):
        # pydantic turns only a ValueError into a finding.
        raise ValueError(f"found {show(value)}, expected a matcher like 'severity=\"critical\"'")  # noqa: TRY004
    read = parse_matchers(value)
    if not read:
        raise ValueError("it matches everything; expected at least one matcher")
    return read


def _subject(value: str) -> str:
    left = _PLACE.sub("", value)
    if "{" in left or "}" in left:
        raise ValueError(f"found {show(value)}, expected braces only around a label name, like {{instance}}")
    return value


class ContactRow(Strict):
    """A contact; at least one way to reach it."""

    name: str
    slack: str = ""
    email: str = ""
    phone: str = ""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not (self.slack or self.email or self.phone):
            raise ValueError("expected at least one of slack, email or phone")
        return self


class EscalationRow(Strict):
    """A level of the escalation path."""

    to: Name
    within: Span | None = None


class WindowRow(Strict):
    """A documented window. Days and hours (`Sun 02:00-06:00`) are a gate for the rules that name it; words are none."""

    when: str
    timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    source: str = ""


class ConnectionRow(Strict):
    """The kind; what else stands here is checked by that kind's own model."""

    model_config = {**Strict.model_config, "extra": "allow"}

    kind: str


class ApprovalRow(Strict):
    """Who must agree; what is left out comes from the defaults."""

    approvers: list[str] | None = None
    votes: int | None = Field(default=None, ge=1)
    expires: Span | None = None


class RateRow(Strict):
    """At most `runs` within `window`."""

    runs: int = Field(ge=1)
    window: Span


class LimitsRow(Strict):
    """What is left out comes from the defaults."""

    cooldown: Duration | None = None
    rate: RateRow | None = None
    concurrency: int | None = Field(default=None, ge=1)
    fresh: Span | None = None
    hold: Duration | None = None


class VerifyRow(Strict):
    """How the symptom is known to be gone."""

    expr: str
    hold: Span | None = None
    within: Span | None = None
    every: Span | None = None
    closure: Literal["", "human"] = ""
    also: list[str] = []
    scope: list[str] = []

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        promql.check(self.expr, self.scope)
        for other in self.also:
            # What stands beside it may be of the whole system: it need not be scoped.
            promql.check(other, self.scope if promql.PLACEHOLDER in other else ())
        if self.hold is not None and self.within is not None and self.hold >= self.within:
            raise ValueError("it can never be verified: within must be longer than hold")
        return self


class RungRow(Strict):
    """One try of a ladder."""

    playbook: Name
    arguments: dict[str, Any] = Field(default={}, alias="with")
    mode: ModeName | None = None
    approval: ApprovalRow = ApprovalRow()
    verify: VerifyRow | None = None
    when: str = ""


class DefaultsRow(Strict):
    """What the rules of this file share."""

    mode: ModeName = "suggest"
    approval: ApprovalRow = ApprovalRow()
    limits: LimitsRow = LimitsRow()
    escalate_to: list[str] = []


class ScheduleRow(Strict):
    """When the clock starts the rule. `task` and `labels` are what an alert's labels would have told."""

    cron: Annotated[str, AfterValidator(check_cron)]
    timezone: Annotated[str, AfterValidator(check_timezone)] = "UTC"
    task: str = ""
    labels: dict[LabelName, str] = {}
    catch_up: Duration | None = None

    @model_validator(mode="after")
    def _own_labels(self) -> Self:
        taken = sorted(self.labels.keys() & {"alertname", "system", "rule", *(["task"] if self.task else [])})
        if taken:
            raise ValueError(f"the label {', '.join(taken)} is set by the schedule itself")
        return self


class OnDemandRow(Strict):
    """That a person may start the rule, with the labels that stand for an alert's, and what the person may choose."""

    labels: dict[LabelName, str] = {}
    choices: dict[LabelName, Annotated[list[str], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        taken = sorted({**self.labels, **self.choices}.keys() & {"alertname", "system", "rule"})
        if taken:
            raise ValueError(f"the label {', '.join(taken)} is set by the start itself")
        for name, values in self.choices.items():
            if name in self.labels and self.labels[name] not in values:
                raise ValueError(one_of(self.labels[name], values, f"choice for {name}"))
        return self


class RuleRow(Strict):
    """A row of the rule table: a ladder, or the reason why no playbook acts."""

    name: Name
    match: list[Annotated[tuple[Matcher, ...], BeforeValidator(_matchers)]] = Field(default=[], min_length=1)
    schedule: ScheduleRow | None = None
    on_demand: OnDemandRow | None = None
    subject: Annotated[str, AfterValidator(_subject)] = ""
    window: Name | None = None
    carry_on: bool = Field(default=False, alias="continue")
    ladder: list[RungRow] | None = Field(default=None, min_length=1)
    notify: str | None = Field(default=None, min_length=1)
    verify: VerifyRow | None = None
    limits: LimitsRow = LimitsRow()
    escalate_to: list[str] | None = None

    @model_validator(mode="after")
    def _ladder_or_reason(self) -> Self:
        if not self.match and self.schedule is None and self.on_demand is None:
            raise ValueError("nothing starts it; expected match, schedule or on_demand")
        if (self.ladder is None) == (self.notify is None):
            raise ValueError("expected either a ladder or notify with the reason why no playbook acts")
        if self.notify is not None and self.verify is not None:
            raise ValueError("a notify row acts on nothing, so there is nothing to verify")
        if self.notify is not None and self.window is not None:
            raise ValueError("a notify row acts on nothing, so it waits for no window")
        return self


class RuleFile(Strict):
    """rules/<system>.yml. The rules are read one by one, so that a wrong one does not hide the others."""

    system: Name
    order: int = 0
    contacts: dict[Name, ContactRow] = {}
    escalation: list[EscalationRow] = []
    windows: dict[Name, WindowRow] = {}
    connections: dict[Name, ConnectionRow] = {}
    defaults: DefaultsRow = DefaultsRow()
    rules: list[Any] = []
