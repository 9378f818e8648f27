"""The command line: every command in one place. Each is a thin shell around the service, the files or the ledger."""

from __future__ import annotations

import typer

from remediator import __version__
from remediator.commands import journal, offline, online
from remediator.commands.actions import actions
from remediator.commands.permissions import permissions
from remediator.commands.serving import serve
from remediator.commands.shell import out

app = typer.Typer(
    name="remediator",
    help="Alertmanager-driven auto-remediation. Dry-run by default: nothing is touched until a person says so.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
journal_app = typer.Typer(
    help="The journal: append-only, each entry chained to the one before.", no_args_is_help=True
)
app.add_typer(journal_app, name="journal")


def version() -> None:
    """Print the version."""
    out.print(__version__)


app.command()(serve)
app.command()(offline.check)
app.command()(offline.coverage)
app.command("test")(offline.test_)
app.command()(offline.replay)
app.command("match")(offline.match_)
app.command("list")(online.list_)
app.command()(online.plan)
app.command()(online.explain)
app.command()(online.start)
app.command()(online.approve)
app.command()(online.reject)
app.command()(online.pause)
app.command()(online.resume)
app.command()(online.kill)
app.command()(online.unkill)
app.command()(version)
app.command()(actions)
app.command()(permissions)
journal_app.command("verify")(journal.verify)
journal_app.command("show")(journal.show)
