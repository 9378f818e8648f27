"""An open transaction: its connection, the journal entries it adds, and what follows once it is committed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from remediator.adapters.ledger.bodies import Snapshot
from remediator.adapters.ledger.codec import EPOCH, quote, to_json, to_micros
from remediator.adapters.ledger.rows import insert_rows
from remediator.adapters.ledger.schema import journal, snapshots
from remediator.domain.events import GENESIS, Event


class Head(NamedTuple):
    """The journal's last entry."""

    seq: int
    hash: str


class Mark(NamedTuple):
    """Where a savepoint began, for what is not in the database yet."""

    head: Head
    entries: int
    committed: int


class Transaction:
    """What a unit of work is given. Journal entries are kept back and written together at the end."""

    __slots__ = ("_at", "_entries", "_iso", "_kept", "_known", "_micros", "committed", "connection", "head")

    def __init__(self, connection: Connection, head: Head, known: set[str]) -> None:
        """`known` are the keys of snapshots that are durable; what is committed is added to it."""
        self.connection = connection
        self.head = head
        self.committed: list[Callable[[], None]] = []
        self._entries: list[tuple[Any, ...]] = []
        self._at, self._micros, self._iso = EPOCH, 0, EPOCH.isoformat()
        self._known, self._kept = known, set[str]()

    def record(self, at: datetime, remediation: str, event: Event) -> None:
        """Add an event to the journal, hashed as it will be read again: a tuple is a list there."""
        self.append(at, remediation, event.kind, to_json(json.loads(to_json(event.data))))

    def append(self, at: datetime, remediation: str, kind: str, data: str) -> None:
        """Add an entry whose data is canonical JSON already.

        The hash is `domain.events.entry_hash`, made from the JSON that is stored anyway, because half of what a
        new alert costs is the journal. `verify` computes it the domain's way.
        """
        if at is not self._at:
            self._at, self._micros, self._iso = at, to_micros(at), at.astimezone(UTC).isoformat()
        seq, previous = self.head
        seq += 1
        text = f'["{previous}",{seq},"{self._iso}",{quote(remediation)},{quote(kind)},{data}]'
        hash_ = sha256(text.encode()).hexdigest()
        self._entries.append((seq, self._micros, remediation, kind, data, previous, hash_))
        self.head = Head(seq, hash_)

    def keep(self, snapshot: Snapshot) -> str:
        """Keep what a rule said, if it is not kept yet; the key."""
        key = snapshot.key
        if key not in self._known and key not in self._kept:
            known = select(snapshots.c.key).where(snapshots.c.key == key)
            if self.connection.execute(known).first() is None:
                self.connection.execute(insert(snapshots).values(key=key, body=snapshot.body))
            self._kept.add(key)
        return key

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once this is durable, and never if it is not."""
        self.committed.append(callback)

    def mark(self) -> Mark:
        """Remember where we are."""
        return Mark(self.head, len(self._entries), len(self.committed))

    def back_to(self, mark: Mark) -> None:
        """Forget what came after the mark."""
        self.head = mark.head
        del self._entries[mark.entries :]
        del self.committed[mark.committed :]
        self._kept.clear()

    def flush(self) -> None:
        """Write the journal entries."""
        insert_rows(self.connection, journal, self._entries)

    def done(self) -> None:
        """It is committed: tell those who wait for that."""
        self._known |= self._kept
        for callback in self.committed:
            callback()


def read_head(connection: Connection) -> Head:
    """The journal's last entry, from the database."""
    found = connection.execute(
        select(journal.c.seq, journal.c.hash).order_by(journal.c.seq.desc()).limit(1)
    ).first()
    return Head(found.seq, found.hash) if found else Head(0, GENESIS)
