"""rules/tests/*_test.yml: an alert's labels in; rule, playbooks, parameters and modes out.

    - name: the cache hit rate is low
      labels: {alertname: BrainstemCacheHitRateLow, system: brainstem, severity: warning}
      expect:
        - rule: brainstem-cache-hit-rate-low
          ladder:
            - {playbook: clear-cache-prefix, mode: approve, with: {connection: cache, prefix: "seg:"}}

What is written must be so, and what is not written is not compared, but for `with`: a rung's parameters are always
compared, all of them. `expect: []` says that no rule matches, `notify: REASON` that the rule only tells people why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from remediator.adapters.ruleschema import ModeName
from remediator.adapters.schema import Strict, faults, show
from remediator.adapters.yamlfiles import Document, Fault, in_order, load_yaml
from remediator.domain.alerts import Labels
from remediator.domain.matchers import Matcher, Operator
from remediator.domain.playbooks import Choice
from remediator.domain.rules import Rule, RuleTable, Rung
from remediator.errors import ConfigError, Finding


class RungExpected(Strict):
    """One try of the ladder."""

    playbook: str
    mode: ModeName | None = None
    arguments: dict[str, Any] = Field(default={}, alias="with")


class RuleExpected(Strict):
    """One rule that matches, and what it would do."""

    rule: str
    ladder: list[RungExpected] | None = None
    notify: bool | str | None = None
    subject: str | None = None
    escalate_to: list[str] | None = None


class RuleTest(Strict):
    """One case. `expect` are the rules in order; more than one where a rule continues."""

    name: str
    labels: dict[str, str] = Field(min_length=1)
    expect: list[RuleExpected]


@dataclass(frozen=True, slots=True)
class Case:
    """A case with its place."""

    test: RuleTest
    document: Document
    at: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """What came of all cases."""

    cases: tuple[Case, ...] = ()
    differences: tuple[Finding, ...] = ()
    failed: int = 0
    tested: frozenset[str] = field(default_factory=frozenset)
    """The rules that some case expects."""


def read_tests(paths: Iterable[Path]) -> tuple[Case, ...]:
    """The cases of these files.

    Raises:
        ConfigError: with everything that is wrong in any of them.
    """
    cases: list[Case] = []
    findings: list[Finding] = []
    for path in paths:
        try:
            document = load_yaml(path)
        except ConfigError as error:
            findings += error.findings
            continue
        if not isinstance(document.data, list):
            fault = Fault((), f"found {show(document.data)}, expected a list of cases: name, labels, expect")
            findings.append(document.finding(fault))
            continue
        for index, row in enumerate(document.data):
            try:
                cases.append(Case(RuleTest.model_validate(row), document, (index,)))
            except ValidationError as error:
                findings += map(document.finding, faults(error, RuleTest, (index,)))
    if findings:
        raise ConfigError(in_order(findings))
    return tuple(cases)


def run_tests(cases: Sequence[Case], table: RuleTable) -> Results:
    """Try every case on the rules."""
    differences: list[Finding] = []
    failed = 0
    for case in cases:
        told = [_told(case, fault) for fault in _compare(case.test, table)]
        failed += bool(told)
        differences += told
    tested = frozenset(expected.rule for case in cases for expected in case.test.expect)
    return Results(tuple(cases), tuple(differences), failed, tested)


def untested_rules(results: Results, table: RuleTable) -> Iterator[Finding]:
    """Rules that no case expects."""
    for rule in table.rules:
        if rule.name not in results.tested:
            yield Finding(rule.file, rule.line or 1, 1, f"no test expects the rule {rule.name!r}", "warning")


def covers(case: Case, labels: Mapping[str, str]) -> bool:
    """Whether a case has an alert's own labels, as far as they are known beforehand."""
    given = case.test.labels
    return all(given.get(name) == value for name, value in labels.items())


def _told(case: Case, fault: Fault) -> Finding:
    found = case.document.finding(Fault((*case.at, *fault.path), fault.message))
    return Finding(found.file, found.line, found.column, f"{case.test.name}: {fault.message}")


