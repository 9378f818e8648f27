"""What pydantic found wrong, as faults a person can mend; and secrets that stand in files of their own.

A secret is any `SecretStr` of a model: its key `x` may be given as `x_file`, the path of a file that holds it.
No value of such a field is ever shown, and no password of a URL.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from remediator.adapters.yamlfiles import Fault
from remediator.domain.durations import parse_duration

FILE_SUFFIX = "_file"
_PASSWORD = re.compile(r"(://[^/@\s:]*:)[^/@\s]*@")
_LOOKS_SECRET = re.compile(r"token|secret|passw|credential|api_?key", re.IGNORECASE)


class Strict(BaseModel):
    """A part of a rule or playbook file: no unknown keys, no conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


def read_duration(value: object) -> object:
    """A Prometheus duration such as `15m`, for a pydantic field.

    Raises:
        ValueError: when it is none.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f"found {show(value)}, expected a duration such as 90s, 15m, 1h30m or 7d")


def _more_than_none(value: object) -> object:
    read = read_duration(value)
    if read == timedelta(0):
        raise ValueError("found no time at all, expected a duration above 0s")
    return read


Duration = Annotated[timedelta, BeforeValidator(read_duration)]
"""May be `0s`."""

Span = Annotated[timedelta, BeforeValidator(_more_than_none)]
"""Above `0s`."""


def show(value: object, *, secret: bool = False) -> str:
    """A value as a finding names it: short, and without passwords."""
    if secret and value is not None:
        return "a value that is not shown"
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case str():
            text = _PASSWORD.sub(r"\1***@", value)
            return repr(text if len(text) <= 60 else text[:57] + "...")
    return repr(value)


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where none is near."""
    near = difflib.get_close_matches(found, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def one_of(found: str, known: Iterable[str], what: str) -> str:
    """The message for a name that is none of the known ones."""
    names = sorted(known)
    listed = ", ".join(names) if len(names) <= 12 else f"one of {len(names)}"
    hint = did_you_mean(found, names)
    return f"there is no {what} {found!r}; expected {listed or 'none: there are none'}{hint}"


def faults(error: ValidationError, model: object, at: Sequence[Hashable] = ()) -> list[Fault]:
    """What pydantic found, in the words of the file. `at` is where the validated part begins."""
    return [_fault(detail, model, tuple(at)) for detail in error.errors(include_url=False)]


def _fault(detail: ErrorDetails, model: object, at: tuple[Hashable, ...]) -> Fault:
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    last = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
    name = f"{last}: " if last else ""
    secret = _is_secret(model, loc)
    match detail["type"]:
        case "extra_forbidden":
            known = _keys(_schema(model, loc[:-1]))
            expected = ", ".join(sorted(known))
            hint = did_you_mean(last, known)
            return Fault((*at, *loc), f"unknown key {last!r}; expected one of {expected}{hint}", at_key=True)
        case "missing":
            return Fault((*at, *loc[:-1]), f"the key {last!r} is missing")
        case "value_error":
            return Fault((*at, *loc), f"{name}{detail['ctx']['error']}")
        case "literal_error" | "enum":
            expected = str(detail["ctx"]["expected"]).replace("'", "")
            choices = re.split(r", | or ", expected)
            found = detail["input"]
            hint = did_you_mean(found, choices) if isinstance(found, str) and not secret else ""
            return Fault((*at, *loc), f"{name}found {show(found, secret=secret)}, expected {expected}{hint}")
    expected = _expected(detail)
    return Fault((*at, *loc), f"{name}found {show(detail['input'], secret=secret)}, expected {expected}")


_EXPECTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "float_parsing": "a number",
    "path_type": "a path",
    "string_pattern_mismatch": "a text like {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "greater_than": "more than {gt}",
    "less_than": "less than {lt}",
}


def _expected(detail: ErrorDetails) -> str:
    """What pydantic expected, in the words of the file; pydantic's own where we have none."""
    if detail["type"] in _EXPECTED:
        return _EXPECTED[detail["type"]].format(**detail.get("ctx", {}))
    said = re.sub(r"^(Input|String|Value|URL) (should|must) (be |have )?", "", detail["msg"])
    return said[:1].lower() + said[1:]


