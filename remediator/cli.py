"""The command line. Each command is a thin shell around the service, the files or the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from remediator import __version__
from remediator.commands.actions import actions
from remediator.commands.permissions import permissions
from remediator.errors import ConfigError, Finding, RemediatorError

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

out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="remediator.yml (default: ./remediator.yml where there is one)"),
]
UrlOption = Annotated[str, typer.Option("--url", envvar="REMEDIATOR_URL", help="where the service listens")]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file", envvar="REMEDIATOR_TOKEN_FILE", help="a file with your token (see `people`)"
    ),
]


def _settings(config: Path | None, more: Mapping[str, str] | None = None) -> Any:
    from remediator.settings import load_settings

    path = config or (Path("remediator.yml") if Path("remediator.yml").exists() else None)
    return load_settings(path, {**(more or {}), **os.environ})


def _offline(config: Path | None) -> Any:
    """Settings for a command that takes no alerts in, and therefore needs no credentials for them."""
    return _settings(config, {"REMEDIATOR_SERVER__ALLOW_UNAUTHENTICATED": "true"})


def _stop_with(findings: tuple[Finding, ...]) -> typer.Exit:
    for finding in findings:
        err.print(str(finding), markup=False)
    errors = sum(finding.severity == "error" for finding in findings)
    err.print(f"{errors} error(s), nothing was started", style="red")
    return typer.Exit(1)


@app.command()
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

            settings = prepare(_settings(config, ENVIRONMENT))
        else:
            settings = _settings(config)
        set_up_logs(settings.log.level, settings.log.format)
        book = load_book(settings)
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    for warning in book.warnings:
        err.print(str(warning), style="yellow", markup=False)

    def ready(_: object, address: str) -> None:
        err.print(
            f"remediator {__version__} serves at {address} in mode [bold]{settings.mode.value}[/bold]",
            highlight=False,
        )

    try:
        _run(run(settings, book, ready))
    except RemediatorError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error


PrometheusOption = Annotated[
    Path | None,
    typer.Option("--prometheus-rules", help="folder of Prometheus's rule files (default: prometheus/rules)"),
]


@app.command()
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
        settings = _settings(config)
        book = load_book(settings)
        unauthenticated = settings.server.allow_unauthenticated
        checked = join(book, prometheus_rules, alertmanager, unauthenticated=unauthenticated)
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    for finding in checked.findings:
        style = "yellow" if finding.severity == "warning" else "red"
        out.print(str(finding), style=style, markup=False)
    out.print(checked.summary)
    if checked.exit_code:
        raise typer.Exit(checked.exit_code)


@app.command()
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
        text, code = cover(load_book(_offline(config)), format_, what, prometheus_rules)
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    sys.stdout.write(text)
    if code:
        raise typer.Exit(code)


@app.command("test")
def test_(
    files: Annotated[list[Path] | None, typer.Argument(help="files of cases (default: all)")] = None,
    config: ConfigOption = None,
    prometheus_rules: PrometheusOption = None,
) -> None:
    """Run the cases of rules/tests: an alert's labels in; rule, playbooks, parameters and modes out."""
    from remediator.bootstrap import load_book
    from remediator.commands.ruletest import run

    try:
        settings = _offline(config)
        lines, code = run(load_book(settings), settings.paths.rules, files or (), prometheus_rules)
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    for line in lines:
        out.print(line, markup=False)
    if code:
        raise typer.Exit(code)


@app.command()
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
        book = load_book(_offline(config))
        wrong = 0
        for path in files:
            cassette = cassettes.read(path)
            lines = [str(line) for line in _run(play(cassette, book))]
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
        raise _stop_with(error.findings) from error
    if wrong:
        raise typer.Exit(1)


def _difference(expected: list[str], found: list[str]) -> None:
    import difflib

    for line in difflib.unified_diff(expected, found, "expected", "found", lineterm=""):
        err.print(line, markup=False)


@app.command("match")
def match_(
    labels: Annotated[list[str], typer.Argument(help="labels of an alert, as name=value")],
    config: ConfigOption = None,
) -> None:
    """Say which rules an alert with these labels would start."""
    from remediator.bootstrap import load_book

    try:
        book = load_book(_offline(config))
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    given = dict(label.split("=", 1) for label in labels if "=" in label)
    for rule in book.table.match(given):
        ladder = " -> ".join(f"{rung.playbook or 'notify'} ({rung.mode.value})" for rung in rule.ladder)
        out.print(
            f"{rule.name}  {rule.file}:{rule.line}  subject {rule.subject_for(given)}  {ladder}", markup=False
        )
    if not book.table.match(given):
        out.print("no rule matches")
        raise typer.Exit(1)


@app.command("list")
def list_(url: UrlOption = "http://127.0.0.1:8080", token_file: TokenOption = None) -> None:
    """Remediations, the newest first."""
    table = Table("id", "phase", "system", "rule", "subject", "what")
    for row in _call("GET", url, token_file, "/api/v1/remediations")["remediations"]:
        told = row.get("reason") or ""
        table.add_row(row["id"], row["phase"], row["system"], row["rule"], row["subject"], told)
    out.print(table)


