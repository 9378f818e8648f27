"""The adapter, the recorded rows and the Prometheus configuration: what promtool does not look at."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import program

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "prometheus"
Rule = dict[str, Any]

ROWS = {
    "ops:task_max_age_seconds:config": 115,
    "ops:task_max_duration_seconds:config": 16,
    "ops:rpo_seconds:config": 4,
    "ops:rto_seconds:config": 4,
    "ops:response_target_seconds:config": 11,
    "ops:retention_versions:config": 3,
    "ops:retention_max_age_seconds:config": 8,
    "ops:retention_min_age_seconds:config": 8,
    "learning_rec:cronjob_max_age_seconds:config": 6,
}
# What identifies a row, beside which only cadence and owner say something about it.
KEYS = {
    "ops:task_max_age_seconds:config": {"system", "task", "cadence"},
    "ops:task_max_duration_seconds:config": {"system", "task"},
    "ops:rpo_seconds:config": {"system", "data"},
    "ops:rto_seconds:config": {"system", "scope"},
    "ops:response_target_seconds:config": {"response_class"},
    "ops:retention_versions:config": {"system", "store"},
    "ops:retention_max_age_seconds:config": {"system", "store"},
    "ops:retention_min_age_seconds:config": {"system", "store"},
    "learning_rec:cronjob_max_age_seconds:config": {"system", "cronjob"},
}
# The longest normal gap of each cadence, in seconds.
CADENCES = {
    "hourly": 3600, "12h": 12 * 3600, "daily": 86400, "business-daily": 3 * 86400, "weekly": 7 * 86400,
    "monthly": 31 * 86400, "monthly-nth": 35 * 86400, "quarterly": 92 * 86400, "biannual": 184 * 86400,
    "annual": 366 * 86400,
}  # fmt: skip
SYSTEMS = {"brainstem", "pneumonia", "photonic", "openalgebra", "learning-rec"}
NORMALISED = re.compile(r"(brainstem|pneumonia|photonic|openalgebra|learning_rec):[a-z0-9_]+:[a-z0-9_]+")
# What jobs publish under these very names, and the adapter adds to where an exporter knows it.
INPUTS = re.compile(r"ops_(task|backup|store)_[a-z_]+_seconds")
READ = re.compile(r"\b(?:brainstem|pneumonia|photonic|openalgebra|learning_rec|ops):[a-z0-9_]+:[a-z0-9_]+")
WINDOW = re.compile(r"\[(\d+)([smhdw])(?:[:\]])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
NAME = re.compile(READ.pattern + r"|\bops_[a-z_]+")
ROW = re.compile(r"- \{record: '(?P<record>[^']+)', expr: vector\((?P<value>\d+)\), .*\}\} # (?P<comment>.+)")


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rules(name: str) -> list[Rule]:
    return [rule for group in _load(PROMETHEUS / "rules" / name)["groups"] for rule in group["rules"]]


TABLES, ADAPTER = _rules("20-tables.yml"), _rules("10-adapter.yml")
ROW_LINES = [
    match
    for line in (PROMETHEUS / "rules" / "20-tables.yml").read_text(encoding="utf-8").splitlines()
    if (match := ROW.search(line))
]


def _identity(rule: Rule) -> tuple[str, frozenset[tuple[str, str]]]:
    return rule["record"], frozenset(rule.get("labels", {}).items())


def _seconds(window: tuple[str, str]) -> int:
    return int(window[0]) * SECONDS[window[1]]


def test_every_table_has_all_its_rows() -> None:
    """The nine tables hold 175 rows, as many each as the documents give reason for."""
    assert Counter(ROWS) == Counter(rule["record"] for rule in TABLES)
    assert len(TABLES) == 175


def test_no_row_twice() -> None:
    """No two rows are one series: a doubled row would be a matching error in the alert that reads it."""
    keys = [
        (rule["record"], *sorted((k, v) for k, v in rule["labels"].items() if k not in {"cadence", "owner"}))
        for rule in TABLES
    ]

    assert [] == [key for key, count in Counter(keys).items() if count > 1]


@pytest.mark.parametrize("record", ROWS)
def test_rows_carry_the_labels_their_alert_joins_on(record: str) -> None:
    """Each row has exactly the labels of its table; an owner is the only one that may be added."""
    rows = [rule for rule in TABLES if rule["record"] == record]

    assert [] == [rule for rule in rows if set(rule["labels"]) - {"owner"} != KEYS[record]]
    assert set() == {rule["labels"].get("system", "photonic") for rule in rows} - SYSTEMS


def test_a_row_is_its_documented_value_plus_its_grace() -> None:
    """The comment beside each row explains its number: documented value + grace, source, and the threshold it carries."""
    wrong = []
    for row in ROW_LINES:
        figures, *words = row["comment"].split("; ")
        if row["record"] == "ops:retention_versions:config":
            figures, words = f"{row['value']} + 0", [figures, *words]
        documented, grace = (int(number) for number in figures.split(" + "))
        if documented + grace != int(row["value"]) or words[0] not in {"documented", "proposed"}:
            wrong.append(row[0])

    assert [] == wrong
    assert len(TABLES) == len(ROW_LINES)


def test_a_cadence_is_its_longest_normal_gap() -> None:
    """No task is called overdue before the longest normal gap of its cadence has passed and its grace with it."""
    ages = [
        (rule["labels"]["cadence"], int(rule["expr"].removeprefix("vector(").removesuffix(")")))
        for rule in TABLES
        if rule["record"] == "ops:task_max_age_seconds:config"
    ]

    assert [] == [
        (cadence, age) for cadence, age in ages if not CADENCES[cadence] < age <= 1.5 * CADENCES[cadence]
    ]


def test_limits_have_no_grace() -> None:
    """Durations, RPO, RTO and response targets are limits: exactly what is documented."""
    limits = {"ops:task_max_duration_seconds:config", "ops:rpo_seconds:config", "ops:rto_seconds:config",
              "ops:response_target_seconds:config", "ops:retention_min_age_seconds:config"}  # fmt: skip

    assert [] == [row[0] for row in ROW_LINES if row["record"] in limits and " + 0;" not in row["comment"]]


def test_the_adapter_records_no_series_twice() -> None:
    """Every (record, labels) of the adapter and the tables is recorded by one rule only."""
    assert [] == [one for one, count in Counter(map(_identity, [*ADAPTER, *TABLES])).items() if count > 1]


def test_the_adapter_names_series_by_system_thing_and_aggregate() -> None:
    """Every record is a normalised series of one system, or one of the names that jobs publish for the generic alerts."""
    names = {rule["record"] for rule in ADAPTER}

    assert set() == {name for name in names if not (NORMALISED.fullmatch(name) or INPUTS.fullmatch(name))}
    assert {"brainstem", "pneumonia", "photonic", "openalgebra", "learning_rec"} == {
        name.split(":")[0] for name in names if ":" in name
    }


def test_the_adapter_makes_every_series_that_is_read() -> None:
    """No alert, rule table, playbook or dashboard reads a normalised series that neither the adapter nor the tables record."""
    alerts = [
        rule for file in sorted((PROMETHEUS / "rules").glob("[34]0-*.yml")) for rule in _rules(file.name)
    ]
    read = {name for rule in alerts for name in READ.findall(rule["expr"])}
    files = [*ROOT.glob("rules/*.yml"), *ROOT.glob("playbooks/*.yml"), *ROOT.glob("grafana/**/*.json")]
    read |= {name for file in files for name in READ.findall(file.read_text(encoding="utf-8"))}
    made = {rule["record"] for rule in [*ADAPTER, *TABLES]}

    assert set() == read - made
    assert len(read) >= 118


def test_ratios_and_averages_are_rounded() -> None:
    """A figure that is divided or extrapolated is rounded to 1e-6, so that it meets its limit exactly at the limit."""
    rounded = re.compile(
        r":ratio|:avg|:p95|increase\d|_gib|_days|ndcg|precision|dice_|drift|degradation|:diff"
    )
    # A count of whole requests that only helps a ratio, and a maximum over figures that are rounded already.
    helpers = {"learning_rec:http_requests:increase5m", "learning_rec:http_requests:increase1h",
               "learning_rec:deprecated_usage:ratio_daymax30d", "brainstem:dice_baseline:config",
               "learning_rec:month_days_left:count"}  # fmt: skip
    loose = [
        rule["record"]
        for rule in ADAPTER
        if rounded.search(rule["record"]) and rule["record"] not in helpers and "1e-6" not in rule["expr"]
    ]

    assert [] == loose


def test_windows_hold_at_least_four_scrapes() -> None:
    """The shortest window of any rate is four scrape intervals or more, so that one lost scrape blinds nothing."""
    config = _load(PROMETHEUS / "prometheus.yml")
    interval = int(config["global"]["scrape_interval"].removesuffix("s"))
    windows = [_seconds(window) for rule in ADAPTER for window in WINDOW.findall(rule["expr"])]

    assert windows
    assert min(windows) >= 4 * interval


def test_a_recorded_sample_is_still_seen_at_the_next_evaluation() -> None:
    """No group of the adapter or the tables runs so seldom that its samples go stale (5 minutes) in between."""
    groups = [
        group
        for name in ("10-adapter.yml", "20-tables.yml")
        for group in _load(PROMETHEUS / "rules" / name)["groups"]
    ]
    intervals = {group["name"]: group.get("interval", "15s") for group in groups}

    assert {} == {name: one for name, one in intervals.items() if _seconds((one[:-1], one[-1])) > 150}


def _with_examples() -> str:
    """The Prometheus configuration with the comment sign taken off every example, as its header tells the user to."""
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    text = re.sub(r"^#( {2}- | {4}|remote_write)", r"\1", text, flags=re.MULTILINE)
    return text.replace("rules/*.yml", f"{PROMETHEUS}/rules/*.yml")


def test_the_examples_give_each_system_a_job() -> None:
    """Every system has an example whose targets carry its label, brainstem under the documented 10 seconds and its job name."""
    jobs = yaml.safe_load(_with_examples())["scrape_configs"]
    static = [group for job in jobs for group in job.get("static_configs", ())]
    brainstem = [job for job in jobs if job["job_name"] == "brainstem-segmentation"]

    assert {group["labels"]["system"] for group in static} == SYSTEMS | {"remediator"}
    assert ["10s"] == [job["scrape_interval"] for job in brainstem]
    assert [] == [group for group in static if "system" not in group["labels"]]


def test_our_own_labels_survive_the_scrape() -> None:
    """The series that name an alert's system keep it: a target label `system` would overwrite it otherwise."""
    jobs = {job["job_name"]: job for job in _load(PROMETHEUS / "prometheus.yml")["scrape_configs"]}

    assert jobs["remediator"]["honor_labels"] is True


