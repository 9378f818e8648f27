"""playbooks/<name>.yml and the runbook beside it. docs/playbooks.md shows the shape with examples.

Whatever a step names is checked against the actions that are there: their kinds, their parameters, and the types
of the values that are written out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from remediator.adapters.playbookschema import ActionParams, PlaybookFile
from remediator.adapters.playbooksteps import check_step, filled, is_reference, named
from remediator.adapters.schema import faults, one_of
from remediator.adapters.yamlfiles import Document, Fault, in_order, load_yaml
from remediator.domain.playbooks import Gate, Parameter, Playbook, Step
from remediator.errors import ConfigError, Finding

HEADINGS = ("Meaning", "Impact", "Diagnosis", "Mitigation", "What we automate", "Undo")
"""The sections that every runbook has."""


@dataclass
class PlaybooksRead:
    """What is in a folder: the playbooks that are right, the findings, and the names of those that are not."""

    playbooks: dict[str, Playbook] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)


def load_playbooks(
    folder: Path, actions: ActionParams, connections: Collection[str] | None = None
) -> dict[str, Playbook]:
    """All playbooks of a folder, by name. `connections` are the kinds of connection there are.

    Raises:
        ConfigError: with everything that is wrong in any of them.
    """
    read = read_playbooks(folder, actions, connections)
    if read.findings:
        raise ConfigError(in_order(read.findings))
    return read.playbooks


def read_playbooks(
    folder: Path, actions: ActionParams, connections: Collection[str] | None = None
) -> PlaybooksRead:
    """As `load_playbooks`, for who goes on in spite of findings to show those of other files too."""
    read = PlaybooksRead()
    if not folder.is_dir():
        read.findings.append(Finding(str(folder), 1, 1, "there is no such folder of playbooks"))
        return read
    for path in sorted(folder.glob("*.yml")):
        try:
            document = load_yaml(path)
            playbook, told = _read(document, path, actions, connections)
        except ConfigError as error:
            playbook, told = None, list(error.findings)
        read.files += [path, path.with_suffix(".md")]
        told += _runbook(path.with_suffix(".md"))
        read.findings += told
        if playbook is None or told:
            read.broken.add(path.stem)
        else:
            read.playbooks[playbook.name] = playbook
    told = [
        Finding(str(p), 1, 1, "end its name in .yml: this file is not read") for p in folder.glob("*.yaml")
    ]
    alone = [p for p in sorted(folder.glob("*.md")) if not p.with_suffix(".yml").exists()]
    told += [Finding(str(p), 1, 1, f"there is no {p.stem}.yml beside this runbook") for p in alone]
    read.findings += told
    return read


def _read(
    document: Document, path: Path, actions: ActionParams, connections: Collection[str] | None
) -> tuple[Playbook | None, list[Finding]]:
    try:
        row = PlaybookFile.model_validate(document.data)
    except ValidationError as error:
        return None, [document.finding(fault) for fault in faults(error, PlaybookFile)]
    told = [*_checked(row, path), *_checked_parameters(row, connections)]
    for index, step in enumerate(row.steps):
        told += check_step(step, row, actions, ("steps", index))
    if told:
        return None, [document.finding(fault) for fault in told]
    return _playbook(row), []


def _playbook(row: PlaybookFile) -> Playbook:
    default = Step("", "", {})
    return Playbook(
        name=row.playbook,
        title=row.title,
        risk=row.risk,
        steps=tuple(
            Step(step.name, step.action, filled(step.arguments), step.timeout or default.timeout, step.tries)
            for step in row.steps
        ),
        parameters={
            name: Parameter(
                name,
                parameter.description,
                parameter.default,
                required="default" not in parameter.model_fields_set,
                connection=parameter.connection,
            )
            for name, parameter in row.parameters.items()
        },
        gates=tuple(Gate(gate.id, gate.promql or "", gate.confirm or "") for gate in row.gates),
        checklist=tuple(row.checklist),
        undo=row.undo == "auto",
    )


def _checked(row: PlaybookFile, path: Path) -> Iterator[Fault]:
    if row.playbook != path.stem:
        yield Fault(("playbook",), f"found {row.playbook!r}, expected the name of the file, {path.stem!r}")
    if row.kind == "playbook" and not row.steps:
        yield Fault(("playbook",), "it has no steps; where a person does it, say kind: runbook")
    if row.kind == "runbook" and row.steps:
        yield Fault(("steps",), "a runbook is done by a person and has no steps", at_key=True)
    if row.kind == "runbook" and not row.checklist:
        yield Fault(("playbook",), "a runbook needs a checklist: the steps that a person does and confirms")
    for what, names in (("steps", [s.name for s in row.steps]), ("gates", [g.id for g in row.gates])):
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Fault((what, index), f"the name {name!r} stands twice among the {what}")


def _checked_parameters(row: PlaybookFile, connections: Collection[str] | None) -> Iterator[Fault]:
    used = {name for step in row.steps for name in named(step.arguments)}
    for name, parameter in row.parameters.items():
        at = ("parameters", name)
        if not is_reference(f"${name}"):
            yield Fault(at, f"{name!r} is not a name of letters, digits and _", at_key=True)
        elif row.steps and name not in used:
            yield Fault(at, f"no step uses {name!r}", at_key=True)
        if parameter.connection and connections is not None and parameter.connection not in connections:
            told = one_of(parameter.connection, connections, "kind of connection")
            yield Fault((*at, "connection"), told)
        if parameter.connection and "default" in parameter.model_fields_set:
            yield Fault((*at, "connection"), "a connection has no default: the rule names it")


def _runbook(path: Path) -> list[Finding]:
    """What is wrong with the page beside a playbook."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return [Finding(str(path), 1, 1, "the runbook beside the playbook is missing or is not text")]
    sections: dict[str, tuple[int, list[str]]] = {}
    current: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("## "):
            current = []
            sections[line.removeprefix("## ").strip()] = (number, current)
        else:
            current.append(line)
    told: list[Finding] = []
    for heading in HEADINGS:
        number, body = sections.get(heading, (0, []))
        if not number:
            told.append(Finding(str(path), 1, 1, f"the section '## {heading}' is missing"))
        elif not "".join(body).strip():
            told.append(Finding(str(path), number, 1, f"the section '## {heading}' is empty"))
    return told
