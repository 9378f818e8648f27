"""`remediator check`: each thing that does not fit, told with its place and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from remediator.adapters.rulebook import RuleBook
from remediator.adapters.rulefiles import load_rules
from remediator.commands.check import Checked, check
from remediator.domain.playbooks import Gate, Playbook, Step
from remediator.errors import ConfigError

ALERTS = """\
groups:
  - name: g
    rules:
      - record: jobs:config
        expr: vector(1)
        labels: {system: shop, job: nightly}
      - alert: Down
        expr: sum(up) < 1
        labels: {severity: critical, system: shop}
      - alert: JobFailed
        expr: max by (job) (failed) > 0
        labels: {severity: warning, system: shop}
      - alert: JobLate
        expr: jobs:config > 0
        labels: {severity: warning, team: '{{ $labels.job }}'}
        annotations: {procedure: rerun}
      - alert: Watchdog
        expr: vector(1)
"""
RULES = """\
system: shop
contacts: {ops: {name: Operations, email: ops@example.com}}
defaults: {escalate_to: [ops], approval: {approvers: [ops]}, limits: {cooldown: 30m}}
rules:
  - name: down
    match: ['alertname="Down"', 'severity="critical"']
    ladder: [{playbook: restart, mode: approve}]
    verify: {expr: "up == 1"}
  - name: job-failed
    match: ['alertname="JobFailed"']
    notify: a person reads its log
  - name: job-late
    match: ['alertname="JobLate"', 'system="shop"', 'job="nightly"']
    notify: a person starts it
"""
ROUTES = """\
route:
  receiver: us
receivers:
  - name: us
    webhook_configs:
      - url: http://remediator:8080/api/v1/alertmanager
        http_config: {authorization: {credentials_file: /token}}
  - name: people
