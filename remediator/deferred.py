"""Modules that are imported at their first use.

Every action's class is loaded when the rules are checked, at start. The client library behind it is large, and a
service that never talks to its system should neither wait for it nor hold it in memory.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(self.__name__), name)
        setattr(self, name, found)
        return found


def deferred(name: str) -> ModuleType:
    """That module: the first attribute that is asked for imports it.

    Type checkers know nothing of it; write the import beside it, under TYPE_CHECKING.
    """
    return _Deferred(name)
