"""The rule table: what an alert starts, whatever the number of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.adapters.reachability import shadowed
from remediator.domain.matchers import Matcher, Operator, parse_matchers
from remediator.domain.rules import Mode, Rule, RuleTable, Rung

NAMES = st.sampled_from(["alertname", "system", "instance"])
VALUES = st.sampled_from(["", "a", "b", "ab"])
LABELS = st.dictionaries(NAMES, VALUES, max_size=3)
PLAIN = st.builds(Matcher, NAMES, st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL]), VALUES)
PATTERNS = st.builds(
    Matcher,
    NAMES,
    st.sampled_from([Operator.REGEX, Operator.NOT_REGEX]),
    st.sampled_from([".*", ".+", "a|b", "a.*", ""]),
)


@st.composite
def tables(draw: st.DrawFn) -> list[Rule]:
    """Rules in order, many of which share what they demand."""
    of_rules = draw(
        st.lists(st.tuples(st.lists(st.one_of(PLAIN, PATTERNS), max_size=3), st.booleans()), max_size=12)
    )
    return [
        Rule(f"rule-{index}", "system", tuple(matchers), (Rung("playbook"),), carry_on=carry_on)
        for index, (matchers, carry_on) in enumerate(of_rules)
    ]


def rule(name: str, match: str, *, carry_on: bool = False) -> Rule:
    """Return a rule with these matchers."""
    return Rule(name, "system", parse_matchers(match), (Rung("playbook"),), carry_on=carry_on)


def scan(rules: Sequence[Rule], labels: Mapping[str, str]) -> tuple[Rule, ...]:
    """Match as the documents say it, rule by rule, without an index."""
    matched: list[Rule] = []
    for one in rules:
        if all(matcher.matches(labels) for matcher in one.matchers):
            matched.append(one)
            if not one.carry_on:
                break
    return tuple(matched)


@given(rules=tables(), labels=LABELS)
def test_the_table_is_a_scan(rules: list[Rule], labels: dict[str, str]) -> None:
    """The index changes nothing: not which rules match, not their order, not where it stops."""
    assert scan(rules, labels) == RuleTable(rules).match(labels)


@given(rules=tables(), alerts=st.lists(LABELS, min_size=1, max_size=8))
def test_what_is_called_unreachable_is(rules: list[Rule], alerts: list[dict[str, str]]) -> None:
    """No alert ever reaches a rule that is said to be out of reach."""
    hidden = {later.name for later, _ in shadowed(rules)}
    reached = {one.name for labels in alerts for one in scan(rules, labels)}

    assert set() == hidden & reached


@pytest.mark.parametrize(
    ("rules", "labels", "expected"),
    [
        pytest.param([rule("a", "x=1"), rule("b", "x=1")], {"x": "1"}, ["a"], id="the-first-wins"),
        pytest.param(
            [rule("a", "x=1", carry_on=True), rule("b", "x=2"), rule("c", 'x=~".+"')],
            {"x": "1"},
            ["a", "c"],
            id="continue-goes-on-to-the-next-that-matches",
        ),
        pytest.param([rule("a", "x=1")], {"x": "2"}, [], id="none"),
        pytest.param([rule("a", "x!=1"), rule("b", "y=1")], {"y": "1"}, ["a"], id="unfiled-before-filed"),
        pytest.param([rule("a", "y=1"), rule("b", "x!=1")], {"y": "1"}, ["a"], id="filed-before-unfiled"),
        pytest.param([rule("a", "x=")], {}, ["a"], id="an-empty-value-demands-nothing"),
    ],
)
def test_matching(rules: list[Rule], labels: dict[str, str], expected: list[str]) -> None:
    """First match wins, and `continue` goes on."""
    assert expected == [one.name for one in RuleTable(rules).match(labels)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([rule("a", "x=1"), rule("b", "x=1")], [("b", "a")], id="the-same"),
        pytest.param([rule("a", "x=1"), rule("b", "x=1,y=2")], [("b", "a")], id="fewer-matchers-first"),
        pytest.param([rule("a", 'x=~"1|2"'), rule("b", "x=1")], [("b", "a")], id="a-pattern-that-holds"),
        pytest.param([rule("a", "x!=2"), rule("b", "x=1")], [("b", "a")], id="not-another-value"),
        pytest.param([rule("a", "x=1,y=2"), rule("b", "x=1")], [], id="more-matchers-first"),
        pytest.param([rule("a", "x=1", carry_on=True), rule("b", "x=1")], [], id="it-continues"),
        pytest.param([rule("a", "x=1"), rule("b", "x=2")], [], id="another-value"),
        pytest.param([rule("a", 'x=~"1|2"'), rule("b", 'x=~"1|2|3"')], [], id="a-wider-pattern"),
    ],
)
def test_unreachable(rules: list[Rule], expected: list[tuple[str, str]]) -> None:
    """A rule is out of reach where an earlier one matches whatever it matches, and stops there."""
    assert expected == [(later.name, earlier.name) for later, earlier in shadowed(rules)]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        pytest.param("brainstem/cache", "brainstem/cache", id="fixed"),
        pytest.param("host/{instance}", "host/db-1", id="a-label"),
        pytest.param("{system}/{pod}", "s/", id="an-absent-label-is-empty"),
        pytest.param("", "brainstem", id="the-system-where-none-is-given"),
    ],
)
def test_subject(subject: str, expected: str) -> None:
    """The subject is the rule's text with the alert's labels in their places."""
    one = Rule("a", "brainstem", (), (Rung("p"),), subject=subject)

    assert expected == one.subject_for({"instance": "db-1", "system": "s"})


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("cap", Mode)
def test_the_services_mode_is_a_cap(mode: Mode, cap: Mode) -> None:
    """A mode is never raised, and never goes beyond the cap."""
    order = [Mode.NOTIFY, Mode.SUGGEST, Mode.APPROVE, Mode.AUTO]

    assert order[min(order.index(mode), order.index(cap))] is mode.capped(cap)
