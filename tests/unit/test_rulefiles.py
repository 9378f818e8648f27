"""Rule files: what they say, and what is said of them where they are wrong."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from remediator.adapters.registry import ConnectionModels, ParamsModels
from remediator.adapters.rulebook import Contact, EscalationStep, Window
from remediator.adapters.rulefiles import load_rulebook, load_rules
from remediator.domain.approvals import Approval
from remediator.domain.guards import Limits
from remediator.domain.matchers import parse_matchers
from remediator.domain.playbooks import Choice
from remediator.domain.rules import Mode, Rule, Rung, Verify
from remediator.errors import ConfigError
from tests.unit.badfiles import ACTIONS, CONNECTIONS, PLAYBOOKS, Redis, alone, cases, expected, told
from tests.unit.test_playbookfiles import write as write_playbook

ROOT = Path(__file__).resolve().parents[2]
MINUTE = timedelta(minutes=1)

HEAD = """
system: {system}
contacts: {{ops: {{name: Operations, email: ops@example.com}}}}
connections: {{cache: {{kind: redis, url: "redis://localhost"}}}}
defaults: {{approval: {{approvers: [ops]}}, escalate_to: [ops]}}
"""
RULE = """
  - name: {name}
    match: [alertname={name}]
    ladder: [{{playbook: clear, with: {{connection: cache, prefix: "seg:"}}}}]
    verify: {{expr: up == 1}}
"""


def write(folder: Path, system: str, *names: str, head: str = "") -> Path:
    """Write a rule file with one plain rule per name."""
    path = folder / f"{system}.yml"
    rules = "".join(RULE.format(name=name) for name in names)
    path.write_text(HEAD.format(system=system) + head + f"rules:{rules or ' []'}", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", cases("rules"))
def test_a_fault_is_told(name: str, tmp_path: Path) -> None:
    """Each faulty rule file gives exactly its findings, at their places; errors stop the start."""
    alone("rules", name, tmp_path)

    try:
        findings = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS, ACTIONS).warnings
        stopped = False
    except ConfigError as error:
        findings, stopped = error.findings, True

    assert expected("rules", name) == told(findings, tmp_path)
    assert stopped is any(finding.severity == "error" for finding in findings)
    assert findings
    assert "hunter2" not in "".join(told(findings, tmp_path))


def test_a_whole_file(tmp_path: Path) -> None:
    """Everything that a file can say arrives in the domain; a rule's own word goes before the defaults."""
    (tmp_path / "password").write_text("hunter2\n", encoding="utf-8")
    (tmp_path / "whole.yml").write_text(
        """
system: whole
contacts:
  ops: {name: Operations, slack: "#ops", email: ops@example.com}
  boss: {name: The boss, phone: "+1 555"}
escalation: [{to: ops, within: 15m}, {to: boss}]
windows: {nightly: {when: "02:00-04:00", timezone: Europe/Berlin, source: L12}}
connections:
  cache: {kind: redis, url: "redis://localhost", password_file: password, prefixes: ["seg:"]}
defaults:
  mode: approve
  approval: {approvers: [ops], votes: 2, expires: 2h}
  limits: {cooldown: 1h, rate: {runs: 3, window: 1d}, concurrency: 2}
  escalate_to: [ops]
rules:
  - name: first
    match: ['alertname="First",severity=~"critical|warning"', 'cronjob!=""']
    subject: "whole/{cronjob}"
    continue: true
    ladder:
      - playbook: clear
        with: {connection: cache, prefix: {label: store, among: {a: "a:", b: "b:"}}}
        mode: auto
        approval: {votes: 1}
        when: it is full
      - playbook: ask
        mode: notify
        verify: {expr: "up == 1"}
    verify: {expr: "x{$scope} < 1", also: ["y > 0"], hold: 1m, within: 2m, every: 5s, scope: [cronjob], closure: human}
    limits: {cooldown: 0s, fresh: 1h, hold: 0s}
    escalate_to: [boss]
  - name: second
    match: [alertname=Second]
    notify: nothing helps but a person
""",
        encoding="utf-8",
    )
    verify = Verify(
        "x{$scope} < 1", MINUTE, 2 * MINUTE, timedelta(seconds=5), "human", ("y > 0",), ("cronjob",)
    )
    hours = timedelta(hours=1)
    first = Rule(
        name="first",
        system="whole",
        matchers=parse_matchers('alertname="First",severity=~"critical|warning",cronjob!=""'),
        ladder=(
            Rung(
                "clear",
                {"connection": "cache", "prefix": Choice("store", {"a": "a:", "b": "b:"})},
                Mode.AUTO,
                Approval(frozenset({"ops"}), 1, 2 * hours),
                verify,
                "it is full",
            ),
            Rung("ask", {}, Mode.NOTIFY, Approval(frozenset({"ops"}), 2, 2 * hours), Verify("up == 1")),
        ),
        subject="whole/{cronjob}",
        limits=Limits(timedelta(0), 3, 24 * hours, 2, hours, timedelta(0)),
        escalate_to=("boss",),
        carry_on=True,
        file=str(tmp_path / "whole.yml"),
        line=16,
    )
    second = Rule(
        name="second",
        system="whole",
        matchers=parse_matchers("alertname=Second"),
        ladder=(
            Rung("", mode=Mode.NOTIFY, approval=Approval(frozenset({"ops"}), 2, 2 * hours), verify=None),
        ),
        limits=Limits(hours, 3, 24 * hours, 2),
        escalate_to=("ops",),
        reason="nothing helps but a person",
        file=str(tmp_path / "whole.yml"),
        line=32,
    )

    book = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS, ACTIONS)

    assert (first, second) == book.table.rules
    system = book.systems["whole"]
    assert {
        "ops": Contact("Operations", "#ops", "ops@example.com"),
        "boss": Contact("The boss", phone="+1 555"),
    } == system.contacts
    assert (EscalationStep("ops", 15 * MINUTE), EscalationStep("boss")) == system.escalation
    assert {"nightly": Window("02:00-04:00", "Europe/Berlin", "L12")} == system.windows
    cache = Redis(kind="redis", url="redis://localhost", password=SecretStr("hunter2"), prefixes=("seg:",))
    assert {"cache": cache} == system.connections
    assert () == book.warnings


