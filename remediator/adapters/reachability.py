"""Rules that no alert can reach, because an earlier one catches whatever they match."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from remediator.domain.matchers import Matcher, Operator
from remediator.domain.rules import Rule

_Demand = tuple[str, str]


def shadowed(rules: Sequence[Rule]) -> list[tuple[Rule, Rule]]:
    """Each rule that cannot be reached, with the earlier rule that is in its way.

    It finds what can be seen from the matchers one by one; a rule hidden by several together is not found.
    """
    demands = [_demands(rule) for rule in rules]
    seen = Counter(demand for of_rule in demands for demand in of_rule)
    filed: dict[_Demand | None, list[Rule]] = defaultdict(list)
    told: list[tuple[Rule, Rule]] = []
    for rule, of_rule in zip(rules, demands, strict=True):
        # An earlier rule that demands a label can only be in the way of rules that demand the same.
        earlier = [*filed[None], *(other for demand in of_rule for other in filed.get(demand, ()))]
        in_the_way = next((other for other in earlier if _covers(other, rule)), None)
        if in_the_way is not None:
            told.append((rule, in_the_way))
        elif not rule.carry_on:
            filed[min(of_rule, key=lambda demand: seen[demand], default=None)].append(rule)
    return told


def _demands(rule: Rule) -> list[_Demand]:
    return [(m.label, m.value) for m in rule.matchers if m.operator is Operator.EQUAL and m.value]


def _covers(earlier: Rule, later: Rule) -> bool:
    """Whether each matcher of `earlier` holds wherever all of `later` do."""
    return all(_follows(matcher, later.matchers) for matcher in earlier.matchers)


def _follows(matcher: Matcher, given: Sequence[Matcher]) -> bool:
    return any(
        matcher == other
        or (
            other.operator is Operator.EQUAL
            and other.label == matcher.label
            and matcher.matches({other.label: other.value})
        )
        for other in given
    )
