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
                raise ValueError(f"{self.value!r} is not a regular expression (RE2): {error}") from error
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


# Alertmanager's classic syntax: a bare label name, an operator, a value that is quoted or bare.
_CLASSIC = re.compile(r"^\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*((?s:.*?))\s*$")
# Its UTF-8 syntax also lets the name be quoted.
_QUOTED_NAME = re.compile(r'^\s*("(?:[^"\\]|\\.)*")\s*(=~|=|!=|!~)\s*((?s:.*?))\s*$')
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


def parse_matcher(text: str) -> Matcher:
    """Read one matcher, as in an Alertmanager route's `matchers`.

    Raises:
        ValueError: says what is wrong with the text.
    """
    found = _CLASSIC.match(text) or _QUOTED_NAME.match(text)
    if found is None:
        raise ValueError(
            f'{text!r} is not a matcher; write it like severity="critical" or instance=~"api-.*"'
        )
    name, operator, raw = found.groups()
    label = _unquote(name) if name.startswith('"') else name
    if not label:
        raise ValueError(f"{text!r} has an empty label name")
    return Matcher(label, Operator(operator), _value(raw, text))


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """Read a list such as `{a="b", c=~"d.*"}`; the braces may be left out.

    Raises:
        ValueError: says which part is wrong.
    """
    body = text.strip()
    if body.startswith("{") != body.endswith("}"):
        raise ValueError(f"{text!r} opens or closes a brace without its partner")
    if body.startswith("{"):
        body = body[1:-1]
    return tuple(parse_matcher(part) for part in _split(body) if part.strip())


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
    if raw.startswith('"'):
        if len(raw) < 2 or not raw.endswith('"'):
            raise ValueError(f"{text!r} opens a quote and does not close it")
        return _unquote(raw)
    if '"' in raw:
        raise ValueError(f"{text!r} has a quote inside a bare value; put the whole value in quotes")
    return _unescape(raw, text)


def _unquote(quoted: str) -> str:
    inner = quoted[1:-1]
    if re.search(r'(?<!\\)(?:\\\\)*"', inner):
        raise ValueError(f"{quoted!r} has an unescaped quote inside")
    return _unescape(inner, quoted)


def _unescape(raw: str, text: str) -> str:
    if raw.endswith("\\") and (len(raw) - len(raw.rstrip("\\"))) % 2:
        raise ValueError(f"{text!r} ends in an unfinished escape")
    # Like Alertmanager: an escape it does not know stands for itself, backslash and all.
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), raw, flags=re.DOTALL)