def test_the_order_of_files(tmp_path: Path) -> None:
    """Files go by their `order` and then by name, so that a common file's defaults come last."""
    write(tmp_path, "zebra", "z")
    write(tmp_path, "common", "c", head="order: 100\n")
    write(tmp_path, "apple", "a", "b")

    book = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS)

    assert ["a", "b", "z", "c"] == [rule.name for rule in book.table.rules]


def test_a_name_in_two_files(tmp_path: Path) -> None:
    """A rule's name is its identity over all files: the second is told where the first stands."""
    first, second = write(tmp_path, "a", "same"), write(tmp_path, "b", "same")

    with pytest.raises(ConfigError) as caught:
        load_rules(tmp_path, PLAYBOOKS, CONNECTIONS)

    assert f"{second}:7:11: error: the rule 'same' stands already in {first}:7" in str(caught.value)


def test_missing_secrets_do_not_stop_the_start(tmp_path: Path) -> None:
    """Without its secret a connection is left out, with a warning; nothing acts through it with an empty one."""
    path = write(tmp_path, "a", "rule")
    text = path.read_text(encoding="utf-8").replace(
        'localhost"', 'localhost", password_file: none, ca_file: gone'
    )
    path.write_text(text, encoding="utf-8")

    book = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS)

    assert {} == book.systems["a"].connections
    assert ["warning", "warning"] == [finding.severity for finding in book.warnings]
    assert [
        f"the file {tmp_path}/none cannot be read: No such file or directory",
        f"the file {tmp_path}/gone cannot be read: No such file or directory",
    ] == [finding.message for finding in book.warnings]


def test_a_files_path_starts_at_the_rule_file(tmp_path: Path) -> None:
    """A connection's file is found wherever the service was started."""
    (tmp_path / "ca.pem").write_text("certificate", encoding="utf-8")
    path = write(tmp_path, "a", "rule")
    text = path.read_text(encoding="utf-8").replace('localhost"', 'localhost", ca_file: ca.pem')
    path.write_text(text, encoding="utf-8")

    cache = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS).systems["a"].connections["cache"]

    assert tmp_path / "ca.pem" == getattr(cache, "ca_file")  # noqa: B009


