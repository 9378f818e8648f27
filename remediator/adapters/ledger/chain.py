"""Reading the journal, and checking its chain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, Row, Select, select, text

from remediator.adapters.ledger.codec import EPOCH, from_micros
from remediator.adapters.ledger.schema import journal
from remediator.domain.events import Entry, Event, first_bad

PAGE = 1_000


def entries(connection: Connection, remediation: str, after: int, limit: int) -> tuple[Entry, ...]:
    """Entries in order, of one remediation where it is named."""
    query: Select[tuple[int, int, str, str, str, str, str]] = select(journal).where(journal.c.seq > after)
    if remediation:
        # The second condition is the index's own: without it the database cannot know that the index has them.
        query = query.where(journal.c.remediation == remediation, text("remediation <> ''"))
    return tuple(_entry(row) for row in connection.execute(query.order_by(journal.c.seq).limit(limit)))


def verify(connection: Connection, anchors: Mapping[int, str]) -> tuple[int, str] | None:
    """The first entry that was changed, removed or added, and the reason; None where the chain holds."""
    return first_bad(_all(connection), anchors)


def _all(connection: Connection) -> Iterator[Entry]:
    after = -(2**63)
    while page := entries(connection, "", after, PAGE):
        yield from page
        after = page[-1].seq


def _entry(row: Row[tuple[int, int, str, str, str, str, str]]) -> Entry:
    try:
        at, event = from_micros(row.at), Event(row.kind, json.loads(row.data))
    except (ValueError, TypeError, OverflowError):
        # Somebody was at it. It is still an entry, and its hash says that this is not what was written.
        at, event = EPOCH, Event(str(row.kind), {"unreadable": True})
    return Entry(row.seq, at, str(row.remediation), event, str(row.previous), str(row.hash))
