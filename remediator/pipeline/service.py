"""The service as the web, the command line and the tests see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from remediator.domain.alerts import Labels
from remediator.domain.approvals import Person, Vote
from remediator.domain.events import Entry, Event
from remediator.domain.remediations import Phase, Remediation
from remediator.domain.rules import RuleTable
from remediator.errors import Finding
from remediator.pipeline.advance import Advance
from remediator.pipeline.ingest import Ingest
from remediator.pipeline.ports import Accepted, Clock, Ledger, Loaded, Switch
from remediator.pipeline.start import Started, Starter


class Service:
    """Everything a person or a sender can ask for."""

    def __init__(
        self,
        ledger: Ledger,
        ingest: Ingest,
        advance: Advance,
        clock: Clock,
        reload: Callable[[], Awaitable[tuple[Finding, ...]]],
        mode: str,
        starter: Starter,
    ) -> None:
        self._ledger, self._ingest, self._advance, self._clock = ledger, ingest, advance, clock
        self._reload, self._starter = reload, starter
        self._not_ready = "starting"
        self.mode = mode

    @property
    def rules(self) -> RuleTable:
        """The rule table in force."""
        return self._ingest.table

    def ready(self) -> str:
        """Why alerts are not taken; empty when they are."""
        return self._not_ready

    def be(self, not_ready: str) -> None:
        """Say whether we are ready, and if not why."""
        self._not_ready = not_ready

    def ingest(self, body: bytes, source: str) -> Awaitable[Accepted]:
        """Take one webhook post in. Raises BadPayload or LedgerUnavailable."""
        return self._ingest.receive(body, source)

    async def vote(self, id_: str, vote: Vote) -> str:
        """Count a vote: "" when it counted, else why not, in words. Raises KeyError for an unknown id."""
        return await self._advance.vote(id_, vote)

    async def start(self, rule: str, labels: Labels, reason: str, person: Person) -> Started:
        """Start a rule on demand, in the name of an authenticated person.

        Raises:
            KeyError: when there is no such rule.
            CannotStart: when it does not start so, or not by this person (MayNotStart).
        """
        return await self._starter.start(self.rules.by_name[rule], labels, reason, person)

    async def show(self, id_: str) -> Loaded:
        """One remediation. Raises KeyError."""
        return await self._ledger.load(id_)

    async def timeline(self, id_: str) -> tuple[Entry, ...]:
        """What the journal tells of one remediation."""
        return await self._ledger.journal(remediation=id_)

    async def list(
        self, *, phases: Sequence[Phase] = (), system: str = "", limit: int = 100
    ) -> tuple[Remediation, ...]:
        """The newest remediations first."""
        return await self._ledger.list(phases=phases, system=system, limit=limit)

    async def switch(self, name: str, scope: str, reason: str, by: str) -> None:
        """Pause, or pull the kill switch."""
        await self._ledger.switch(Switch(name, scope, reason, by, self._clock.now()))

    async def unswitch(self, name: str, scope: str, by: str) -> bool:
        """Turn a switch off; False where it was not on."""
        return await self._ledger.unswitch(name, scope, by, self._clock.now())

    async def switches(self) -> tuple[Switch, ...]:
        """The switches that are on."""
        return await self._ledger.switches()

    async def note(self, kind: str, **data: str) -> None:
        """Journal something that concerns the service, such as a refused sign-in."""
        await self._ledger.note(Event(kind, data), self._clock.now())

    async def reload(self) -> tuple[Finding, ...]:
        """Read the rules and playbooks again; with findings the old ones stay in force."""
        return await self._reload()
