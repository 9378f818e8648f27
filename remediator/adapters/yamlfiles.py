"""YAML as plain data, and where each part of it is written, so that a fault has a line and a column.

Stricter than YAML: one document, keys are strings and stand once, no tags, no merge keys, and what looks like a
date stays a text.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from remediator.errors import ConfigError, Finding

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML without libyaml: the same answers, slower
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

_VALUES = yaml.constructor.SafeConstructor()
_CORE = "tag:yaml.org,2002:"
_TEXT = frozenset({_CORE + "str", _CORE + "timestamp", _CORE + "value"})
_SCALARS = {
    _CORE + "int": _VALUES.construct_yaml_int,
    _CORE + "float": _VALUES.construct_yaml_float,
    _CORE + "bool": _VALUES.construct_yaml_bool,
}

Where = Sequence[Hashable]
"""Keys and list places from the top of a document down to one part of it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at one part of a document; `at_key` where the key itself is, not its value."""

    path: tuple[Hashable, ...]
    message: str
    at_key: bool = False
    severity: str = "error"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: its data, and its nodes to look places up in."""

    file: str
    data: Any
    _root: Any = field(default=None, repr=False, compare=False)

    def place(self, path: Where, *, at_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of what stands at `path`, or of the nearest part above that is there."""
        node, mark = self._root, self._root.start_mark if self._root else None
        for depth, part in enumerate(path):
            # What was read from a file of its own stands under the key that names the file.
            below = _child(node, part) or _child(node, f"{part}_file")
            if below is None:
                break
            key, node = below
            last = depth == len(path) - 1
            mark = key.start_mark if key is not None and last and at_key else node.start_mark
        return (mark.line + 1, mark.column + 1) if mark else (1, 1)

    def finding(self, fault: Fault) -> Finding:
        """The fault with its place."""
        line, column = self.place(fault.path, at_key=fault.at_key)
        return Finding(self.file, line, column, fault.message, fault.severity)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings as a person reads them: by file, line and column."""
    return tuple(sorted(findings, key=lambda found: (found.file, found.line, found.column)))


def load_yaml(path: Path) -> Document:
    """Read a file.

    Raises:
        ConfigError: when it cannot be read, is no YAML, or is not as strict as we are.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError((Finding(str(path), line, 1, "this is not UTF-8"),)) from error
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise ConfigError((Finding(str(path), 1, 1, message),)) from error
    return read_yaml(text, str(path))


def read_yaml(text: str, file: str) -> Document:
    """Read a text; `file` is its name in findings.

    Raises:
        ConfigError: as `load_yaml`.
    """
    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigError((Finding(file, line, column, f"this is not YAML: {said}"),)) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise ConfigError((Finding(file, *place, f"this is not YAML: {error.reason}"),)) from error
    if root is None:
        return Document(file, None)
    builder = _Builder(file)
    data = builder.build(root)
    if builder.findings:
        raise ConfigError(tuple(builder.findings))
    return Document(file, data, root)


def _compose(text: str) -> Any:
    loader = Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


class _Builder:
    """Turns nodes into data, and collects what is against the rules."""

    def __init__(self, file: str) -> None:
        self.findings: list[Finding] = []
        self._file = file
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()

    def build(self, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._built:
            return self._built[id(node)]
        if id(node) in self._open:
            return self._wrong(node, "this anchor holds itself")
        self._open.add(id(node))
        built = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._list(node)
        self._open.discard(id(node))
        self._built[id(node)] = built
        return built

    def _scalar(self, node: Any) -> Any:
        if node.tag in _TEXT:
            return node.value
        if node.tag == _CORE + "null":
            return None
        construct = _SCALARS.get(node.tag)
        if construct is None:
            return self._wrong(node, f"the tag {node.tag!r} is not allowed here")
        try:
            return construct(node)
        except (ValueError, KeyError) as error:
            return self._wrong(node, f"{node.value!r} is tagged as something that it is not: {error}")

    def _list(self, node: Any) -> list[Any]:
        if node.tag != _CORE + "seq":
            self._wrong(node, f"the tag {node.tag!r} is not allowed here")
        return [self.build(item) for item in node.value]

    def _mapping(self, node: Any) -> dict[str, Any]:
        if node.tag != _CORE + "map":
            self._wrong(node, f"the tag {node.tag!r} is not allowed here")
        built: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            value = self.build(value_node)
            if key is None:
                continue
            if key in lines:
                self._wrong(key_node, f"the key {key!r} stands twice; the first is in line {lines[key]}")
                continue
            lines[key] = key_node.start_mark.line + 1
            built[key] = value
        return built

    def _key(self, node: Any) -> str | None:
        if node.tag == _CORE + "merge":
            self._wrong(node, "merge keys (<<) are not supported; write the keys out")
            return None
        if not isinstance(node, yaml.ScalarNode):
            self._wrong(node, "a key must be a text")
            return None
        if node.tag not in _TEXT:
            self._wrong(node, f"a key must be a text; put {node.value} in quotes")
            return None
        return str(node.value)

    def _wrong(self, node: Any, message: str) -> None:
        mark = node.start_mark
        self.findings.append(Finding(self._file, mark.line + 1, mark.column + 1, message))


def _child(node: Any, part: Hashable) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return None, node.value[part]
    return None
