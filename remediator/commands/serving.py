"""`remediator serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from remediator import __version__
from remediator.commands.shell import ConfigOption, err, finish, read_settings, stop_with
from remediator.errors import ConfigError, RemediatorError


def serve(
    config: ConfigOption = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="play a shipped recording where no Prometheus answers")
    ] = False,
) -> None:
    """Take alerts in, suggest, ask, apply, verify."""
    from remediator.bootstrap import load_book
    from remediator.bootstrap import serve as run
    from remediator.telemetry import set_up_logs

    try:
        if demo:
            from remediator.demo import ENVIRONMENT, prepare

            settings = prepare(read_settings(config, ENVIRONMENT))
        else:
            settings = read_settings(config)
        set_up_logs(settings.log.level, settings.log.format)
        book = load_book(settings)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    for warning in book.warnings:
        err.print(str(warning), style="yellow", markup=False)

    def ready(_: object, address: str) -> None:
        err.print(
            f"remediator {__version__} serves at {address} in mode [bold]{settings.mode.value}[/bold]",
            highlight=False,
        )

    try:
        finish(run(settings, book, ready))
    except RemediatorError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