"""
RESTART = Playbook(
    "restart", "Restart", "low", (Step("restart", "fake.set", {}),), gates=(Gate("two-agree", confirm="two"),)
)


def read(folder: Path) -> RuleBook:
    """The rules of a folder, with the one playbook that there is."""
    return load_rules(folder, {"restart": RESTART}, {})


def checked(
    tmp_path: Path, *changes: tuple[str, str], procedures: str = "", unauthenticated: bool = False
) -> Checked:
    """What is found once these texts were replaced, wherever they stand."""
    folders = {"prometheus/a.yml": ALERTS, "rules/shop.yml": RULES, "alertmanager.yml": ROUTES}
    if procedures:
        folders["procedures/shop.yml"] = procedures
    replaced = set()
    for name, text in folders.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        for before, after in changes:
            if before in text:
                replaced.add(before)
                text = text.replace(before, after)
        path.write_text(text)
    assert {before for before, _ in changes} == replaced
    return check(
        read(tmp_path / "rules"),
        tmp_path / "prometheus",
        tmp_path / "alertmanager.yml",
        tmp_path / "procedures" if procedures else None,
        unauthenticated=unauthenticated,
    )


def told(found: Checked, tmp_path: Path) -> list[str]:
    """The findings, with paths as they are in the folder."""
    return [str(finding).replace(f"{tmp_path}/", "") for finding in found.findings]


def test_what_fits_is_not_told(tmp_path: Path) -> None:
    """Files that belong together give no finding, and the summary says what was looked at."""
    found = checked(tmp_path)

    assert [] == told(found, tmp_path)
    assert 0 == found.exit_code
    assert "3 rules, 1 playbooks, 4 alerting rules, 1 routes, systems: shop" == found.summary


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            [("'alertname=\"JobFailed\"'", "'alertname=\"JobFailed\"', 'severity=\"critical\"'")],
            [
                (
                    "prometheus/a.yml:10:16: error: JobFailed (shop, warning): no rule catches it; add a row to rules/,"
                    " or `notify:` with the reason why no playbook acts"
                ),
                (
                    "rules/shop.yml:10:12: error: no alert can reach the rule 'job-failed': JobFailed"
                    " (prometheus/a.yml:10) fails severity=\"critical\": its severity is 'warning'; mend the matcher,"
                    " or the labels of the alerting rule"
                ),
            ],
            id="severity-of-another",
        ),
        pytest.param(
            [("'alertname=\"JobFailed\"'", "'alertname=\"JobFaild\"'")],
            [
                (
                    "prometheus/a.yml:10:16: error: JobFailed (shop, warning): no rule catches it; add a row to rules/,"
                    " or `notify:` with the reason why no playbook acts"
                ),
                (
                    "rules/shop.yml:10:12: error: no alert can reach the rule 'job-failed': no alerting rule is called so"
                    ' (alertname="JobFaild"); mend the name, or remove the rule'
                ),
            ],
            id="name-misspelt",
        ),
        pytest.param(
            [("'severity=\"critical\"']", "'instance=\"a\"']")],
            [
                (
                    "prometheus/a.yml:7:16: error: Down (shop, critical): no rule catches it; add a row to rules/,"
                    " or `notify:` with the reason why no playbook acts"
                ),
                (
                    "rules/shop.yml:6:12: error: no alert can reach the rule 'down': Down (prometheus/a.yml:7) fails"
                    ' instance="a": it carries no label instance; mend the matcher, or the labels of the alerting rule'
                ),
            ],
            id="label-that-the-expression-cannot-carry",
        ),
        pytest.param(
            [("'alertname=\"JobFailed\"'", "'alertname=\"JobFailed\"', 'job=~\"a|b\"'")],
            [
                (
                    "prometheus/a.yml:10:16: warning: JobFailed (shop, warning): with job='another' no rule catches it;"
                    " the nearest is 'job-failed' (rules/shop.yml:9); add a row below it for the rest"
                ),
            ],
            id="only-some-of-them",
        ),
        pytest.param(
            [('job="nightly"', 'job="weekly"')],
            [
                (
                    "prometheus/a.yml:13:16: error: JobLate (warning): no rule catches it; add a row to rules/,"
                    " or `notify:` with the reason why no playbook acts"
                ),
                (
                    "rules/shop.yml:13:12: error: no alert can reach the rule 'job-late': JobLate (prometheus/a.yml:13)"
                    " fails job=\"weekly\": its job is 'nightly'; mend the matcher, or the labels of the alerting rule"
                ),
            ],
            id="row-that-no-table-holds",
        ),
        pytest.param(
            [("jobs:config > 0", 'jobs:config{job="x"} > 0')],
            [
                (
                    "prometheus/a.yml:13:16: warning: JobLate (warning): it can never fire: no recording rule gives a"
                    " series with the labels that its expression demands"
                ),
                (
                    "rules/shop.yml:13:12: error: no alert can reach the rule 'job-late': no alerting rule is called so"
                    ' (alertname="JobLate"); mend the name, or remove the rule'
                ),
            ],
            id="never-fires",
        ),
        pytest.param(
            [
                (
                    "  receiver: us\n",
                    "  receiver: us\n  routes: [{receiver: people, matchers: ['severity=\"warning\"']}]\n",
                )
            ],
            [
                (
                    "alertmanager.yml:3:12: error: JobFailed (shop, warning), JobLate (warning): goes to 'people' and does"
                    " not surely reach remediator; put the route to remediator above this one, with `continue: true`"
                ),
            ],
            id="route-that-takes-it-away",
        ),
        pytest.param(
            [("/api/v1/alertmanager", "/hook")],
            [
                (
                    "alertmanager.yml:2:3: error: no receiver posts to remediator; add a webhook_config with url:"
                    " http://HOST:8080/api/v1/alertmanager"
                ),
            ],
            id="no-webhook",
        ),
        pytest.param(
            [("  receiver: us\n", "  receiver: us\n  repeat_interval: 29m\n")],
            [
                (
                    "alertmanager.yml:2:3: warning: repeat_interval 29m is shorter than the cooldown 30m of 'down'"
                    " (rules/shop.yml:5); the reminders in between change nothing: make it as long, or the cooldown"
                    " shorter"
                ),
            ],
            id="reminds-while-it-rests",
        ),
        pytest.param(
            [
                (
                    "        http_config",
                    "        max_alerts: 20\n        send_resolved: false\n        http_config",
                )
            ],
            [
                (
                    "alertmanager.yml:6:9: error: max_alerts 20 cuts notifications short, and what is cut may be firing;"
                    " set it to 0"
                ),
                (
                    "alertmanager.yml:6:9: error: send_resolved is false, so that no episode ever ends for us; set it to"
                    " true"
                ),
            ],
            id="cut-short-and-never-resolved",
        ),
        pytest.param(
            [("        http_config: {authorization: {credentials_file: /token}}\n", "")],
            [
                (
                    "alertmanager.yml:6:9: error: the webhook is called without credentials; add"
                    " http_config.authorization with credentials_file"
                ),
            ],
            id="no-credentials",
        ),
        pytest.param(
            [
                (
                    "  receiver: us\n",
                    "  receiver: people\n  routes: [{receiver: us, mute_time_intervals: [night]}]\n",
                )
            ],
            [
                (
                    "alertmanager.yml:3:12: warning: the time intervals night keep alerts from remediator; leave them to"
                    " the routes of people, and let a window be a gate in rules/"
                ),
            ],
            id="muted-by-night",
        ),
    ],
)
def test_a_fault_is_told(tmp_path: Path, changes: Sequence[tuple[str, str]], expected: list[str]) -> None:
    """Each with file, line, column, and how to mend it; nothing else is told."""
    assert expected == told(checked(tmp_path, *changes), tmp_path)


def test_an_exact_repeat_interval_is_long_enough(tmp_path: Path) -> None:
    """As long as the cooldown is no finding."""
    assert [] == told(
        checked(tmp_path, ("  receiver: us\n", "  receiver: us\n  repeat_interval: 30m\n")), tmp_path
    )


def test_open_on_purpose_is_a_warning(tmp_path: Path) -> None:
    """Where the service takes posts from anybody, a webhook without credentials is no error."""
    change = ("        http_config: {authorization: {credentials_file: /token}}\n", "")
    found = checked(tmp_path, change, unauthenticated=True)

    assert ["warning"] == [finding.severity for finding in found.findings]
    assert 0 == found.exit_code


def test_rules_that_complete_each_other_leave_no_gap(tmp_path: Path) -> None:
    """Two rules on an unknown label, of which one takes what the other leaves, catch everything."""
    first = "  - name: job-failed\n    match: ['alertname=\"JobFailed\"'"
    both = (
        f"{first}, 'job=\"a\"']\n    notify: one\n" + first.replace("job-failed", "other") + ", 'job!=\"a\"'"
    )

    assert [] == told(checked(tmp_path, (first, both)), tmp_path)


def test_a_scheduled_rule_needs_no_alert(tmp_path: Path) -> None:
    """The clock reaches it; and one with matchers that nothing reaches is not told either."""
    scheduled = "schedule: {cron: '0 2 * * *'}"
    found = checked(tmp_path, ("match: ['alertname=\"JobFailed\"']", scheduled))

    assert ["JobFailed"] == [finding.message.split()[0] for finding in found.findings]
    assert ", 1 schedules" in found.summary


def test_a_rule_for_people_needs_no_alert(tmp_path: Path) -> None:
    """People reach it; one that also has matchers has to be reached by an alert all the same."""
    match = "match: ['alertname=\"JobFailed\"']"
    found = checked(tmp_path, (match, "on_demand: {}"))
    both = checked(tmp_path, (match, "match: ['alertname=\"NoSuchAlert\"']\n    on_demand: {}"))

    assert ["JobFailed"] == [finding.message.split()[0] for finding in found.findings]
    assert ", 1 on demand" in found.summary
    assert 1 == len([finding for finding in both.findings if "no alert can reach" in finding.message])


def test_a_procedure_that_is_not_listed(tmp_path: Path) -> None:
    """An alert's `procedure` annotation names one of the listed procedures."""
    listed = "repeat: {playbook: restart, system: shop, title: Run it again}\n"
    found = checked(tmp_path, procedures=listed)

    assert [
        (
            "prometheus/a.yml:13:16: error: JobLate (warning): there is no procedure 'rerun'; add it to"
            " prometheus/procedures/, or mend the name"
        )
    ] == told(found, tmp_path)


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        pytest.param("[]", [], id="none"),
        pytest.param(
            "[soak-1h, two-agree]",
            [
                (
                    "procedures/shop.yml:1:1: warning: restart acts without asking soak-1h; add gates to the playbook, or"
                    " say here how each is kept, as `- {GATE: how}`"
                )
            ],
            id="one-that-nobody-asks",
        ),
        pytest.param("[{soak-1h: the rung waits}, two-agree]", [], id="kept-in-another-way"),
    ],
)
def test_a_gate_that_nobody_asks(tmp_path: Path, gates: str, expected: list[str]) -> None:
    """What a procedure documents as a gate is asked by its playbook, or it is said how it is kept."""
    listed = f"rerun: {{playbook: restart, system: shop, title: Run it again, gates: {gates}}}\n"

    assert expected == told(checked(tmp_path, procedures=listed), tmp_path)


