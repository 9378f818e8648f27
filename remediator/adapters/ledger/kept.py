"""What was received: raw deliveries for replay, open episodes, and how long deliveries are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Connection, delete, func, select, type_coerce

from remediator.adapters.ledger.codec import episode_bytes, from_micros, to_micros
from remediator.adapters.ledger.ingest import COALESCE, Ingest
from remediator.adapters.ledger.schema import deliveries, episodes, outbox
from remediator.adapters.ledger.transaction import Transaction
from remediator.domain.alerts import Labels
from remediator.pipeline.ports import Delivery

PRUNED_AT_ONCE = 1_000
"""Rows removed in one transaction, so that a delivery never waits long behind it."""


def deliveries_of(connection: Connection, episode: str, limit: int) -> tuple[Delivery, ...]:
    """What was received, oldest first; of one episode where it is named."""
    query = select(deliveries).order_by(deliveries.c.id)
    if not episode:
        return tuple(_delivery(row) for row in connection.execute(query.limit(limit)))
    heard = connection.execute(
        select(episodes.c.first_at, episodes.c.received_at).where(episodes.c.episode == episode)
    ).first()
    if heard is None:
        return ()
    name, found = episode_bytes(episode), []
    listed = select(deliveries.c.id, deliveries.c.episodes).where(
        deliveries.c.last_at >= heard.first_at,
        deliveries.c.received_at <= heard.received_at + COALESCE,
    )
    for row in connection.execute(listed.order_by(deliveries.c.id)):
        if any(row.episodes[at : at + 16] == name for at in range(0, len(row.episodes), 16)):
            found.append(row.id)
            if len(found) == limit:
                break
    return tuple(
        _delivery(row)
        for id_ in found
        for row in connection.execute(select(deliveries).where(deliveries.c.id == id_))
    )


TOLD = ("alertname", "system", "severity", "response_class")
"""The labels by which open episodes are told; what else they carry is left to the database."""


def firing(connection: Connection) -> tuple[tuple[Labels, datetime], ...]:
    """Since when the open episodes fire, the oldest of each `TOLD` label set; grouped where the rows are."""
    labels = type_coerce(episodes.c.labels, JSON)
    told = [func.coalesce(labels[name].as_string(), "").label(name) for name in TOLD]
    rows = connection.execute(
        select(*told, func.min(episodes.c.starts_at).label("since"))
        .where(episodes.c.resolved_at.is_(None))
        .group_by(*told)
        .order_by("since")
    )
    return tuple(({name: getattr(row, name) for name in TOLD}, from_micros(row.since)) for row in rows)


def prune(transaction: Transaction, ingest: Ingest, before: datetime) -> int:
    """Remove the first of what is older; how many rows that were."""
    at = to_micros(before)
    removed = 0
    for table, old in (
        (deliveries, deliveries.c.last_at < at),
        (outbox, (outbox.c.due_at.is_(None)) & (outbox.c.created_at < at)),
    ):
        left = PRUNED_AT_ONCE - removed
        first = select(table.c.id).where(old).order_by(table.c.id).limit(left)
        removed += transaction.connection.execute(delete(table).where(table.c.id.in_(first))).rowcount
    if removed:
        # A body that is recognised counts on a row that may be gone now.
        transaction.on_commit(ingest.forget)
    return removed


def _delivery(row: Any) -> Delivery:
    body = bytes(row.body)
    return Delivery(body, from_micros(row.received_at), row.source, row.rejected)
