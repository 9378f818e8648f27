"""Alertmanager's label matchers: `=`, `!=`, `=~`, `!~`, anchored RE2, an absent label equals the empty one.

Python's `re` is backtracking and differs from RE2 at the edges, so this is the one place of the domain
that leans on a library (google-re2), as docs/adr/0002 says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import re2

from remediator.domain.alerts import Labels

_QUIET = re2.Options()
_QUIET.log_errors = False


class Operator(StrEnum):
    """How a matcher compares."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label predicate.

    Raises:
        ValueError: when a regular expression is not valid RE2.
    """

    label: str
    operator: Operator
    value: str
    _pattern: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.operator in (Operator.REGEX, Operator.NOT_REGEX):
            try:
                pattern = re2.compile(f"^(?:{self.value})$", _QUIET)
            except re2.error as error:
                said = error.args[0].decode(errors="replace") if error.args else error
                raise ValueError(f"{self.value!r} is not a regular expression (RE2): {said}") from error
            object.__setattr__(self, "_pattern", pattern)

    def matches(self, labels: Labels) -> bool:
        """Whether the label set satisfies this matcher."""
        value = labels.get(self.label, "")
        match self.operator:
            case Operator.EQUAL:
                return value == self.value
            case Operator.NOT_EQUAL:
                return value != self.value
            case Operator.REGEX:
                return self._pattern.search(value) is not None
            case Operator.NOT_REGEX:
                return self._pattern.search(value) is None

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.operator}"{escaped}"'


# Go's \s and unicode.IsSpace, which Python's are not.
_S = r"[ \t\n\f\r]*"
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
# Alertmanager's classic syntax: a bare label name, an operator, a value that is quoted or bare.
_CLASSIC = re.compile(rf"{_S}([a-zA-Z_:][a-zA-Z0-9_:]*){_S}(=~|=|!=|!~){_S}((?s:.*?)){_S}")
# Its UTF-8 syntax also lets the name be quoted.
_QUOTED_NAME = re.compile(rf'{_S}("(?:[^"\\]|\\.)*"){_S}(=~|=|!=|!~){_S}((?s:.*?)){_S}')
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


def parse_matcher(text: str) -> Matcher:
    """Read one matcher, as in an Alertmanager route's `matchers`.

    Raises:
        ValueError: says what is wrong with the text.
    """
    found = _CLASSIC.fullmatch(text) or _QUOTED_NAME.fullmatch(text)
    if found is None:
        raise ValueError(
            f'{text!r} is not a matcher; write it like severity="critical" or instance=~"api-.*"'
        )
    name, operator, raw = found.groups()
    label = _value(name, text) if name.startswith('"') else name
    if not label:
        raise ValueError(f"{text!r} has an empty label name")
    return Matcher(label, Operator(operator), _value(raw, text))


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Read a list such as `{a="b", c=~"d.*"}`; the braces may be left out, as may what follows a last comma.

    Raises:
        ValueError: says which part is wrong.
    """
    *parts, last = _split(text.removeprefix("{").removesuffix("}"))
    last = last.strip(_SPACE)
    return tuple(map(parse_matcher, [*parts, last] if last else parts))


def _split(body: str) -> list[str]:
    parts, current, quoted, escaped = [], "", False, False
    for char in body:
        if char == "," and not quoted:
            parts.append(current)
            current = ""
            continue
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
        current += char
    return [*parts, current]


def _value(raw: str, text: str) -> str:
    """What a quoted or bare value stands for. An unknown escape stands for itself, backslash and all."""
    quoted = raw.startswith('"')
    body = raw[1:] if quoted else raw
    value, escaped, closed = "", False, not quoted
    for place, char in enumerate(body):
        last = place == len(body) - 1
        if escaped:
            value, escaped = value + _ESCAPES.get(char, f"\\{char}"), False
        elif char == "\\" and not last:
            escaped = True
        elif char == '"':
            if closed or not last:
                raise ValueError(f"{text!r} has an unescaped quote inside the value")
            closed = True
        else:
            value += char
    if not closed:
        raise ValueError(f"{text!r} opens a quote and does not close it")
    return value
