"""The shipped alerting rules and recorded tables against the 405 documented items in prometheus/thresholds.yml."""

import operator
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMETHEUS = Path(__file__).parents[2] / "prometheus"
Item = dict[str, Any]
Rule = dict[str, Any]


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rules(pattern: str) -> list[Rule]:
    files = sorted((PROMETHEUS / "rules").glob(pattern))
    return [rule for file in files for group in _load(file)["groups"] for rule in group["rules"]]


ITEMS: list[Item] = _load(PROMETHEUS / "thresholds.yml")["thresholds"]
ALERTS: dict[str, list[Rule]] = {}
for _rule in _rules("[34]0-*.yml"):
    ALERTS.setdefault(_rule["alert"], []).append(_rule)
ROWS = _rules("20-tables.yml")

COMPARISON = re.compile(r"([a-z_]+:[a-z0-9_]+:[a-z0-9_]+)\)? (>=|<=|>|<) ([\d.]+)")
VIOLATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
# The unit of the document in that of the series; units that are not here are the same in both. GB is read as GiB.
FACTOR = {"percent": 0.01, "milliseconds": 0.001}

STATE = "the document names a state, not a number; the series is 1 while the state holds"
COUNTED = "the document wants none of it, without a figure; the series counts what there is"
PROPOSED = "the document gives no number; the rule proposes one and says so"
ELSEWHERE = "its number is the one of another item, which the same rule carries"
DERIVED = "the number is there, but is compared in another form"

