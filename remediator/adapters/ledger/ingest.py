"""Accepting deliveries: many at once, each episode and each (rule, episode) only once.

What this does for one delivery is the same whether it comes alone or with others; together they share their
statements. All of it runs on the writer's thread, so nothing here needs a lock.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import bindparam, func, select, update

from remediator.adapters.ledger.bodies import encode, mode_of, snapshot_of
from remediator.adapters.ledger.codec import (
    episode_bytes,
    labels_json,
    quote,
    to_micros,
    to_micros_or_none,
)
from remediator.adapters.ledger.rows import in_sizes, insert_rows
from remediator.adapters.ledger.schema import deliveries, episodes, remediations
from remediator.adapters.ledger.transaction import Transaction
from remediator.domain.alerts import Alert, Status
from remediator.domain.remediations import Remediation
from remediator.pipeline.ports import Accepted, Delivery, Sighting

REMEMBERED = 16_384
"""Episodes, and bodies, that are recognised without asking the database."""

COALESCE = 60_000_000
"""Microseconds that a known episode's `received_at` may lag behind. Freshness is counted in hours."""

Body = tuple[bytes, str, str]
"""A body's SHA-256, its source, and why it was rejected: what makes two deliveries the same."""

Parcel = tuple[Delivery, Sequence[Sighting]]
K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The last so many things that were used."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is kept under the key, which is then the newest."""
        value = self._kept.get(key)
        if value is not None:
            self._kept.move_to_end(key)
        return value

    def update(self, news: Mapping[K, V]) -> None:
        """Keep them, and let the oldest go."""
        kept = self._kept
        kept.update(news)
        for _ in range(len(kept) - self._size):
            kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


_NO_RULES: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def _with(rules: frozenset[str], rule: str) -> frozenset[str]:
    """The set with one more. Thousands of episodes were begun by the same few rules, and share their set."""
    return rules | {rule}


@dataclass(slots=True)
class Seen:
    """What is known of an episode. `rules` are those whose remediation exists; `active` are ids not finished."""

    rules: frozenset[str]
    resolved: bool
    received_at: int
    active: tuple[str, ...] = ()


@dataclass(slots=True)
class Batch:
    """What one transaction will write, gathered before any of it is written."""

    deliveries: list[tuple[Any, ...]] = field(default_factory=list)
    again: dict[int, tuple[int, int]] = field(default_factory=dict)
    bodies: dict[Body, int] = field(default_factory=dict)
    episodes: dict[str, list[Any]] = field(default_factory=dict)
    remediations: list[tuple[Any, ...]] = field(default_factory=list)
    heard: dict[str, int] = field(default_factory=dict)
    resolved: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)


