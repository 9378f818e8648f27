"""Try the action on the real pipeline: an alert starts it, a vote permits the plan, the clock moves on by itself.

    python try_it.py RULES PLAYBOOKS ALERTNAME

prints the plan, then the timeline. Only Prometheus is played: it says that the alert fires, and later that it is over.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from remediator.adapters.ledger import SqlLedger
from remediator.adapters.registry import BoundActions, ConnectionModels, ParamsModels
from remediator.adapters.rulefiles import load_rulebook
from remediator.assembly import Parts, assemble
from remediator.domain.approvals import Person, Vote
from remediator.domain.rules import Mode
from remediator.replay import told
from remediator.telemetry import set_up_logs
from remediator.testing import FakeWorld, MemoryMessenger, VirtualClock, make_alert, make_payload

ADA = Person("ada", frozenset({"ops"}))


async def try_it(rules: Path, playbooks: Path, alertname: str) -> None:
    """From the alert to the end of the remediation that it begins."""
    book = load_rulebook(rules, playbooks, ParamsModels(), ConnectionModels())
    clock = VirtualClock()
    ledger = SqlLedger.open("sqlite://", clock)
    actions = BoundActions({name: system.connections for name, system in book.systems.items()})
    parts = assemble(
        book,
        mode=Mode.APPROVE,
        ledger=ledger,
        clock=clock,
        world=FakeWorld(),
        actions=actions,
        messenger=MemoryMessenger(),
    )
    parts.service.be("")
    try:
        accepted = await parts.service.ingest(make_payload(make_alert(alertname)), "try_it")
        await settle(parts)
        for id_ in accepted.started:
            plan = (await ledger.load(id_)).remediation.plan
            if plan is not None:
                print("plan:", plan.summary)
                await parts.service.vote(id_, Vote(ADA, True, plan.digest, "try_it"))
        while (due := parts.dispatch.next_at()) is not None:
            clock.to(due)
            await settle(parts)
        for entry in await ledger.journal():
            print(told(entry))
    finally:
        await actions.close()
        await ledger.close()


async def settle(parts: Parts) -> None:
    """Advance whoever is due now until nobody is."""
    while ids := parts.dispatch.due():
        for id_ in ids:
            await parts.advance.run(id_)


if __name__ == "__main__":
    set_up_logs("warning", "console")
    asyncio.run(try_it(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
