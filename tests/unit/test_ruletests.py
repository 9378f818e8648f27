"""`remediator test`: cases of labels against the rule table, and what it says where they differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from remediator.adapters import registry
from remediator.adapters.rulebook import RuleBook
from remediator.adapters.rulefiles import load_rulebook, load_rules
from remediator.commands.ruletest import run
from remediator.domain.playbooks import Parameter, Playbook, Step
from remediator.errors import ConfigError
from remediator.ruletests import read_tests, run_tests

ROOT = Path(__file__).parents[2]

CLEAR = Playbook(
    "clear",
    "Clear",
    "low",
    (Step("clear", "fake.set", {}),),
    parameters={name: Parameter(name, required=False) for name in ("prefix", "database")},
)
RULES = """\
system: shop
contacts: {ops: {name: Operations, email: ops@example.com}}
defaults: {escalate_to: [ops], approval: {approvers: [ops]}}
rules:
  - name: also
    match: ['alertname="Slow"', 'severity="critical"']
    continue: true
    notify: a person looks as well
  - name: slow
    match: ['alertname="Slow"']
    subject: "cache/{store}"
    ladder:
      - {playbook: clear, with: {prefix: {label: store, among: {segments: "seg:"}}, database: 2}, mode: approve}
      - {playbook: clear, mode: suggest}
    verify: {expr: "up == 1"}
"""
GOOD = """\
- name: segments
  labels: {alertname: Slow, severity: warning, store: segments}
  expect:
    - rule: slow
      subject: cache/segments
      escalate_to: [ops]
      notify: false
      ladder:
        - {playbook: clear, mode: approve, with: {prefix: "seg:", database: 2}}
        - {playbook: clear, mode: suggest}
- name: both
  labels: {alertname: Slow, severity: critical}
  expect: [{rule: also, notify: a person looks as well, ladder: []}, {rule: slow}]
- name: nobody
  labels: {alertname: Fast}
  expect: []