class Ingest:
    """The ledger's side of ingest."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._episodes: Recent[str, Seen] = Recent(remembered)
        self._bodies: Recent[Body, int] = Recent(remembered)
        self._last: int | None = None

    def forget(self) -> None:
        """Ask the database again from now on: rows were removed."""
        self._episodes.clear()
        self._bodies.clear()

    def accept(self, transaction: Transaction, parcels: Sequence[Parcel]) -> list[Accepted]:
        """Keep the deliveries, and answer each with what it changed."""
        batch = Batch()
        last = self._last_id(transaction)
        news: list[list[tuple[str, Sighting]]] = []
        for delivery, sightings in parcels:
            at = to_micros(delivery.received_at)
            keys = [sighting.alert.episode for sighting in sightings]
            last = self._keep(batch, delivery, at, keys, last)
            news.append(self._news(batch, at, keys, sightings) if sightings else [])
        self._look_up(transaction, batch, [episode for new in news for episode, _ in new])
        answers = [
            _apply(transaction, batch, delivery, new, len(sightings)) if new else _NOTHING
            for (delivery, sightings), new in zip(parcels, news, strict=True)
        ]
        _write(transaction, batch)
        # A number that is not used after all leaves a gap, which means nothing.
        self._last = last
        transaction.on_commit(lambda: self._remember(batch))
        return answers

    def _last_id(self, transaction: Transaction) -> int:
        if self._last is None:
            self._last = transaction.connection.execute(select(func.max(deliveries.c.id))).scalar() or 0
        return self._last

    def _keep(self, batch: Batch, delivery: Delivery, at: int, keys: list[str], last: int) -> int:
        """Keep the raw body, or count it where the very same came before; the newest delivery's id."""
        same = (hashlib.sha256(delivery.body).digest(), delivery.source, delivery.rejected)
        known = batch.bodies.get(same) or self._bodies.get(same)
        if known is not None:
            count, last_at = batch.again.get(known, (0, at))
            batch.again[known] = (count + 1, max(at, last_at))
            return last
        last += 1
        batch.bodies[same] = last
        listed = b"".join(map(episode_bytes, keys))
        row = (last, at, at, 1, delivery.source, delivery.rejected, listed, delivery.body)
        batch.deliveries.append(row)
        return last

    def _news(
        self, batch: Batch, at: int, keys: list[str], sightings: Sequence[Sighting]
    ) -> list[tuple[str, Sighting]]:
        """The sightings that may change something; the others are only heard of."""
        new: list[tuple[str, Sighting]] = []
        recent = self._episodes.get
        for episode, sighting in zip(keys, sightings, strict=True):
            seen = recent(episode)
            if seen is None or (not seen.resolved and _is_news(seen, sighting)):
                new.append((episode, sighting))
            elif at - seen.received_at >= COALESCE:
                batch.heard[episode] = at
        return new

    def _look_up(self, transaction: Transaction, batch: Batch, wanted: list[str]) -> None:
        """Read what the database knows of these episodes."""
        for part in in_sizes(list(dict.fromkeys(wanted))):
            names = {"names": list(part)}
            for episode, received_at, resolved_at in transaction.connection.execute(_EPISODES, names):
                batch.seen[episode] = Seen(_NO_RULES, resolved_at is not None, received_at)
            for episode, rule, id_, finished_at in transaction.connection.execute(_REMEDIATIONS, names):
                seen = batch.seen[episode]
                seen.rules = _with(seen.rules, rule)
                if finished_at is None:
                    seen.active += (id_,)

    def _remember(self, batch: Batch) -> None:
        self._bodies.update(batch.bodies)
        for episode, at in batch.heard.items():
            known = self._episodes.get(episode)
            if known is not None:
                known.received_at = at
        for seen in batch.seen.values():
            seen.active = ()
        self._episodes.update(batch.seen)


_NOTHING = Accepted()

_EPISODES = select(episodes.c.episode, episodes.c.received_at, episodes.c.resolved_at).where(
    episodes.c.episode.in_(bindparam("names", expanding=True))
)
_REMEDIATIONS = select(
    remediations.c.episode, remediations.c.rule, remediations.c.id, remediations.c.finished_at
).where(remediations.c.episode.in_(bindparam("names", expanding=True)))

_AGAIN = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("of"))
    .values(count=deliveries.c.count + bindparam("times"), last_at=bindparam("at"))
)
_HEARD = (
    update(episodes)
    .where(
        episodes.c.episode.in_(bindparam("names", expanding=True)), episodes.c.received_at < bindparam("at")
    )
    .values(received_at=bindparam("at"))
)
_RESOLVED = (
    update(episodes)
    .where(episodes.c.episode == bindparam("of"))
    .values(resolved_at=bindparam("at"), received_at=bindparam("at"))
)