def test_external_labels_may_be_matched(tmp_path: Path) -> None:
    """Prometheus adds them to every alert that it sends, so a rule may ask for them."""
    (tmp_path / "prometheus.yml").write_text("global: {external_labels: {region: eu}}\n")
    found = checked(tmp_path, ("'alertname=\"Down\"'", "'alertname=\"Down\"', 'region=\"eu\"'"))

    assert ["prometheus/a.yml:7:16: warning"] == [line.split(": Down")[0] for line in told(found, tmp_path)]


def test_what_is_not_there_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Prometheus's and Alertmanager's files the rules are checked in themselves, and that is said."""
    (tmp_path / "shop.yml").write_text(RULES)
    book = read(tmp_path)
    monkeypatch.chdir(tmp_path)

    assert (
        "3 rules, 1 playbooks, no alerting rules looked at, no routes looked at, systems: shop"
        == check(book).summary
    )
    with pytest.raises(ConfigError, match="there are no Prometheus rule files"):
        check(book, tmp_path / "nowhere")


def test_a_notify_rule_rests_from_nothing(tmp_path: Path) -> None:
    """A cooldown matters for what acts: a rule that only tells people is not compared."""
    change = ("  receiver: us\n", "  receiver: us\n  repeat_interval: 29m\n")
    only_told = (
        '    ladder: [{playbook: restart, mode: approve}]\n    verify: {expr: "up == 1"}\n',
        "    notify: x\n",
    )

    assert [] == told(checked(tmp_path, change, only_told), tmp_path)
