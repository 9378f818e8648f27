"""Which labels an alert can carry: read off its expression, and held against what promtool saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.coverage.alertingrules import external_labels, read_alerting_rules
from remediator.coverage.series import Recording, Series
from remediator.coverage.shapes import MOST, Answer, Shape, all_match, distinct, matches
from remediator.domain.matchers import parse_matcher, parse_matchers
from remediator.errors import ConfigError

PROMETHEUS = Path(__file__).parents[2] / "prometheus"
OPEN = Shape(open=True)
SERIES = Series(
    [
        Recording("limit:config", "vector(1)", {"system": "a", "task": "x"}),
        Recording("limit:config", "vector(2)", {"system": "b", "task": "y"}),
        Recording("age:max", "max by (system, task) (age_seconds)"),
        Recording("loop:one", "loop:two + 1"),
        Recording("loop:two", "loop:one + 1"),
        Recording("pushed_seconds", "vector(1)", {"system": "a"}),
    ]
)
A, B = {"system": "a", "task": "x"}, {"system": "b", "task": "y"}


def closed(**values: str | None) -> Shape:
    """Exactly these labels."""
    return Shape(values)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        pytest.param("vector(1)", [closed()], id="no-labels"),
        pytest.param("1 > bool 2", [closed()], id="scalars"),
        pytest.param("up", [OPEN], id="raw"),
        pytest.param('up{job="j", env!="x"}', [Shape({"job": "j"}, True)], id="a-selector-pins"),
        pytest.param('rate(up{job="j"}[5m] offset 1h)', [Shape({"job": "j"}, True)], id="a-function-keeps"),
        pytest.param("sum(up)", [closed()], id="aggregated"),
        pytest.param('sum by (job, env) (up{job="j"})', [closed(job="j", env=None)], id="by"),
        pytest.param("sum without (job) (up)", [Shape({"job": ""}, True)], id="without"),
        pytest.param("topk by (job) (3, up)", [OPEN], id="topk-keeps-all"),
        pytest.param('count_values by (job) ("v", up)', [closed(job=None, v=None)], id="count-values"),
        pytest.param('absent(up{job="j", env=~"x"})', [closed(job="j")], id="absent"),
        pytest.param("absent(sum(up))", [closed()], id="absent-of-an-expression"),
        pytest.param("limit:config", [Shape(A), Shape(B)], id="recorded"),
        pytest.param('limit:config{task="y"}', [Shape(B)], id="recorded-and-selected"),
        pytest.param('limit:config{task="z"}', [], id="recorded-and-never-so"),
        pytest.param("limit:config or vector(1)", [Shape(A), Shape(B), closed()], id="or"),
        pytest.param("limit:config unless on (task) up", [Shape(A), Shape(B)], id="unless"),
        pytest.param('limit:config and on (task) up{task="x"}', [Shape(A)], id="and"),
        pytest.param(
            "age:max > on (system, task) limit:config", [Shape(A), Shape(B)], id="the-other-side-pins"
        ),
        pytest.param(
            "age:max > on (task) limit:config", [closed(task="x"), closed(task="y")], id="on-keeps-on"
        ),
        pytest.param(
            "age:max > ignoring (system) limit:config", [closed(task="x"), closed(task="y")], id="ignoring"
        ),
        pytest.param(
            "sum by (task) (up) > on (task) group_left (system) limit:config",
            [Shape(A), Shape(B)],
            id="group-left",
        ),
        pytest.param(
            "limit:config < on (task) group_right () age:max",
            [closed(system=None, task="x"), closed(system=None, task="y")],
            id="group-right",
        ),
        pytest.param("limit:config * 2 > 1", [Shape(A), Shape(B)], id="with-a-number"),
        pytest.param("time() - limit:config", [Shape(A), Shape(B)], id="with-the-time"),
        pytest.param(
            'label_replace(vector(1), "new", "$1", "old", "(.*)")', [closed(new=None)], id="label-replace"
        ),
        pytest.param("histogram_quantile(0.9, sum by (le, job) (up))", [closed(job=None)], id="quantile"),
        pytest.param("max_over_time(age:max[1h:1m])", [closed(system=None, task=None)], id="subquery"),
        pytest.param("-(age:max)", [closed(system=None, task=None)], id="unary"),
        pytest.param("loop:one", [OPEN], id="reads-itself"),
        pytest.param("pushed_seconds", [closed(system="a"), OPEN], id="recorded-and-raw"),
        pytest.param('{__name__="limit:config", task="x"}', [Shape(A)], id="named-by-a-matcher"),
        pytest.param("sum(", [OPEN], id="not-readable"),
    ],
)
def test_the_labels_of_an_expression(expr: str, expected: list[Shape]) -> None:
    """Every operator of PromQL leaves the labels that Prometheus leaves."""
    assert expected == list(SERIES.of(expr))


@pytest.mark.parametrize(
    ("matcher", "shape", "expected"),
    [
        pytest.param('a="x"', closed(a="x"), Answer.YES, id="known-and-so"),
        pytest.param('a="y"', closed(a="x"), Answer.NO, id="known-and-not-so"),
        pytest.param('a="x"', closed(a=None), Answer.MAYBE, id="unknown"),
        pytest.param('a="x"', closed(), Answer.NO, id="absent"),
        pytest.param('a!="x"', closed(), Answer.YES, id="absent-is-empty"),
        pytest.param('a=""', closed(), Answer.YES, id="asked-to-be-absent"),
        pytest.param('a="x"', OPEN, Answer.MAYBE, id="may-be-there"),
        pytest.param('a=~".*"', OPEN, Answer.YES, id="whatever-it-is"),
        pytest.param('a=~".+"', OPEN, Answer.MAYBE, id="anything-but-nothing"),
    ],
)
def test_whether_a_matcher_holds(matcher: str, shape: Shape, expected: Answer) -> None:
    """Yes and no only where it is sure."""
    assert expected is matches(parse_matcher(matcher), shape)


def test_all_matchers() -> None:
    """One that never holds outweighs one that may, which outweighs those that do."""
    shape = Shape({"a": "x", "b": None})

    assert Answer.YES is all_match(parse_matchers('a="x"'), shape)
    assert Answer.MAYBE is all_match(parse_matchers('a="x",b="y"'), shape)
    assert Answer.NO is all_match(parse_matchers('a="y",b="y"'), shape)


def test_too_many_shapes_become_one() -> None:
    """A product of big tables does not grow without end, and what is given up may be anything."""
    assert (OPEN,) == distinct(closed(a=str(number)) for number in range(MOST + 1))


def test_every_alert_that_promtool_saw_fits() -> None:
    """No alert of the shipped promtool tests carries labels that its rule's shapes rule out."""
    rules = read_alerting_rules(PROMETHEUS / "rules", external_labels(PROMETHEUS / "prometheus.yml"))
    seen = list(_promtool_alerts())

    strange = [labels for labels in seen if not _fits(labels, rules.named(labels["alertname"]))]
    assert [] == strange
    assert len({labels["alertname"] for labels in seen}) > 100