def test_unknown_approvers_are_a_warning(tmp_path: Path) -> None:
    """Where the settings are known, an approver who is nobody there is told, because nobody could approve."""
    path = write(tmp_path, "a", "rule")

    warned = load_rules(tmp_path, PLAYBOOKS, CONNECTIONS, approvers={"alice"}).warnings

    message = "nobody in the settings is 'ops' or of that group, so nobody can approve as it"
    assert [f"{path}:5:35: warning: {message}"] == [str(finding) for finding in warned]
    assert () == load_rules(tmp_path, PLAYBOOKS, CONNECTIONS, approvers={"ops"}).warnings


def test_rules_and_playbooks_are_told_at_once(tmp_path: Path) -> None:
    """What is wrong in both folders is told together, and a broken playbook is not called unknown as well."""
    rules, playbooks = tmp_path / "rules", tmp_path / "playbooks"
    rules.mkdir()
    playbooks.mkdir()
    path = write(rules, "a", "rule")
    path.write_text(path.read_text(encoding="utf-8") + "    limit: {}\n", encoding="utf-8")
    write(rules, "b", "other")
    write_playbook(playbooks, "clear", "playbook: clear\nrisk: low\nkind: runbook\nchecklist: [x]\n")

    with pytest.raises(ConfigError) as caught:
        load_rulebook(rules, playbooks, ACTIONS, CONNECTIONS)

    assert [
        "playbooks/clear.yml:1:1: error: the key 'title' is missing",
        "rules/a.yml:11:5: error: unknown key 'limit'; expected one of continue, escalate_to, ladder, limits, match, name, notify, on_demand, schedule, subject, verify, window; did you mean 'limits'?",
    ] == told(caught.value.findings, tmp_path)


def test_the_hash_is_of_all_files(tmp_path: Path) -> None:
    """A changed rule, playbook or runbook changes the hash, and the same files have the same."""
    rules, playbooks = tmp_path / "rules", tmp_path / "playbooks"
    rules.mkdir()
    playbooks.mkdir()
    write(rules, "a")
    write_playbook(playbooks, "call", "playbook: call\ntitle: C\nrisk: low\nkind: runbook\nchecklist: [x]\n")
    seen = {load_rulebook(rules, playbooks, ACTIONS, CONNECTIONS).hash for _ in range(2)}
    assert 1 == len(seen)

    for path in (rules / "a.yml", playbooks / "call.yml", playbooks / "call.md"):
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        seen.add(load_rulebook(rules, playbooks, ACTIONS, CONNECTIONS).hash)

    assert 4 == len(seen)


def test_the_shipped_files_load() -> None:
    """What we ship is right, down to the values that the real actions are given, and warns of nothing."""
    book = load_rulebook(
        ROOT / "rules", ROOT / "playbooks", ParamsModels(), ConnectionModels(), approvers={"devops"}
    )

    # Who may approve is the settings' to say, and secrets are not shipped: nothing else is warned of.
    told = [
        w.message
        for w in book.warnings
        if "nobody in the settings" not in w.message and "cannot be read" not in w.message
    ]
    assert [] == told
    assert "brainstem" in book.systems
    assert ["brainstem-cache-hit-rate-low"] == [
        rule.name
        for rule in book.table.match({"alertname": "BrainstemCacheHitRateLow", "system": "brainstem"})
    ]


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is a finding, not an empty table."""
    with pytest.raises(ConfigError, match="no such folder"):
        load_rules(tmp_path / "none", PLAYBOOKS, CONNECTIONS)


def test_the_page_about_rules_is_true(tmp_path: Path) -> None:
    """The examples in docs/rules.md load, with the playbooks of docs/playbooks.md."""
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    playbooks = (ROOT / "docs" / "playbooks.md").read_text(encoding="utf-8")
    for text, name in re.findall(r"```yaml\n(playbook: (\S+).*?)```", playbooks, re.DOTALL):
        write_playbook(tmp_path, name, text)
    (tmp_path / "rules").mkdir()
    (example,) = re.findall(r"```yaml\n(system: example .*?)```", page, re.DOTALL)
    (tmp_path / "rules" / "example.yml").write_text(example, encoding="utf-8")

    book = load_rulebook(tmp_path / "rules", tmp_path, ParamsModels(), CONNECTIONS)

    assert ((), 3) == (book.warnings, len(book.table))