"""


class Redis(BaseModel):
    """A connection of the documentation."""

    url: str
    prefixes: list[str]


class Docker(BaseModel):
    """Another one."""


@pytest.fixture
def book(tmp_path: Path) -> RuleBook:
    """Two rules."""
    (tmp_path / "rules" / "tests").mkdir(parents=True)
    (tmp_path / "rules" / "shop.yml").write_text(RULES)
    return load_rules(tmp_path / "rules", {"clear": CLEAR}, {})


def cases(tmp_path: Path, text: str) -> Path:
    """A file of cases."""
    path = tmp_path / "rules" / "tests" / "shop_test.yml"
    path.write_text(text)
    return path


def differences(tmp_path: Path, book: RuleBook, text: str) -> list[str]:
    """What `remediator test` prints of these cases, without the total."""
    lines, _ = run(book, tmp_path / "rules", [cases(tmp_path, text)])
    return [line.replace(f"{tmp_path}/rules/", "") for line in lines[:-1]]


def test_what_is_so_passes(tmp_path: Path, book: RuleBook) -> None:
    """Rules in order, subject, people, ladder, modes, and parameters chosen by a label."""
    assert [] == differences(tmp_path, book, GOOD)
    lines, code = run(book, tmp_path / "rules", [cases(tmp_path, GOOD)])
    assert (["3 cases in 1 files, 0 failed"], 0) == (lines, code)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(
            "rule: slow\n",
            "rule: slw\n",
            ["4:13: error: segments: expected slw, found slow; there is no rule 'slw'"],
            id="no-such-rule",
        ),
        pytest.param(
            "alertname: Slow, severity: warning",
            "alertname: Slo, severity: warning",
            [
                (
                    "4:13: error: segments: expected slow, found none; 'slow' (shop.yml:9) wants alertname=\"Slow\", and"
                    " the label is 'Slo'"
                )
            ],
            id="does-not-match",
        ),
        pytest.param(
            "expect: []",
            "expect: [{rule: slow}, {rule: also}]",
            [
                (
                    "16:19: error: nobody: expected slow, also, found none; 'slow' (shop.yml:9) wants alertname=\"Slow\","
                    " and the label is 'Fast'"
                )
            ],
            id="too-few",
        ),
        pytest.param(
            "[{rule: also, notify: a person looks as well, ladder: []}, {rule: slow}]",
            "[{rule: slow}]",
            ["13:19: error: both: expected slow, found also, slow"],
            id="too-many",
        ),
        pytest.param(
            "mode: approve",
            "mode: auto",
            ["9:35: error: segments: clear: expected mode auto, found approve"],
            id="mode",
        ),
        pytest.param(
            "seg:",
            "tile:",
            ["9:59: error: segments: clear: expected prefix = 'tile:', found 'seg:'"],
            id="value",
        ),
        pytest.param(
            ", database: 2",
            "",
            ["9:50: error: segments: clear: found the parameter database = 2, expected none"],
            id="parameter-that-is-not-expected",
        ),
        pytest.param(
            "database: 2",
            "database: 2, size: 1",
            ["9:86: error: segments: clear: expected the parameter 'size', found none"],
            id="parameter-that-is-not-there",
        ),
        pytest.param(
            "store: segments}",
            "store: tiles}",
            [
                "5:16: error: segments: slow: expected subject 'cache/segments', found 'cache/tiles'",
                "9:59: error: segments: clear: expected prefix = 'seg:', found '(none for store=\"tiles\")'",
            ],
            id="label-that-chooses-nothing",
        ),
        pytest.param(
            "        - {playbook: clear, mode: suggest}\n",
            "",
            ["9:9: error: segments: slow: expected the playbooks clear, found clear, clear"],
            id="ladder",
        ),
        pytest.param(
            "[ops]",
            "[boss]",
            ["6:20: error: segments: slow: expected escalate_to ['boss'], found ['ops']"],
            id="people",
        ),
        pytest.param(
            "notify: false",
            "notify: true",
            ["7:15: error: segments: slow: expected notify True, found a ladder"],
            id="notify",
        ),
        pytest.param(
            "a person looks as well",
            "a person looks",
            ["13:33: error: both: also: expected 'a person looks', found 'a person looks as well'"],
            id="reason",
        ),
    ],
)
def test_a_difference_is_told(
    tmp_path: Path, book: RuleBook, before: str, after: str, expected: list[str]
) -> None:
    """With file, line and column of what was expected, and what was found instead."""
    assert before in GOOD
    found = differences(tmp_path, book, GOOD.replace(before, after))

    assert [f"tests/shop_test.yml:{line}" for line in expected] == found


def test_a_failure_is_exit_code_1(tmp_path: Path, book: RuleBook) -> None:
    """And the cases that failed are counted, not their differences."""
    wrong = GOOD.replace("store: segments}", "store: tiles}")
    lines, code = run(book, tmp_path / "rules", [cases(tmp_path, wrong)])

    assert ("3 cases in 1 files, 1 failed", 1) == (lines[-1], code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("name: x\n", "1:1: error: found a mapping, expected a list of cases", id="no-list"),
        pytest.param(
            "- {name: x, labels: {a: b}}\n", "1:3: error: the key 'expect' is missing", id="no-expect"
        ),
        pytest.param(
            "- {name: x, labels: {a: b}, expect: [], extra: 1}\n", "1:41: error: unknown key", id="unknown"
        ),
        pytest.param("- {name: x, labels: {}, expect: []}\n", "1:21: error: labels: found", id="no-labels"),
        pytest.param("- {name: x, labels: {a: 1}, expect: []}\n", "1:25: error: a: found 1", id="a-number"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, book: RuleBook, text: str, expected: str) -> None:
    """A case that says nothing is no case that passes."""
    with pytest.raises(ConfigError, match=expected):
        run(book, tmp_path / "rules", [cases(tmp_path, text)])


def test_what_no_case_looks_at_is_said(tmp_path: Path, book: RuleBook) -> None:
    """Without files all are run, and untested rules and alerting rules are named; that is no failure."""
    cases(tmp_path, GOOD.split("- name: both")[0])
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "prometheus" / "a.yml").write_text(
        "groups: [{name: g, rules: [{alert: Slow, expr: up, labels: {severity: warning}},"
        " {alert: Slow, expr: up, labels: {severity: critical}}, {alert: Watchdog, expr: up}]}]\n"
    )
    lines, code = run(book, tmp_path / "rules", [], tmp_path / "prometheus")

    assert [
        "rules/shop.yml:5:1: warning: no test expects the rule 'also'",
        "prometheus/a.yml:1:90: warning: no test has the alert Slow (critical)",
        "3 alerting rules, 2 rules or alerting rules without a test",
        "1 cases in 1 files, 0 failed",
    ] == [line.replace(f"{tmp_path}/", "") for line in lines]
    assert 0 == code


def test_no_tests_is_a_finding(tmp_path: Path, book: RuleBook) -> None:
    """A wrong path is not a success."""
    with pytest.raises(ConfigError, match="there are no tests"):
        run(book, tmp_path / "rules", [])


def test_the_examples_of_the_documentation(tmp_path: Path) -> None:
    """The cases of docs/check.md pass on the rules of docs/rules.md, and the example of docs/schedule.md and the one on demand load."""
    docs = {
        name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        for name in ("check", "rules", "schedule")
    }
    (rules,) = re.findall(r"```yaml\n(system: example .*?)```", docs["rules"], re.DOTALL)
    (example,) = re.findall(r"```yaml\n(- name: .*?)```", docs["check"], re.DOTALL)
    (scheduled,) = re.findall(r"```yaml\nrules:\n(.*?)```", docs["schedule"], re.DOTALL)
    (by_hand,) = re.findall(r"```yaml\nrules:\n((?:(?!```).)*?on_demand:.*?)```", docs["rules"], re.DOTALL)
    engine = "connections:\n  engine: {kind: docker}\n"
    folder = tmp_path / "example"
    (folder / "tests").mkdir(parents=True)
    (folder / "example.yml").write_text(
        rules.replace("connections:", engine, 1) + scheduled + by_hand, encoding="utf-8"
    )
    (folder / "tests" / "example_test.yml").write_text(example, encoding="utf-8")
    parameters = {
        "connection": Parameter("connection", required=False, connection="redis"),
        "prefix": Parameter("prefix", required=False),
    }
    playbooks = {
        "clear-cache": Playbook("clear-cache", "t", "low", CLEAR.steps, parameters=parameters),
        "tune-cache": Playbook("tune-cache", "t", "low", (), checklist=("look",)),
        "prune-images": Playbook(
            "prune-images",
            "t",
            "low",
            CLEAR.steps,
            parameters={"connection": Parameter("connection", connection="docker")},
        ),
    }
    book = load_rules(folder, playbooks, {"redis": Redis, "docker": Docker})

    assert (
        [str(len(read_tests([folder / "tests" / "example_test.yml"]))) + " cases in 1 files, 0 failed"],
        0,
    ) == run(book, folder, [folder / "tests" / "example_test.yml"])
    assert ["example-weekly-prune"] == [schedule.rule.name for schedule in book.schedules]
    assert ["example-deploy-colour"] == [rule.name for rule in book.table.rules if rule.on_demand]


def test_the_shipped_cases_pass() -> None:
    """Every case of rules/tests, and none of the shipped rules is left out."""
    book = load_rulebook(
        ROOT / "rules", ROOT / "playbooks", registry.ParamsModels(), registry.ConnectionModels()
    )
    results = run_tests(read_tests(sorted((ROOT / "rules" / "tests").glob("*_test.yml"))), book.table)

    assert [] == [str(finding) for finding in results.differences]
    assert [] == sorted({rule.name for rule in book.table.rules} - results.tested)
