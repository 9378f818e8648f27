"""Every action has all that an action has to have. One test, one list: all gaps are told at once."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tests.support.contract import CHECKS
from tests.unit.test_actions_registry import OURS

ROOT = Path(__file__).resolve().parents[2]
Cells = Mapping[str, set[str]]


def gaps(kind: str, entry: str) -> Iterator[str]:
    """What this kind of action does not have."""
    module, _, name = entry.partition(":")
    try:
        class_ = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        yield f"no module: {error}"
        return
    file = Path(inspect.getfile(class_)).relative_to(ROOT)
    if not file.is_relative_to("remediator/actions"):
        yield f"no module of its own: it stands in {file}"
    for field, info in class_.Params.model_fields.items():
        if not info.description and field != "connection":
            yield f"no description of the parameter {field}"
    yield from _untested(kind, name)
    if kind not in used_by_playbooks():
        yield "no playbook uses it"
    if f"### `{kind}`\n" not in _text("docs/actions.md"):
        yield "no section in docs/actions.md (remediator actions --format markdown > docs/actions.md)"
    if not re.search(rf"(?<![\w.]){re.escape(kind.split('.')[0])}\.", _text("CHANGELOG.md")):
        yield f"no line in CHANGELOG.md names {kind} or {kind.split('.')[0]}.*"


def _untested(kind: str, name: str) -> Iterator[str]:
    if not _named(kind, name, "tests/unit/test_actions_*.py"):
        yield f"no unit test: none of tests/unit/test_actions_*.py names {name} or {kind}"
    shown = contract().get(kind, set())
    if not shown:
        yield "no integration test: nothing in tests/integration/test_actions_*.py is marked contract for it"
    elif missing := [check for check in CHECKS if check not in shown]:
        yield f"no test of the contract's {', '.join(missing)}"


@cache
def _text(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


@cache
def _named(kind: str, name: str, pattern: str) -> bool:
    """Whether one of these files has the kind, or the class together with its package: several have a `Stop`."""
    package = f"remediator.actions.{kind.split('.')[0]}"
    for path in sorted(ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        words = [kind, name] if package in text else [kind]
        if path.name != "test_actions_registry.py" and any(
            re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) for word in words
        ):
            return True
    return False


@cache
def used_by_playbooks() -> frozenset[str]:
    """The kinds that the shipped playbooks' steps name."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("playbooks/*.yml")]
    return frozenset(step["action"] for file in files for step in file.get("steps") or ())


@cache
def contract() -> Cells:
    """Which cells of the table action x contract the integration tests are marked to show.

    The modules are imported, not parsed: marks are made by helpers, for the kinds of a table.
    """
    cells: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests/integration").glob("test_actions_*.py")):
        for kind, check in cells_of(_imported(f"tests.integration.{path.stem}")):
            cells[kind].add(check)
    return cells


def _imported(name: str) -> ModuleType:
    return sys.modules.get(name) or importlib.import_module(name)


def cells_of(module: ModuleType) -> Iterator[tuple[str, str]]:
    """The kind and check of every contract mark on a module's tests, and on the cases of their parameters."""
    for name, thing in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(thing):
            for mark in getattr(thing, "pytestmark", ()):
                yield from _cells(mark)


def _cells(mark: Any) -> Iterator[tuple[str, str]]:
    if mark.name == "contract":
        kind, check = mark.args
        yield kind, check
    elif mark.name == "parametrize":
        cases = mark.args[1] if len(mark.args) > 1 else mark.kwargs["argvalues"]
        for case in cases:
            for inner in getattr(case, "marks", ()):
                yield from _cells(getattr(inner, "mark", inner))


def test_every_action_is_complete() -> None:
    """Module, descriptions, unit test, every check of the contract, playbook, docs, changelog: for each kind."""
    told = {kind: list(gaps(kind, entry)) for kind, entry in sorted(OURS.items())}
    lines = [f"{kind}: {gap}" for kind, found in told.items() for gap in found]
    unknown = sorted(contract().keys() - OURS.keys())
    lines += [f"{kind}: marked in tests, but pyproject.toml registers no such action" for kind in unknown]

    assert not lines, f"{len(lines)} gaps\n" + "\n".join(lines)


class Untested:
    """Stands in for an action that somebody only wrote and registered."""

    class Params(BaseModel):
        """Its parameters."""

        connection: str
        size_bytes: int


def test_an_action_without_anything_is_told_in_full() -> None:
    """The list cannot be empty by mistake: a class that nobody tests has every gap."""
    found = [gap.split(":")[0] for gap in gaps("nothing.at_all", f"{__name__}:Untested")]

    assert [
        "no module of its own",
        "no description of the parameter size_bytes",
        "no integration test",
        "no playbook uses it",
        "no section in docs/actions.md (remediator actions --format markdown > docs/actions.md)",
        "no line in CHANGELOG.md names nothing.at_all or nothing.*",
    ] == [gap for gap in found if gap != "no unit test"]
    assert "no unit test" in found
    assert ["no module"] == [gap.split(":")[0] for gap in gaps("nothing.at_all", "remediator.nowhere:X")]


def test_marks_are_found_wherever_they_stand() -> None:
    """On the test itself, on a case of its parameters, and on none."""
    module = ModuleType("made")

    @pytest.mark.contract("a.one", "plan")
    @pytest.mark.parametrize("kind", [pytest.param(1, marks=pytest.mark.contract("a.two", "dies")), 2])
    def marked(kind: int) -> None:
        """Never run."""

    def plain() -> None:
        """Never run."""

    vars(module).update(test_marked=marked, test_plain=plain, helper=marked)

    assert [("a.one", "plan"), ("a.two", "dies")] == sorted(cells_of(module))
