"""PromQL, as far as we write it: an alert's labels in the place of `$scope`, so that no healthy sibling answers.

scoped("cronjob_failed:max{$scope} <= 0", ("cronjob",), {"cronjob": "archive"})
== 'cronjob_failed:max{cronjob="archive"} <= 0'
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from remediator.domain.alerts import Labels

PLACEHOLDER = "$scope"

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
  | (?P<place>\$[a-zA-Z_]\w*)
  | (?P<number>(?:0[xX][0-9a-fA-F]+|\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
  | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
  | (?P<mark>=~|!~|==|!=|<=|>=|[-+*/%^=<>(){}\[\],:@])
    """,
    re.VERBOSE | re.ASCII,
)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPENS = {"(": ")", "{": "}", "[": "]"}
_WORDS = frozenset(
    [
        "and",
        "or",
        "unless",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "offset",
        "atan2",
        "start",
        "end",
        "inf",
        "nan",
    ]
)
_AGGREGATIONS = frozenset(
    [
        "sum",
        "avg",
        "min",
        "max",
        "count",
        "stddev",
        "stdvar",
        "group",
        "topk",
        "bottomk",
        "quantile",
        "count_values",
        "limitk",
        "limit_ratio",
    ]
)


def scoped(expr: str, scope: Sequence[str], labels: Labels) -> str:
    """`expr` with every `$scope` replaced by matchers for the alert's `scope` labels.

    A label that the alert does not carry must be absent from the series too: in PromQL that is `label=""`.

    Raises:
        ValueError: as `check` does.
    """
    check(expr, scope)
    matchers = ",".join(f"{label}={quote(labels.get(label, ''))}" for label in scope)
    return "".join(matchers if kind == "place" else text for kind, text, _ in _tokens(expr))


def check(expr: str, scope: Sequence[str] = ()) -> None:
    """Find what can be seen to be wrong without Prometheus: `promtool` is the judge of the rest.

    Raises:
        ValueError: where brackets or quotes do not close, where it reads like a sentence, where a `$` is
            anything but `$scope` inside braces, and where there is a scope but no place for it, or a place
            but no scope.
    """
    for label in scope:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"{label!r} in the scope is not a label name")
    if not expr.strip():
        raise ValueError("the expression is empty")
    _check_words(expr)
    places = _check_brackets(expr)
    if scope and not places:
        raise ValueError(f"there is a scope ({', '.join(scope)}) but no {PLACEHOLDER} in {expr!r}")
    if places and not scope:
        raise ValueError(f"there is a {PLACEHOLDER} but the scope names no label")


def _check_words(expr: str) -> None:
    """Two names in a row make a sentence, unless one of them is a word of the language."""
    before = ""
    for kind, text, _ in _tokens(expr):
        if kind == "space":
            continue
        name = kind == "name" and text.lower() not in _WORDS
        if name and before:
            raise ValueError(f"{before!r} and {text!r} follow each other: this is no PromQL expression")
        before = text if name and text.lower() not in _AGGREGATIONS else ""


def _check_brackets(expr: str) -> int:
    """The number of places for a scope, each of which stands in the braces of a selector."""
    closing: list[str] = []
    places = 0
    for kind, text, at in _tokens(expr):
        if kind == "place":
            _check_place(text, closing, at)
            places += 1
        elif kind == "mark" and text in _OPENS:
            closing.append(_OPENS[text])
        elif kind == "mark" and text in _OPENS.values() and (not closing or closing.pop() != text):
            raise ValueError(f"{text!r} at character {at + 1} closes nothing")
    if closing:
        raise ValueError(f"a {closing[-1]!r} is missing at the end")
    return places


def quote(value: str) -> str:
    """A PromQL string literal that is exactly `value`, in printable ASCII.

    A lone surrogate, which no label can hold, becomes U+FFFD as it does in Go.
    """
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return f"\\{char}"
    if 0x20 <= code < 0x7F:
        return char
    if 0xD800 <= code < 0xE000:
        return "\\ufffd"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _check_place(text: str, closing: list[str], at: int) -> None:
    if text != PLACEHOLDER:
        raise ValueError(f"{text!r} at character {at + 1} is unknown; only {PLACEHOLDER} is replaced")
    if closing[-1:] != ["}"]:
        raise ValueError(f"{PLACEHOLDER} at character {at + 1} stands outside the braces of a selector")


def _tokens(expr: str) -> Iterator[tuple[str, str, int]]:
    at = 0
    while at < len(expr):
        found = _TOKEN.match(expr, at)
        if found is None:
            if expr[at] in "\"'`":
                raise ValueError(f"the quote at character {at + 1} does not close")
            raise ValueError(f"{expr[at]!r} at character {at + 1} is no PromQL")
        yield found.lastgroup or "", found[0], at
        at = found.end()