@app.command()
def plan(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Show exactly what a remediation would change, with the digest that an approval names."""
    found = _call("GET", url, token_file, f"/api/v1/remediations/{id_}/plan")
    out.print_json(json.dumps(found))


@app.command()
def explain(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Tell the story of a remediation, from its journal."""
    for entry in _call("GET", url, token_file, f"/api/v1/remediations/{id_}/timeline")["timeline"]:
        out.print(
            f"{entry['at']}  {entry['kind']:<16} {json.dumps(entry['data'], ensure_ascii=False)}",
            markup=False,
        )


@app.command()
def approve(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    digest: Annotated[str, typer.Option(help="the digest of the plan that you read (`remediator plan ID`)")],
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Permit exactly the plan with this digest."""
    _call("POST", url, token_file, f"/api/v1/remediations/{id_}/approve", {"digest": digest})
    out.print("counted")


@app.command()
def reject(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    digest: Annotated[str, typer.Option(help="the digest of the plan that you read")],
    reason: Annotated[str, typer.Option(help="why, for the journal")] = "",
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Turn a plan down."""
    _call("POST", url, token_file, f"/api/v1/remediations/{id_}/reject", {"digest": digest, "reason": reason})
    out.print("counted")


def _switch(name: str, on: bool, scope: str, reason: str, url: str, token_file: Path | None) -> None:
    if on:
        _call("POST", url, token_file, "/api/v1/switches", {"name": name, "scope": scope, "reason": reason})
    else:
        _call("DELETE", url, token_file, "/api/v1/switches", {"name": name, "scope": scope})
    out.print(f"{name} is {'on' if on else 'off'}" + (f" for {scope}" if scope else ""))


ScopeOption = Annotated[str, typer.Option(help="everything, or system=NAME, or rule=NAME")]


@app.command()
def pause(
    reason: Annotated[str, typer.Argument(help="why, for everyone who wonders")],
    scope: ScopeOption = "",
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Start nothing new; what has begun goes on."""
    _switch("pause", True, scope, reason, url, token_file)


@app.command()
def resume(
    scope: ScopeOption = "", url: UrlOption = "http://127.0.0.1:8080", token_file: TokenOption = None
) -> None:
    """End a pause."""
    _switch("pause", False, scope, "", url, token_file)


@app.command()
def kill(
    reason: Annotated[str, typer.Argument(help="why, for everyone who wonders")],
    scope: ScopeOption = "",
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Stop everything before its next step."""
    _switch("kill", True, scope, reason, url, token_file)


@app.command()
def unkill(
    scope: ScopeOption = "", url: UrlOption = "http://127.0.0.1:8080", token_file: TokenOption = None
) -> None:
    """Turn the kill switch off."""
    _switch("kill", False, scope, "", url, token_file)


@journal_app.command("verify")
def journal_verify(
    config: ConfigOption = None,
    ledger: Annotated[str, typer.Option(help="the ledger's URL, where it is not the configured one")] = "",
    anchors: Annotated[Path | None, typer.Option(help="heads that were kept elsewhere")] = None,
) -> None:
    """Walk the chain from the first entry, and name the first bad one."""
    from remediator.adapters.anchors import AnchorFile
    from remediator.adapters.clock import WallClock
    from remediator.adapters.ledger import SqlLedger

    try:
        settings = _offline(config)
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    path = anchors or settings.journal.anchor_file
    kept = AnchorFile(path).read() if path and Path(path).exists() else {}
    try:
        book = SqlLedger.open(ledger or settings.ledger.url, WallClock(), read_only=True)
    except RemediatorError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from error
    bad, head = _run(_verify(book, kept))
    if bad:
        out.print(f"entry {bad[0]} is the first bad one: {bad[1]}", style="red", markup=False)
        raise typer.Exit(1)
    out.print(f"{head[0]} entries, the chain holds, {len(kept)} anchors agree, head {head[1]}")


async def _verify(ledger: Any, anchors: Mapping[int, str]) -> tuple[Any, tuple[int, str]]:
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


@journal_app.command("show")
def journal_show(
    config: ConfigOption = None,
    ledger: Annotated[str, typer.Option(help="the ledger's URL, where it is not the configured one")] = "",
    remediation: Annotated[str, typer.Option(help="only this one's entries")] = "",
) -> None:
    """Print entries as JSON lines."""
    from remediator.adapters.clock import WallClock
    from remediator.adapters.ledger import SqlLedger

    try:
        url = ledger or _offline(config).ledger.url
        book = SqlLedger.open(url, WallClock(), read_only=True)
    except ConfigError as error:
        raise _stop_with(error.findings) from error
    for entry in _run(_whole_journal(book)):
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


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


app.command()(actions)
app.command()(permissions)


def _call(
    method: str, url: str, token_file: Path | None, path: str, body: dict[str, Any] | None = None
) -> Any:
    import aiohttp

    token = token_file.read_text().strip() if token_file else os.environ.get("REMEDIATOR_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def call() -> tuple[int, Any]:
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url.rstrip("/") + path, json=body, headers=headers) as response,
        ):
            return response.status, await response.json(content_type=None)

    try:
        status, answer = _run(call())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        err.print(f"{url} does not answer: {error}", style="red", markup=False)
        raise typer.Exit(2) from error
    if status >= 400:
        told = answer if isinstance(answer, dict) else {}
        err.print(f"{told.get('error', status)}", style="red", markup=False)
        if told.get("mend"):
            err.print(told["mend"], markup=False)
        raise typer.Exit(1)
    return answer


def _run(work: Any) -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
