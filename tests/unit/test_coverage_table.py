"""Threshold -> alert -> rule -> playbook, and procedure -> playbook: of made-up files, and of all that is shipped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from remediator.adapters import registry
from remediator.adapters.rulebook import RuleBook
from remediator.adapters.rulefiles import load_rulebook, load_rules
from remediator.commands.coverage import coverage, read_coverage
from remediator.coverage.documented import read_documented
from remediator.coverage.table import CARRIED, DOCUMENTED, MISSING, Coverage
from remediator.domain.playbooks import Gate, Parameter, Playbook, Step
from remediator.errors import ConfigError

ROOT = Path(__file__).parents[2]

PLAYBOOKS = {
    "restart": Playbook(
        "restart",
        "Restart",
        "low",
        (Step("restart", "fake.set", {}),),
        parameters={"name": Parameter("name"), "wait": Parameter("wait", default=5, required=False)},
        gates=(Gate("quiet-hours", promql="hour() > 20"), Gate("approved-by-two", confirm="two agree")),
    ),
    "read-the-log": Playbook("read-the-log", "Read the log", "low", (), checklist=("read it",)),
}
RULES = """\
system: shop
contacts: {ops: {name: Operations, email: ops@example.com}, boss: {name: Boss, phone: "1"}}
escalation: [{to: ops}, {to: boss}]
defaults: {escalate_to: [ops], approval: {approvers: [ops]}, limits: {cooldown: 30m}}
rules:
  - name: slow
    match: ['alertname="Slow"', 'severity="warning"']
    ladder: [{playbook: read-the-log, mode: notify}, {playbook: restart, with: {name: api}, mode: approve}]
    verify: {expr: "up == 1"}
  - name: overdue
    match: ['alertname="Overdue"', 'task="backup"']
    notify: a person starts the backup
"""
ALERTS = """\
groups:
  - name: g
    rules:
      - {record: 'tasks:config', expr: vector(90000), labels: {system: shop, task: backup}}
      - {record: 'tasks:config', expr: vector(90000), labels: {system: shop, task: review}}
      - {record: 'tasks:config', expr: vector(90000), labels: {system: other, task: backup}}
      - {alert: Slow, expr: 'latency:p95 > 0.5', labels: {severity: warning, system: shop}}
      - {alert: Slow, expr: 'latency:p95 > 2', labels: {severity: critical, system: shop}, annotations: {procedure: again}}
      - {alert: Overdue, expr: 'age:max > on (system, task) tasks:config', labels: {severity: warning}}
