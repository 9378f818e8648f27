"""The outbox: messages are written with what they tell of, and delivered afterwards, at least once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from remediator.adapters.ledger.bodies import decode
from remediator.adapters.ledger.codec import to_json, to_micros
from remediator.adapters.ledger.schema import cards, outbox, remediations, snapshots
from remediator.pipeline.ports import Message, Outgoing

CARD = "card"


def post(connection: Connection, remediation: str, messages: Sequence[Message], now: datetime) -> None:
    """Put messages into the outbox. A new card replaces the one that was not delivered yet.

    It keeps that one's count of attempts and its due time, so that news does not break into a back-off. The
    replaced row stays, no longer due: it may be on its way, and its reference has to find its place.
    """
    at = to_micros(now)
    for message in messages:
        due_at, attempts = at, 0
        if message.kind == CARD:
            waiting = connection.execute(
                select(func.max(outbox.c.due_at), func.max(outbox.c.attempts)).where(*_waiting(remediation))
            ).one()
            if waiting[0] is not None:
                due_at, attempts = max(waiting[0], at), waiting[1]
                connection.execute(update(outbox).where(*_waiting(remediation)).values(due_at=None))
        connection.execute(
            insert(outbox).values(
                remediation=remediation,
                kind=message.kind,
                data=to_json(message.data),
                created_at=at,
                due_at=due_at,
                attempts=attempts,
                error="",
            )
        )


def _waiting(remediation: str) -> tuple[Any, ...]:
    return (
        outbox.c.remediation == remediation,
        outbox.c.kind == CARD,
        outbox.c.due_at.is_not(None),
    )


def due(connection: Connection, now: datetime, limit: int) -> tuple[Outgoing, ...]:
    """What is to be delivered now, the longest due first, with the remediation as it is now."""
    rows = connection.execute(
        select(
            outbox.c.id,
            outbox.c.kind,
            outbox.c.data,
            outbox.c.attempts,
            remediations.c.body,
            snapshots.c.body.label("snapshot"),
            cards.c.ref,
        )
        .join(remediations, remediations.c.id == outbox.c.remediation)
        .join(snapshots, snapshots.c.key == remediations.c.snapshot)
        .outerjoin(cards, cards.c.remediation == outbox.c.remediation)
        .where(outbox.c.due_at <= to_micros(now))
        .order_by(outbox.c.due_at, outbox.c.id)
        .limit(limit)
    )
    return tuple(
        Outgoing(
            row.id,
            decode(row.body, row.snapshot),
            Message(row.kind, json.loads(row.data)),
            row.ref or "",
            row.attempts,
        )
        for row in rows
    )


def sent(connection: Connection, id_: int, ref: str, now: datetime) -> None:
    """It was delivered; a card's reference is kept for its next update."""
    row = connection.execute(select(outbox.c.remediation, outbox.c.kind).where(outbox.c.id == id_)).first()
    if row is None:
        return
    connection.execute(
        update(outbox).where(outbox.c.id == id_).values(due_at=None, sent_at=to_micros(now), error="")
    )
    if row.kind == CARD and ref:
        connection.execute(delete(cards).where(cards.c.remediation == row.remediation))
        connection.execute(insert(cards).values(remediation=row.remediation, ref=ref))


def unsent(connection: Connection, id_: int, retry_at: datetime, error: str) -> None:
    """It was not delivered. A card that was replaced meanwhile hands its back-off to its successor."""
    row = connection.execute(
        select(outbox.c.remediation, outbox.c.kind, outbox.c.due_at).where(outbox.c.id == id_)
    ).first()
    if row is None:
        return
    chosen = _waiting(row.remediation) if row.due_at is None and row.kind == CARD else (outbox.c.id == id_,)
    connection.execute(
        update(outbox)
        .where(*chosen, outbox.c.due_at.is_not(None))
        .values(due_at=to_micros(retry_at), attempts=outbox.c.attempts + 1, error=error)
    )
