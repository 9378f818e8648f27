"""`remediator check`: settings, rules and playbooks are right in themselves; do they fit Prometheus and Alertmanager?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remediator.adapters.rulebook import RuleBook
from remediator.adapters.yamlfiles import in_order
from remediator.coverage import findings as look
from remediator.coverage.alertingrules import PrometheusRules, external_labels, read_alerting_rules
from remediator.coverage.documented import Documented, read_documented
from remediator.coverage.routes import Routing, read_routing
from remediator.errors import Finding

RULES = Path("prometheus/rules")
ALERTMANAGER = Path("alertmanager/alertmanager.yml")
"""Where they usually are. Beside the folder of rules: prometheus.yml, thresholds.yml and procedures/."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, and what it was found in."""

    findings: tuple[Finding, ...]
    summary: str

    @property
    def exit_code(self) -> int:
        """1 where any of it is an error."""
        return int(any(finding.severity == "error" for finding in self.findings))


def given_or_there(given: Path | None, default: Path) -> Path | None:
    """The path that was given; without one the usual place, where there is something."""
    return given or (default if default.exists() else None)


def rules_of(folder: Path) -> PrometheusRules:
    """The rules of a folder, with the external labels of the prometheus.yml beside it.

    Raises:
        ConfigError: when a file cannot be read.
    """
    return read_alerting_rules(folder, external_labels(folder.parent / "prometheus.yml"))


def check(
    book: RuleBook,
    prometheus_rules: Path | None = None,
    alertmanager: Path | None = None,
    procedures: Path | None = None,
    *,
    unauthenticated: bool = False,
) -> Checked:
    """Join alerting rules, routes, rule table and procedures. What is not given and not there is not asked.

    Raises:
        ConfigError: when a file cannot be read.
    """
    rules_folder = given_or_there(prometheus_rules, RULES)
    routes_file = given_or_there(alertmanager, ALERTMANAGER)
    rules = rules_of(rules_folder) if rules_folder else None
    routing = read_routing(routes_file) if routes_file else None
    found = [*book.warnings, *_found(book, rules, routing, unauthenticated)]
    if rules_folder is not None and rules is not None:
        thresholds = given_or_there(None, rules_folder.parent / "thresholds.yml")
        folder = given_or_there(procedures, rules_folder.parent / "procedures")
        documented = read_documented(thresholds, folder) if folder else Documented()
        found += look.without_procedure(rules.alerts, documented.procedures)
        found += look.ungated(documented, book.playbooks)
    return Checked(in_order(found), _summary(book, rules, routing))


def _found(
    book: RuleBook, rules: PrometheusRules | None, routing: Routing | None, unauthenticated: bool
) -> list[Finding]:
    found: list[Finding] = []
    if rules is not None:
        scheduled = frozenset(schedule.rule.name for schedule in book.schedules)
        found += look.uncaught(rules.alerts, book.table)
        found += look.unreachable(book.table.rules, rules.alerts, scheduled)
    if routing is not None:
        found += look.delivery(routing, unauthenticated=unauthenticated)
    if rules is not None and routing is not None:
        found += look.unrouted(rules.alerts, routing)
        found += look.repeats(rules.alerts, book.table, routing)
    return found


def _summary(book: RuleBook, rules: PrometheusRules | None, routing: Routing | None) -> str:
    told = [f"{len(book.table)} rules", f"{len(book.playbooks)} playbooks"]
    if book.schedules:
        told.append(f"{len(book.schedules)} schedules")
    on_demand = sum(rule.on_demand is not None for rule in book.table.rules)
    if on_demand:
        told.append(f"{on_demand} on demand")
    told.append(f"{len(rules.alerts)} alerting rules" if rules else "no alerting rules looked at")
    told.append(f"{sum(1 for _ in routing.walk())} routes" if routing else "no routes looked at")
    return ", ".join(told) + f", systems: {', '.join(sorted(book.systems))}"
