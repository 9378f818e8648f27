"""The commands that ask a running service: what there is, what it plans, approvals and switches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
