"""`SqlLedger`: the ledger port over SQLAlchemy Core. Writes share commits on one thread; reads never wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Self, TypeVar

from sqlalchemy import ColumnElement, Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError

from remediator.adapters.ledger import chain, kept, messages, progress
from remediator.adapters.ledger.codec import from_micros, to_micros
from remediator.adapters.ledger.database import READERS, Database, open_database
from remediator.adapters.ledger.ingest import Ingest
from remediator.adapters.ledger.schema import switches
from remediator.adapters.ledger.transaction import Head, Transaction, read_head
from remediator.adapters.ledger.writer import PATIENCE, WAITING, Stats, Writer
from remediator.domain.alerts import Labels
from remediator.domain.events import Entry, Event
from remediator.domain.guards import Facts
from remediator.domain.remediations import Phase, Remediation, Transition
from remediator.errors import LedgerUnavailable
from remediator.pipeline.ports import (
    Accepted,
    Clock,
    Delivery,
    Loaded,
    Message,
    Outgoing,
    Settle,
    Sighting,
    Switch,
)

T = TypeVar("T")


class SqlLedger:
    """The one truth, in a SQLite file or in memory. Implements `pipeline.ports.Ledger`.

    Raises:
        LedgerUnavailable: from every call, when nothing could be read or written.
    """

    def __init__(self, database: Database, clock: Clock, writer: Writer | None) -> None:
        """Use `SqlLedger.open`."""
        self._database = database
        self._clock = clock
        self._writer = writer
        self._ingest = Ingest()
        self._closed = False
        self._threads = (
            None
            if database.readers is None
            else ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reader")
        )

    @classmethod
    def open(
        cls,
        url: str,
        clock: Clock,
        *,
        read_only: bool = False,
        waiting: int = WAITING,
        patience: float = PATIENCE,
    ) -> Self:
        """Open `sqlite:///path`, migrating it, or `sqlite://` in memory; `patience` is in seconds.

        With `read_only` it may be opened while a service writes to it, and every write is refused.

        Raises:
            LedgerUnavailable: when it cannot be opened, or another service uses it.
        """
        database = open_database(url, read_only=read_only)
        writer = None
        if database.writer is not None:
            reopen = database.path is not None
            writer = Writer(database.writer, waiting=waiting, patience=patience, reopen=reopen)
        return cls(database, clock, writer)

    @property
    def stats(self) -> Stats:
        """How the writer is doing."""
        return self._writer.stats if self._writer else Stats(0, 0, 0, 0.0)

    def accept(self, delivery: Delivery, sightings: Sequence[Sighting] = ()) -> Awaitable[Accepted]:
        """Keep a delivery, its episodes and the remediations it begins; each (rule, episode) only once."""
        return self._writing.submit_batch(self._ingest.accept, (delivery, sightings), len(sightings) + 1)

    async def load(self, id_: str) -> Loaded:
        """One remediation. Raises KeyError where there is none."""
        return await self._read(lambda connection: progress.load(connection, id_))

    async def write(
        self, transition: Transition, now: datetime, messages: Sequence[Message] = ()
    ) -> Remediation:
        """Write a transition, its events and its messages. A final one gives up its claim. Raises StaleWrite."""
        return await self._writing.submit(lambda tx: progress.write(tx, transition, now, messages))

    async def reserve(self, remediation: Remediation, facts: Facts, settle: Settle) -> Remediation:
        """Count, settle, claim and write, all in one transaction. Raises StaleWrite."""
        return await self._writing.submit(lambda tx: progress.reserve(tx, remediation, facts, settle))

    async def facts(self, remediation: Remediation, facts: Facts) -> Facts:
        """The facts completed with what the ledger counts, leaving this remediation itself out."""
        return await self._read(lambda connection: progress.completed(connection, remediation, facts))

    async def unfinished(self) -> tuple[Remediation, ...]:
        """Everything that is not final, oldest first."""
        return await self._read(progress.unfinished)

    async def list(
        self, *, phases: Sequence[Phase] = (), system: str = "", limit: int = 100
    ) -> tuple[Remediation, ...]:
        """The newest first."""
        return await self._read(lambda connection: progress.newest(connection, phases, system, limit))

    async def outbox(self, now: datetime, limit: int = 20) -> tuple[Outgoing, ...]:
        """Messages that are due, oldest first."""
        return await self._read(lambda connection: messages.due(connection, now, limit))

    async def sent(self, id_: int, ref: str) -> None:
        """It was delivered as `ref`."""
        now = self._clock.now()
        await self._writing.submit(lambda tx: messages.sent(tx.connection, id_, ref, now))

    async def unsent(self, id_: int, retry_at: datetime, error: str) -> None:
        """It was not; try again then."""
        await self._writing.submit(lambda tx: messages.unsent(tx.connection, id_, retry_at, error))

    async def switch(self, switch: Switch) -> None:
        """Turn one on, and journal it. One that is on already takes the new reason."""
        await self._writing.submit(lambda tx: _switch(tx, switch))

    async def unswitch(self, name: str, scope: str, by: str, now: datetime) -> bool:
        """Turn one off, and journal it; False where it was not on."""
        return await self._writing.submit(lambda tx: _unswitch(tx, name, scope, by, now))

    async def switches(self) -> tuple[Switch, ...]:
        """Those that are on."""
        return await self._read(_switches)

    async def note(self, event: Event, now: datetime, remediation: str = "") -> None:
        """Journal something that is no transition."""
        await self._writing.submit(lambda tx: tx.record(now, remediation, event))

    async def journal(self, *, remediation: str = "", after: int = 0, limit: int = 1000) -> tuple[Entry, ...]:
        """Entries in order."""
        return await self._read(lambda connection: chain.entries(connection, remediation, after, limit))

    async def head(self) -> tuple[int, str]:
        """The last entry's number and hash, for an anchor; 0 where there is none."""
        head: Head = await self._read(read_head)
        return head.seq, head.hash

    async def verify(self, anchors: Mapping[int, str] | None = None) -> tuple[int, str] | None:
        """The first bad entry of the whole journal, with the reason; None where the chain holds."""
        return await self._read(lambda connection: chain.verify(connection, anchors or {}))

    async def deliveries(self, *, episode: str = "", limit: int = 100) -> tuple[Delivery, ...]:
        """What was received, oldest first; of one episode where it is named. The same body is told once."""
        return await self._read(lambda connection: kept.deliveries_of(connection, episode, limit))

    async def firing(self) -> tuple[tuple[Labels, datetime], ...]:
        """The label sets of open episodes and since when they fire."""
        return await self._read(kept.firing)

    async def prune(self, before: datetime) -> int:
        """Remove deliveries last received, and messages sent, before then; how many. Never from the journal."""
        removed = 0
        while True:
            part = await self._writing.submit(lambda tx: kept.prune(tx, self._ingest, before))
            removed += part
            if part < kept.PRUNED_AT_ONCE:
                break
        if removed:
            data = {"removed": removed, "before": before.isoformat()}
            await self.note(Event("pruned", data), self._clock.now())
        return removed

    async def close(self) -> None:
        """Finish what was begun and let the database go."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        if self._threads is not None:
            self._threads.shutdown()
        self._database.close()

    @property
    def _writing(self) -> Writer:
        if self._writer is None:
            raise LedgerUnavailable("the ledger was opened to be read only")
        return self._writer

    async def _read(self, look: Callable[[Connection], T]) -> T:
        """Look at one state of the database. In memory there is one connection, and it is the writer's."""
        if self._threads is None:
            return await self._writing.submit(lambda tx: look(tx.connection))
        try:
            looking = asyncio.get_running_loop().run_in_executor(self._threads, self._look, look)
        except RuntimeError as error:
            raise LedgerUnavailable("the ledger is closed") from error
        return await looking

    def _look(self, look: Callable[[Connection], T]) -> T:
        assert self._database.readers is not None
        try:
            with self._database.readers.begin() as connection:
                return look(connection)
        except DBAPIError as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error.orig}") from error


def _switch(transaction: Transaction, switch: Switch) -> None:
    connection = transaction.connection
    connection.execute(delete(switches).where(*_named(switch.name, switch.scope)))
    connection.execute(
        insert(switches).values(
            name=switch.name, scope=switch.scope, reason=switch.reason, by=switch.by, at=to_micros(switch.at)
        )
    )
    data = {"switch": switch.name, "scope": switch.scope, "reason": switch.reason, "by": switch.by}
    transaction.record(switch.at, "", Event("switched_on", data))


def _unswitch(transaction: Transaction, name: str, scope: str, by: str, now: datetime) -> bool:
    removed = transaction.connection.execute(delete(switches).where(*_named(name, scope))).rowcount
    if removed:
        transaction.record(now, "", Event("switched_off", {"switch": name, "scope": scope, "by": by}))
    return bool(removed)


def _named(name: str, scope: str) -> tuple[ColumnElement[bool], ...]:
    return switches.c.name == name, switches.c.scope == scope


def _switches(connection: Connection) -> tuple[Switch, ...]:
    rows = connection.execute(select(switches).order_by(switches.c.name, switches.c.scope))
    return tuple(Switch(row.name, row.scope, row.reason, row.by, from_micros(row.at)) for row in rows)
