"""A playbook's steps: what `$name` means in them, and whether their actions can be given what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from remediator.adapters.playbookschema import ActionParams, PlaybookFile, StepRow
from remediator.adapters.schema import did_you_mean, faults, one_of, show
from remediator.adapters.yamlfiles import Fault
from remediator.domain.playbooks import Reference

Where = tuple[Any, ...]
"""Keys and list places down to one part of a document."""

_REFERENCE = re.compile(r"\$([a-zA-Z_][a-zA-Z0-9_]*)")


def is_reference(text: str) -> bool:
    """Whether the whole text is `$name`."""
    return _REFERENCE.fullmatch(text) is not None


def references(value: Any, at: Where = ()) -> Iterator[tuple[Where, Reference]]:
    """Every `$name` in a value, with its place."""
    for path, text in _texts(value, at):
        found = _REFERENCE.fullmatch(text)
        if found:
            yield path, Reference(found[1])


def named(value: Any) -> set[str]:
    """Every parameter that a value speaks of, also where it must not."""
    return {name for _, text in _texts(value) for name in _REFERENCE.findall(text)}


def filled(value: Any) -> Any:
    """The value with a `Reference` in the place of every `$name`."""
    if isinstance(value, str):
        found = _REFERENCE.fullmatch(value)
        return Reference(found[1]) if found else value
    if isinstance(value, dict):
        return {key: filled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner) for inner in value]
    return value


def check_step(step: StepRow, row: PlaybookFile, actions: ActionParams, at: Where) -> Iterator[Fault]:
    """What is wrong with one step, which stands at `at` in the playbook's file."""
    for path, text in _stray(step.arguments, (*at, "with")):
        yield Fault(path, f"found {show(text)}, expected $name alone: nothing is spliced into a text")
    for path, reference in references(step.arguments, (*at, "with")):
        if reference.name not in row.parameters:
            yield Fault(path, one_of(reference.name, row.parameters, "parameter"))
    model = actions.get(step.action)
    if model is None:
        yield Fault((*at, "action"), one_of(step.action, actions, "action"))
        return
    yield from _check_connection(step, row, at)
    yield from _check_arguments(step, model, at)


def _check_connection(step: StepRow, row: PlaybookFile, at: Where) -> Iterator[Fault]:
    here = (*at, "with", "connection")
    if "connection" not in step.arguments:
        yield Fault(_where(step, at), f"{step.action} needs the parameter 'connection'")
        return
    given = step.arguments["connection"]
    parameter = row.parameters.get(given[1:]) if isinstance(given, str) and is_reference(given) else None
    if not isinstance(given, str) or not is_reference(given):
        yield Fault(here, "expected a parameter, like $connection: a playbook is generic, the rule names it")
    elif parameter is not None and not parameter.connection:
        yield Fault(here, f"the parameter {given[1:]!r} does not say which kind of connection it is")


def _check_arguments(step: StepRow, model: type[BaseModel], at: Where) -> Iterator[Fault]:
    known = {info.alias or name: info for name, info in model.model_fields.items()}
    for name, value in step.arguments.items():
        if name == "connection":
            continue
        if name not in known:
            expected = ", ".join(sorted({*known, "connection"}))
            told = f"{step.action} has no parameter {name!r}; expected one of {expected}"
            yield Fault((*at, "with", name), told + did_you_mean(name, known), at_key=True)
        elif all("$" not in text for _, text in _texts(value)):
            yield from _check_value(model, name, value, (*at, "with", name))
    given = {*step.arguments, "connection"}
    for name, info in known.items():
        if info.is_required() and name not in given:
            yield Fault(_where(step, at), f"{step.action} needs the parameter {name!r}")


def _check_value(model: type[BaseModel], name: str, value: Any, at: Where) -> list[Fault]:
    """A value that is written out, by the type of its field alone: the others are not known yet."""
    info = next(info for field, info in model.model_fields.items() if name == (info.alias or field))
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[info.annotation, info])  # type: ignore[arg-type]  # known only at run time
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return faults(error, info.annotation, at)
    return []


def _where(step: StepRow, at: Where) -> Where:
    return (*at, "with") if step.arguments else at


def _texts(value: Any, at: Where = ()) -> Iterator[tuple[Where, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*at, index))


def _stray(value: Any, at: Where = ()) -> Iterator[tuple[Where, str]]:
    return ((path, text) for path, text in _texts(value, at) if "$" in text and not is_reference(text))
