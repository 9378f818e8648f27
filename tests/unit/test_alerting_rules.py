"""The shipped alerting rules: labels, annotations, what they read, and that promtool tests each of them."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

PROMETHEUS = Path(__file__).parents[2] / "prometheus"
Rule = dict[str, Any]
SYSTEMS = ("brainstem", "pneumonia", "photonic", "openalgebra", "learning-rec")


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rules(name: str) -> list[Rule]:
    return [rule for group in _load(PROMETHEUS / "rules" / name)["groups"] for rule in group["rules"]]


OWN = {system: _rules(f"30-{system}.yml") for system in SYSTEMS}
COMMON, ABSENT, REMEDIATOR = _rules("30-common.yml"), _rules("30-absent.yml"), _rules("40-remediator.yml")
DOCUMENTED = [*(rule for rules in OWN.values() for rule in rules), *COMMON, *ABSENT]
ALL = [*DOCUMENTED, *REMEDIATOR]

# Every name with its number of rules, so that none can go missing: names are the contract of dashboards and rule tables.
SEVERAL = {
    "BrainstemDiceDriftHigh": 2, "BrainstemSuccessRateLow": 2, "BrainstemLatencyP95High": 2,
    "OpenAlgebraDicomProcessingSlow": 2, "LearningRecNextPartitionMissing": 2, "LearningRecMilvusItemsHigh": 2,
    "AdapterSeriesAbsent": 5,
}  # fmt: skip
RESPONSE = re.compile(
    r"(brainstem|photonic|openalgebra|learning-rec)-(critical|warning|info)|pneumonia-sev[1-4]"
)
NORMALISED = re.compile(r"(brainstem|pneumonia|photonic|openalgebra|learning_rec|ops):[a-z0-9_]+:[a-z0-9_]+")
# Series that no adapter makes: of Prometheus, Alertmanager and remediator, and what jobs report of themselves.
AS_THEY_ARE = re.compile(r"up|ALERTS|ops_[a-z_]+|remediator_[a-z_]+|prometheus_[a-z_]+|alertmanager_[a-z_]+")

OVER_TIME = "an average over days or weeks: the series it is made of is watched"
OWN_ALERT = "its absence is an alert of its own"
PASSING = "it is there for a while only, after a deployment, a promotion or a deprecation"
NOT_WATCHED = {
    "brainstem:success:ratio_rate1w": OVER_TIME,
    "brainstem:latency_seconds:p95_1w": OVER_TIME,
    "brainstem:usage_vs_last_week:ratio": OVER_TIME,
    "pneumonia:cpu:ratio_avg1w": OVER_TIME,
    "pneumonia:memory:ratio_avg1w": OVER_TIME,
    "pneumonia:latency_seconds:avg_rate1d": OVER_TIME,
    "pneumonia:errors:ratio_rate1d": OVER_TIME,
    "pneumonia:uptime:ratio_avg30d": OVER_TIME,
    "pneumonia:volume_vs_last_week:ratio": OVER_TIME,
    "pneumonia:deploy_watch:active": PASSING,
    "openalgebra:encryption_enabled:min": OWN_ALERT,
    "openalgebra:audit_log_ok:min": OWN_ALERT,
    "openalgebra:unanonymized:increase10m": OWN_ALERT,
    "learning_rec:milvus_items:count": OWN_ALERT,
    "learning_rec:errors_vs_before_deploy:ratio": PASSING,
    "learning_rec:engagement_vs_before_deploy:ratio": PASSING,
    "learning_rec:deprecated_usage:ratio_daymax30d": PASSING,
}


def _series(expr: str) -> set[str]:
    """Return the names of the series that a PromQL expression reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|offset \w+', "", expr)
    bare = re.sub(r"\b(by|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"(?<![\w:.])[a-zA-Z_][\w:]*(?!\w|:|\s*\()", bare)
    return set(words) - {"and", "or", "unless"}


def _id(rule: Rule) -> str:
    return f"{rule['alert']}-{rule['labels'].get('system', 'all')}-{rule['labels']['severity']}"


def test_totals() -> None:
    """131 entries of the contract are shipped, AdapterSeriesAbsent once per system, with their severities."""
    names = Counter(rule["alert"] for rule in DOCUMENTED)
    severities = Counter(r["labels"]["severity"] for r in DOCUMENTED if r["alert"] != "AdapterSeriesAbsent")

    assert {name: count for name, count in names.items() if count > 1} == SEVERAL
    assert Counter(critical=32, warning=74, info=23, none=1) == severities
    assert len({rule["alert"] for rule in REMEDIATOR}) == len(REMEDIATOR)
    assert Counter(SYSTEMS) == Counter(r["labels"]["system"] for r in ABSENT)


@pytest.mark.parametrize("rule", ALL, ids=_id)
def test_labels_and_annotations(rule: Rule) -> None:
    """Every alert can be routed, judged, shown and looked up; the procedure names its runbook."""
    labels, annotations = rule["labels"], rule["annotations"]

    assert labels["severity"] in {"critical", "warning", "info", "none"}
    assert labels["threshold"] in {"documented", "proposed"}
    assert set() == {"severity", "team", "threshold"} - set(labels)
    assert set() == {"summary", "description", "procedure", "runbook_url", "dashboard"} - set(annotations)
    page = annotations["runbook_url"].rpartition("/")[2]
    assert (Path(__file__).resolve().parents[2] / "playbooks" / page).is_file(), (
        f"{annotations['procedure']}: there is no page {page}"
    )
    assert annotations["dashboard"].startswith("/d/")
    assert set() == set(labels) - {"severity", "system", "team", "response_class", "threshold"}
    assert re.fullmatch(r"\d+[smhd]", rule["for"])


@pytest.mark.parametrize("system", SYSTEMS)
def test_own_rules_name_their_system(system: str) -> None:
    """A system's rules carry its name, a response class, and read that system's normalised series alone."""
    for rule in OWN[system]:
        read = _series(rule["expr"])
        raw = {name for name in read if not name.startswith((system.replace("-", "_") + ":", "up", "ALERTS"))}

        assert system == rule["labels"]["system"]
        assert RESPONSE.fullmatch(
            rule["labels"]["response_class"].replace("exposure-immediate-stop", "critical")
        )
        assert read
        assert set() == raw


@pytest.mark.parametrize("rule", COMMON, ids=_id)
def test_common_rules_have_a_system(rule: Rule) -> None:
    """A common rule keeps the system of its series, or says that it is about all of them."""
    carried = "system" in re.sub(r"\s+", " ", rule["expr"]) or rule["expr"].startswith("ops:")

    assert carried or rule["labels"]["system"] == "all"


@pytest.mark.parametrize("rule", ALL, ids=_id)
def test_reads_no_raw_series(rule: Rule) -> None:
    """An alert reads normalised series; local names belong in 10-adapter.yml."""
    names = _series(rule["expr"])
    local = {name for name in names if not NORMALISED.fullmatch(name) and not AS_THEY_ARE.fullmatch(name)}

    assert set() == local


@pytest.mark.parametrize("rule", ABSENT, ids=_id)
def test_missing_series_are_watched(rule: Rule) -> None:
    """Every series that a system's alerts read is named by AdapterSeriesAbsent, or there is a reason why not."""
    system = rule["labels"]["system"]
    read = {name for own in OWN[system] for name in _series(own["expr"]) if NORMALISED.fullmatch(name)}
    read = {name for name in read if not name.endswith(":config")}
    prefix = system.replace("-", "_") + ":"
    pairs = re.findall(r'absent(?:_over_time)?\(([\w:]+)(?:\[3d\])?\), "series", "([\w:]+)"', rule["expr"])

    assert all(name == label for name, label in pairs)
    assert {name for name, _ in pairs} == read - set(NOT_WATCHED)
    assert {name for name in NOT_WATCHED if name.startswith(prefix)} <= read


def _promtool_cases() -> list[dict[str, Any]]:
    files = sorted((PROMETHEUS / "tests").glob("[34]0-*_test.yml"))
    return [case for file in files for case in _load(file)["tests"]]


CASES = _promtool_cases()


@pytest.mark.parametrize("rule", ALL, ids=_id)
def test_promtool_sees_it_fire_and_stay_silent(rule: Rule) -> None:
    """Some promtool case spells the firing alert out, and some shows that it does not fire."""
    checks = [check for case in CASES for check in case.get("alert_rule_test", ())]
    mine = [check.get("exp_alerts") or [] for check in checks if check["alertname"] == rule["alert"]]
    fixed = {k: v for k, v in rule["labels"].items() if "{{" not in v}
    fired = [alert for alerts in mine for alert in alerts if fixed.items() <= alert["exp_labels"].items()]
    silent = [alerts for alerts in mine if not any(fixed.items() <= a["exp_labels"].items() for a in alerts)]

    assert fired
    assert silent or rule["alert"] == "Watchdog"


@pytest.mark.parametrize("rule", [rule for rules in OWN.values() for rule in rules], ids=_id)
def test_promtool_stands_on_the_boundary(rule: Rule) -> None:
    """Every series compared with a number is fed that number and its neighbour at 1e-6 on the other side."""
    for name, sign, number in re.findall(r"([a-z_]+:[\w]+:[\w]+)\)? (>=|<=|>|<) ([\d.]+)", rule["expr"]):
        step = 1e-6 if sign in {">", "<="} else -1e-6
        fed = {
            round(abs(float(value)), 6)
            for case in CASES
            if any(check["alertname"] == rule["alert"] for check in case.get("alert_rule_test", ()))
            for given in case["input_series"]
            if given["series"].split("{")[0] == name
            for value in re.findall(r"-?\d+(?:\.\d+)?(?=x|\s|$)", given["values"])
        }

        assert {round(float(number), 6), round(abs(float(number) + step), 6)} <= fed
