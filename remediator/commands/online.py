"""The commands that ask a running service: what there is, what it plans, starts, approvals, switches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from remediator.commands.shell import TokenOption, UrlOption, call, out


def list_(url: UrlOption = "http://127.0.0.1:8080", token_file: TokenOption = None) -> None:
    """Remediations, the newest first."""
    table = Table("id", "phase", "system", "rule", "subject", "what")
    for row in call("GET", url, token_file, "/api/v1/remediations")["remediations"]:
        told = row.get("reason") or ""
        table.add_row(row["id"], row["phase"], row["system"], row["rule"], row["subject"], told)
    out.print(table)


def plan(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Show exactly what a remediation would change, with the digest that an approval names."""
    found = call("GET", url, token_file, f"/api/v1/remediations/{id_}/plan")
    out.print_json(json.dumps(found))


def explain(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Tell the story of a remediation, from its journal."""
    for entry in call("GET", url, token_file, f"/api/v1/remediations/{id_}/timeline")["timeline"]:
        out.print(
            f"{entry['at']}  {entry['kind']:<16} {json.dumps(entry['data'], ensure_ascii=False)}",
            markup=False,
        )


def approve(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    digest: Annotated[str, typer.Option(help="the digest of the plan that you read (`remediator plan ID`)")],
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Permit exactly the plan with this digest."""
    call("POST", url, token_file, f"/api/v1/remediations/{id_}/approve", {"digest": digest})
    out.print("counted")


def reject(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    digest: Annotated[str, typer.Option(help="the digest of the plan that you read")],
    reason: Annotated[str, typer.Option(help="why, for the journal")] = "",
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Turn a plan down."""
    call("POST", url, token_file, f"/api/v1/remediations/{id_}/reject", {"digest": digest, "reason": reason})
    out.print("counted")


def start(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="its name, as --list shows it")] = "",
    label: Annotated[list[str] | None, typer.Option(help="name=value, of what the rule leaves open")] = None,
    reason: Annotated[str, typer.Option(help="why, for the journal and for those who approve")] = "",
    list_: Annotated[
        bool, typer.Option("--list", help="show what can be started, and start nothing")
    ] = False,
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Start a rule that has `on_demand`. What follows is planned, asked for and verified as after any alert."""
    if list_:
        _startable(call("GET", url, token_file, "/api/v1/rules")["rules"])
        return
    if not rule or not reason:
        raise typer.BadParameter("give the rule and --reason, or --list to see what can be started")
    pairs = [one.partition("=") for one in label or ()]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"found {name!r}, expected name=value", param_hint="--label")
    body = {"labels": {name: value for name, _, value in pairs}, "reason": reason}
    started = call("POST", url, token_file, f"/api/v1/rules/{quote(rule, safe='')}/start", body)
    out.print(started["id"] if started["begun"] else f"{started['id']} (had been started a moment ago)")


def _startable(rules: list[dict[str, Any]]) -> None:
    for row in rules:
        if row["on_demand"] is None:
            continue
        ladder = ", ".join(
            f"{rung['playbook'] or 'people are told'} ({rung['mode']})" for rung in row["ladder"]
        )
        fixed = row["on_demand"]["labels"]
        choices = [
            f"--label {name}={'|'.join(values)}" + (f" (else {fixed[name]})" if name in fixed else "")
            for name, values in row["on_demand"]["choices"].items()
        ]
        out.print("  ".join([row["name"], ladder, *choices]), markup=False)


def _switch(name: str, on: bool, scope: str, reason: str, url: str, token_file: Path | None) -> None:
    if on:
        call("POST", url, token_file, "/api/v1/switches", {"name": name, "scope": scope, "reason": reason})
    else:
        call("DELETE", url, token_file, "/api/v1/switches", {"name": name, "scope": scope})
    out.print(f"{name} is {'on' if on else 'off'}" + (f" for {scope}" if scope else ""))


ScopeOption = Annotated[str, typer.Option(help="everything, or system=NAME, or rule=NAME")]


def pause(
    reason: Annotated[str, typer.Argument(help="why, for everyone who wonders")],
    scope: ScopeOption = "",
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Start nothing new; what has begun goes on."""
    _switch("pause", True, scope, reason, url, token_file)


def resume(
    scope: ScopeOption = "", url: UrlOption = "http://127.0.0.1:8080", token_file: TokenOption = None
) -> None:
    """End a pause."""
    _switch("pause", False, scope, "", url, token_file)


def kill(
    reason: Annotated[str, typer.Argument(help="why, for everyone who wonders")],
    scope: ScopeOption = "",
    url: UrlOption = "http://127.0.0.1:8080",
    token_file: TokenOption = None,
) -> None:
    """Stop everything before its next step."""
    _switch("kill", True, scope, reason, url, token_file)


def unkill(
    scope: ScopeOption = "", url: UrlOption = "http://127.0.0.1:8080", token_file: TokenOption = None
) -> None:
    """Turn the kill switch off."""
    _switch("kill", False, scope, "", url, token_file)
