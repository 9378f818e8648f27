"""The commands that read files and need no service: check, coverage, test, replay, match."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from remediator.commands.shell import (
    ConfigOption,
    PrometheusOption,
    err,
    finish,
    offline_settings,
    out,
    read_settings,
    stop_with,
)
from remediator.errors import ConfigError


def check(
    config: ConfigOption = None,
    prometheus_rules: PrometheusOption = None,
    alertmanager: Annotated[
        Path | None,
        typer.Option("--alertmanager", help="alertmanager.yml (default: alertmanager/alertmanager.yml)"),
    ] = None,
) -> None:
    """Say everything that is wrong with settings, rules, playbooks, and between them and Prometheus's files."""
    from remediator.bootstrap import load_book
    from remediator.commands.check import check as join

    try:
        settings = read_settings(config)
        book = load_book(settings)
        unauthenticated = settings.server.allow_unauthenticated
        checked = join(book, prometheus_rules, alertmanager, unauthenticated=unauthenticated)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    for finding in checked.findings:
        style = "yellow" if finding.severity == "warning" else "red"
        out.print(str(finding), style=style, markup=False)
    out.print(checked.summary)
    if checked.exit_code:
        raise typer.Exit(checked.exit_code)


def coverage(
    config: ConfigOption = None,
    format_: Annotated[str, typer.Option("--format", help="table, markdown or json")] = "table",
    what: Annotated[str, typer.Option(help="thresholds, procedures or all")] = "all",
    prometheus_rules: PrometheusOption = None,
) -> None:
    """Print threshold -> alert -> rule -> playbook, and procedure -> playbook, for everything documented."""
    from remediator.bootstrap import load_book
    from remediator.commands.coverage import coverage as cover

    try:
        text, code = cover(load_book(offline_settings(config)), format_, what, prometheus_rules)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    sys.stdout.write(text)
    if code:
        raise typer.Exit(code)


def test_(
    files: Annotated[list[Path] | None, typer.Argument(help="files of cases (default: all)")] = None,
    config: ConfigOption = None,
    prometheus_rules: PrometheusOption = None,
) -> None:
    """Run the cases of rules/tests: an alert's labels in; rule, playbooks, parameters and modes out."""
    from remediator.bootstrap import load_book
    from remediator.commands.ruletest import run

    try:
        settings = offline_settings(config)
        lines, code = run(load_book(settings), settings.paths.rules, files or (), prometheus_rules)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    for line in lines:
        out.print(line, markup=False)
    if code:
        raise typer.Exit(code)


def replay(
    files: Annotated[list[Path], typer.Argument(help="cassettes, or bare Alertmanager payloads")],
    config: ConfigOption = None,
    check_: Annotated[
        bool, typer.Option("--check", help="fail where the timeline is not the expected one")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="keep this timeline as the expected one")] = False,
) -> None:
    """Feed recorded payloads through the pipeline on a virtual clock, and print the timeline."""
    from remediator.adapters import cassettes
    from remediator.bootstrap import load_book
    from remediator.replay import replay as play

    try:
        book = load_book(offline_settings(config))
        wrong = 0
        for path in files:
            cassette = cassettes.read(path)
            lines = [str(line) for line in finish(play(cassette, book))]
            out.print(f"# {cassette.name}", style="bold", markup=False)
            for assumed in cassette.assumed:
                out.print(f"# assumed: {assumed}", style="yellow", markup=False)
            for line in lines:
                out.print(line, markup=False)
            if write:
                kept = json.loads(path.read_text())
                path.write_text(json.dumps({**kept, "expected": lines}, indent=2, ensure_ascii=False) + "\n")
            elif check_ and lines != cassette.expected:
                wrong += 1
                _difference(cassette.expected, lines)
    except ConfigError as error:
        raise stop_with(error.findings) from error
    if wrong:
        raise typer.Exit(1)


def _difference(expected: list[str], found: list[str]) -> None:
    import difflib

    for line in difflib.unified_diff(expected, found, "expected", "found", lineterm=""):
        err.print(line, markup=False)


def match_(
    labels: Annotated[list[str], typer.Argument(help="labels of an alert, as name=value")],
    config: ConfigOption = None,
) -> None:
    """Say which rules an alert with these labels would start."""
    from remediator.bootstrap import load_book

    try:
        book = load_book(offline_settings(config))
    except ConfigError as error:
        raise stop_with(error.findings) from error
    given = dict(label.split("=", 1) for label in labels if "=" in label)
    for rule in book.table.match(given):
        ladder = " -> ".join(f"{rung.playbook or 'notify'} ({rung.mode.value})" for rung in rule.ladder)
        out.print(
            f"{rule.name}  {rule.file}:{rule.line}  subject {rule.subject_for(given)}  {ladder}", markup=False
        )
    if not book.table.match(given):
        out.print("no rule matches")
        raise typer.Exit(1)
