"""The coverage as a table for a terminal, as the page docs/coverage.md, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from remediator.coverage.table import MISSING, Coverage, Link, ProcedureRow, ThresholdRow

WHAT = ("thresholds", "procedures", "all")
FORMATS = ("table", "markdown", "json")

_HEAD = """\
# Coverage

Every threshold, schedule, duration, retention and limit of the documents with the alert, rule and playbook that
carry it; and every documented procedure with its playbook. Generated, and compared by a test; after a change:

    remediator coverage --format markdown > docs/coverage.md

`(approve)` and the like are a rung's mode ([rules.md](rules.md)); a rung after the first is tried when the one before
did not help. `notify` says why no playbook acts. *Documented only* says why there is nothing to evaluate.
"""


def render(coverage: Coverage, format_: str = "table") -> str:
    """The coverage in a format of `FORMATS`."""
    if format_ == "json":
        return json.dumps(_as_json(coverage), indent=2, ensure_ascii=False, default=str) + "\n"
    return _as_markdown(coverage) if format_ == "markdown" else _as_table(coverage)


def _as_json(coverage: Coverage) -> dict[str, Any]:
    return {
        "thresholds": [
            {
                "id": row.item.id,
                "system": row.item.system,
                "line": row.item.line,
                "quote": row.item.quote,
                "documented": _documented(row),
                "encoded_as": row.item.encoded_as,
                "status": row.status,
                "note": row.note,
                "links": [
                    {"through": at.through, "labels": at.labels, "rule": at.rule, "does": list(at.does)}
                    for at in row.links
                ],
            }
            for row in coverage.thresholds
        ],
        "procedures": [
            {
                "id": row.id,
                "system": row.procedure.system,
                "title": row.procedure.title,
                "playbook": row.procedure.playbook,
                "with": row.procedure.arguments,
                "mode": row.procedure.mode,
                "documented": row.procedure.documented,
                "gates": row.procedure.kept,
                "risk": row.risk,
                "runbook": row.runbook,
                "alerts": list(row.alerts),
                "status": row.status,
                "note": row.note,
            }
            for row in coverage.procedures
        ],
        "totals": coverage.totals(),
    }


def _as_table(coverage: Coverage) -> str:
    parts: list[str] = []
    if coverage.thresholds:
        rows = [
            [row.item.id, f"L{row.item.line}", row.status, "; ".join(map(_link, row.links)) or row.note]
            for row in coverage.thresholds
        ]
        parts.append(_columns([["threshold", "line", "", "alert -> rule -> playbook"], *rows]))
    if coverage.procedures:
        rows = [
            [row.id, row.procedure.system, row.status, _playbook(row), row.note or ", ".join(row.alerts)]
            for row in coverage.procedures
        ]
        parts.append(_columns([["procedure", "system", "", "playbook", "alerts"], *rows]))
    return "\n".join([*parts, *totals(coverage)]) + "\n"


def totals(coverage: Coverage) -> list[str]:
    """The totals, one line for each list, and a line for everything that is missing."""
    told = [
        f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items())
        for name, counts in coverage.totals().items()
        if counts["all"]
    ]
    missing = coverage.missing()
    told += [f"missing: {_id(row)}: {row.note}" for row in missing]
    return [*told, "nothing is missing" if not missing else f"{len(missing)} missing"]


def _as_markdown(coverage: Coverage) -> str:
    lines = [_HEAD]
    for name, counts in coverage.totals().items():
        if counts["all"]:
            lines.append(
                f"**{name}**: " + ", ".join(f"{count} {what}" for what, count in counts.items()) + "\n"
            )
    for system in dict.fromkeys(row.item.system for row in coverage.thresholds):
        title = coverage.documents.get(system, system)
        lines.append(
            f"## {system}: thresholds\n\n{title}\n\n| line | says | threshold | alert → rule → playbook |"
        )
        lines.append("|---|---|---|---|")
        lines += [
            _row([f"L{row.item.line}", row.item.quote, f"`{row.item.id}` {_documented(row)}", _links(row)])
            for row in coverage.thresholds
            if row.item.system == system
        ]
        lines.append("")
    for system in dict.fromkeys(row.procedure.system for row in coverage.procedures):
        lines.append(f"## {system}: procedures\n\n| procedure | playbook | mode | alerts |")
        lines.append("|---|---|---|---|")
        lines += [
            _row(
                [
                    f"`{row.id}` {row.procedure.title}",
                    f"**{MISSING}**: {row.note}" if row.note else _playbook(row),
                    row.procedure.mode or "",
                    ", ".join(row.alerts) or "on demand",
                ]
            )
            for row in coverage.procedures
            if row.procedure.system == system
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _links(row: ThresholdRow) -> str:
    told = "<br>".join(map(_link, row.links))
    if row.status == MISSING:
        return f"**{MISSING}**: {row.note}" + (f"<br>{told}" if told else "")
    return told or f"*{row.status}*: {row.note}"


def _link(link: Link) -> str:
    through = f"{link.through} {{{link.labels}}}" if link.labels else link.through
    return " → ".join(part for part in (through, link.rule, ", then ".join(link.does)) if part)


def _playbook(row: ProcedureRow) -> str:
    given = ", ".join(f"{name}={_value(value)}" for name, value in row.procedure.arguments.items())
    return f"{row.procedure.playbook}({given})" + (" by a person" if row.runbook else "")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _documented(row: ThresholdRow) -> str:
    item = row.item
    return f"{item.operator} {item.value} {item.unit}"


def _id(row: ThresholdRow | ProcedureRow) -> str:
    return row.item.id if isinstance(row, ThresholdRow) else row.id


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )
