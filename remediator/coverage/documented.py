"""What the documents ask for, as it is listed: thresholds.yml, and procedures/*.yml with the playbook of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remediator.adapters.ruleschema import ModeName
from remediator.adapters.schema import faults, show
from remediator.adapters.yamlfiles import Document, Fault, in_order, load_yaml
from remediator.errors import ConfigError, Finding


class Item(BaseModel):
    """One documented threshold, target, schedule, duration, retention or limit."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    system: str
    line: int
    encoded_as: str
    operator: str
    value: Any
    unit: str
    window: str
    quote: str
    severity: str = ""
    rows: tuple[str, ...] = ()
    also_alerts: tuple[str, ...] = ()
    why: str = ""
    """For what is only documented: why there is nothing to evaluate."""

    @property
    def carrier(self) -> str:
        """What carries it: `alert`, `gate`, `routing`, `doc-only`, or the kind of a recorded row."""
        return self.encoded_as.partition(":")[0]

    @property
    def name(self) -> str:
        """The alert's or gate's name."""
        return self.encoded_as.partition(":")[2]


class Procedure(BaseModel):
    """One documented procedure, and the playbook that carries it out in its safe form."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    playbook: str
    system: str
    title: str
    arguments: dict[str, Any] = Field(default={}, alias="with")
    documented: Any = None
    gates: tuple[str | dict[str, str], ...] = ()
    """Ids of documented gates; one that is no gate of the playbook says how it is kept, as `{id: how}`."""
    mode: ModeName | None = None

    @property
    def kept(self) -> dict[str, str]:
        """How each gate is kept; empty where that is the playbook's to say."""
        told: dict[str, str] = {}
        for gate in self.gates:
            told |= {gate: ""} if isinstance(gate, str) else gate
        return told


@dataclass(frozen=True, slots=True)
class Documented:
    """Both lists. `documents` are the titles, by system; `places` where each procedure stands."""

    items: tuple[Item, ...] = ()
    procedures: Mapping[str, Procedure] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)

    def finding(self, procedure: str, message: str, severity: str = "error") -> Finding:
        """A finding at a procedure's name."""
        return Finding(*self.places[procedure], message, severity)


def read_documented(thresholds: Path | None, procedures: Path) -> Documented:
    """Both lists, or the procedures alone; their folder may be missing.

    Raises:
        ConfigError: with everything that is wrong in any of the files.
    """
    told: list[Finding] = []
    items, documents = _items(thresholds, told) if thresholds else ((), {})
    found: dict[str, Procedure] = {}
    places: dict[str, tuple[str, int, int]] = {}
    for path in sorted(procedures.glob("*.yml")):
        try:
            document = load_yaml(path)
        except ConfigError as error:
            told += error.findings
            continue
        for name, at, row in _named(document, told):
            place = (document.file, *document.place(at, at_key=True))
            if name in places:
                told.append(Finding(*place, f"the procedure {name!r} stands already in {places[name][0]}"))
                continue
            try:
                found[name] = Procedure.model_validate(row)
            except ValidationError as error:
                told += map(document.finding, faults(error, Procedure, at))
            places[name] = place
    if told:
        raise ConfigError(in_order(told))
    return Documented(items, found, documents, places)


def _items(path: Path, told: list[Finding]) -> tuple[tuple[Item, ...], dict[str, str]]:
    if not path.is_file():
        told.append(Finding(str(path), 1, 1, "there is no such file of thresholds"))
        return (), {}
    try:
        document = load_yaml(path)
    except ConfigError as error:
        told += error.findings
        return (), {}
    data = document.data if isinstance(document.data, dict) else {}
    items: list[Item] = []
    for index, row in enumerate(data.get("thresholds") or []):
        try:
            items.append(Item.model_validate(row))
        except ValidationError as error:
            told += map(document.finding, faults(error, Item, ("thresholds", index)))
    titles = {name: str(row.get("title", name)) for name, row in (data.get("documents") or {}).items()}
    return tuple(items), titles


def _named(document: Document, told: list[Finding]) -> list[tuple[str, tuple[str, ...], Any]]:
    """The procedures of a file, with or without a key `procedures` around them."""
    data = document.data
    at: tuple[str, ...] = ()
    if isinstance(data, dict) and isinstance(data.get("procedures"), dict):
        data, at = data["procedures"], ("procedures",)
    if not isinstance(data, dict):
        told.append(document.finding(Fault((), f"found {show(data)}, expected procedures by their names")))
        return []
    return [(str(name), (*at, str(name)), row) for name, row in data.items()]