@pytest.mark.parametrize("examples", [False, True], ids=["as-shipped", "with-examples"])
def test_promtool_accepts_the_configuration(tmp_path: Path, *, examples: bool) -> None:
    """The real promtool reads the configuration with all the rules it names, as shipped and with every example in use."""
    shipped = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    text = _with_examples() if examples else shipped.replace("rules/*.yml", f"{PROMETHEUS}/rules/*.yml")
    # A pod has these two files, a test machine does not.
    for name in ("token", "ca.crt"):
        text = text.replace(f"/var/run/secrets/kubernetes.io/serviceaccount/{name}", str(tmp_path / name))
        (tmp_path / name).touch()
    file = tmp_path / "prometheus.yml"
    file.write_text(text, encoding="utf-8")

    argv = [program("promtool", package="prometheus"), "check", "config", str(file)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    assert "WARNING" not in ran.stdout


def _promtool_cases() -> list[dict[str, Any]]:
    """Every expectation of the promtool tests of the adapter."""
    files = sorted((PROMETHEUS / "tests").glob("10-*_test.yml"))
    return [case for file in files for test in _load(file)["tests"] for case in test["promql_expr_test"]]


def test_promtool_sees_a_figure_of_every_adapted_series() -> None:
    """Each record of the adapter has a promtool case that expects a sample of it, made from raw exporter series."""
    cases = _promtool_cases()
    seen = {name for case in cases if case["exp_samples"] for name in NAME.findall(case["expr"])}
    # Read by other records in the same file, whose cases would fail without them.
    helpers = {
        rule["record"]
        for rule in ADAPTER
        if any(rule["record"] in other["expr"] for other in ADAPTER if other["record"] != rule["record"])
    }

    assert set() == {rule["record"] for rule in ADAPTER} - seen - helpers


def test_promtool_sees_every_traffic_figure_fall_silent() -> None:
    """Each ratio, rate and quantile has a promtool case that expects no sample: no traffic or no data is no figure."""
    silent = {case["expr"].split("{")[0] for case in _promtool_cases() if not case["exp_samples"]}
    figures = re.compile(r".*:(ratio_rate|ratio_avg|avg_rate|p95_|ratio_daymax)")
    # "First error so far" is a figure of 0 for these, and the case where nothing is scraped covers their silence.
    nothing = {
        "photonic:cpu:ratio_rate5m",
        "openalgebra:cpu:ratio_rate5m",
        "learning_rec:api_cpu:ratio_rate5m",
    }
    helpers = {"learning_rec:http_errors:ratio_rate1h"} | {
        f"learning_rec:engagement:ratio_rate{window}" for window in ("15m", "1h")
    }

    assert set() == {r["record"] for r in ADAPTER if figures.match(r["record"])} - silent - nothing - helpers


def test_a_record_is_read_further_down_in_its_own_group_only() -> None:
    """Groups are evaluated in no particular order, rules of a group one after the other: nothing else is in step."""
    stray = []
    for group in _load(PROMETHEUS / "rules" / "10-adapter.yml")["groups"]:
        known: set[str] = set()
        for rule in group["rules"]:
            stray += [(rule["record"], name) for name in READ.findall(rule["expr"]) if name not in known]
            known.add(rule["record"])

    assert [] == stray
