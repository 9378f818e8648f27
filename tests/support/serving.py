"""The real pipeline over a ledger in memory, with a world and an action of our choosing, for tests of its edges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from remediator.adapters.dispatch_local import LocalDispatch
from remediator.adapters.ledger import SqlLedger
from remediator.domain.alerts import Status
from remediator.domain.approvals import Approval, Person
from remediator.domain.matchers import Matcher, Operator
from remediator.domain.playbooks import Parameter, Playbook, Reference, Step
from remediator.domain.remediations import Remediation
from remediator.domain.rules import Mode, Rule, RuleTable, Rung, Verify
from remediator.errors import Finding
from remediator.pipeline.advance import Advance
from remediator.pipeline.episodes import OwnEpisodes
from remediator.pipeline.ingest import Ingest
from remediator.pipeline.outbox import Outbox
from remediator.pipeline.ports import Messenger
from remediator.pipeline.service import Service
from remediator.pipeline.start import Starter
from remediator.testing import (
    NOON,
    FakeAction,
    FakeActions,
    FakeWorld,
    MemoryMessenger,
    VirtualClock,
    make_alert,
    make_payload,
)

ADA, BOB, EVE = Person("ada", frozenset({"devops"})), Person("bob", frozenset({"devops"})), Person("eve")
"""Ada and Bob may approve; Eve is known, and may not."""

ALERT = "CacheHitRateLow"


def rule(
    mode: Mode = Mode.APPROVE, *, votes: int = 1, name: str = "cache-hit-rate", playbook: str = "set-number"
) -> Rule:
    """A rule for ALERT with one rung."""
    rung = Rung(
        playbook,
        {"to": 7} if playbook == "set-number" else {},
        mode,
        Approval(frozenset({"devops"}), votes=votes, expires=timedelta(hours=1)),
        Verify("cache_hit_ratio > 0.3", hold=timedelta(minutes=1), within=timedelta(minutes=10)),
    )
    matchers = (Matcher("alertname", Operator.EQUAL, ALERT),)
    return Rule(
        name, "brainstem", matchers, (rung,), subject="cache {instance}", escalate_to=("redis-oncall",)
    )


SET_NUMBER = Playbook(
    "set-number",
    "Set the number",
    "low",
    (Step("set", "fake.set", {"to": Reference("to")}),),
    parameters={"to": Parameter("to")},
)
RUNBOOK = Playbook("look-yourself", "Look yourself", "low", (), checklist=("look at the fan", "turn it on"))


@dataclass
class Serving:
    """A running pipeline whose time moves when told."""

    service: Service
    ledger: SqlLedger
    clock: VirtualClock
    world: FakeWorld
    action: FakeAction
    dispatch: LocalDispatch
    advance: Advance
    outbox: Outbox
    messenger: Messenger
    findings: list[Finding] = field(default_factory=list)

    async def settle(self) -> None:
        """Advance whoever is due now until nobody is, then send what there is to send."""
        while ids := self.dispatch.due():
            for id_ in ids:
                await self.advance.run(id_)
        await self.outbox.flush()

    async def fire(self, **labels: str) -> Remediation:
        """Post a firing alert, and return the remediation that it began, as far as it came by itself."""
        labels = {"instance": "redis-1", **labels}
        accepted = await self.service.ingest(
            make_payload(make_alert(ALERT, at=NOON, status=Status.FIRING, **labels)), "test"
        )
        await self.settle()
        return (await self.service.show(accepted.started[0])).remediation

    async def now(self, id_: str) -> Remediation:
        """A remediation as it stands."""
        return (await self.service.show(id_)).remediation


@asynccontextmanager
async def serving(
    *rules: Rule,
    cap: Mode = Mode.APPROVE,
    messenger: Messenger | None = None,
    playbooks: Mapping[str, Playbook] | None = None,
) -> AsyncIterator[Serving]:
    """Put it together; one rule that asks for approval where none is given."""
    clock, world, action = VirtualClock(), FakeWorld(), FakeAction(value=3)
    ledger = SqlLedger.open("sqlite://", clock)
    dispatch = LocalDispatch(clock)
    books = playbooks or {book.name: book for book in (SET_NUMBER, RUNBOOK)}
    actions: Any = FakeActions(action)
    advance = Advance(ledger, dispatch, world, actions, clock, books)
    tasks: set[asyncio.Future[None]] = set()
    table = RuleTable(rules or (rule(),))
    ingest = Ingest(
        ledger, dispatch, world, clock, table, cap, lambda work: tasks.add(asyncio.ensure_future(work))
    )
    findings: list[Finding] = []

    async def reload() -> tuple[Finding, ...]:
        return tuple(findings)

    told = messenger or MemoryMessenger()
    starter = Starter(OwnEpisodes(ledger, dispatch), ledger, clock, cap)
    service = Service(ledger, ingest, advance, clock, reload, cap.value, starter)
    service.be("")
    try:
        yield Serving(
            service,
            ledger,
            clock,
            world,
            action,
            dispatch,
            advance,
            Outbox(ledger, told, clock),
            told,
            findings,
        )
    finally:
        await told.close()
        await asyncio.gather(*tasks)
        await ledger.close()
