#!/usr/bin/env python3
"""Build grafana/dashboards/*.json from prometheus/rules/*.yml; `--check` only says whether they are up to date.

One dashboard for each system: a panel for each normalised series that an alert of it compares, in the order of
the document, with each documented or proposed threshold as a line in the colour of its severity. Series, operators
and figures are read from the rules, so that a dashboard cannot say something else than the alert. Two more have no
thresholds of their own: `operations` (tasks, backups, retentions) and `remediator` (ourselves); they stand in own.py.

The uid of a dashboard is the one that the alerts' `dashboard` annotations name. The same input gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from own import firing, operations, remediator
from panels import Panel, Row, dashboard

HERE = Path(__file__).resolve().parent
RULES = HERE.parent / "prometheus" / "rules"
DASHBOARDS = HERE / "dashboards"

SYSTEMS = ("brainstem", "pneumonia", "photonic", "openalgebra", "learning-rec")
SERIES = re.compile(r"\b[a-z][a-z0-9_]*(?::[a-z0-9_]+)+\b")
COMPARISON = re.compile(r"(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*\)*\s*$")
# What separates the parts of an expression that each have a comparison of their own.
CLAUSES = re.compile(r"\b(?:or|and|unless)\b(?:\s+(?:on|ignoring)\s*\([^)]*\))?")
UNITS = (
    (re.compile(r"_seconds:"), "s"),
    (re.compile(r"_gib:"), "gbytes"),
    (re.compile(r"_days(_left)?:|days_left:"), "d"),
    (re.compile(r"_vs_|redis_fragmentation"), "short"),
    (re.compile(r":ratio"), "percentunit"),
    (re.compile(r":rate"), "cps"),
)


def alerting_rules(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the alerting rules of a file in their order."""
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
        yield from (rule for rule in group["rules"] if "alert" in rule)


def comparisons(expr: str) -> Iterator[tuple[str, str, float]]:
    """Yield (series, operator, figure) for each part of an expression that compares one series with a number."""
    for clause in CLAUSES.split(" ".join(expr.split())):
        found, names = COMPARISON.search(clause.strip()), set(SERIES.findall(clause))
        if found and len(names) == 1:
            yield names.pop(), found[1], float(found[2])


def unit_of(series: str) -> str:
    """Return Grafana's unit for a normalised series; ratios of two times or sizes are plain numbers."""
    return next((unit for pattern, unit in UNITS if pattern.search(series)), "short")


def title_of(series: str) -> str:
    """Return words for a series: `brainstem:dice_drift:max` is "Dice drift (max)"."""
    _system, thing, *rest = series.split(":")
    words = re.sub(r"_(seconds|gib|days)$", "", thing).replace("_", " ")
    return f"{words[0].upper()}{words[1:]} ({' '.join(rest).replace('_', ' ')})"


def note(rule: dict[str, Any], figure: str) -> str:
    """Return one line that says which alert draws a line, and what it means."""
    labels = rule["labels"]
    waits = f" for {rule['for']}" if rule.get("for", "0s") != "0s" else ""
    return (
        f"- **{rule['alert']}** ({labels['severity']}, {labels['threshold']}): {figure}{waits}. "
        f"{rule['annotations']['summary']}. [Runbook]({rule['annotations']['runbook_url']})"
    )


def system_panels(rules: Iterable[dict[str, Any]]) -> tuple[Panel, ...]:
    """Return a panel for each series that the alerts of a system compare, with the figures as lines."""
    panels: dict[str, Panel] = {}

    def panel(series: str) -> Panel:
        empty = Panel(title_of(series), [(series, "")], unit_of(series))
        return panels.setdefault(series, empty)

    for rule in rules:
        if rule["alert"] == "AdapterSeriesAbsent":
            continue  # it names every series; that one is missing is what an empty panel shows
        expr = " ".join(rule["expr"].split())
        compared = list(comparisons(expr))
        for series, operator, figure in compared:
            both = (figure, -figure) if f"abs({series})" in expr else (figure,)
            panel(series).lines |= {(one, rule["labels"]["severity"]) for one in both}
            panel(series).notes.append(
                note(rule, f"{'absolute value ' * (len(both) > 1)}{operator} {figure:g}")
            )
        rest = [
            name for name in dict.fromkeys(SERIES.findall(expr)) if name not in {one for one, *_ in compared}
        ]
        limits = [name for name in rest if name.endswith(":config")]
        for series in (name for name in rest if name not in limits):
            # Compared with a recorded row, or watched for being there at all.
            targets = panel(series).targets
            targets += [
                (limit, "allowed {{cronjob}}{{task}}") for limit in limits if (limit, "") not in targets
            ]
            panel(series).notes.append(note(rule, f"`{expr}`"))
    return tuple(panels.values())


def build() -> dict[str, str]:
    """Return the dashboards: file name -> text."""
    chosen = {
        "type": "custom", "name": "system", "label": "System", "multi": True, "includeAll": True, "allValue": ".*",
        "query": ",".join(SYSTEMS), "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip
    boards = {
        system: dashboard(
            system,
            system,
            [
                Row("Now", (firing(f'system="{system}",'),)),
                Row("What the document watches", system_panels(alerting_rules(RULES / f"30-{system}.yml"))),
            ],
        )
        for system in SYSTEMS
    }
    boards["operations"] = dashboard(
        "operations", "Operations: tasks, backups, retention", operations(), [chosen]
    )
    boards["remediator"] = dashboard("remediator", "remediator", remediator())
    return {
        f"{name}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        for name, board in boards.items()
    }


def main(arguments: list[str]) -> int:
    """Write the dashboards, or with `--check` name those that are stale; 1 when there are any."""
    built = build()
    there = {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS.glob("*.json")}
    stale = sorted(name for name in built.keys() | there.keys() if built.get(name) != there.get(name))
    if "--check" in arguments:
        for name in stale:
            print(f"grafana/dashboards/{name} is not what grafana/build.py makes of prometheus/rules")
        return 1 if stale else 0
    for name in there.keys() - built.keys():
        (DASHBOARDS / name).unlink()
    for name, text in built.items():
        (DASHBOARDS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
