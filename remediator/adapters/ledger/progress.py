"""Moving remediations: reading them, writing transitions, and reserving runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from remediator.adapters.ledger import messages as outgoing
from remediator.adapters.ledger.bodies import decode, encode, mode_of, snapshot_of
from remediator.adapters.ledger.codec import from_micros, to_micros, to_micros_or_none
from remediator.adapters.ledger.schema import claims, episodes, remediations, snapshots, switches
from remediator.adapters.ledger.transaction import Transaction
from remediator.domain.guards import Facts
from remediator.domain.remediations import FINAL, Phase, Remediation, Transition
from remediator.domain.rules import Mode
from remediator.errors import StaleWrite
from remediator.pipeline.ports import Loaded, Message, Settle

OPEN = tuple(sorted(phase.value for phase in Phase if phase not in FINAL))
ACTS = (Mode.APPROVE, Mode.AUTO)

_BODIES = select(remediations.c.body, snapshots.c.body.label("snapshot")).join(
    snapshots, snapshots.c.key == remediations.c.snapshot
)

_LOADED = (
    _BODIES.add_columns(episodes.c.resolved_at, episodes.c.received_at)
    .join(episodes, episodes.c.episode == remediations.c.episode)
    .where(remediations.c.id == bindparam("of"))
)


def load(connection: Connection, id_: str) -> Loaded:
    """One remediation with what is known of its episode. Raises KeyError where there is none."""
    row = connection.execute(_LOADED, {"of": id_}).first()
    if row is None:
        raise KeyError(id_)
    return Loaded(decode(row.body, row.snapshot), row.resolved_at is not None, from_micros(row.received_at))


def newest(
    connection: Connection, phases: Sequence[Phase] = (), system: str = "", limit: int | None = None
) -> tuple[Remediation, ...]:
    """The newest first, of these phases and this system where they are named."""
    query = _BODIES.order_by(remediations.c.created_at.desc(), remediations.c.id.desc())
    if phases:
        query = query.where(remediations.c.phase.in_([phase.value for phase in phases]))
    if system:
        query = query.where(remediations.c.system == system)
    return tuple(decode(*row) for row in connection.execute(query.limit(limit)))


def unfinished(connection: Connection) -> tuple[Remediation, ...]:
    """Everything that is not final, oldest first."""
    query = _BODIES.where(remediations.c.phase.in_(OPEN))
    ordered = query.order_by(remediations.c.created_at, remediations.c.id)
    return tuple(decode(*row) for row in connection.execute(ordered))


def write(
    transaction: Transaction, transition: Transition, now: datetime, messages: Sequence[Message] = ()
) -> Remediation:
    """Write a transition, its events and its messages. Raises StaleWrite."""
    return _write(transaction, transition, now, messages, {})


def reserve(transaction: Transaction, remediation: Remediation, facts: Facts, settle: Settle) -> Remediation:
    """Count, settle, claim and write: the counts cannot move between the question and the answer."""
    transition, messages = settle(completed(transaction.connection, remediation, facts))
    if transition.after.phase is not Phase.JUDGED:
        return _write(transaction, transition, facts.now, messages, {})
    at = to_micros(facts.now)
    written = _write(transaction, transition, facts.now, messages, {"reserved_at": at})
    if written.mode in ACTS:
        transaction.connection.execute(delete(claims).where(claims.c.remediation == written.id))
        transaction.connection.execute(
            insert(claims).values(
                subject=written.subject, system=written.system, remediation=written.id, claimed_at=at
            )
        )
    return written


# Built once: the guards ask these before every step, and building a statement takes longer than running it.
_EPISODE = select(episodes.c.resolved_at, episodes.c.received_at).where(
    episodes.c.episode == bindparam("of_episode")
)
_OTHER_RUNS = (
    remediations.c.id != bindparam("own"),
    remediations.c.reserved_at.is_not(None),
    remediations.c.rule == bindparam("of_rule"),
)
_FINISHED = select(func.max(remediations.c.finished_at)).where(
    *_OTHER_RUNS, remediations.c.subject == bindparam("of_subject")
)
_RUNS = (
    select(remediations.c.reserved_at)
    .where(*_OTHER_RUNS, remediations.c.reserved_at > bindparam("since"))
    .order_by(remediations.c.reserved_at)
)
_HELD = select(claims.c.subject, claims.c.system, claims.c.remediation).where(
    (claims.c.system == bindparam("of_system")) | (claims.c.subject == bindparam("of_subject")),
    claims.c.remediation != bindparam("own"),
)
_SWITCHED = (
    select(switches)
    .where(switches.c.scope.in_(bindparam("scopes", expanding=True)))
    .order_by(switches.c.scope)
)


def completed(connection: Connection, remediation: Remediation, facts: Facts) -> Facts:
    """The facts with what the ledger counts, leaving this remediation itself out."""
    of = {
        "own": remediation.id,
        "of_rule": remediation.rule,
        "of_subject": remediation.subject,
        "of_system": remediation.system,
        "since": to_micros(facts.now - remediation.limits.rate_window),
    }
    episode = connection.execute(_EPISODE, {"of_episode": remediation.episode}).first()
    finished = connection.execute(_FINISHED, of).scalar()
    runs = connection.execute(_RUNS, of).scalars()
    held = connection.execute(_HELD, of).all()
    on = _switched_on(connection, remediation)
    return replace(
        facts,
        resolved=facts.resolved if episode is None else episode.resolved_at is not None,
        received_at=facts.received_at if episode is None else from_micros(episode.received_at),
        paused=on.get("pause", ""),
        killed=on.get("kill", ""),
        last_finished_at=None if finished is None else from_micros(finished),
        runs=tuple(from_micros(run) for run in runs),
        active=sum(1 for claim in held if claim.system == remediation.system),
        claimed_by=next((c.remediation for c in held if c.subject == remediation.subject), ""),
    )


def _switched_on(connection: Connection, remediation: Remediation) -> dict[str, str]:
    """The switches that bear on this remediation, with their reasons."""
    scopes = ("", f"system={remediation.system}", f"rule={remediation.rule}")
    told: dict[str, str] = {}
    for row in connection.execute(_SWITCHED, {"scopes": scopes}):
        reason = row.reason or f"by {row.by or 'somebody'}"
        told[row.name] = f"{told[row.name]}; {reason}" if row.name in told else reason
    return told


def _write(
    transaction: Transaction,
    transition: Transition,
    now: datetime,
    messages: Sequence[Message],
    more: dict[str, Any],
) -> Remediation:
    version = transition.after.version
    after = replace(transition.after, version=version + 1)
    pending = after.pending
    changed = transaction.connection.execute(
        update(remediations)
        .where(remediations.c.id == after.id, remediations.c.version == version)
        .values(
            phase=after.phase.value,
            rung=after.rung,
            mode=mode_of(after),
            finished_at=to_micros_or_none(after.finished_at),
            wake_at=to_micros_or_none((pending.until or after.expires_at) if pending else None),
            version=after.version,
            snapshot=transaction.keep(snapshot_of(after)),
            body=encode(after),
            **more,
        )
    )
    if changed.rowcount != 1:
        raise StaleWrite(f"{after.id} is no longer at version {version}")
    for event in transition.events:
        transaction.record(now, after.id, event)
    outgoing.post(transaction.connection, after.id, messages, now)
    if after.final:
        transaction.connection.execute(delete(claims).where(claims.c.remediation == after.id))
    return after
