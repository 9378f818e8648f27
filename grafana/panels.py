"""What a dashboard is made of, and how Grafana stores it. Knows nothing of rules or of systems."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

COLOURS = {"critical": "red", "warning": "orange", "info": "blue"}
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, PER_ROW = 8, 7, 3


@dataclass
class Panel:
    """One graph or figure: PromQL with its legend, and the figures to draw as lines (value, severity)."""

    title: str
    targets: list[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    notes: list[str] = field(default_factory=list)
    lines: set[tuple[float, str]] = field(default_factory=set)


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


def panel_json(panel: Panel, number: int, x: int, y: int, width: int) -> dict[str, Any]:
    """Return a panel as Grafana stores it."""
    # Where two severities share a figure the line has the colour of the worse.
    worst = {
        value: severity for severity in reversed(COLOURS) for value, own in panel.lines if own == severity
    }
    steps = [{"color": COLOURS[severity], "value": value} for value, severity in sorted(worst.items())]
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {
            "fillOpacity": 5,
            "lineWidth": 1,
            "thresholdsStyle": {"mode": "line" if panel.lines else "off"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind == "stat":
        options = {
            "colorMode": "value" if panel.lines else "none",
            "reduceOptions": {"calcs": ["lastNotNull"]},
        }
    elif panel.kind == "state-timeline":
        options = {"showValue": "never", "mergeValues": True}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": "\n".join(panel.notes),
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT if panel.kind != "stat" else 4, "w": width, "x": x, "y": y},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": [{"color": "transparent" if custom else "green", "value": None}, *steps]},
            },
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for place, (expr, legend) in enumerate(panel.targets)
        ],
    }  # fmt: skip


def dashboard(
    uid: str, title: str, rows: Iterable[Row], variables: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Lay the rows out from top to bottom, three panels beside each other."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += 1
        for start in range(0, len(row.panels), PER_ROW):
            line = row.panels[start : start + PER_ROW]
            width = 24 if len(row.panels) == 1 else WIDTH
            for place_in_line, panel in enumerate(line):
                panels.append(panel_json(panel, len(panels) + 1, place_in_line * WIDTH, y, width))
            y += max(panel["gridPos"]["h"] for panel in panels[-len(line) :])
    return {
        "uid": uid,
        "title": title,
        "tags": ["remediator"],
        "editable": False,
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "utc",  # windows and schedules are documented in UTC
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["remediator"], "asDropdown": True, "title": "Dashboards", "includeVars": False, "keepTime": True}],
        "panels": panels,
    }  # fmt: skip