# What is expected in the expression of the items whose operator and number cannot be read off the document.
READINGS: dict[str, dict[str, str]] = {
    STATE: {
        "brainstem-api-health-monitored": "brainstem:api_up:min < 1",
        "pneumonia-health-endpoints": "pneumonia:service_up:min < 1",
        "pneumonia-checklist-all-healthy": "pneumonia:service_up:min < 1",
        "pneumonia-mlflow-backend-accessible": "pneumonia:mlflow_up:min < 1",
        "pneumonia-external-dependencies": "pneumonia:dependency_up:min < 1",
        "photonic-health-endpoint-8080": "photonic:service_up:min < 1",
        "photonic-health-endpoint-5000": "photonic:api_up:min < 1",
        "photonic-checklist-services-responding": "photonic:service_up:min < 1",
        "photonic-redis-lastsave-check": "photonic:redis_persistence_ok:min < 1",
        "openalgebra-all-services-running": "openalgebra:service_up:min < 1",
        "openalgebra-complete-failure-failover": "openalgebra:service_up:max < 1",
        "openalgebra-audit-log-gap": "openalgebra:audit_log_ok:min < 1",
        "openalgebra-encryption-disabled": "openalgebra:encryption_enabled:min < 1",
        "learning-rec-partition-create-next-month": "learning_rec:next_partition_present:min < 1",
        "learning-rec-rds-cross-region-enabled": "learning_rec:protection_enabled:min < 1",
        "learning-rec-models-versioning-enabled": "learning_rec:protection_enabled:min < 1",
        "learning-rec-models-crr-enabled": "learning_rec:protection_enabled:min < 1",
    },
    COUNTED: {
        "brainstem-info-new-data": "brainstem:new_data:count > 0",
        "brainstem-info-dependency-updates": "brainstem:dependency_updates:count > 0",
        "pneumonia-services-running": "pneumonia:containers_missing:count > 0",
        "pneumonia-container-health": "pneumonia:containers_missing:count > 0",
        "photonic-trigger-critical-vulnerability": "photonic:image_findings_critical:count > 0",
        "learning-rec-cronjob-failure-alert": "learning_rec:cronjob_failed:max > 0",
        "learning-rec-argocd-autosync": "learning_rec:argocd_out_of_sync:count > 0",
    },
    PROPOSED: {
        "brainstem-info-usage-spike": "brainstem:usage_vs_last_week:ratio > 2",
        "brainstem-cache-high-load-redis-cluster": "brainstem:usage_vs_last_week:ratio > 2",
        "pneumonia-daily-volume-trend": "pneumonia:volume_vs_last_week:ratio < 0.5",
        "pneumonia-accuracy-baseline": "pneumonia:accuracy_vs_baseline:diff < 0",
        "pneumonia-daily-ssl-status": "pneumonia:cert_days_left:min < 14",
        "pneumonia-daily-unauthorized-access": "pneumonia:unauthorized:increase10m > 20",
        "photonic-certificate-expiry-monthly": "photonic:cert_days_left:min < 14",
        "photonic-redis-memory-purge-if-needed": "photonic:redis_fragmentation:ratio > 1.5",
        "photonic-trigger-major-degradation": "photonic:degradation_vs_baseline:ratio > 2",
        "photonic-report-response-time-1h": "photonic:degradation_vs_baseline:ratio > 2",
        "photonic-script-5xx-count": "photonic:errors:ratio_rate1h > 0.05",
        "photonic-report-error-rate-1h": "photonic:errors:ratio_rate1h > 0.05",
        "photonic-checklist-resources-normal": "photonic:cpu:ratio_rate5m > 0.85",
        "photonic-script-cpu-usage": "photonic:cpu:ratio_rate5m > 0.85",
        "photonic-script-memory-usage": "photonic:memory:ratio > 0.9",
        "photonic-report-memory-usage": "photonic:memory:ratio > 0.9",
        "photonic-script-disk-usage": "photonic:disk_used:ratio > 0.9",
        "openalgebra-weekly-ssl-update": "openalgebra:cert_days_left:min < 14",
        "openalgebra-detect-ids-alerts": "openalgebra:ids_alerts:increase10m > 0",
        "openalgebra-detect-failed-logins": "openalgebra:failed_logins:increase10m > 20",
        "openalgebra-detect-api-access": "openalgebra:auth_failures:ratio_rate5m > 0.2",
        "learning-rec-retrieval-version-tagged": "learning_rec:retrieval_model_version_lag_seconds:max > 10800",
        "learning-rec-rollback-validation-errors-spike": "learning_rec:validation_errors_vs_prev:ratio > 2",
        "learning-rec-remote-write-capacity-10000": ") > 120",
        "learning-rec-remote-write-batch-5000": ") > 120",
        "learning-rec-emergency-drift": "learning_rec:data_drift:max > 0.15",
        "learning-rec-emergency-catalog-update": "learning_rec:catalog_changed_1d:ratio > 0.2",
        "learning-rec-rollback-engagement-or-errors": "learning_rec:engagement_vs_before_deploy:ratio < 0.9",
        "learning-rec-user-optout-purge": "learning_rec:oldest_pending_deletion_days:max > 30",
    },
    ELSEWHERE: {
        "pneumonia-baseline-resources-normal": "pneumonia:cpu:ratio >= 0.8",
        "pneumonia-checklist-metrics-normal": "pneumonia:latency_seconds:avg_rate5m >= 2",
        "pneumonia-rollback-immediate": "pneumonia:errors:ratio_rate5m >= 0.01",
        "pneumonia-log-archive-if-needed": "pneumonia:disk_free:ratio <= 0.2",
        "learning-rec-emergency-performance-drop": "learning_rec:model_regression:ratio > 0.1",
        "learning-rec-api-autoscale-max-25": "learning_rec:api_hpa_max:max > 20",
        "learning-rec-deprecation-usage-tracking": "learning_rec:deprecated_usage:ratio_daymax30d < 0.01",
    },
    DERIVED: {
        # The scrape interval is Prometheus's own setting; what is seen is that no scrape arrives.
        "brainstem-scrape-interval": 'absent(up{system="brainstem",job="brainstem-segmentation"} == 1)',
        # None of the alerts of the last day: a count over ALERTS, which is no normalised series.
        "pneumonia-checklist-no-critical-24h": ")) > 0",
        "photonic-checklist-no-critical-24h": ")) > 0",
        # The age allowed is each CronJob's row of 20-tables.yml.
        "learning-rec-cronjob-completion-check": "> on (cronjob) group_left () learning_rec:cronjob_max_age_seconds:config",
        # No second without a loaded collection: it is empty, or it is not there at all.
        "learning-rec-index-build-downtime-none": "learning_rec:milvus_items:count < 1 or absent(",
        # Six months are half of 366 days.
        "learning-rec-db-password-rotation-6m": "learning_rec:db_password_age_days:max > 183",
    },
}
READING = {item: fragment for readings in READINGS.values() for item, fragment in readings.items()}

