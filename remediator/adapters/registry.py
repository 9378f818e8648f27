"""The actions: found by entry point, loaded when first used, bound to the connections of the rule files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from remediator.errors import Refused
from remediator.pipeline.ports import Action

GROUP = "remediator.actions"


@cache
def _found() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def kinds() -> tuple[str, ...]:
    """Every installed kind of action, ours and third parties'."""
    return tuple(sorted(_found()))


@cache
def action_class(kind: str) -> type[Action[Any, Any]]:
    """The class of a kind; its client library is imported now, not before.

    Raises:
        Refused: when no such action is installed.
    """
    point = _found().get(kind)
    if point is None:
        raise Refused(f"no action {kind} is installed")
    loaded: type[Action[Any, Any]] = point.load()
    return loaded


def connection_kind(class_: type[Action[Any, Any]]) -> str:
    """The kind of connection an action acts through, as its model's `kind` says."""
    return str(class_.Connection.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]


class ParamsModels(Mapping[str, type[BaseModel]]):
    """Kind of action to the model of its parameters, each loaded when asked for."""

    def __getitem__(self, kind: str) -> type[BaseModel]:
        if kind not in _found():
            raise KeyError(kind)
        return action_class(kind).Params

    def __iter__(self) -> Any:
        return iter(kinds())

    def __len__(self) -> int:
        return len(_found())


class ConnectionModels(Mapping[str, type[BaseModel]]):
    """Kind of connection to its model. Asking for one kind loads only the actions that are named for it."""

    def __getitem__(self, kind: str) -> type[BaseModel]:
        for name in sorted(_found(), key=lambda name: not name.startswith(f"{kind}.")):
            class_ = action_class(name)
            if connection_kind(class_) == kind:
                return class_.Connection
        raise KeyError(kind)

    def __iter__(self) -> Any:
        return iter(sorted({connection_kind(action_class(name)) for name in kinds()}))

    def __len__(self) -> int:
        return len(list(iter(self)))


class BoundActions:
    """Actions with their connections, made once each."""

    def __init__(self, connections: Mapping[str, Mapping[str, BaseModel]]) -> None:
        self._connections = connections
        self._bound: dict[tuple[str, str, str], Action[Any, Any]] = {}

    def get(self, kind: str, system: str, connection: str) -> Action[Any, Any]:
        """The action on that connection of that system.

        Raises:
            Refused: when configuration names no such connection, or one of another kind.
        """
        key = (kind, system, connection)
        if key not in self._bound:
            class_ = action_class(kind)
            model = self._connections.get(system, {}).get(connection)
            if model is None:
                raise Refused(f"{system} has no connection {connection!r}")
            if not isinstance(model, class_.Connection):
                raise Refused(f"the connection {connection!r} is not one that {kind} can use")
            self._bound[key] = class_(model)  # type: ignore[call-arg]
        return self._bound[key]

    async def close(self) -> None:
        """Let all connections go."""
        for action in self._bound.values():
            await action.close()
        self._bound.clear()
