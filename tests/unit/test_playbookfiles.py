"""Playbook files: what they say, and what is said of them where they are wrong."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.adapters.playbookfiles import HEADINGS, load_playbooks, read_playbooks
from remediator.adapters.registry import ParamsModels
from remediator.domain.playbooks import Gate, Parameter, Playbook, Reference, Step
from remediator.errors import ConfigError
from tests.unit.badfiles import ACTIONS, CONNECTIONS, alone, cases, expected, told

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = "".join(f"## {heading}\n\nSomething.\n\n" for heading in HEADINGS)


def write(folder: Path, name: str, text: str) -> None:
    """Write a playbook with a runbook that has all sections."""
    (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    (folder / f"{name}.md").write_text(RUNBOOK, encoding="utf-8")


@pytest.mark.parametrize("name", cases("playbooks"))
def test_a_fault_is_told(name: str, tmp_path: Path) -> None:
    """Each faulty playbook stops the start with exactly its findings, at their places."""
    alone("playbooks", name, tmp_path)

    with pytest.raises(ConfigError) as caught:
        load_playbooks(tmp_path, ACTIONS, CONNECTIONS)

    assert expected("playbooks", name) == told(caught.value.findings, tmp_path)


def test_a_whole_playbook(tmp_path: Path) -> None:
    """Everything that a file can say arrives in the domain."""
    write(
        tmp_path,
        "whole",
        """
playbook: whole
title: All of it
risk: high
parameters:
  connection: {connection: redis, description: where}
  prefix: {description: which}
  batch: {default: 7}
steps:
  - {name: one, action: redis.unlink_prefix, with: {connection: $connection, prefix: $prefix, batch_keys: $batch}, timeout: 5m, tries: 3}
  - {name: two, action: redis.wipe, with: {connection: $connection, hard: true}}
gates:
  - {id: backup, promql: "backup_age < 3600"}
  - {id: told, confirm: everybody was told}
checklist: [look twice]
undo: never
""",
    )
    connection, prefix, batch = Reference("connection"), Reference("prefix"), Reference("batch")
    whole = Playbook(
        name="whole",
        title="All of it",
        risk="high",
        steps=(
            Step(
                "one",
                "redis.unlink_prefix",
                {"connection": connection, "prefix": prefix, "batch_keys": batch},
                timedelta(minutes=5),
                3,
            ),
            Step("two", "redis.wipe", {"connection": connection, "hard": True}),
        ),
        parameters={
            "connection": Parameter("connection", "where", connection="redis"),
            "prefix": Parameter("prefix", "which"),
            "batch": Parameter("batch", default=7, required=False),
        },
        gates=(Gate("backup", promql="backup_age < 3600"), Gate("told", confirm="everybody was told")),
        checklist=("look twice",),
        undo=False,
    )

    assert {"whole": whole} == load_playbooks(tmp_path, ACTIONS, CONNECTIONS)


def test_a_runbook_has_no_steps(tmp_path: Path) -> None:
    """A runbook is a checklist for a person; its parameters need no step."""
    text = (
        "playbook: call\ntitle: Call\nrisk: low\nkind: runbook\nparameters: {whom: {}}\nchecklist: [call]\n"
    )
    write(tmp_path, "call", text)

    read = load_playbooks(tmp_path, ACTIONS)["call"]

    assert (True, ("call",), ["whom"]) == (read.is_runbook, read.checklist, list(read.parameters))


def test_a_null_default_is_a_default(tmp_path: Path) -> None:
    """A parameter whose default is nothing may be left out all the same."""
    write(
        tmp_path,
        "clear",
        """
playbook: clear
title: Clear
risk: low
parameters: {connection: {connection: redis}, prefix: {default: null}}
steps: [{name: one, action: redis.unlink_prefix, with: {connection: $connection, prefix: $prefix}}]
""",
    )

    assert load_playbooks(tmp_path, ACTIONS)["clear"].parameters["prefix"].required is False


def test_all_files_are_told_at_once(tmp_path: Path) -> None:
    """One wrong playbook does not hide another, and the right ones are still read."""
    write(tmp_path, "a", "playbook: a\ntitle: A\nrisk: none\nkind: runbook\nchecklist: [x]\n")
    write(tmp_path, "b", "playbook: b\ntitle: B\nrisk: low\nkind: runbook\nchecklist: [x]\n")
    write(tmp_path, "c", "playbook: c\nchecklist: [\n")
    (tmp_path / "d.md").write_text(RUNBOOK, encoding="utf-8")
    (tmp_path / "e.yaml").write_text("", encoding="utf-8")

    read = read_playbooks(tmp_path, ACTIONS)

    assert (["b"], {"a", "c"}) == (list(read.playbooks), read.broken)
    assert ["a.yml", "c.yml", "d.md", "e.yaml"] == sorted({Path(f.file).name for f in read.findings})


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is a finding, not an empty set of playbooks."""
    with pytest.raises(ConfigError, match="no such folder"):
        load_playbooks(tmp_path / "none", ACTIONS)


def test_the_page_about_playbooks_is_true(tmp_path: Path) -> None:
    """The examples in docs/playbooks.md load, and its list of sections is the one that is asked for."""
    page = (ROOT / "docs" / "playbooks.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(playbook: (\S+).*?)```", page, re.DOTALL)
    for text, name in examples:
        write(tmp_path, name, text)

    assert len(examples) == 2
    assert {name for _, name in examples} == set(load_playbooks(tmp_path, ParamsModels(), {"redis"}))
    assert [] == [heading for heading in HEADINGS if f"`## {heading}`" not in page]