def _apply(
    transaction: Transaction, batch: Batch, delivery: Delivery, new: list[tuple[str, Sighting]], alerts: int
) -> Accepted:
    """Work out what one delivery changes, and journal it."""
    at = to_micros(delivery.received_at)
    first_seen, closed = 0, 0
    started: list[Remediation] = []
    resolved: list[str] = []
    for episode, sighting in new:
        alert = sighting.alert
        seen = batch.seen.get(episode)
        over = alert.status is Status.RESOLVED
        if seen is None:
            first_seen += 1
            seen = batch.seen[episode] = Seen(_NO_RULES, over, at)
            batch.episodes[episode] = _row(episode, alert, at, over)
        elif not seen.resolved and over:
            seen.resolved, seen.received_at = True, at
            _close(batch, episode, at)
            resolved += seen.active
            closed += 1
        elif at - seen.received_at >= COALESCE:
            seen.received_at = batch.heard[episode] = at
        if not seen.resolved:
            started += _begin(seen, sighting.drafts)
    batch.remediations += [_started_row(transaction, draft) for draft in started]
    if first_seen or closed or started:
        sha256 = hashlib.sha256(delivery.body).hexdigest()
        data = f'{{"alerts":{alerts},"new":{first_seen},"resolved":{closed},"sha256":"{sha256}"}}'
        transaction.append(delivery.received_at, "", "received", data)
        for draft in started:
            transaction.append(delivery.received_at, draft.id, "matched", _match_json(draft))
    return Accepted(tuple(draft.id for draft in started), tuple(resolved))


def _is_news(seen: Seen, sighting: Sighting) -> bool:
    """Whether it ends an open episode, or a rule is new to it."""
    if sighting.alert.status is Status.RESOLVED:
        return True
    for draft in sighting.drafts:  # noqa: SIM110 - this runs for every alert, and `any` costs a generator
        if draft.rule not in seen.rules:
            return True
    return False


def _begin(seen: Seen, drafts: Sequence[Remediation]) -> list[Remediation]:
    begun = []
    for draft in drafts:
        if draft.rule not in seen.rules:
            seen.rules = _with(seen.rules, draft.rule)
            seen.active += (draft.id,)
            begun.append(draft)
    return begun


def _match_json(draft: Remediation) -> str:
    """What the journal says of a match: canonical JSON, so the names are in alphabetical order."""
    return (
        f'{{"episode":{quote(draft.episode)},"rule":{quote(draft.rule)},'
        f'"subject":{quote(draft.subject)},"system":{quote(draft.system)}}}'
    )


def _row(episode: str, alert: Alert, at: int, over: bool) -> list[Any]:
    """A new episode. One that we hear of as resolved is kept too: a slower sender's firing must find it."""
    return [episode, labels_json(alert.labels), to_micros(alert.starts_at), at, at, at if over else None]


def _close(batch: Batch, episode: str, at: int) -> None:
    row = batch.episodes.get(episode)
    if row is not None:
        row[-1] = at
    else:
        batch.resolved[episode] = at


def _started_row(transaction: Transaction, draft: Remediation) -> tuple[Any, ...]:
    return (
        draft.id,
        draft.episode,
        draft.rule,
        draft.system,
        draft.subject,
        draft.phase._value_,
        draft.rung,
        mode_of(draft),
        to_micros(draft.created_at),
        None,
        to_micros_or_none(draft.finished_at),
        to_micros_or_none(draft.pending.until if draft.pending else None),
        draft.version,
        transaction.keep(snapshot_of(draft)),
        encode(draft),
    )


def _write(transaction: Transaction, batch: Batch) -> None:
    connection = transaction.connection
    insert_rows(connection, deliveries, batch.deliveries)
    insert_rows(connection, episodes, [tuple(row) for row in batch.episodes.values()])
    insert_rows(connection, remediations, batch.remediations)
    if batch.again:
        connection.execute(
            _AGAIN, [{"of": id_, "times": times, "at": at} for id_, (times, at) in batch.again.items()]
        )
    if batch.resolved:
        connection.execute(_RESOLVED, [{"of": name, "at": at} for name, at in batch.resolved.items()])
    by_time: dict[int, list[str]] = defaultdict(list)
    for name, at in batch.heard.items():
        by_time[at].append(name)
    for at, names in by_time.items():
        for part in in_sizes(names):
            connection.execute(_HEARD, {"names": list(part), "at": at})
