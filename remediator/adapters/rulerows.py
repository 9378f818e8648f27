"""What the rows of a rule file say, as the domain has it: each value, else the file's default, else ours."""

from __future__ import annotations

from typing import Any

from remediator.adapters.ruleschema import (
    ApprovalRow,
    LimitsRow,
    OnDemandRow,
    RuleRow,
    ScheduleRow,
    VerifyRow,
)
from remediator.domain.approvals import Approval
from remediator.domain.guards import Limits
from remediator.domain.matchers import Matcher, Operator
from remediator.domain.playbooks import Choice
from remediator.domain.rules import OnDemand, Rule, Verify
from remediator.pipeline import schedule, start
from remediator.pipeline.schedule import CATCH_UP, Schedule


def schedule_of(rule: Rule, row: ScheduleRow) -> Schedule:
    """When the clock starts the rule."""
    catch_up = CATCH_UP if row.catch_up is None else row.catch_up
    labels = {**row.labels, **({"task": row.task} if row.task else {})}
    return Schedule(rule, row.cron, row.timezone, labels, catch_up)


def own_name(row: RuleRow) -> tuple[Matcher, ...]:
    """Without matchers it would match everything: only its own run's labels are meant."""
    names = [
        *([schedule.alertname(row.name)] if row.schedule else []),
        *([start.alertname(row.name)] if row.on_demand else []),
    ]
    operator = Operator.EQUAL if len(names) == 1 else Operator.REGEX
    return (Matcher("alertname", operator, "|".join(names)),)


def on_demand_of(row: OnDemandRow | None) -> OnDemand | None:
    """What a person who starts the rule may choose; None where nobody may."""
    if row is None:
        return None
    return OnDemand(row.labels, {name: tuple(values) for name, values in row.choices.items()})


def argument_of(value: Any) -> Any:
    """A value of `with`: as it stands, or chosen by a label."""
    if isinstance(value, dict) and value.keys() == {"label", "among"} and isinstance(value["among"], dict):
        return Choice(str(value["label"]), value["among"])
    return value


def approval_of(defaults: ApprovalRow, own: ApprovalRow) -> Approval:
    """Who may approve: what the row says, else the file's defaults, else ours."""
    plain = Approval()
    approvers = defaults.approvers if own.approvers is None else own.approvers
    return Approval(
        frozenset(approvers or ()),
        own.votes or defaults.votes or plain.votes,
        own.expires or defaults.expires or plain.expires,
    )


def limits_of(defaults: LimitsRow, own: LimitsRow) -> Limits:
    """What the row allows, else the file's defaults, else ours."""
    given: dict[str, Any] = {}
    for row in (defaults, own):
        given |= {name: getattr(row, name) for name in row.model_fields_set if getattr(row, name) is not None}
    rate = given.pop("rate", None)
    if rate is not None:
        given |= {"rate": rate.runs, "rate_window": rate.window}
    return Limits(**given)


def verify_of(row: VerifyRow) -> Verify:
    """When the symptom counts as gone."""
    plain = Verify("")
    return Verify(
        expr=row.expr,
        hold=row.hold or plain.hold,
        within=row.within or plain.within,
        every=row.every or plain.every,
        closure=row.closure,
        also=tuple(row.also),
        scope=tuple(row.scope),
    )