"""
ITEM = "{{id: {0}, system: shop, line: 7, encoded_as: '{1}', operator: '>', value: {2}, unit: ms, window: -, quote: q{3}}}"


def item(id_: str, encoded_as: str, value: str = "1", more: str = "") -> str:
    """A documented item."""
    return ITEM.format(id_, encoded_as, value, f", {more}" if more else "")


def covered(tmp_path: Path, *items: str, procedures: str = "") -> Coverage:
    """The coverage of these items and procedures."""
    for folder in ("rules", "prometheus", "procedures"):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "rules" / "shop.yml").write_text(RULES)
    (tmp_path / "prometheus" / "a.yml").write_text(ALERTS)
    listed = "".join(f"  - {each}\n" for each in items) or "  []\n"
    (tmp_path / "thresholds.yml").write_text(
        f"documents: {{shop: {{title: The shop}}}}\nthresholds:\n{listed}"
    )
    if procedures:
        (tmp_path / "procedures" / "shop.yml").write_text(procedures)
    book = load_rules(tmp_path / "rules", PLAYBOOKS, {})
    return read_coverage(book, tmp_path / "prometheus", tmp_path / "thresholds.yml", tmp_path / "procedures")


LADDER = ("read-the-log (notify)", "restart (approve)")


@pytest.mark.parametrize(
    ("given", "status", "links", "note"),
    [
        pytest.param(
            item("slow-500", "alert:Slow", "500"),
            CARRIED,
            [("Slow (shop, warning)", "slow", LADDER)],
            "",
            id="the-severity-with-its-number",
        ),
        pytest.param(
            item("slow-warning", "alert:Slow", "7", "severity: warning"),
            CARRIED,
            [("Slow (shop, warning)", "slow", LADDER)],
            "",
            id="the-severity-of-the-document",
        ),
        pytest.param(
            item("slow-2", "alert:Slow", "2"),
            MISSING,
            [("Slow (shop, critical)", "", ())],
            "no rule catches Slow (shop, critical)",
            id="no-rule",
        ),
        pytest.param(
            item("gone", "alert:Gone"), MISSING, [], "there is no alert 'Gone' of shop", id="no-alert"
        ),
        pytest.param(
            item("backup-daily", "task:daily", more="rows: [task=backup]"),
            CARRIED,
            [("Overdue (warning)", "overdue", ("notify: a person starts the backup",))],
            "",
            id="a-row-of-a-table",
        ),
        pytest.param(
            item("review-weekly", "task:weekly", more="rows: [task=review]"),
            MISSING,
            [("Overdue (warning)", "", ())],
            "no rule catches Overdue (warning)",
            id="a-row-that-no-rule-catches",
        ),
        pytest.param(
            item("lost", "task:daily", more="rows: [task=lost]"),
            MISSING,
            [],
            "there is no alert for task=lost of shop",
            id="a-row-that-no-table-has",
        ),
        pytest.param(
            item("grow-once", "task:once"),
            MISSING,
            [],
            "there is no alert for task:once of shop",
            id="once-and-nobody-does-it",
        ),
        pytest.param(
            item("gate-1", "gate:quiet-hours"),
            CARRIED,
            [("gate quiet-hours, asked of Prometheus", "", ("restart",))],
            "",
            id="a-gate-in-promql",
        ),
        pytest.param(
            item("approved-by-two", "gate:four-eyes"),
            CARRIED,
            [("gate approved-by-two, confirmed by a person", "", ("restart",))],
            "",
            id="a-gate-by-the-items-id",
        ),
        pytest.param(
            item("gate-3", "gate:unheard-of"),
            MISSING,
            [],
            "no playbook and no procedure has the gate 'unheard-of'",
            id="no-gate",
        ),
        pytest.param(
            item("levels", "routing"),
            CARRIED,
            [("contacts of rules/shop.yml", "", ("ops -> boss",))],
            "",
            id="routing",
        ),
        pytest.param(
            item("port", "doc-only", more="why: the port of a connection"),
            DOCUMENTED,
            [],
            "the port of a connection",
            id="documented-only",
        ),
    ],
)
def test_a_threshold(
    tmp_path: Path, given: str, status: str, links: list[tuple[str, str, tuple[str, ...]]], note: str
) -> None:
    """Each kind of item, carried and not."""
    (row,) = covered(tmp_path, given).thresholds

    assert (status, note) == (row.status, row.note)
    assert links == [(link.through, link.rule, link.does) for link in row.links]


@pytest.mark.parametrize(
    ("row", "note"),
    [
        pytest.param("{playbook: restart, with: {name: api}, mode: approve", "", id="fits"),
        pytest.param("{playbook: read-the-log, mode: notify", "", id="a-runbook"),
        pytest.param("{playbook: restrat", "there is no playbook 'restrat'", id="no-playbook"),
        pytest.param("{playbook: restart", "restart needs the parameter name", id="lacks-a-parameter"),
        pytest.param(
            "{playbook: restart, with: {name: api, size: 1}",
            "restart has no parameter size",
            id="unknown-parameter",
        ),
        pytest.param(
            "{playbook: read-the-log, mode: auto",
            "read-the-log is done by a person, so its mode cannot be auto",
            id="auto-by-a-person",
        ),
    ],
)
def test_a_procedure(tmp_path: Path, row: str, note: str) -> None:
    """Its playbook exists, and takes its parameters."""
    (found,) = covered(tmp_path, procedures=f"again: {row}, system: shop, title: Run it again}}\n").procedures

    assert note == found.note
    assert (MISSING if note else CARRIED) == found.status
    assert ("Slow (shop, critical)",) == found.alerts


def test_a_gate_of_a_procedure(tmp_path: Path) -> None:
    """A gate that a procedure names is carried by that procedure's playbook."""
    again = "again: {playbook: restart, with: {name: api}, system: shop, title: t, gates: [soak-1h]}\n"
    (row,) = covered(tmp_path, item("soak-1h", "gate:soak"), procedures=again).thresholds

    assert [("procedure again", ("restart",))] == [(link.through, link.does) for link in row.links]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param("[L3, L7]", CARRIED, id="its-line"),
        pytest.param("[L5-9]", CARRIED, id="around-its-line"),
        pytest.param("[L3, L70]", MISSING, id="other-lines"),
    ],
)
def test_a_task_that_is_due_once(tmp_path: Path, lines: str, status: str) -> None:
    """No table has a row for it: the procedure of that very line carries it."""
    grow = f"grow: {{playbook: restart, with: {{name: a}}, system: shop, title: t, documented: {lines}}}\n"
    (row,) = covered(tmp_path, item("grow-once", "task:once"), procedures=grow).thresholds

    assert status == row.status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "again: {playbook: restart, system: shop}\n", r"shop\.yml:1:8: error: the key 'title'", id="key"
        ),
        pytest.param("- again\n", r"shop\.yml:1:1: error: found a list", id="list"),
        pytest.param(
            "again: {playbook: x, system: s, title: t, mode: fast}\n", "expected notify, suggest", id="mode"
        ),
    ],
)
def test_a_wrong_file_of_procedures(tmp_path: Path, text: str, expected: str) -> None:
    """Told with its place."""
    with pytest.raises(ConfigError, match=expected):
        covered(tmp_path, procedures=text)