# Documented windows: in the name of the series, or in `for`.
WINDOWS = {
    "brainstem-target-latency-p95": ":p95_1w",
    "brainstem-target-success-rate": ":ratio_rate1w",
    "pneumonia-checklist-no-critical-24h": "[24h]",
    "photonic-checklist-no-critical-24h": "[24h]",
    "pneumonia-scale-cpu-70-week": ":ratio_avg1w",
    "pneumonia-scale-memory-75-week": ":ratio_avg1w",
    "pneumonia-scale-response-1500ms-day": ":avg_rate1d",
    "pneumonia-scale-error-05-day": ":ratio_rate1d",
    "learning-rec-deprecation-usage-1pct-30d": ":ratio_daymax30d",
    "openalgebra-cpu-80-5m": "for 5m",
    "openalgebra-memory-85-5m": "for 5m",
    "openalgebra-error-rate-1pct-5m": "for 5m",
}

# The longest documented gap of each cadence, in seconds; a row adds grace.
CADENCE = {
    "hourly": 3600, "daily": 86400, "business-daily": 3 * 86400, "weekly": 7 * 86400, "monthly": 31 * 86400,
    "monthly-nth": 35 * 86400, "quarterly": 92 * 86400, "biannual": 184 * 86400, "annual": 366 * 86400,
}  # fmt: skip
NO_ROW = {"learning-rec-rds-200gb-q1-2026": "once, by a date that is past: it never comes round again"}
# Rows that no item calls for: they serve what the documents ask for elsewhere.
PROPOSED_ROWS = {"snapshot-12h", "photonic-critical", "photonic-warning", "photonic-info"}
TABLES = ("task:", "duration:", "response:", "rto:", "rpo:", "retention:")


def _one_line(expr: str) -> str:
    return " ".join(expr.split())


def _of(prefix: str) -> list[Any]:
    return [pytest.param(i, id=i["id"]) for i in ITEMS if i["encoded_as"].startswith(prefix)]


def _value(row: Rule) -> float:
    return float(row["expr"].removeprefix("vector(").removesuffix(")"))


def _rows_of(item: Item) -> list[Rule]:
    named = [name.split("=", 1) for name in item.get("rows", [])]
    own = [row for row in ROWS if row["labels"].get("system", item["system"]) == item["system"]]
    return [row for row in own for label, value in named if row["labels"].get(label) == value]


def test_every_documented_item_is_there() -> None:
    """No document loses an item, and no two items share an id."""
    expected = Counter(brainstem=54, pneumonia=102, photonic=77, openalgebra=59, **{"learning-rec": 113})

    assert expected == Counter(item["system"] for item in ITEMS)
    assert expected.total() == len({item["id"] for item in ITEMS}) == len(ITEMS)
    assert all(item["id"].startswith(item["system"] + "-") for item in ITEMS)


def test_every_item_says_how_it_is_carried() -> None:
    """Each item has its source and one of the known encodings, with a name where there is one to give."""
    known = re.compile(r"(alert|task|duration|response|rto|rpo|retention|gate|mute):\S.*|routing|doc-only")
    keys = ("id", "system", "line", "quote", "operator", "value", "unit", "window", "kind", "encoded_as")

    assert not [item["id"] for item in ITEMS if not known.fullmatch(item["encoded_as"])]
    assert not [item["id"] for item in ITEMS if any(item.get(key) in (None, "") for key in keys)]


def test_named_alerts_exist() -> None:
    """Every alert that an item names is a shipped alerting rule."""
    named = {name for item in ITEMS for name in item.get("also_alerts", [])}
    named |= {
        item["encoded_as"].removeprefix("alert:") for item in ITEMS if item["encoded_as"].startswith("alert:")
    }

    assert set() == named - set(ALERTS)


