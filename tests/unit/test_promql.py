"""The alert's labels in a verification, and what promtool makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.domain.promql import check, quote, scoped
from tests.support.processes import program

PROMTOOL = program("promtool", package="prometheus")
VALUES = st.text(
    st.one_of(
        st.sampled_from("\"'`\\\n\t\r{}$,=\x00\x7f\ufffd é😀"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for promtool's tests."""
    return tmp_path_factory.mktemp("promtool")


def hexed(value: str) -> str:
    """Write a label value as promtool's series read it, in another way than we write it."""
    return "".join(f"\\x{byte:02x}" for byte in value.encode())


@settings(max_examples=15, deadline=None)
@given(values=st.lists(VALUES.filter(bool), min_size=2, max_size=30, unique=True))
def test_exactly_one_sibling_answers(folder: Path, values: list[str]) -> None:
    """Whatever a label's value holds, the scoped expression is valid and returns its series alone."""
    series = [
        {"series": f'm{{job="{hexed(value)}",i="{i}"}}', "values": "1"} for i, value in enumerate(values)
    ]
    asked = [
        {
            "expr": f"sum by (i) ({scoped('m{$scope} == 1', ('job',), {'job': value})})",
            "eval_time": "0s",
            "exp_samples": [{"labels": f'{{i="{i}"}}', "value": 1}],
        }
        for i, value in enumerate(values)
    ]
    path = folder / "scope_test.yml"
    path.write_text(yaml.safe_dump({"tests": [{"input_series": series, "promql_expr_test": asked}]}))

    done = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("expr", "labels", "expected"),
    [
        pytest.param("m{$scope} > 1", {"job": "a"}, 'm{job="a",task=""} > 1', id="absent-is-empty"),
        pytest.param(
            'm{x="$scope",$scope}',
            {"job": "a", "task": "b"},
            'm{x="$scope",job="a",task="b"}',
            id="in-a-text",
        ),
        pytest.param(
            "m{$scope} / n{$scope} # {$scope}",
            {"job": '"}'},
            'm{job="\\"}",task=""} / n{job="\\"}",task=""} # {$scope}',
            id="every-selector-and-no-comment",
        ),
    ],
)
def test_scoped(expr: str, labels: dict[str, str], expected: str) -> None:
    """Only a `$scope` among a selector's matchers is replaced."""
    assert expected == scoped(expr, ("job", "task"), labels)


@pytest.mark.parametrize(
    ("expr", "scope", "complaint"),
    [
        pytest.param("m > 1", ("job",), "no \\$scope", id="a-scope-without-a-place"),
        pytest.param("m{$scope}", (), "names no label", id="a-place-without-a-scope"),
        pytest.param("m > $scope", ("job",), "outside the braces", id="outside-braces"),
        pytest.param("m{$scope(}", ("job",), "closes nothing", id="unbalanced"),
        pytest.param("m{$job}", ("job",), "only \\$scope", id="another-placeholder"),
        pytest.param("m{$scope}", ("a-b",), "not a label name", id="no-label-name"),
        pytest.param("sum(m", (), "is missing at the end", id="open"),
        pytest.param("m)", (), "closes nothing", id="closed-twice"),
        pytest.param('m{a="b}', (), "does not close", id="an-open-quote"),
        pytest.param("", (), "is empty", id="empty"),
        pytest.param("  ", (), "is empty", id="blank"),
        pytest.param("the hit rate recovers", (), "follow each other", id="a-sentence"),
        pytest.param("m ≥ 1", (), "is no PromQL", id="another-alphabet"),
    ],
)
def test_refused(expr: str, scope: tuple[str, ...], complaint: str) -> None:
    """What can be seen to be wrong is refused, in words that say why."""
    with pytest.raises(ValueError, match=complaint):
        check(expr, scope)


def test_the_shipped_expressions_pass() -> None:
    """The check finds no fault with any expression of the alerting rules that we ship, which promtool accepts."""
    root = Path(__file__).resolve().parents[2] / "prometheus" / "rules"
    files = sorted(root.glob("*.yml"))
    rules = [
        rule
        for path in files
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) > 200

    for rule in rules:
        check(str(rule["expr"]))


def test_a_lone_surrogate_is_what_go_makes_of_it() -> None:
    """JSON can hold half a character, a label cannot: it becomes U+FFFD as in Alertmanager."""
    assert '"a\\ufffd"' == quote("a\ud800")
