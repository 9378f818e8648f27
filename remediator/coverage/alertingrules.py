"""Prometheus's rule files: the alerting rules, with the labels that their alerts can carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediator.adapters.yamlfiles import Document
from remediator.coverage.files import read_foreign
from remediator.coverage.series import Recording, Series
from remediator.coverage.shapes import ANY, Shape, distinct
from remediator.errors import ConfigError, Finding


@dataclass(frozen=True, slots=True)
class AlertingRule:
    """One alerting rule. `labels` are those it sets; a template among them may become anything.

    `shapes` are the label sets that its alerts can have, `alertname` included.
    """

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    shapes: tuple[Shape, ...] = ()
    file: str = ""
    line: int = 1
    column: int = 1

    @property
    def told(self) -> str:
        """Its name, with the labels by which two of one name differ."""
        own = {name: self.labels[name] for name in ("system", "severity") if name in self.labels}
        return f"{self.name} ({', '.join(own.values())})" if own else self.name

    def finding(self, message: str, severity: str = "error") -> Finding:
        """A finding at the place of its name."""
        return Finding(self.file, self.line, self.column, message, severity)


@dataclass(frozen=True, slots=True)
class PrometheusRules:
    """All rule files of a folder."""

    alerts: tuple[AlertingRule, ...] = ()
    recordings: tuple[Recording, ...] = ()

    def named(self, name: str) -> tuple[AlertingRule, ...]:
        """The alerting rules of this name; one for each severity, as a rule."""
        return tuple(alert for alert in self.alerts if alert.name == name)


def read_alerting_rules(folder: Path, external: Iterable[str] = ()) -> PrometheusRules:
    """The rules of a folder. `external` names the labels that Prometheus adds to every alert it sends.

    Raises:
        ConfigError: with every file that cannot be read.
    """
    findings: list[Finding] = []
    documents: list[Document] = []
    for path in sorted(folder.glob("*.yml")):
        try:
            documents.append(read_foreign(path))
        except ConfigError as error:
            findings += error.findings
    if not documents and not findings:
        findings.append(Finding(str(folder), 1, 1, "there are no Prometheus rule files (*.yml) here"))
    if findings:
        raise ConfigError(tuple(findings))
    rows = [(document, at, row) for document in documents for at, row in _rows(document)]
    recordings = tuple(
        Recording(str(row["record"]), str(row.get("expr", "")), _texts(row.get("labels")))
        for _, _, row in rows
        if "record" in row
    )
    series = Series(recordings)
    added = dict.fromkeys(external, ANY)
    alerts = tuple(_alert(*row, series, added) for row in rows if "alert" in row[2])
    return PrometheusRules(alerts, recordings)


def external_labels(prometheus: Path) -> tuple[str, ...]:
    """The names under `global.external_labels` of a prometheus.yml; none where there is no such file."""
    if not prometheus.is_file():
        return ()
    data = read_foreign(prometheus).data or {}
    return tuple((data.get("global") or {}).get("external_labels") or {})


def _rows(document: Document) -> Iterable[tuple[Sequence[Any], dict[str, Any]]]:
    for group_index, group in enumerate((document.data or {}).get("groups") or []):
        for index, row in enumerate(group.get("rules") or []):
            yield ("groups", group_index, "rules", index), row


def _alert(
    document: Document,
    at: Sequence[Any],
    row: dict[str, Any],
    series: Series,
    added: Mapping[str, str | None],
) -> AlertingRule:
    line, column = document.place((*at, "alert"))
    name, expr, labels = str(row["alert"]), str(row.get("expr", "")), _texts(row.get("labels"))
    static = {label: ANY if "{{" in value else value for label, value in labels.items()}
    shapes = (
        Shape({**added, **shape.values}, shape.open).over({**static, "alertname": name})
        for shape in series.of(expr)
    )
    return AlertingRule(
        name=name,
        expr=expr,
        labels=labels,
        annotations=_texts(row.get("annotations")),
        shapes=distinct(shapes),
        file=document.file,
        line=line,
        column=column,
    )


def _texts(given: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (given or {}).items()}