def _members(schema: object) -> Iterator[object]:
    """The types that an annotation allows, without Annotated, Optional and the like."""
    origin = typing.get_origin(schema)
    if origin is Annotated:
        yield from _members(typing.get_args(schema)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(schema):
            yield from _members(member)
    else:
        yield schema


def _is_model(schema: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def _below(schema: object, part: Hashable) -> object:
    """The annotation of what stands under one key or list place; None where the schema does not say."""
    for member in _members(schema):
        if _is_model(member):
            for name, info in member.model_fields.items():
                if part == (info.alias or name):
                    return info.annotation
        origin, args = typing.get_origin(member), typing.get_args(member)
        if isinstance(origin, type) and issubclass(origin, Mapping) and args:
            return args[1]
        if origin in (list, tuple, set, frozenset) and args and isinstance(part, int):
            return args[0]
    return None


def _schema(schema: object, loc: Sequence[Hashable]) -> object:
    for part in loc:
        schema = _below(schema, part)
    return schema


def _keys(schema: object) -> set[str]:
    known: set[str] = set()
    for member in _members(schema):
        if _is_model(member):
            for name, info in member.model_fields.items():
                known.add(info.alias or name)
                if holds_secret(info.annotation):
                    known.add(name + FILE_SUFFIX)
    return known


def holds_secret(schema: object) -> bool:
    """Whether an annotation is a secret, or a mapping of names to secrets."""
    for member in _members(schema):
        if member is SecretStr:
            return True
        args = typing.get_args(member)
        if typing.get_origin(member) is dict and args and holds_secret(args[1]):
            return True
    return False


def _is_secret(model: object, loc: Sequence[Hashable]) -> bool:
    return any(holds_secret(_schema(model, loc[:depth])) for depth in range(1, len(loc) + 1)) or any(
        isinstance(part, str) and _LOOKS_SECRET.search(part) for part in loc[-1:]
    )


def read_secrets(
    schema: object, data: Any, base: Path, at: Sequence[Hashable] = ()
) -> tuple[Any, list[Fault]]:
    """`data` with every `x_file` replaced by `x`, the file's content less one newline at its end.

    A relative path is taken from `base`. What is wrong with a file is a fault at its key.
    """
    told: list[Fault] = []
    if isinstance(data, list):
        items = [read_secrets(_below(schema, i), item, base, (*at, i)) for i, item in enumerate(data)]
        return [item for item, _ in items], [fault for _, found in items for fault in found]
    if not isinstance(data, dict):
        return data, told
    read: dict[str, Any] = {}
    for key, value in data.items():
        name = str(key).removesuffix(FILE_SUFFIX)
        below = _below(schema, key)
        if below is None and name != key and holds_secret(_below(schema, name)):
            if name in data:
                told.append(Fault((*at, key), f"{name!r} and {key!r} are both given; give one"))
            else:
                _read_secret(read, name, value, base, told, (*at, key), _below(schema, name))
        else:
            read[key], found = read_secrets(below, value, base, (*at, key))
            told += found
    return read, told


WRITTEN = frozenset({"pins_file", "normal_file", "emergency_file"})
"""Files of a connection that hold no secret: an action writes them, or looks at them when it is used."""


def absolute_files(
    schema: object, data: dict[str, Any], base: Path, at: Sequence[Hashable] = ()
) -> tuple[dict[str, Any], list[Fault]]:
    """`data` with every path under an `x_file` of the schema itself made absolute, from `base`, and tried."""
    told: list[Fault] = []
    read = dict(data)
    for key, value in data.items():
        if key.endswith(FILE_SUFFIX) and isinstance(value, str) and Path in _members(_below(schema, key)):
            path = (base / Path(value).expanduser()).absolute()
            read[key] = str(path)
            if key not in WRITTEN:
                _text(path, told, (*at, key))
    return read, told


def _text(path: Path, told: list[Fault], at: tuple[Hashable, ...]) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        told.append(Fault(at, f"the file {path} is not UTF-8"))
    except OSError as error:
        told.append(Fault(at, f"the file {path} cannot be read: {error.strerror or error}"))
    return None


def _read_secret(
    read: dict[str, Any],
    name: str,
    value: object,
    base: Path,
    told: list[Fault],
    at: tuple[Hashable, ...],
    schema: object,
) -> None:
    if not isinstance(value, str) or not value:
        told.append(Fault(at, f"{at[-1]}: found {show(value)}, expected the path of a file"))
        return
    path = base / Path(value).expanduser()
    text = _text(path, told, at)
    if text is None:
        return
    if any(member is SecretStr for member in _members(schema)):
        secret = text.removesuffix("\n").removesuffix("\r")
        if secret:
            read[name] = secret
        else:
            told.append(Fault(at, f"the file {path} is empty"))
        return
    # Names with their secrets, as `htpasswd -B` writes them: one `name:hash` a line.
    pairs = [line.partition(":") for line in text.splitlines() if line and not line.startswith("#")]
    if all(user and hash_ for user, _, hash_ in pairs):
        read[name] = {user: hash_ for user, _, hash_ in pairs}
    else:
        told.append(Fault(at, f"a line of the file {path} is not like name:hash"))
