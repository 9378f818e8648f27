"""Replay: recorded payloads through the same pipeline, on a virtual clock, against what the world answered then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.adapters.cassettes import Cassette, RecordedVote, body
from remediator.adapters.ledger import SqlLedger
from remediator.adapters.recorded import RecordedActions, RecordedWorld
from remediator.adapters.rulebook import RuleBook
from remediator.assembly import Parts, assemble
from remediator.domain.approvals import Person, Vote
from remediator.domain.events import Entry
from remediator.domain.remediations import Phase
from remediator.testing import MemoryMessenger, VirtualClock

HORIZON = timedelta(days=1)
"""How long after the last recorded thing a replay goes on waiting for what is due. A choice of ours."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a timeline: when, after the first post; which rule; what happened, in words."""

    after: timedelta
    rule: str
    what: str

    def __str__(self) -> str:
        seconds = int(self.after.total_seconds())
        clock = f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
        return f"+{clock}  {self.rule:<34}  {self.what}".rstrip()


async def replay(cassette: Cassette, book: RuleBook) -> tuple[Line, ...]:
    """The timeline of a recording under these rules. Nothing outside is asked, and nothing is touched."""
    begun = cassette.deliveries[0].at
    clock = VirtualClock(begun)
    ledger = SqlLedger.open("sqlite://", clock)
    try:
        connections = {name: system.connections for name, system in book.systems.items()}
        parts = assemble(
            book,
            mode=cassette.mode,
            ledger=ledger,
            clock=clock,
            world=RecordedWorld(cassette, clock),
            actions=RecordedActions(cassette, connections),
            messenger=MemoryMessenger(),
        )
        async for _ in _moments(cassette, parts, clock):
            await parts.outbox.flush()
        rules = {remediation.id: remediation.rule for remediation in await ledger.list(limit=10_000)}
        entries = await ledger.journal(limit=100_000)
        return tuple(
            Line(entry.at - begun, rules.get(entry.remediation, ""), told(entry)) for entry in entries
        )
    finally:
        await ledger.close()


async def _moments(cassette: Cassette, parts: Parts, clock: VirtualClock) -> AsyncIterator[datetime]:
    """Everything that happens, in the order of time: posts, votes, and what is due in between."""
    happenings = sorted(
        [(delivery.at, 0, delivery) for delivery in cassette.deliveries]
        + [(vote.at, 1, vote) for vote in cassette.votes],
        key=lambda happening: happening[:2],
    )
    last = happenings[-1][0]
    end = cassette.until or last + HORIZON
    while True:
        due = parts.dispatch.next_at()
        if happenings and (due is None or happenings[0][0] <= due):
            at, _, what = happenings.pop(0)
            clock.to(at)
            if isinstance(what, RecordedVote):
                await _vote(what, parts)
            else:
                await parts.service.ingest(body(what), cassette.name)
        elif due is not None and due <= end:
            clock.to(due)
        else:
            return
        for id_ in parts.dispatch.due():
            await parts.advance.run(id_)
        yield clock.now()


async def _vote(vote: RecordedVote, parts: Parts) -> None:
    person = Person(vote.by, frozenset(vote.groups))
    for remediation in await parts.service.list(phases=[Phase.AWAITING_APPROVAL]):
        assert remediation.plan is not None
        await parts.service.vote(
            remediation.id, Vote(person, vote.approve, remediation.plan.digest, "recording")
        )


def told(entry: Entry) -> str:
    """A journal entry as a person reads it."""
    kind, data = entry.event.kind, entry.event.data
    match kind:
        case "judged" | "rechecked":
            denied = [f"{d['guard']}: {d['reason']}" for d in data["denied"]]
            drift = [f"drift: {line}" for line in data.get("drift", [])]
            return f"{kind}: {'; '.join(denied + drift) or 'all guards allow'}"
        case "planned":
            return f"planned {data['digest'][:12]}: {'; '.join(data['effects'])}"
        case "intent":
            return f"step {data['step'] + 1}: {data['action']}"
        case "outcome":
            return f"step {data['step'] + 1} done: {data['summary']}"
        case "vote" | "rejected" | "vote_refused":
            return f"{kind.replace('_', ' ')} by {data['by']}" + (f": {data['why']}" if "why" in data else "")
        case "approved":
            by = data["by"]
            return f"approved by {by if isinstance(by, str) else ', '.join(by)}"
        case "sampled":
            return f"symptom {'gone' if data['gone'] else 'there'}: {data['value']}"
        case "escalating":
            return f"escalating to {', '.join(data['to']) or 'nobody'}: {data['reason']}"
        case "finished":
            return f"{data['outcome'].upper()}: {data['reason']}"
        case _:
            rest = ", ".join(
                f"{k}={v}" for k, v in data.items() if k in ("reason", "why", "step", "expr", "to", "alerts")
            )
            return f"{kind.replace('_', ' ')}" + (f": {rest}" if rest else "")
