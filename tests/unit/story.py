"""A whole remediation in memory: the real pipeline and ledger, a clock that moves when told, and a made-up world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from remediator.adapters.ledger import SqlLedger
from remediator.adapters.rulebook import RuleBook
from remediator.assembly import Parts, assemble
from remediator.domain.alerts import Alert
from remediator.domain.approvals import Approval, Person, Vote
from remediator.domain.guards import Limits
from remediator.domain.matchers import parse_matchers
from remediator.domain.playbooks import Playbook, Step
from remediator.domain.remediations import Remediation
from remediator.domain.rules import Mode, Rule, RuleTable, Rung, Verify
from remediator.testing import FakeAction, FakeActions, FakeWorld, MemoryMessenger, VirtualClock, make_payload

ADA = Person("ada", frozenset({"devops"}))
MINUTE = timedelta(minutes=1)
VERIFY = Verify("symptom == 0", hold=5 * MINUTE, within=30 * MINUTE, every=MINUTE)
RUNG = Rung("set", mode=Mode.APPROVE, approval=Approval(frozenset({"devops"})), verify=VERIFY)
STEP = Step("set", "fake.set", {"connection": "fake", "to": 1})
PLAYBOOK = Playbook("set", "Set the number", "low", (STEP,))


def rule(
    name: str = "rule", match: str = 'alertname="CacheHitRateLow"', *rungs: Rung, **fields: object
) -> Rule:
    """A rule on the test's alert."""
    return Rule(name, "brainstem", parse_matchers(match), rungs or (RUNG,), **{"subject": "number", **fields})  # type: ignore[arg-type]


@dataclass
class Story:
    """The service with its outside in the test's hands."""

    rules: Sequence[Rule] = field(default_factory=lambda: (rule(),))
    playbooks: Sequence[Playbook] = (PLAYBOOK,)
    mode: Mode = Mode.AUTO
    clock: VirtualClock = field(default_factory=VirtualClock)
    world: FakeWorld = field(default_factory=FakeWorld)
    action: FakeAction = field(default_factory=FakeAction)
    messenger: MemoryMessenger = field(default_factory=MemoryMessenger)

    async def __aenter__(self) -> Story:
        self.ledger = SqlLedger.open("sqlite://", self.clock)
        self.parts = self.assemble()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self.parts.tasks):
            await task
        await self.ledger.close()

    def assemble(self) -> Parts:
        """Put the service together; a second time on the same ledger is a restart."""
        book = RuleBook(RuleTable(self.rules), {}, {playbook.name: playbook for playbook in self.playbooks})
        return assemble(
            book,
            mode=self.mode,
            ledger=self.ledger,
            clock=self.clock,
            world=self.world,
            actions=FakeActions(self.action),
            messenger=self.messenger,
        )

    async def post(self, *alerts: Alert, **fields: object) -> None:
        """Alertmanager posts, and everything that is due is carried on."""
        await self.parts.service.ingest(make_payload(*alerts, **fields), "test")  # type: ignore[arg-type]
        for task in list(self.parts.tasks):
            await task
        await self.settle()

    async def settle(self) -> None:
        """Carry on whatever is due now."""
        while due := self.parts.dispatch.due():
            for id_ in due:
                await self.parts.advance.run(id_)

    async def wait(self, time: timedelta) -> None:
        """Let time pass, waking whoever is due on the way."""
        end = self.clock.now() + time
        while (at := self.parts.dispatch.next_at()) is not None and at <= end:
            self.clock.to(at)
            await self.settle()
        self.clock.to(end)

    async def only(self) -> Remediation:
        """The one remediation there is."""
        (remediation,) = await self.ledger.list()
        return remediation

    async def vote(self, person: Person = ADA, *, approve: bool = True) -> str:
        """A person decides on the plan that waits."""
        remediation = await self.only()
        assert remediation.plan is not None
        refused = await self.parts.service.vote(
            remediation.id, Vote(person, approve, remediation.plan.digest, "test")
        )
        await self.settle()
        return refused

    async def kinds(self) -> list[str]:
        """What the journal tells, in order."""
        return [entry.event.kind for entry in await self.ledger.journal()]


LOOSE = Limits(cooldown=timedelta(0), rate=100)
