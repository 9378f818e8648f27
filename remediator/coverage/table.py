"""Threshold -> alert -> rule -> playbook, and procedure -> playbook, row by row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isclose

from remediator.adapters.rulebook import RuleBook
from remediator.coverage.alertingrules import AlertingRule, PrometheusRules
from remediator.coverage.documented import Documented, Item, Procedure
from remediator.coverage.findings import possible
from remediator.coverage.shapes import ANY, Shape
from remediator.domain.playbooks import Playbook
from remediator.domain.rules import Rule

_NUMBER = re.compile(r"(?<![\w:.])\d+(?:\.\d+)?(?![\w:.])")

_LINES = re.compile(r"\bL(\d+)(?:-(\d+))?")
"""Lines of a document, as a procedure names them: `L523`, `L29-41`."""

CARRIED, DOCUMENTED, MISSING = "carried", "documented only", "missing"


OURSELVES = "remediator"
"""The system whose procedures are about remediator itself, and of no document."""


@dataclass(frozen=True, slots=True)
class Link:
    """One way from an item to people or machines."""

    through: str
    """The alert, or the procedure whose gate it is."""
    rule: str = ""
    does: tuple[str, ...] = ()
    """The playbooks of the ladder with their modes, or the reason why people are only told."""
    labels: str = ""
    """The row of a recorded table by which a generic alert knows the item."""


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """One documented item, and what carries it. `note` says what is missing, or why nothing carries it."""

    item: Item
    status: str
    links: tuple[Link, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProcedureRow:
    """One documented procedure, its playbook, and the alerts that name it."""

    id: str
    procedure: Procedure
    status: str
    risk: str = ""
    runbook: bool = False
    """Whether a person does it, step by step."""
    alerts: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The whole table."""

    thresholds: tuple[ThresholdRow, ...] = ()
    procedures: tuple[ProcedureRow, ...] = ()
    documents: Mapping[str, str] = field(default_factory=dict)

    def only(self, what: str) -> Coverage:
        """The `thresholds` or the `procedures` alone; all of it for anything else."""
        return replace(
            self,
            thresholds=() if what == "procedures" else self.thresholds,
            procedures=() if what == "thresholds" else self.procedures,
        )

    def missing(self) -> tuple[ThresholdRow | ProcedureRow, ...]:
        """What must be carried and is not."""
        thresholds = [row for row in self.thresholds if row.status == MISSING]
        return (*thresholds, *(row for row in self.procedures if row.status == MISSING))

    def totals(self) -> dict[str, dict[str, int]]:
        """How many of each, by what carries them."""
        carriers = Counter(row.item.carrier for row in self.thresholds)
        kinds = Counter("runbook" if row.runbook else "playbook" for row in self.procedures)
        own = sum(row.procedure.system == OURSELVES for row in self.procedures)
        return {
            "thresholds": {
                "all": len(self.thresholds),
                **Counter(row.status for row in self.thresholds),
                **{f"by {carrier}": count for carrier, count in sorted(carriers.items())},
            },
            "procedures": {
                "all": len(self.procedures),
                "of the documents": len(self.procedures) - own,
                **Counter(row.status for row in self.procedures),
                **{f"by {kind}": count for kind, count in sorted(kinds.items())},
            },
        }


def cover(documented: Documented, rules: PrometheusRules, book: RuleBook) -> Coverage:
    """Join everything."""
    table = _Table(documented, rules, book)
    return Coverage(
        tuple(table.threshold(item) for item in documented.items),
        tuple(table.procedure(name, row) for name, row in documented.procedures.items()),
        documented.documents,
    )


