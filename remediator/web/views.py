"""Domain objects as the JSON of the API. docs/api.md describes each field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from remediator.domain.durations import format_duration
from remediator.domain.events import Entry
from remediator.domain.guards import Limits
from remediator.domain.plans import Effect, Plan, PlannedStep
from remediator.domain.playbooks import Choice
from remediator.domain.remediations import Phase, Remediation
from remediator.domain.rules import OnDemand, Rule, Rung
from remediator.pipeline.ports import Loaded, Switch

JSON = dict[str, Any]


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None


def effect_view(effect: Effect) -> JSON:
    """One change."""
    return {
        "action": effect.action,
        "subject": effect.subject,
        "summary": effect.summary,
        "params": dict(effect.params),
        "before": dict(effect.before),
        "after": dict(effect.after),
        "figures": dict(effect.figures),
        "at_most": dict(effect.at_most),
        "undo": effect.undo or None,
        "irreversible": effect.irreversible,
    }


def step_view(step: PlannedStep) -> JSON:
    """One step of a plan."""
    return {
        "name": step.name,
        "action": step.action,
        "connection": step.connection,
        "idempotent": step.idempotent,
        "timeout": format_duration(step.timeout),
        "tries": step.tries,
        "effects": [effect_view(effect) for effect in step.effects],
    }


def plan_view(plan: Plan) -> JSON:
    """A plan under its digest, which an approval has to name."""
    return {
        "digest": plan.digest,
        "playbook": plan.playbook,
        "made_at": moment(plan.made_at),
        "irreversible": plan.irreversible,
        "undone_when_ineffective": plan.undo,
        "checklist": list(plan.checklist),
        "steps": [step_view(step) for step in plan.steps],
    }


def approval_view(remediation: Remediation) -> JSON | None:
    """What is asked of people now; None where nothing is."""
    if remediation.phase is not Phase.AWAITING_APPROVAL or remediation.plan is None:
        return None
    approval = remediation.current.approval
    return {
        "digest": remediation.plan.digest,
        "approvers": sorted(approval.approvers),
        "votes": approval.votes,
        "agreed": list(remediation.agreed),
        "expires_at": moment(remediation.expires_at),
    }


def summary_view(remediation: Remediation) -> JSON:
    """A remediation in a list."""
    return {
        "id": remediation.id,
        "phase": remediation.phase.value,
        "final": remediation.final,
        "mode": remediation.mode.value,
        "rule": remediation.rule,
        "system": remediation.system,
        "subject": remediation.subject,
        "alert": remediation.labels.get("alertname", ""),
        "playbook": remediation.current.playbook,
        "reason": remediation.reason,
        "summary": remediation.plan.summary if remediation.plan else "",
        "starts_at": moment(remediation.starts_at),
        "created_at": moment(remediation.created_at),
        "finished_at": moment(remediation.finished_at),
        "approval": approval_view(remediation),
    }


def remediation_view(loaded: Loaded) -> JSON:
    """One remediation with all that is known of it."""
    remediation = loaded.remediation
    return {
        **summary_view(remediation),
        "episode": remediation.episode,
        "fingerprint": remediation.fingerprint,
        "labels": dict(remediation.labels),
        "annotations": dict(remediation.annotations),
        "alert_resolved": loaded.resolved,
        "started_by": remediation.started_by or None,
        "received_at": moment(loaded.received_at),
        "rung": remediation.rung + 1,
        "ladder": [rung_view(rung) for rung in remediation.ladder],
        "step": remediation.step,
        "results": [
            {"summary": result.summary, "changed": result.changed, "evidence": dict(result.evidence)}
            for result in remediation.results
        ],
        "plan": plan_view(remediation.plan) if remediation.plan else None,
        "escalate_to": list(remediation.escalate_to),
        "version": remediation.version,
    }


def entry_view(entry: Entry) -> JSON:
    """A journal entry."""
    return {
        "seq": entry.seq,
        "at": moment(entry.at),
        "remediation": entry.remediation or None,
        "kind": entry.event.kind,
        "data": dict(entry.event.data),
        "hash": entry.hash,
    }


def switch_view(switch: Switch) -> JSON:
    """A switch that is on."""
    return {
        "name": switch.name,
        "scope": switch.scope,
        "reason": switch.reason,
        "by": switch.by,
        "at": moment(switch.at),
    }


def rung_view(rung: Rung) -> JSON:
    """One try of a ladder."""
    verify = rung.verify
    return {
        "playbook": rung.playbook,
        "arguments": {name: _argument(value) for name, value in rung.arguments.items()},
        "mode": rung.mode.value,
        "when": rung.when,
        "approval": {
            "approvers": sorted(rung.approval.approvers),
            "votes": rung.approval.votes,
            "expires": format_duration(rung.approval.expires),
        },
        "verify": {
            "expr": verify.expr,
            "hold": format_duration(verify.hold),
            "within": format_duration(verify.within),
            "every": format_duration(verify.every),
            "closure": verify.closure,
            "also": list(verify.also),
        }
        if verify
        else None,
    }


def rule_view(rule: Rule) -> JSON:
    """A row of the rule table, with where it is written."""
    return {
        "name": rule.name,
        "system": rule.system,
        "matchers": [str(matcher) for matcher in rule.matchers],
        "subject": rule.subject,
        "continue": rule.carry_on,
        "reason": rule.reason,
        "escalate_to": list(rule.escalate_to),
        "limits": limits_view(rule.limits),
        "ladder": [rung_view(rung) for rung in rule.ladder],
        "on_demand": on_demand_view(rule.on_demand) if rule.on_demand else None,
        "file": rule.file,
        "line": rule.line,
    }


def on_demand_view(on_demand: OnDemand) -> JSON:
    """What a start says by itself, and what is left to the person."""
    choices = {name: list(values) for name, values in on_demand.choices.items()}
    return {"labels": dict(on_demand.labels), "choices": choices}


def limits_view(limits: Limits) -> JSON:
    """What a rule allows."""
    return {
        "cooldown": format_duration(limits.cooldown),
        "rate": limits.rate,
        "rate_window": format_duration(limits.rate_window),
        "concurrency": limits.concurrency,
        "fresh": format_duration(limits.fresh),
        "hold": format_duration(limits.hold),
        "window": limits.window.name if limits.window else None,
    }


def _argument(value: Any) -> Any:
    if isinstance(value, Choice):
        return {"label": value.label, "among": dict(value.among)}
    return value
