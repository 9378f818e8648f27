"""How values are written in the ledger, and read back as exactly what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring
from typing import Any, Final

import pydantic_core

from remediator.domain.alerts import Labels

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970. Exact, where a float would round."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_micros_or_none(moment: datetime | None) -> int | None:
    """The same, for what may not have happened yet."""
    return None if moment is None else to_micros(moment)


def from_micros(micros: int) -> datetime:
    """The moment, in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def to_json(value: Mapping[str, Any]) -> str:
    """Canonical JSON, as the journal hashes it."""
    return _ENCODE(dict(value))


_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str, check_circular=False
).encode


quote = encode_basestring
"""A string as JSON, as `to_json` writes it."""


def labels_json(labels: Labels) -> str:
    """A label set as JSON, the fast way: it is written for every new alert and hashed nowhere."""
    return pydantic_core.to_json(dict(labels)).decode()


def episode_bytes(episode: str) -> bytes:
    """An episode in 16 bytes, so that a delivery can list its episodes compactly."""
    return hashlib.blake2b(episode.encode(), digest_size=16).digest()
