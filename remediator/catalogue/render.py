"""The actions as a table, a page or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files

from remediator.catalogue.fields import Model, Told
from remediator.catalogue.kinds import Connection, Kind

FORMATS = ("table", "markdown", "json")


def as_json(kinds: Sequence[Kind], connections: Sequence[Connection]) -> str:
    """Everything, for programs."""
    told = {
        "actions": [asdict(kind) for kind in kinds],
        "connections": [asdict(connection) for connection in connections],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def as_markdown(kinds: Sequence[Kind], connections: Sequence[Connection]) -> str:
    """docs/actions.md, as a whole."""
    head = files("remediator.catalogue").joinpath("head.md").read_text(encoding="utf-8")
    return "\n".join([head.rstrip("\n"), "", *_page(kinds, connections)])


def as_text(kinds: Sequence[Kind], connections: Sequence[Connection]) -> str:
    """A few actions in full, for a terminal."""
    return "\n".join([*(line for kind in kinds for line in _action(kind)), *_ways(connections)])


def _page(kinds: Sequence[Kind], connections: Sequence[Connection]) -> Iterator[str]:
    yield "## All actions"
    yield ""
    yield "| kind | connection | again is safe | irreversible | what |"
    yield "|---|---|---|---|---|"
    for kind in kinds:
        link = f"[`{kind.kind}`](#{kind.kind.replace('.', '')})"
        again = "yes" if kind.idempotent else "no"
        yield f"| {link} | `{kind.connection}` | {again} | {kind.irreversible.split(';')[0]} | {_cell(kind.what)} |"
    yield ""
    yield "## The actions one by one"
    yield ""
    for kind in kinds:
        yield from _action(kind)
    yield from _ways(connections)


def _action(kind: Kind) -> Iterator[str]:
    yield f"### `{kind.kind}`"
    yield ""
    yield kind.what
    yield ""
    again = "yes" if kind.idempotent else "no: after an unclear outcome a person decides"
    rows = {
        "connection": f"`{kind.connection}`",
        "looks": kind.observes,
        "plans": kind.plans,
        "applies": kind.applies,
        "undo": kind.undo,
        "irreversible": kind.irreversible + ("" if kind.irreversible == "no" else "; never `auto`"),
        "may be tried again": again,
        "needs": kind.permissions,
    }
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {_cell(text)} |" for name, text in rows.items())
    yield ""
    for place, model in enumerate(kind.parameters):
        if place:
            yield from _about(model)
        shown = [field for field in model.fields if place or field.name != "connection"]
        yield from _fields(shown, "parameter") if shown else ("It has no parameters.", "")


def _ways(connections: Sequence[Connection]) -> Iterator[str]:
    yield "## Connections"
    yield ""
    yield "What stands under `connections` in `rules/<system>.yml`. What is not allowed there is refused."
    yield ""
    for connection in connections:
        yield f"### Connection `{connection.kind}`"
        yield ""
        for place, model in enumerate(connection.settings):
            yield from _about(model) if place else (model.about, "")
            yield from _fields(model.fields, "key")


def _about(model: Model) -> Iterator[str]:
    yield f"`{model.name}`: {model.about}"
    yield ""


def _fields(fields: Sequence[Told], title: str) -> Iterator[str]:
    yield f"| {title} | type | bounds | default | what |"
    yield "|---|---|---|---|---|"
    for field in fields:
        default = f"`{field.default}`" if field.default else "required"
        cells = (f"`{field.name}`", field.type, field.bounds, default, field.description)
        yield "| " + " | ".join(map(_cell, cells)) + " |"
    yield ""


def _cell(text: str) -> str:
    """What would end a cell of a table does not."""
    return text.replace("|", "\\|").replace("\n", " ")
