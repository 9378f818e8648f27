"""On demand: a rule that a person starts, as if an alert had fired in that minute.

What follows is what follows of any alert: a dry run by default, the same guards but the one that asks Prometheus
whether the alert fires, the same plan, approvals, verification and journal. Whoever started it cannot approve it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from remediator.domain.alerts import Alert, Labels
from remediator.domain.approvals import Person
from remediator.domain.events import Event
from remediator.domain.rules import Mode, Rule
from remediator.errors import CannotStart, MayNotStart
from remediator.pipeline.episodes import OwnEpisodes
from remediator.pipeline.match import draft
from remediator.pipeline.ports import Clock, Ledger

log = structlog.get_logger()


def alertname(rule: str) -> str:
    """The name that a started run has in place of an alert's: `deploy-green` gives `OnDemandDeployGreen`."""
    return "OnDemand" + "".join(part[:1].upper() + part[1:] for part in rule.split("-"))


@dataclass(frozen=True, slots=True)
class Started:
    """The remediation, and whether it began just now; it had already where somebody was quicker."""

    id: str
    begun: bool


class Starter:
    """Starts rules for people. `cap` is the service's mode, which bounds theirs."""

    def __init__(self, episodes: OwnEpisodes, ledger: Ledger, clock: Clock, cap: Mode) -> None:
        self._episodes, self._ledger, self._clock, self._cap = episodes, ledger, clock, cap
        self._one_at_a_time = asyncio.Lock()

    async def start(self, rule: Rule, given: Labels, reason: str, person: Person) -> Started:
        """Begin the rule's remediation of this minute. A second call within the minute names the same one.

        Raises:
            CannotStart: when the rule is not for people to start, or not with these labels.
            MayNotStart: when it acts without asking, and the person could not approve it.
            LedgerError: when the ledger could not be used.
        """
        if rule.on_demand is None:
            raise CannotStart(f"people do not start {rule.name!r}: it has no on_demand")
        _demand_right(rule, person)
        alert = self._alert(rule, rule.on_demand.chosen(given), reason, person)
        now = self._clock.now()
        begun = replace(draft(rule, alert, self._cap, now), started_by=person.name)
        async with self._one_at_a_time:
            if await self._episodes.is_there(begun.id):
                return Started(begun.id, begun=False)
            # Before it begins: the journal knows of none that nobody started.
            told = {"by": person.name, "reason": reason, "rule": rule.name, "labels": dict(alert.labels)}
            await self._ledger.note(Event("started", told), now, begun.id)
            began = await self._episodes.begin(begun, alert, "on demand", now)
        log.info("started on demand", remediation=begun.id, rule=rule.name, by=person.name)
        return Started(begun.id, begun=began)

    def _alert(self, rule: Rule, labels: Labels, reason: str, person: Person) -> Alert:
        own = {"alertname": alertname(rule.name), "system": rule.system, "rule": rule.name}
        minute = self._clock.now().replace(second=0, microsecond=0)
        # Who and why stand beside the labels: a double click of two people is one episode.
        return Alert(
            {**labels, **own}, minute, annotations={"summary": f"started by {person.name}: {reason}"}
        )


def _demand_right(rule: Rule, person: Person) -> None:
    """Where nobody is asked any more, to start it is to approve it."""
    for rung in rule.ladder:
        if rung.mode is Mode.AUTO and not rung.approval.approvers & {person.name, *person.groups}:
            allowed = ", ".join(sorted(rung.approval.approvers)) or "nobody"
            raise MayNotStart(
                f"{rule.name!r} acts without asking, so only its approvers ({allowed}) start it"
            )