@pytest.mark.parametrize("item", _of("alert:"))
def test_operator_and_number(item: Item) -> None:
    """The rule fires at the documented number, with the documented operator (a target's: the violated one)."""
    rules = ALERTS[item["encoded_as"].removeprefix("alert:")]
    if "severity" in item:
        rules = [rule for rule in rules if rule["labels"]["severity"] == item["severity"]]
    if item["id"] in READING:
        assert any(READING[item["id"]] in _one_line(rule["expr"]) for rule in rules)
        return
    sign, number = item["operator"], item["value"]
    if sign == "=" and number == 0:
        sign = ">"
    elif item["kind"] != "alert":
        sign = VIOLATED[sign]
    compared = {(op, float(value)) for rule in rules for _, op, value in COMPARISON.findall(rule["expr"])}

    assert (sign, round(number * FACTOR.get(item["unit"], 1), 9)) in compared


def test_readings_are_needed() -> None:
    """A reading stands only where the document gives no number to compare, or says it in another form."""
    plain = {
        item["id"]
        for item in ITEMS
        if item["operator"] in (*VIOLATED, "=") and isinstance(item["value"], int | float)
    }
    own_words = set(READINGS[DERIVED]) | set(READINGS[ELSEWHERE])
    # "any" is our reading of an IDS alert; the two settings of remote write are checked, not alerted on.
    ours = {name for name in READING if re.search("detect-ids|remote-write", name)}

    assert set() == {name for name in READING if name in plain} - own_words - ours
    assert set() == set(READING) - {i["id"] for i in ITEMS if i["encoded_as"].startswith("alert:")}


@pytest.mark.parametrize("item", _of("alert:"))
def test_documented_or_proposed(item: Item) -> None:
    """A rule says `proposed` exactly where none of the documents' own numbers or states is behind it."""
    rules = ALERTS[item["encoded_as"].removeprefix("alert:")]
    proposed = item["id"] in READINGS[PROPOSED] or item["id"] == "photonic-redis-lastsave-check"

    assert {"proposed" if proposed else "documented"} == {rule["labels"]["threshold"] for rule in rules}


@pytest.mark.parametrize("name", WINDOWS)
def test_window(name: str) -> None:
    """A documented window is that of the series, or the rule's `for`."""
    item = next(item for item in ITEMS if item["id"] == name)
    (rule,) = ALERTS[item["encoded_as"].removeprefix("alert:")]

    assert WINDOWS[name] in f"{rule['expr']} for {rule['for']}"


@pytest.mark.parametrize("item", [param for prefix in TABLES for param in _of(prefix)])
def test_recorded_rows(item: Item) -> None:
    """Cadences, durations, objectives, response targets and retentions stand in the tables with their value."""
    if item["id"] in NO_ROW:
        assert "rows" not in item
        return
    rows, (kind, _, rest) = _rows_of(item), item["encoded_as"].partition(":")
    values = {row["record"]: _value(row) for row in rows}

    assert rows
    if kind == "task":
        tasks = [row for row in rows if row["record"] == "ops:task_max_age_seconds:config"]
        assert {rest} == {row["labels"]["cadence"] for row in tasks}
        assert all(CADENCE[rest] < value <= 1.5 * CADENCE[rest] for value in values.values())
    elif kind == "retention":
        _assert_retention(rest, values)
    else:
        assert {float(rest)} == set(values.values())


def _assert_retention(encoded: str, values: dict[str, float]) -> None:
    limits: dict[str, Callable[[float, float], bool]] = {
        "min": operator.eq,
        "max": operator.le,
        "versions": operator.eq,
    }
    found = re.findall(r"(min|max|versions)[ =](\d+)", encoded)

    assert found
    for word, number in found:
        record = (
            "ops:retention_versions:config"
            if word == "versions"
            else f"ops:retention_{word}_age_seconds:config"
        )
        documented = float(number) * (1 if word == "versions" else 86400)
        # A maximum adds the grace of the clean-up that keeps it.
        assert limits[word](documented, values[record])


def test_no_row_without_an_item() -> None:
    """Every row of the tables is asked for by an item, or is one of the few proposed ones."""
    asked = {id(row) for item in ITEMS for row in _rows_of(item)}
    left = [row["labels"] for row in ROWS if id(row) not in asked]

    named = {value for labels in left for value in labels.values()}

    assert set() == PROPOSED_ROWS - named
    assert len(PROPOSED_ROWS) == len(left)
