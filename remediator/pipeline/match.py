"""Match: from an alert to the remediations that it would start."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

from remediator.domain.alerts import Alert
from remediator.domain.facts import Begun
from remediator.domain.machine import decide
from remediator.domain.promql import PLACEHOLDER, scoped
from remediator.domain.remediations import Remediation
from remediator.domain.rules import Mode, Rule, Rung


def remediation_id(rule: str, episode: str) -> str:
    """The same for the same rule and episode, so that whoever asks twice names the same thing."""
    return hashlib.sha256(f"{rule}\n{episode}".encode()).hexdigest()[:12]


def draft(rule: Rule, alert: Alert, cap: Mode, now: datetime) -> Remediation:
    """What this rule would start for this alert; its first command is pending."""
    episode = alert.episode
    begun = Remediation(
        id=remediation_id(rule.name, episode),
        rule=rule.name,
        system=rule.system,
        subject=rule.subject_for(alert.labels),
        episode=episode,
        fingerprint=alert.fingerprint,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=alert.starts_at,
        created_at=now,
        ladder=tuple(_scoped(rung, alert) for rung in rule.ladder),
        cap=cap,
        limits=rule.limits,
        escalate_to=rule.escalate_to,
    )
    return decide(begun, Begun(), now).after


def _scoped(rung: Rung, alert: Alert) -> Rung:
    """The verification bound to this alert, so that a healthy sibling cannot satisfy it."""
    verify = rung.verify
    if verify is None or not verify.scope:
        return rung
    bound = [
        scoped(expr, verify.scope, alert.labels) if PLACEHOLDER in expr else expr
        for expr in (verify.expr, *verify.also)
    ]
    return replace(rung, verify=replace(verify, expr=bound[0], also=tuple(bound[1:])))
