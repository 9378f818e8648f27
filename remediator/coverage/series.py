"""From a PromQL expression to the shapes of what it returns, through the recording rules that it reads.

The grammar is promql-parser's. What it cannot read, and functions that are not known here, may return anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import promql_parser as promql

from remediator.coverage.shapes import ANY, Shape, distinct, narrowed
from remediator.domain.matchers import Matcher, Operator

Shapes = tuple[Shape, ...]

OPEN: Shapes = (Shape(open=True),)
EMPTY: Shapes = (Shape(),)

_OPERATORS = {
    "MatchOp.Equal": Operator.EQUAL,
    "MatchOp.NotEqual": Operator.NOT_EQUAL,
    "MatchOp.Re": Operator.REGEX,
    "MatchOp.NotRe": Operator.NOT_REGEX,
}
_SCALARS = frozenset({"time", "pi", "scalar"})
_KEEP_ALL = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule: what it reads, and the labels that it puts over that."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Series:
    """Knows the shapes of every recorded series; what nobody records is raw and may carry anything."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        self._recorded: dict[str, list[Recording]] = {}
        for recording in recordings:
            self._recorded.setdefault(recording.record, []).append(recording)
        self._known: dict[str, Shapes] = {}
        self._asked: set[str] = set()

    def of(self, expr: str) -> Shapes:
        """The shapes of what an expression returns."""
        try:
            return self._vector(promql.parse(expr))
        except ValueError:
            return OPEN

    def _named(self, name: str) -> Shapes:
        """The shapes of a series: those of all the rules that record it."""
        if name not in self._recorded:
            return OPEN
        if name not in self._known:
            if name in self._asked:
                return OPEN  # it reads itself
            self._asked.add(name)
            found = [shape.over(rule.labels) for rule in self._recorded[name] for shape in self.of(rule.expr)]
            # A name without a colon is an exporter's or a job's own, which a rule only adds to.
            self._known[name] = distinct(found if ":" in name else [*found, *OPEN])
            self._asked.discard(name)
        return self._known[name]

    def _vector(self, node: Any) -> Shapes:
        """A scalar counts as a vector without labels."""
        found = self._shapes(node)
        return EMPTY if found is None else found

    def _shapes(self, node: Any) -> Shapes | None:
        """None for a scalar."""
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._shapes(node.expr)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.VectorSelector():
                return self._selected(node)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.BinaryExpr():
                return self._joined(node)
            case promql.Call():
                return self._called(node)
        return OPEN

    def _selected(self, node: Any) -> Shapes:
        matchers = _matchers(node)
        name = node.name or next(
            (m.value for m in matchers if m.label == "__name__" and m.operator is Operator.EQUAL), ""
        )
        own = [matcher for matcher in matchers if matcher.label != "__name__"]
        found = (narrowed(shape, own) for shape in (self._named(name) if name else OPEN))
        return distinct(shape for shape in found if shape is not None)

    def _aggregated(self, node: Any) -> Shapes:
        shapes = self._vector(node.expr)
        op = str(node.op)
        if op in _KEEP_ALL:
            return shapes
        modifier = node.modifier
        if modifier is None:
            grouped: Iterable[Shape] = (shape.only(()) for shape in shapes)
        elif modifier.type == promql.AggModifierType.By:
            grouped = (shape.only(modifier.labels) for shape in shapes)
        else:
            grouped = (shape.without(modifier.labels) for shape in shapes)
        if op == "count_values":
            grouped = (shape.over({node.param.val: ANY}) for shape in grouped)
        return distinct(grouped)

    def _called(self, node: Any) -> Shapes | None:
        name = node.func.name
        if name in _SCALARS:
            return None
        if name == "vector":
            return EMPTY
        if name in ("absent", "absent_over_time"):
            return _absent(node.args[0])
        if name == "info":
            return OPEN
        shapes = next((found for arg in node.args if (found := self._shapes(arg)) is not None), EMPTY)
        if name in ("label_replace", "label_join"):
            return distinct(shape.over({node.args[1].val: ANY}) for shape in shapes)
        if name.startswith("histogram_quantile"):
            return distinct(shape.without(["le"]) for shape in shapes)
        return shapes

    def _joined(self, node: Any) -> Shapes | None:
        left, right = self._shapes(node.lhs), self._shapes(node.rhs)
        if left is None or right is None:
            return left if right is None else right
        op, modifier = str(node.op), node.modifier
        if op == "or":
            return distinct((*left, *right))
        if op == "unless":
            return left
        matching = modifier.matching if modifier else None
        on = matching.labels if matching and matching.type == promql.LabelModifierType.Include else None
        ignored = matching.labels if matching and on is None else ()
        card = modifier.card if modifier else promql.VectorMatchCardinality.OneToOne
        group = (modifier.group_labels or ()) if modifier else ()
        if card == promql.VectorMatchCardinality.OneToMany:
            left, right = right, left
        return distinct(
            joined
            for many in left
            for one in right
            if (joined := _join(many, one, on, ignored, group, _keeps_all(op, card))) is not None
        )


def _keeps_all(op: str, card: Any) -> bool:
    """Whether the result has all labels of its side, and not only those that were matched on."""
    return op == "and" or card != promql.VectorMatchCardinality.OneToOne


def _join(
    many: Shape,
    one: Shape,
    on: Sequence[str] | None,
    ignored: Sequence[str],
    group: Sequence[str],
    keeps_all: bool,
) -> Shape | None:
    """What two series give together; None where their labels cannot agree."""
    labels = on if on is not None else {*many.values, *one.values}.difference(ignored)
    agreed: dict[str, str | None] = {}
    for label in labels:
        mine, theirs = many.value(label), one.value(label)
        if mine is not ANY and theirs is not ANY and mine != theirs:
            return None
        agreed[label] = theirs if mine is ANY else mine
    joined = many.over(agreed)
    if not keeps_all:
        joined = joined.only(on) if on is not None else joined.without(ignored)
    return joined.over({label: one.value(label) for label in group})


def _matchers(node: Any) -> list[Matcher]:
    return [
        Matcher(matcher.name, _OPERATORS[str(matcher.op)], matcher.value)
        for matcher in node.matchers.matchers
    ]


def _absent(arg: Any) -> Shapes:
    """`absent` has the labels that its selector demands by `=`."""
    selector = arg.vector_selector if isinstance(arg, promql.MatrixSelector) else arg
    if not isinstance(selector, promql.VectorSelector):
        return EMPTY
    demanded = {m.label: m.value for m in _matchers(selector) if m.operator is Operator.EQUAL}
    return (Shape({name: value for name, value in demanded.items() if value and name != "__name__"}),)
