"""Remediations as JSON, and back as exactly what they were.

What a rule said when it matched (its ladder and limits) is the same for all its remediations and never changes
in one, so it is kept once, as a snapshot, and each remediation names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import SchemaSerializer, SchemaValidator, core_schema

from remediator.domain.playbooks import Choice
from remediator.domain.remediations import Remediation
from remediator.domain.rules import Mode

SNAPSHOT: Final = frozenset({"ladder", "cap", "limits", "escalate_to"})

REMEMBERED: Final = 4_096
"""Snapshots that are recognised without being written out again."""

_CHOICE, _VALUE = "$choice", "$value"


class Snapshot(NamedTuple):
    """What a rule said, and the key it is kept under."""

    key: str
    body: str


def encode(remediation: Remediation) -> str:
    """A remediation as JSON, but for its snapshot."""
    text: bytes = _SERIALIZER.to_json(remediation, exclude=_EXCLUDE)
    return text.decode()


def snapshot_of(remediation: Remediation) -> Snapshot:
    """What its rule said. Remediations of one rule share the objects, which is how it is recognised."""
    ladder, limits = remediation.ladder, remediation.limits
    key = (id(ladder), id(limits), remediation.cap, remediation.escalate_to)
    known = _SNAPSHOTS.get(key)
    if known is None:
        body: bytes = _SERIALIZER.to_json(remediation, include=_INCLUDE)
        known = (Snapshot(hashlib.sha256(body).hexdigest()[:32], body.decode()), (ladder, limits))
        if len(_SNAPSHOTS) >= REMEMBERED:
            _SNAPSHOTS.clear()
        _SNAPSHOTS[key] = known
    return known[0]


_SNAPSHOTS: dict[Any, tuple[Snapshot, Any]] = {}
"""By the identity of the objects, which are kept beside it so that nothing else can take their place."""


def decode(body: str, snapshot: str) -> Remediation:
    """The remediation, equal to the one that was encoded, plan digest included."""
    remediation: Remediation = _WITHOUT_SNAPSHOT.validate_json(body)
    for name, value in _read_snapshot(snapshot):
        # It is frozen for everybody else; it was made in the line above and nobody has seen it yet.
        object.__setattr__(remediation, name, value)
    return remediation


def mode_of(remediation: Remediation) -> str:
    """`remediation.mode`, which is asked for every new alert, without comparing enums each time."""
    return _capped(remediation.ladder[remediation.rung].mode, remediation.cap)


@lru_cache
def _capped(mode: Mode, cap: Mode) -> str:
    return mode.capped(cap).value


@lru_cache(REMEMBERED)
def _read_snapshot(snapshot: str) -> tuple[tuple[str, Any], ...]:
    values, _ = _ONLY_SNAPSHOT.validate_json(snapshot)
    return tuple((name, values[name]) for name in sorted(SNAPSHOT))


def _exact(schema: Any) -> Any:
    """Pydantic's schema with two changes that keep a value what it was.

    A number annotated as a float stays the integer it is: the plan's digest is made from its JSON, in which
    12340 and 12340.0 differ. An argument that is a Choice is marked, because `Any` would read it as a mapping.
    """
    if isinstance(schema, dict):
        if schema.get("type") == "float":
            return core_schema.any_schema()
        choices = schema.get("choices", ()) if schema.get("type") == "union" else ()
        if any(isinstance(choice, dict) and choice.get("cls") is Choice for choice in choices):
            return core_schema.no_info_plain_validator_function(
                _read_argument,
                serialization=core_schema.plain_serializer_function_ser_schema(_write_argument),
            )
        return {key: value if key == "metadata" else _exact(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_exact(inner) for inner in schema]
    if isinstance(schema, tuple):
        return tuple(_exact(inner) for inner in schema)
    return schema


def _write_argument(value: Any) -> Any:
    if isinstance(value, Choice):
        return {_CHOICE: {"label": value.label, "among": dict(value.among)}}
    if isinstance(value, Mapping) and value.keys() & {_CHOICE, _VALUE}:
        return {_VALUE: value}
    return value


def _read_argument(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {_CHOICE}:
        return Choice(**value[_CHOICE])
    if isinstance(value, dict) and value.keys() == {_VALUE}:
        return value[_VALUE]
    return value


def _parts(schema: Any) -> tuple[Any, Any]:
    """The schema of a remediation without its snapshot, and of the snapshot alone."""
    if schema["type"] == "definitions":
        rest, only = _parts(schema["schema"])
        return {**schema, "schema": rest}, {**schema, "schema": only}
    arguments = schema["schema"]
    absent = core_schema.with_default_schema(core_schema.any_schema(), default=None)
    fields = arguments["fields"]
    others = [{**field, "schema": absent} if field["name"] in SNAPSHOT else field for field in fields]
    theirs = [field for field in fields if field["name"] in SNAPSHOT]
    return {**schema, "schema": {**arguments, "fields": others}}, {**arguments, "fields": theirs}


_INCLUDE, _EXCLUDE = set(SNAPSHOT), set(SNAPSHOT)
_SCHEMA = _exact(TypeAdapter(Remediation).core_schema)
_REST, _ONLY = _parts(_SCHEMA)
_SERIALIZER = SchemaSerializer(_SCHEMA, config=core_schema.CoreConfig(ser_json_inf_nan="constants"))
_WITHOUT_SNAPSHOT = SchemaValidator(_REST)
_ONLY_SNAPSHOT = SchemaValidator(_ONLY)
