"""`remediator journal`: read the ledger's journal, and say whether anybody changed it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from remediator.commands.shell import ConfigOption, err, finish, offline_settings, out, stop_with
from remediator.errors import ConfigError, RemediatorError


def verify(
    config: ConfigOption = None,
    ledger: Annotated[str, typer.Option(help="the ledger's URL, where it is not the configured one")] = "",
    anchors: Annotated[Path | None, typer.Option(help="heads that were kept elsewhere")] = None,
) -> None:
    """Walk the chain from the first entry, and name the first bad one."""
    from remediator.adapters.anchors import AnchorFile
    from remediator.adapters.clock import WallClock
    from remediator.adapters.ledger import SqlLedger

    try:
        settings = offline_settings(config)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    path = anchors or settings.journal.anchor_file
    kept = AnchorFile(path).read() if path and Path(path).exists() else {}
    try:
        book = SqlLedger.open(ledger or settings.ledger.url, WallClock(), read_only=True)
    except RemediatorError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from error
    bad, head = finish(_walk(book, kept))
    if bad:
        out.print(f"entry {bad[0]} is the first bad one: {bad[1]}", style="red", markup=False)
        raise typer.Exit(1)
    out.print(f"{head[0]} entries, the chain holds, {len(kept)} anchors agree, head {head[1]}")


async def _walk(ledger: Any, anchors: Mapping[int, str]) -> tuple[Any, tuple[int, str]]:
    try:
        return await ledger.verify(anchors), await ledger.head()
    finally:
        await ledger.close()


async def _whole_journal(ledger: Any) -> list[Any]:
    entries: list[Any] = []
    try:
        while True:
            more = await ledger.journal(after=entries[-1].seq if entries else 0, limit=10_000)
            if not more:
                return entries
            entries += more
    finally:
        await ledger.close()


def show(
    config: ConfigOption = None,
    ledger: Annotated[str, typer.Option(help="the ledger's URL, where it is not the configured one")] = "",
    remediation: Annotated[str, typer.Option(help="only this one's entries")] = "",
) -> None:
    """Print entries as JSON lines."""
    from remediator.adapters.clock import WallClock
    from remediator.adapters.ledger import SqlLedger

    try:
        url = ledger or offline_settings(config).ledger.url
        book = SqlLedger.open(url, WallClock(), read_only=True)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    for entry in finish(_whole_journal(book)):
        if remediation in ("", entry.remediation):
            row = {
                "seq": entry.seq,
                "at": entry.at.isoformat(),
                "remediation": entry.remediation,
                "kind": entry.event.kind,
                "data": entry.event.data,
                "hash": entry.hash,
            }
            sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
