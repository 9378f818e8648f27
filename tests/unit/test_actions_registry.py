"""The installed actions: what they are registered as, what they say of themselves, and docs/actions.md."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, Field, StringConstraints
from typer.testing import CliRunner

from remediator.adapters.registry import action_class, connection_kind, kinds
from remediator.catalogue.fields import Told, models
from remediator.catalogue.kinds import connections, read
from remediator.catalogue.render import as_markdown
from remediator.commands.actions import actions

ROOT = Path(__file__).resolve().parents[2]
OURS: Mapping[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "entry-points"
]["remediator.actions"]


def command(*argv: str) -> tuple[int, str]:
    """Run `remediator actions`; its exit code and what it printed."""
    app = typer.Typer()
    app.command()(actions)
    done = CliRunner().invoke(app, argv)
    return done.exit_code, done.output


def test_what_pyproject_names_is_installed() -> None:
    """A kind that was added is found; where this fails, install again: `pip install --no-deps -e .`."""
    assert [] == sorted(OURS.keys() - set(kinds()))


@pytest.mark.parametrize("kind", sorted(OURS))
def test_an_action_is_what_it_is_registered_as(kind: str) -> None:
    """Its own kind, closed and frozen models, a connection that names its kind, and words for each of its methods."""
    class_ = action_class(kind)
    methods = ("observe", "plan", "apply", "undo", "progress", "permissions", "close")

    assert kind == class_.kind
    assert isinstance(class_.idempotent, bool)
    for model in (class_.Params, class_.Connection):
        assert ("forbid", True) == (model.model_config.get("extra"), model.model_config.get("frozen"))
    assert class_.Params.model_fields["connection"].annotation is str
    assert kind.split(".")[0] == connection_kind(class_)
    assert [] == [name for name in methods if not inspect.getdoc(getattr(class_, name, None))]
    assert inspect.getdoc(class_)


def test_the_page_is_what_the_code_says() -> None:
    """docs/actions.md is `remediator actions --format markdown`, word by word."""
    page = (ROOT / "docs/actions.md").read_text(encoding="utf-8")
    ours = sorted(OURS)

    assert as_markdown(read(ours), connections(ours)) == page, (
        "remediator actions --format markdown > docs/actions.md"
    )


def test_the_table_has_every_kind() -> None:
    """In a pipe each action is one line, with all of its parameters."""
    code, text = command()

    assert 0 == code
    assert [] == [kind for kind in kinds() if text.count(f" {kind} ") != 1]
    assert "container, stop_timeout_seconds" in text


def test_one_kind_is_told_in_full() -> None:
    """Parameters with their bounds, the connection, and what undoes it."""
    code, text = command("docker.restart")

    assert 0 == code
    assert (
        "| `stop_timeout_seconds` | whole number | at least 0, at most 300 | `10` | before it is killed |"
        in text
    )
    assert "| undo | Nothing to take back: the same container runs again. |" in text
    assert "### Connection `docker`" in text
    assert "redis" not in text


def test_json_is_for_programs() -> None:
    """Everything that the page says, as data."""
    code, text = command("redis.unlink_prefix", "--format", "json")
    told = json.loads(text)

    assert 0 == code
    assert [("redis.unlink_prefix", True, "yes")] == [
        (one["kind"], one["idempotent"], one["irreversible"]) for one in told["actions"]
    ]
    assert ["redis"] == [one["kind"] for one in told["connections"]]


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        pytest.param(["docker.restrat"], 1, "did you mean docker.restart?", id="kind"),
        pytest.param(["--format", "xml"], 2, "expected table, markdown, json", id="format"),
    ],
)
def test_what_is_not_there_is_said(argv: list[str], code: int, told: str) -> None:
    """A wrong kind or format ends with an error that says what there is."""
    found, text = command(*argv)

    assert code == found
    assert told in " ".join(text.replace("│", " ").split())


class Inner(BaseModel):
    """Stands inside another model."""

    size_bytes: int = Field(gt=0)


class Outer(BaseModel):
    """Everything that a field can be."""

    kind: Literal["outer"]
    mode: Literal["a", "b"] = "a"
    name: Annotated[str, StringConstraints(pattern="^a|b$")] = Field(description="with | in it")
    ratio: float = Field(default=0.5, ge=0, lt=1)
    folder: Path | None = None
    inner: tuple[Inner, ...] = ()
    by_name: Mapping[Annotated[str, StringConstraints(pattern="^x$")], int] = {}
    flags: Mapping[str, Annotated[list[bool], Field(max_length=3)]] = {}


def test_fields_are_told_in_words() -> None:
    """Types, bounds and defaults of each kind of field; a model that stands in another has its own table."""
    outer, inner = models(Outer)

    assert ("Inner", "Stands inside another model.") == (inner.name, inner.about)
    assert (Told("size_bytes", "whole number", "above 0", "", ""),) == inner.fields
    assert (
        Told("kind", "`outer`", "", "", ""),
        Told("mode", "one of `a`, `b`", "", '"a"', ""),
        Told("name", "text", "like `^a|b$`", "", "with | in it"),
        Told("ratio", "number", "at least 0, below 1", "0.5", ""),
        Told("folder", "path or none", "", "null", ""),
        Told("inner", "list of Inner", "", "[]", ""),
        Told("by_name", "mapping to whole number", "each name like `^x$`", "{}", ""),
        Told("flags", "mapping to list of true or false", "each at most 3 of them", "{}", ""),
    ) == outer.fields


def test_the_commands_cost_nothing_until_they_are_used() -> None:
    """Registering them loads neither pydantic nor a client library: every other command starts with them."""
    script = (
        "import sys, remediator.commands.actions, remediator.commands.permissions\n"
        "print([name for name in ('pydantic', 'redis', 'kubernetes', 'docker', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert "[]\n" == done.stdout, done.stderr
