"""The shipped dashboards: built from the rules, about series that exist, with the figures of the alerts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import remediator.telemetry  # noqa: F401 - registers every metric of ours
from tests.support.processes import program

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
RULES = ROOT / "prometheus" / "rules"
SYSTEMS = ("brainstem", "pneumonia", "photonic", "openalgebra", "learning-rec")
BOARDS = (*SYSTEMS, "operations", "remediator")
COLOURS = {"critical": "red", "warning": "orange", "info": "blue"}
SIMPLE = re.compile(r"([a-z0-9_]+(?::[a-z0-9_]+)+) (?:>=|<=|>|<) (\d+(?:\.\d+)?)")


def rules(*patterns: str) -> list[dict[str, Any]]:
    """Return the rules, alerting and recording, of the files that match."""
    files = [file for pattern in patterns for file in sorted(RULES.glob(pattern))]
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def board(name: str) -> dict[str, Any]:
    """Return a committed dashboard."""
    found: dict[str, Any] = json.loads((GRAFANA / "dashboards" / f"{name}.json").read_text())
    return found


def expressions(name: str) -> Iterator[str]:
    """Yield the PromQL of a dashboard, with Grafana's variables filled in."""
    for panel in board(name)["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$system", "photonic")


def series_of(expr: str) -> set[str]:
    """Return the names of the series that a PromQL expression reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expr)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w.])([A-Za-z_][\w:]*)(?!\w)(?!\s*\()", bare)
    return set(words) - {"or", "and", "unless", "by", "without", "bool", "offset"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the generator of a tree."""
    argv = [sys.executable, str(folder / "grafana" / "build.py"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_series_of_reads_promql() -> None:
    """The reader of names that the next tests lean on sees through functions, matchers, ranges and groupings."""
    expr = 'sum by (a, b) (rate(c_total{d="e:f"}[5m])) / on (g) group_left (h) i:j:k or abs(time() - max(l_m)) > 1e3'

    assert {"c_total", "i:j:k", "l_m"} == series_of(expr)


def test_dashboards_are_what_the_rules_make_of_them() -> None:
    """The committed JSON is exactly what build.py writes: nobody edited it, and no rule changed without it."""
    done = run(ROOT, "--check")

    assert (0, "") == (done.returncode, done.stdout), done.stdout + done.stderr


def test_a_changed_threshold_makes_its_dashboard_stale(tmp_path: Path) -> None:
    """The figures come from the rules: another one is noticed, and building again draws it."""
    shutil.copytree(GRAFANA, tmp_path / "grafana")
    shutil.copytree(RULES, tmp_path / "prometheus" / "rules")
    file = tmp_path / "prometheus" / "rules" / "30-photonic.yml"
    text = file.read_text()
    file.write_text(text.replace("photonic:disk_used:ratio > 0.9", "photonic:disk_used:ratio > 0.77"))
    before = run(tmp_path, "--check")
    written = run(tmp_path)
    after = run(tmp_path, "--check")

    assert file.read_text() != text
    assert (1, 1) == (before.returncode, len(before.stdout.splitlines())), before.stdout + before.stderr
    assert before.stdout.startswith("grafana/dashboards/photonic.json ")
    assert (0, 0, "") == (written.returncode, after.returncode, after.stdout)
    assert '"value": 0.77' in (tmp_path / "grafana" / "dashboards" / "photonic.json").read_text()


@pytest.mark.parametrize("name", BOARDS)
def test_panels_read_only_series_that_exist(name: str) -> None:
    """Every name in a panel is recorded in prometheus/rules, or is exported by remediator, or is read by an alert.

    The last holds for `operations` alone, whose raw `ops_*` series are what its alerts compare with recorded rows.
    """
    recorded = {rule["record"] for rule in rules("*.yml") if "record" in rule}
    ours = {sample for family in REGISTRY.collect() for sample in names_of(family.name, family.type)}
    known = recorded | {one for one in ours if one.startswith("remediator_")} | {"ALERTS"}
    if name == "operations":
        known |= {one for rule in rules("30-common.yml") for one in series_of(rule["expr"])}
    used = {one for expr in expressions(name) for one in series_of(expr)}

    assert used
    assert set() == used - known


def names_of(family: str, kind: str) -> set[str]:
    """Return the names under which a family of prometheus_client is scraped."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {family + suffix for suffix in suffixes.get(kind, ("",))}


def test_promtool_accepts_every_expression(tmp_path: Path) -> None:
    """Each panel's PromQL parses: checked as recording rules by the real promtool."""
    found = [expr for name in BOARDS for expr in expressions(name)]
    group = [{"record": f"panel:number:{number}", "expr": expr} for number, expr in enumerate(found)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": group}]}))
    argv = [program("promtool", package="prometheus"), "check", "rules", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(found)} rules found" in done.stdout


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_threshold_is_a_line_of_its_severity(system: str) -> None:
    """Each alert that compares one series with a number has that number as a line on the panel of that series."""
    drawn = {
        (panel["targets"][0]["expr"], step["value"]): step["color"]
        for panel in board(system)["panels"]
        if "targets" in panel
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        if panel["fieldConfig"]["defaults"]["custom"].get("thresholdsStyle") == {"mode": "line"}
    }
    expected: dict[tuple[str, float], str] = {}
    for severity in reversed(COLOURS):  # the worse one last, which then has the line
        for rule in rules(f"30-{system}.yml"):
            if rule.get("labels", {}).get("severity") == severity and "alert" in rule:
                for series, figure in SIMPLE.findall(" ".join(rule["expr"].split())):
                    expected[series, float(figure)] = COLOURS[severity]

    assert len(expected) >= 14
    assert expected == {key: drawn.get(key) for key in expected}


def test_every_alert_leads_to_a_dashboard() -> None:
    """The `dashboard` annotation of each alert names the uid of one that is shipped."""
    links = {
        rule["alert"]: rule["annotations"]["dashboard"]
        for rule in rules("30-*.yml", "40-*.yml")
        if "alert" in rule
    }
    uids = {name: board(name)["uid"] for name in BOARDS}

    assert {name: name for name in BOARDS} == uids
    assert {} == {alert: link for alert, link in links.items() if link.split("/")[2] not in BOARDS}


def test_our_dashboard_shows_what_was_asked_of_it() -> None:
    """Outcomes, denials, waiting approvals, stage latencies and ingest each have a panel."""
    asked = {
        "remediator_remediations_total",
        "remediator_active_remediations",
        "remediator_guard_verdicts_total",
        "remediator_approvals_waiting",
        "remediator_stage_seconds_bucket",
        "remediator_webhook_received_total",
        "remediator_alerts_total",
    }

    assert set() == asked - {one for expr in expressions("remediator") for one in series_of(expr)}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap(name: str) -> None:
    """Ids are unique and no two panels claim the same cell of Grafana's grid of 24 columns."""
    panels = board(name)["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert list(range(1, len(panels) + 1)) == [panel["id"] for panel in panels]
    assert len(cells) == len(set(cells))
    assert 24 > max(x for x, _ in cells)


def test_provisioning_and_compose_agree() -> None:
    """The dashboards' data source is provisioned, and compose mounts everything where provisioning looks."""
    provisioning = GRAFANA / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "remediator.yml").read_text())["providers"]
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    used = {
        panel["datasource"]["uid"]
        for name in BOARDS
        for panel in board(name)["panels"]
        if "datasource" in panel
    }

    assert {"prometheus"} == used
    assert {"prometheus", "alertmanager"} == {source["uid"] for source in sources}
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in mounts
