"""`remediator actions`: the installed actions, what they take, do, undo and need."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.catalogue.kinds import Kind

WIDE = 400
"""The width of the table where nobody sees it, in characters."""


def actions(
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help="only this one, in full")] = "",
    format_: Annotated[str, typer.Option("--format", help="table, markdown or json")] = "table",
) -> None:
    """List the installed actions: parameters, connection, effects, undo, permissions."""
    from remediator.adapters.registry import kinds
    from remediator.catalogue.kinds import connections, read
    from remediator.catalogue.render import FORMATS, as_json, as_markdown, as_text

    if format_ not in FORMATS:
        raise typer.BadParameter(f"there is no {format_!r}; expected {', '.join(FORMATS)}")
    if kind and kind not in kinds():
        near = difflib.get_close_matches(kind, kinds(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        sys.stderr.write(f"no action {kind} is installed{hint}\n")
        raise typer.Exit(1)
    names = (kind,) if kind else ()
    if format_ == "json":
        sys.stdout.write(as_json(read(names), connections(names)))
    elif format_ == "markdown" and not kind:
        sys.stdout.write(as_markdown(read(), connections()))
    elif kind:
        sys.stdout.write(as_text(read(names), connections(names)))
    else:
        _table(read())


def _table(found: Sequence[Kind]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("kind", "connection", "again", "irreversible", "parameters", "what")
    table.columns[0].no_wrap = True
    for one in found:
        params = ", ".join(field.name for field in one.parameters[0].fields if field.name != "connection")
        again = "yes" if one.idempotent else "no"
        table.add_row(one.kind, one.connection, again, one.irreversible.split(";")[0], params, one.what)
    # In a pipe every row is one line: it is meant for grep.
    Console(highlight=False, width=None if sys.stdout.isatty() else WIDE).print(table)
