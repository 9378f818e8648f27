"""Our rules: which alert starts which ladder of playbooks, in which mode, within which limits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from remediator.domain.alerts import Labels
from remediator.domain.approvals import Approval
from remediator.domain.guards import Limits
from remediator.domain.matchers import Matcher, Operator
from remediator.domain.playbooks import Choice
from remediator.errors import CannotStart


class Mode(StrEnum):
    """How far a rung may go by itself. `notify` hands a runbook to a person; it never acts."""

    NOTIFY = "notify"
    SUGGEST = "suggest"
    APPROVE = "approve"
    AUTO = "auto"

    def capped(self, cap: Mode) -> Mode:
        """The tamer of the two: the service's mode bounds every rule's."""
        return self if _BOLDNESS[self] <= _BOLDNESS[cap] else cap


_BOLDNESS = {mode: place for place, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True)
class Verify:
    """The symptom is gone when `expr` returns samples, all through `hold`, before `within` is over.

    A comparison in PromQL returns no sample where it is false, so no sample means "not verified".
    `closure` is `human` where the figure is necessary but a named person closes.
    """

    expr: str
    hold: timedelta = timedelta(minutes=5)
    within: timedelta = timedelta(minutes=30)
    every: timedelta = timedelta(seconds=15)
    closure: str = ""
    also: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    """Labels of the alert that `$scope` in `expr` and `also` stands for; see domain/promql.py."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One try in a ladder."""

    playbook: str
    arguments: Mapping[str, Any | Choice] = field(default_factory=dict)
    mode: Mode = Mode.SUGGEST
    approval: Approval = Approval()
    verify: Verify | None = None
    when: str = ""
    """In words: when this rung is worth trying. Shown to the person who decides."""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A person may start the rule. `labels` stand for an alert's; of each of `choices` the person names one value."""

    labels: Labels = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def chosen(self, given: Labels) -> Labels:
        """All labels, with the values that were given: each chooses among those that the rule lists.

        Raises:
            CannotStart: when one is none of them, or is missing and has no default.
        """
        for name, value in given.items():
            if name not in self.choices:
                known = ", ".join(self.choices) or "nothing"
                raise CannotStart(f"{name!r} is not for you to choose; the rule leaves open: {known}")
            if value not in self.choices[name]:
                raise CannotStart(f"{name} cannot be {value!r}; choose {', '.join(self.choices[name])}")
        chosen = {**self.labels, **given}
        for name, values in self.choices.items():
            if name not in chosen:
                raise CannotStart(f"{name} is missing; choose {', '.join(values)}")
        return chosen


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the rule table. `order` is its place over all files; `line` is where it is written."""

    name: str
    system: str
    matchers: tuple[Matcher, ...]
    ladder: tuple[Rung, ...]
    subject: str = ""
    limits: Limits = Limits()
    escalate_to: tuple[str, ...] = ()
    carry_on: bool = False
    reason: str = ""
    file: str = ""
    line: int = 0
    on_demand: OnDemand | None = None

    def matches(self, labels: Labels) -> bool:
        """Whether all matchers hold."""
        return all(matcher.matches(labels) for matcher in self.matchers)

    @property
    def places(self) -> tuple[str, ...]:
        """The labels that the subject names."""
        return tuple(_PLACE.findall(self.subject))

    def subject_for(self, labels: Labels) -> str:
        """What this rule acts on for this alert; the claim is held under this name."""
        return _PLACE.sub(lambda found: labels.get(found[1], ""), self.subject) or self.system


_PLACE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")


class RuleTable:
    """The rules in order, indexed so that 10,000 cost about what 10 do.

    Each rule is filed under the rarest label value that it demands; an alert looks at the rules filed under
    its own labels, and at the few that demand none.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self.by_name = {rule.name: rule for rule in self.rules}
        demands = [
            [(m.label, m.value) for m in rule.matchers if m.operator is Operator.EQUAL and m.value]
            for rule in self.rules
        ]
        seen = Counter(demand for of_rule in demands for demand in of_rule)
        self._filed: dict[tuple[str, str], list[tuple[int, Rule]]] = defaultdict(list)
        self._unfiled: list[tuple[int, Rule]] = []
        for order, (rule, of_rule) in enumerate(zip(self.rules, demands, strict=True)):
            rarest = min(of_rule, key=lambda demand: seen[demand], default=None)
            (self._filed[rarest] if rarest else self._unfiled).append((order, rule))
        self._labels = {label for label, _ in self._filed}

    def __len__(self) -> int:
        return len(self.rules)

    def match(self, labels: Labels) -> tuple[Rule, ...]:
        """The rules for an alert: the first that matches, and those after it while `continue` is set."""
        candidates = list(self._unfiled)
        filed = self._filed
        for label in self._labels:
            value = labels.get(label)
            if value:
                candidates += filed.get((label, value), ())
        if len(candidates) > 1:
            candidates.sort(key=lambda candidate: candidate[0])
        matched: list[Rule] = []
        for _, rule in candidates:
            if rule.matches(labels):
                matched.append(rule)
                if not rule.carry_on:
                    break
        return tuple(matched)
