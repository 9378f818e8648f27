"""`remediator permissions`: the least privilege for the rules that are enabled, as each system writes it down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from remediator.commands.shell import ConfigOption, offline_settings


def permissions(
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Role, RoleBinding, ServiceAccount")
    ] = False,
    iam: Annotated[bool, typer.Option("--iam", help="IAM policies")] = False,
    redis: Annotated[bool, typer.Option("--redis", help="ACL SETUSER lines")] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="GRANT statements")] = False,
    docker: Annotated[bool, typer.Option("--docker", help="Engine API calls, for a socket proxy")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="a polkit rule")] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="these, and files, URLs and what no server enforces (the default)")
    ] = False,
    rule: Annotated[list[str] | None, typer.Option("--rule", help="only what this rule needs")] = None,
    config: ConfigOption = None,
) -> None:
    """Print the least privilege for the rules that are enabled, each line with the rule, playbook and step that need it."""
    from remediator.errors import ConfigError

    chosen = {
        "kubernetes": kubernetes,
        "iam": iam,
        "redis": redis,
        "postgres": postgres,
        "docker": docker,
        "systemd": systemd,
    }
    forms = () if all_ else tuple(name for name, asked in chosen.items() if asked)
    try:
        text, problems = told(config, tuple(rule or ()), forms)
    except ConfigError as error:
        _complain(map(str, error.findings))
        raise typer.Exit(1) from error
    sys.stdout.write(text)
    if problems:
        _complain([*problems, f"{len(problems)} left out: what is printed is not all that is needed"])
        raise typer.Exit(1)


def told(
    config: Path | None, rules: tuple[str, ...] = (), forms: tuple[str, ...] = ()
) -> tuple[str, tuple[str, ...]]:
    """The text of these forms, or of all, and what is missing in it.

    Raises:
        ConfigError: when the settings, rules or playbooks are wrong.
    """
    from remediator.bootstrap import load_book
    from remediator.privilege.forms import FORMS, render
    from remediator.privilege.uses import gather

    book = load_book(offline_settings(config))
    gathered = asyncio.run(gather(book, rules))
    problems = gathered.problems
    if problems:
        # A connection whose secret is not on this machine is left out with a warning, which tells why.
        problems = (*(str(warning) for warning in book.warnings), *problems)
    return render(gathered.uses, forms or tuple(FORMS)), problems


def _complain(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"{line}\n")
