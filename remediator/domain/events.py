"""What the journal holds: events, and the chain that makes a changed entry show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

GENESIS = "0" * 64
"""What the first entry names as the one before it."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as the journal tells it. `data` holds only JSON values and no secret."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry. `remediation` is empty for what concerns the whole service."""

    seq: int
    at: datetime
    remediation: str
    event: Event
    previous: str
    hash: str


def entry_hash(previous: str, seq: int, at: datetime, remediation: str, event: Event) -> str:
    """SHA-256 over the entry before and everything in this one, as canonical JSON."""
    body = [previous, seq, at.astimezone(UTC).isoformat(), remediation, event.kind, event.data]
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def chain(previous: str, seq: int, at: datetime, remediation: str, event: Event) -> Entry:
    """The entry that follows `previous`, the hash of entry `seq - 1`."""
    return Entry(seq, at, remediation, event, previous, entry_hash(previous, seq, at, remediation, event))


def first_bad(entries: Iterable[Entry], anchors: Mapping[int, str] | None = None) -> tuple[int, str] | None:
    """The first entry that was changed, removed or added, with the reason; None where the chain holds.

    `anchors` are heads written down elsewhere (sequence number to hash): without them a journal whose tail
    was cut off, or that was rewritten from some entry to its end, looks whole.
    """
    previous, expected = GENESIS, 1
    kept = dict(anchors or {})
    for entry in entries:
        if entry.seq != expected:
            return expected, f"entry {expected} is missing; the next one is {entry.seq}"
        if entry.previous != previous:
            return entry.seq, "it does not name the entry before it"
        if entry.hash != entry_hash(previous, entry.seq, entry.at, entry.remediation, entry.event):
            return entry.seq, "its content does not match its hash"
        if kept.pop(entry.seq, entry.hash) != entry.hash:
            return entry.seq, "it differs from the anchor kept elsewhere"
        previous, expected = entry.hash, expected + 1
    if kept:
        return expected, f"the journal ends before entry {min(kept)}, which an anchor kept elsewhere names"
    return None
