"""The fields of a pydantic model in words: type, bounds, default, description."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]

_TYPES = {"integer": "whole number", "boolean": "true or false", "string": "text", "null": "none"}
_FORMATS = {"path": "path", "file-path": "path", "duration": "duration", "uri": "URL"}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
    "minProperties": "at least {} of them",
    "pattern": "like `{}`",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One field. `default` is JSON, and empty where a value is required; a path is one field of `x_file`."""

    name: str
    type: str
    bounds: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its fields; `about` is its docstring."""

    name: str
    about: str
    fields: tuple[Told, ...]


def models(class_: type[BaseModel]) -> tuple[Model, ...]:
    """The model, and those that stand in it."""
    schema = class_.model_json_schema()
    inner = schema.get("$defs", {})
    found = [_model(class_.__name__, schema, inner)]
    found += [_model(name, one, inner) for name, one in sorted(inner.items()) if "properties" in one]
    return tuple(found)


def _model(name: str, schema: Schema, inner: Schema) -> Model:
    required = schema.get("required", ())
    fields = tuple(
        _told(field, one, inner, required=field in required)
        for field, one in schema.get("properties", {}).items()
    )
    return Model(name, " ".join(schema.get("description", "").split()), fields)


def _told(name: str, schema: Schema, inner: Schema, *, required: bool) -> Told:
    default = "" if required else json.dumps(schema.get("default"), ensure_ascii=False)
    about = " ".join(str(schema.get("description", "")).split())
    return Told(name, _type(schema, inner), ", ".join(_bounds(schema, inner)), default, about)


def _type(schema: Schema, inner: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return name if "properties" in inner[name] else _type(inner[name], inner)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{one}`" for one in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one, inner) for one in schema[key]))
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), inner)}"
    if kind == "object":
        return f"mapping to {_type(_values(schema), inner)}"
    if kind == "string" and schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    return str(_TYPES.get(kind, kind or "any JSON value"))


def _values(schema: Schema) -> Schema:
    patterns = list(schema.get("patternProperties", {}).values())
    values = schema.get("additionalProperties") or (patterns[0] if patterns else {})
    return values if isinstance(values, Mapping) else {}


def _bounds(schema: Schema, inner: Schema) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if "properties" not in inner[name]:
            yield from _bounds(inner[name], inner)
    for key, words in _BOUNDS.items():
        if key in schema:
            yield words.format(schema[key])
    for one in schema.get("anyOf", ()):
        yield from _bounds(one, inner)
    if isinstance(schema.get("items"), Mapping):
        yield from _each(_bounds(schema["items"], inner))
    keys = [*schema.get("patternProperties", ()), *[schema.get("propertyNames", {}).get("pattern")]]
    yield from (f"each name like `{pattern}`" for pattern in keys if pattern)
    if schema.get("type") == "object":
        yield from _each(_bounds(_values(schema), inner))


def _each(bounds: Iterator[str]) -> Iterator[str]:
    return (bound if bound.startswith("each ") else f"each {bound}" for bound in bounds)
