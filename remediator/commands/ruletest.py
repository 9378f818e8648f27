"""`remediator test`: the cases of rules/tests/ against the rules, and what no case looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from remediator.adapters.rulebook import RuleBook
from remediator.commands.check import RULES, given_or_there, rules_of
from remediator.coverage.alertingrules import AlertingRule
from remediator.coverage.findings import CANARY
from remediator.errors import ConfigError, Finding
from remediator.ruletests import Case, covers, read_tests, run_tests, untested_rules


def run(
    book: RuleBook, rules: Path, files: Sequence[Path] = (), prometheus_rules: Path | None = None
) -> tuple[list[str], int]:
    """The lines to print, and 1 where a case fails. Without `files` all of `rules`/tests are run, and it is said
    which rules and which alerting rules no case looks at.

    Raises:
        ConfigError: when a file cannot be read.
    """
    paths = list(files) or sorted((rules / "tests").glob("*_test.yml"))
    if not paths:
        told = "there are no tests; expected tests/*_test.yml"
        raise ConfigError((Finding(str(rules), 1, 1, told),))
    cases = read_tests(paths)
    results = run_tests(cases, book.table)
    lines = [str(finding) for finding in results.differences]
    if not files:
        folder = given_or_there(prometheus_rules, RULES)
        alerts = rules_of(folder).alerts if folder else ()
        missed = [*untested_rules(results, book.table), *untested_alerts(cases, alerts)]
        lines += [str(finding) for finding in missed]
        lines.append(f"{len(alerts)} alerting rules, {len(missed)} rules or alerting rules without a test")
    lines.append(f"{len(cases)} cases in {len(paths)} files, {results.failed} failed")
    return lines, int(results.failed > 0)


def untested_alerts(cases: Sequence[Case], alerts: Sequence[AlertingRule]) -> list[Finding]:
    """Alerting rules whose labels no case carries."""
    told: list[Finding] = []
    for alert in alerts:
        known = {
            name: alert.labels[name]
            for name in ("system", "severity")
            if name in alert.labels and "{{" not in alert.labels[name]
        }
        if alert.name != CANARY and not any(
            covers(case, {"alertname": alert.name, **known}) for case in cases
        ):
            told.append(alert.finding(f"no test has the alert {alert.told}", "warning"))
    return told