class _Table:
    def __init__(self, documented: Documented, rules: PrometheusRules, book: RuleBook) -> None:
        self._documented, self._rules, self._book = documented, rules, book
        self._by_procedure: dict[str, list[AlertingRule]] = {}
        for alert in rules.alerts:
            self._by_procedure.setdefault(alert.annotations.get("procedure", ""), []).append(alert)

    def threshold(self, item: Item) -> ThresholdRow:
        if item.carrier == "doc-only":
            return ThresholdRow(
                item, DOCUMENTED, note=item.why or "it states a fact; there is nothing to evaluate"
            )
        if item.carrier == "routing":
            return self._routing(item)
        if item.carrier == "gate":
            links = tuple(self._gates(item))
            note = "" if links else f"no playbook and no procedure has the gate {item.name!r}"
            return ThresholdRow(item, CARRIED if links else MISSING, links, note)
        found = [*self._named(item), *self._recorded(item)]
        once = tuple(self._documented_there(item)) if not found and not item.rows else ()
        if once:
            return ThresholdRow(item, CARRIED, once, "once, so no table has a row for it; a person starts it")
        if not found:
            of_rows = f"alert for {', '.join(item.rows) or item.encoded_as}"
            what = f"alert {item.name!r}" if item.carrier == "alert" else of_rows
            return ThresholdRow(item, MISSING, note=f"there is no {what} of {item.system}")
        links = tuple(
            dict.fromkeys(link for alert, shape, via in found for link in self._links(alert, shape, via))
        )
        unruled = sorted({link.through for link in links if not link.rule})
        note = f"no rule catches {', '.join(unruled)}" if unruled else ""
        return ThresholdRow(item, MISSING if unruled else CARRIED, links, note)

    def _named(self, item: Item) -> Iterator[tuple[AlertingRule, Shape, str]]:
        names = [*([item.name] if item.carrier == "alert" else []), *item.also_alerts]
        for name in names:
            alerts = self._rules.named(name)
            own = [a for a in alerts if name == item.name and item.severity == a.labels.get("severity")]
            for alert in own or _with_its_number(item, alerts):
                for shape in alert.shapes:
                    # A row of a table says which of a generic alert's label sets are meant.
                    if shape.value("system") in (item.system, ANY, "all") and _fits_rows(shape, item.rows):
                        yield alert, shape, ""

    def _recorded(self, item: Item) -> Iterator[tuple[AlertingRule, Shape, str]]:
        for row in item.rows:
            label, _, value = row.partition("=")
            for alert in self._rules.alerts:
                if label in alert.labels or alert.name in item.also_alerts:
                    continue
                for shape in alert.shapes:
                    if shape.values.get(label) == value and shape.value("system") in (item.system, ANY):
                        yield alert, shape.over({"system": item.system}), row

    def _links(self, alert: AlertingRule, shape: Shape, row: str) -> Iterator[Link]:
        rules = possible(self._book.table, shape)
        if not rules:
            yield Link(alert.told, labels=row)
        for rule, _ in rules:
            yield Link(alert.told, rule.name, does(rule), row)

    def _gates(self, item: Item) -> Iterator[Link]:
        names = {item.id, item.name}
        for playbook in self._book.playbooks.values():
            for gate in playbook.gates:
                if gate.id in names:
                    how = "asked of Prometheus" if gate.promql else "confirmed by a person"
                    yield Link(f"gate {gate.id}, {how}", does=(playbook.name,))
        for name, procedure in self._documented.procedures.items():
            kept = {gate: how for gate, how in procedure.kept.items() if gate in names}
            if kept and procedure.playbook in self._book.playbooks:
                how = next(iter(kept.values()))
                yield Link(f"procedure {name}" + (f", {how}" if how else ""), does=(procedure.playbook,))

    def _documented_there(self, item: Item) -> Iterator[Link]:
        """A task that is due once has no row in a table: the procedures that name its line carry it."""
        if item.encoded_as != "task:once":
            return
        for name, procedure in self._documented.procedures.items():
            lines = _LINES.findall(str(procedure.documented))
            named = any(int(first) <= item.line <= int(last or first) for first, last in lines)
            if named and procedure.system == item.system and procedure.playbook in self._book.playbooks:
                yield Link(f"procedure {name}", does=(procedure.playbook,))

    def _routing(self, item: Item) -> ThresholdRow:
        system = self._book.systems.get(item.system)
        if system is None or not system.contacts:
            return ThresholdRow(item, MISSING, note=f"rules/{item.system}.yml names no contacts")
        path = " -> ".join(step.to for step in system.escalation) or ", ".join(sorted(system.contacts))
        return ThresholdRow(item, CARRIED, (Link(f"contacts of rules/{item.system}.yml", does=(path,)),))

    def procedure(self, name: str, row: Procedure) -> ProcedureRow:
        alerts = tuple(dict.fromkeys(alert.told for alert in self._by_procedure.get(name, ())))
        playbook = self._book.playbooks.get(row.playbook)
        note = _misfit(row, playbook)
        return ProcedureRow(
            name,
            row,
            MISSING if note else CARRIED,
            risk=playbook.risk if playbook else "",
            runbook=bool(playbook and playbook.is_runbook),
            alerts=alerts,
            note=note,
        )


def does(rule: Rule) -> tuple[str, ...]:
    """What a rule does: its playbooks in order, or why it only tells people."""
    ladder = tuple(f"{rung.playbook} ({rung.mode.value})" for rung in rule.ladder if rung.playbook)
    return ladder or (f"notify: {rule.reason}",)


def _fits_rows(shape: Shape, rows: Sequence[str]) -> bool:
    """Whether a label set agrees with the item's rows on those of their labels that it has."""
    wanted: dict[str, set[str]] = {}
    for row in rows:
        label, _, value = row.partition("=")
        wanted.setdefault(label, set()).add(value)
    return all(
        (found := shape.value(label)) in (ANY, "") or found in values for label, values in wanted.items()
    )


def _with_its_number(item: Item, alerts: Sequence[AlertingRule]) -> Sequence[AlertingRule]:
    """Of several alerts of one name, those that compare with the item's number; all where none does."""
    if len(alerts) < 2 or isinstance(item.value, bool) or not isinstance(item.value, int | float):
        return alerts
    wanted = [item.value * factor for factor in (1, 0.01, 0.001)]
    near = [
        alert
        for alert in alerts
        if any(isclose(float(n), w) for n in _NUMBER.findall(alert.expr) for w in wanted)
    ]
    return near or alerts


def _misfit(row: Procedure, playbook: Playbook | None) -> str:
    """How a procedure and its playbook do not fit; empty where they do."""
    if playbook is None:
        return f"there is no playbook {row.playbook!r}"
    unknown = sorted(row.arguments.keys() - playbook.parameters.keys())
    if unknown:
        return f"{playbook.name} has no parameter {', '.join(unknown)}"
    lacking = sorted(n for n, p in playbook.parameters.items() if p.required and n not in row.arguments)
    if lacking:
        return f"{playbook.name} needs the parameter {', '.join(lacking)}"
    if playbook.is_runbook and row.mode == "auto":
        return f"{playbook.name} is done by a person, so its mode cannot be auto"
    return ""
