"""Every installed action as its class describes it: docstrings for people, models for parameters."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from remediator.adapters.registry import action_class, connection_kind, kinds
from remediator.catalogue.fields import Model, models
from remediator.pipeline.ports import Action


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of action. The sentences are the first paragraphs of the docstrings of its methods."""

    kind: str
    what: str
    connection: str
    idempotent: bool
    observes: str
    plans: str
    applies: str
    undo: str
    irreversible: str
    permissions: str
    parameters: tuple[Model, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """One kind of connection, with the kinds of action that use it."""

    kind: str
    used_by: tuple[str, ...]
    settings: tuple[Model, ...]


def read(names: Iterable[str] = ()) -> tuple[Kind, ...]:
    """The actions of these kinds, or all that are installed.

    Raises:
        Refused: when one of them is not installed.
    """
    return tuple(_kind(name, action_class(name)) for name in (names or kinds()))


def connections(names: Iterable[str] = ()) -> tuple[Connection, ...]:
    """The kinds of connection that these actions use, or all.

    Raises:
        Refused: when one of them is not installed.
    """
    used: dict[str, list[str]] = {}
    for name in names or kinds():
        used.setdefault(connection_kind(action_class(name)), []).append(name)
    return tuple(
        Connection(kind, tuple(by), models(action_class(by[0]).Connection))
        for kind, by in sorted(used.items())
    )


def _kind(name: str, class_: type[Action[Any, Any]]) -> Kind:
    return Kind(
        kind=name,
        what=_first(class_),
        connection=connection_kind(class_),
        idempotent=class_.idempotent,
        observes=_first(class_.observe),
        plans=_first(class_.plan),
        applies=_first(class_.apply),
        undo=_first(class_.undo),
        irreversible=_irreversible(class_),
        permissions=_first(class_.permissions),
        parameters=models(class_.Params),
    )


def _first(thing: Any) -> str:
    """The first paragraph of its docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n", 1)[0].split())


def _irreversible(class_: type[object]) -> str:
    """What its effects say of themselves, read from where it makes them: only a plan knows it for certain."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(class_)))
    said = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "irreversible"
    ]
    if not said:
        return "no"
    always = all(isinstance(value, ast.Constant) and value.value is True for value in said)
    return "yes" if always else "sometimes; the plan says"