def test_a_procedure_twice(tmp_path: Path) -> None:
    """A procedure has one playbook: a second row for it is told, with the first one's file."""
    row = "again: {playbook: restart, with: {name: api}, system: shop, title: t}\n"
    covered(tmp_path, procedures=row)
    (tmp_path / "procedures" / "spare.yml").write_text(row)

    with pytest.raises(
        ConfigError, match=r"spare\.yml:1:1: error: the procedure 'again' stands already in .*shop"
    ):
        read_documented(tmp_path / "thresholds.yml", tmp_path / "procedures")


def test_the_exit_code_and_the_formats(tmp_path: Path) -> None:
    """1 where something must be carried and is not, in every format; the missing one is named at the end."""
    covered(
        tmp_path, item("slow-500", "alert:Slow", "500"), item("gone", "alert:Gone"), item("port", "doc-only")
    )
    book = load_rules(tmp_path / "rules", PLAYBOOKS, {})
    paths = (tmp_path / "prometheus", tmp_path / "thresholds.yml", tmp_path / "procedures")

    table, code = coverage(book, "table", "all", *paths)
    assert 1 == code
    assert ["missing: gone: there is no alert 'Gone' of shop", "1 missing"] == table.splitlines()[-2:]
    assert "slow → read-the-log (notify), then restart (approve)" in table
    page, _ = coverage(book, "markdown", "all", *paths)
    assert "| L7 | q | `gone` > 1 ms | **missing**: there is no alert 'Gone' of shop |" in page.splitlines()
    read = json.loads(coverage(book, "json", "all", *paths)[0])
    assert {
        "all": 3,
        "carried": 1,
        "missing": 1,
        "documented only": 1,
        "by alert": 2,
        "by doc-only": 1,
    } == read["totals"]["thresholds"]
    assert 0 == coverage(book, "table", "procedures", *paths)[1]
    with pytest.raises(ConfigError, match="there is no 'xml'; expected table, markdown, json"):
        coverage(book, "xml", "all", *paths)


@pytest.fixture(scope="module")
def shipped() -> RuleBook:
    """The rules and playbooks of this repository, with the real actions."""
    return load_rulebook(
        ROOT / "rules", ROOT / "playbooks", registry.ParamsModels(), registry.ConnectionModels()
    )


@pytest.fixture(scope="module")
def whole(shipped: RuleBook) -> Coverage:
    """The coverage of this repository."""
    prometheus = ROOT / "prometheus"
    return read_coverage(
        shipped, prometheus / "rules", prometheus / "thresholds.yml", prometheus / "procedures"
    )


def test_everything_documented_is_carried(whole: Coverage) -> None:
    """All 405 items and all 100 procedures; what is documented only says why."""
    assert [] == [f"{row.note}: {row}" for row in whole.missing()]
    assert 405 == len(whole.thresholds)
    assert 100 == whole.totals()["procedures"]["of the documents"]
    assert {CARRIED: 382, DOCUMENTED: 23} == Counter(row.status for row in whole.thresholds)


def test_the_page_is_the_generated_one(shipped: RuleBook) -> None:
    """docs/coverage.md is what `remediator coverage --format markdown` prints."""
    prometheus = ROOT / "prometheus"
    page, _ = coverage(
        shipped,
        "markdown",
        "all",
        prometheus / "rules",
        prometheus / "thresholds.yml",
        prometheus / "procedures",
    )

    assert page == (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