def _compare(test: RuleTest, table: RuleTable) -> Iterator[Fault]:
    found = table.match(test.labels)
    names = [rule.name for rule in found]
    wanted = [expected.rule for expected in test.expect]
    if names != wanted:
        why = _why_not(wanted, names, table, test.labels)
        place: tuple[Any, ...] = ("expect", 0, "rule") if test.expect else ("expect",)
        yield Fault(place, f"expected {_list(wanted)}, found {_list(names)}{why}")
        return
    for index, (expected, rule) in enumerate(zip(test.expect, found, strict=True)):
        yield from _compare_rule(expected, rule, test.labels, ("expect", index))


def _why_not(wanted: list[str], found: list[str], table: RuleTable, labels: Labels) -> str:
    """Why the first rule that was wanted does not match, where that can be said."""
    for name in wanted:
        if name in found:
            continue
        rule = table.by_name.get(name)
        if rule is None:
            return f"; there is no rule {name!r}"
        against = [matcher for matcher in rule.matchers if not matcher.matches(labels)]
        if against:
            value = labels.get(against[0].label, "")
            return f"; {name!r} ({rule.file}:{rule.line}) wants {against[0]}, and the label is {value!r}"
        return f"; {name!r} ({rule.file}:{rule.line}) would match, but an earlier rule does not continue"
    return ""


def _compare_rule(expected: RuleExpected, rule: Rule, labels: Labels, at: tuple[Any, ...]) -> Iterator[Fault]:
    for name, wanted, found in (
        ("subject", expected.subject, rule.subject_for(labels)),
        ("escalate_to", expected.escalate_to, list(rule.escalate_to)),
    ):
        if wanted is not None and wanted != found:
            yield Fault((*at, name), f"{rule.name}: expected {name} {wanted!r}, found {found!r}")
    only_told = bool(rule.reason)
    if expected.notify is not None:
        wanted_reason = expected.notify if isinstance(expected.notify, str) else None
        if only_told != bool(expected.notify):
            found_told = f"notify: {rule.reason}" if only_told else "a ladder"
            yield Fault(
                (*at, "notify"), f"{rule.name}: expected notify {expected.notify!r}, found {found_told}"
            )
        elif wanted_reason is not None and wanted_reason != rule.reason:
            yield Fault((*at, "notify"), f"{rule.name}: expected {wanted_reason!r}, found {rule.reason!r}")
    if expected.ladder is not None:
        yield from _compare_ladder(expected.ladder, rule, labels, at)


def _compare_ladder(
    expected: list[RungExpected], rule: Rule, labels: Labels, at: tuple[Any, ...]
) -> Iterator[Fault]:
    ladder = [rung for rung in rule.ladder if rung.playbook]
    wanted, found = [rung.playbook for rung in expected if rung.playbook], [rung.playbook for rung in ladder]
    if wanted != found:
        yield Fault(
            (*at, "ladder"), f"{rule.name}: expected the playbooks {_list(wanted)}, found {_list(found)}"
        )
        return
    for index, (rung, is_) in enumerate(zip([r for r in expected if r.playbook], ladder, strict=True)):
        here = (*at, "ladder", index)
        if rung.mode is not None and rung.mode != is_.mode.value:
            yield Fault(
                (*here, "mode"), f"{rung.playbook}: expected mode {rung.mode}, found {is_.mode.value}"
            )
        yield from _compare_arguments(rung, is_, labels, here)


def _compare_arguments(
    expected: RungExpected, rung: Rung, labels: Labels, at: tuple[Any, ...]
) -> Iterator[Fault]:
    found = {name: _resolved(value, labels) for name, value in rung.arguments.items()}
    for name in {**expected.arguments, **found}:
        if name not in found:
            told = f"{rung.playbook}: expected the parameter {name!r}, found none"
            yield Fault((*at, "with", name), told, at_key=True)
        elif name not in expected.arguments:
            told = f"{rung.playbook}: found the parameter {name} = {found[name]!r}, expected none"
            yield Fault((*at, "with"), told)
        elif found[name] != expected.arguments[name]:
            told = f"{rung.playbook}: expected {name} = {expected.arguments[name]!r}, found {found[name]!r}"
            yield Fault((*at, "with", name), told)


def _resolved(value: Any, labels: Labels) -> Any:
    if not isinstance(value, Choice):
        return value
    try:
        return value.resolve(labels)
    except KeyError:
        return f"(none for {Matcher(value.label, Operator.EQUAL, labels.get(value.label, ''))})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
