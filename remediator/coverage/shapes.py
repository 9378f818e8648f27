"""Which label sets an alert can have, as far as the rule files tell.

A shape names the labels that a series can carry, with their values where they are known. What cannot be known is
`ANY`; a shape that is `open` may have further labels. Wherever it is not sure, the answer is "maybe", so that
nothing is called unreachable that is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from remediator.domain.matchers import Matcher, Operator

ANY = None
"""A label's value that is not known before it fires; it may also be absent."""

MOST = 2_000
"""Shapes kept apart; more than that become one that may be anything."""


class Answer(Enum):
    """Whether something holds for every series of a shape, for none, or for some perhaps."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


@dataclass(frozen=True, slots=True)
class Shape:
    """Labels with their values. `open`: labels that are not named here may be there too."""

    values: Mapping[str, str | None] = field(default_factory=dict)
    open: bool = False

    def value(self, label: str) -> str | None:
        """The label's value: "" where it is surely absent, `ANY` where nobody knows."""
        if label in self.values:
            return self.values[label]
        return ANY if self.open else ""

    def over(self, labels: Mapping[str, str | None]) -> Shape:
        """This shape with `labels` put over its own; an empty value takes a label away."""
        kept = {**self.values, **labels}
        if not self.open:
            kept = {name: value for name, value in kept.items() if value != ""}
        return Shape(kept, self.open)

    def only(self, labels: Iterable[str]) -> Shape:
        """What `by (labels)` leaves of it."""
        left = {label: self.value(label) for label in labels}
        return Shape({label: value for label, value in left.items() if value != ""})

    def without(self, labels: Iterable[str]) -> Shape:
        """What is left when these labels are taken away."""
        return self.over(dict.fromkeys(labels, ""))

    def told(self) -> str:
        """For a person: the values that are known."""
        return ", ".join(f'{name}="{value}"' for name, value in sorted(self.values.items()) if value)


def matches(matcher: Matcher, shape: Shape) -> Answer:
    """Whether the matcher holds."""
    value = shape.value(matcher.label)
    if value is not ANY:
        return Answer.YES if matcher.matches({matcher.label: value}) else Answer.NO
    if matcher.operator is Operator.REGEX and matcher.value in (".*", "|.*", ".*|"):
        return Answer.YES
    return Answer.MAYBE


def all_match(matchers: Iterable[Matcher], shape: Shape) -> Answer:
    """Whether all of them hold."""
    answers = [matches(matcher, shape) for matcher in matchers]
    if Answer.NO in answers:
        return Answer.NO
    return Answer.MAYBE if Answer.MAYBE in answers else Answer.YES


def narrowed(shape: Shape, matchers: Iterable[Matcher]) -> Shape | None:
    """The shape of what a selector with these matchers lets through; None where that is nothing."""
    known: dict[str, str | None] = {}
    for matcher in matchers:
        if matches(matcher, shape) is Answer.NO:
            return None
        if matcher.operator is Operator.EQUAL:
            known[matcher.label] = matcher.value
    return shape.over(known)


def distinct(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Each shape once; one that may be anything where there are too many to keep apart."""
    seen: dict[tuple[frozenset[tuple[str, str | None]], bool], Shape] = {}
    for shape in shapes:
        seen.setdefault((frozenset(shape.values.items()), shape.open), shape)
        if len(seen) > MOST:
            return (Shape(open=True),)
    return tuple(seen.values())