def _promtool_alerts() -> Any:
    for path in sorted((PROMETHEUS / "tests").glob("*_test.yml")):
        for test in yaml.load(path.read_text(), yaml.CSafeLoader)["tests"]:
            for case in test.get("alert_rule_test", []):
                for alert in case.get("exp_alerts") or []:
                    labels = {name: str(value) for name, value in alert["exp_labels"].items()}
                    yield {**labels, "alertname": case["alertname"]}


def _fits(labels: dict[str, str], alerts: Any) -> bool:
    return any(
        all(shape.value(name) in (None, value) for name, value in labels.items())
        and all(name in labels for name, value in shape.values.items() if value)
        for alert in alerts
        for shape in alert.shapes
    )


def test_an_alerting_rule_is_read_with_its_place(tmp_path: Path) -> None:
    """Static labels win over those of the series, a template may become anything, and the name has a place."""
    (tmp_path / "a.yml").write_text(
        'groups:\n  - name: g\n    rules:\n      - alert: Down\n        expr: up{system="b"} == 0\n'
        "        labels: {severity: critical, team: '{{ $labels.owner }}'}\n"
    )
    (alert,) = read_alerting_rules(tmp_path, ["cluster"]).alerts

    known = {"alertname": "Down", "severity": "critical", "team": None, "system": "b", "cluster": None}
    assert (Shape(known, True),) == alert.shapes
    assert f"{tmp_path}/a.yml:4:16" == str(alert.finding("x")).removesuffix(": error: x")


def test_no_rules_is_a_finding(tmp_path: Path) -> None:
    """A folder without rule files is a wrong path and not a world without alerts."""
    with pytest.raises(ConfigError, match="there are no Prometheus rule files"):
        read_alerting_rules(tmp_path)


def test_a_file_that_is_no_yaml_is_a_finding(tmp_path: Path) -> None:
    """With its place."""
    (tmp_path / "a.yml").write_text("groups:\n  - [\n")

    with pytest.raises(ConfigError, match=r"a\.yml:3:1: error: this is not YAML"):
        read_alerting_rules(tmp_path)
