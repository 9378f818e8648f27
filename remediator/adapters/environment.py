"""A model's values from the environment: `server.port` is `REMEDIATOR_SERVER__PORT`, a list is JSON."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from remediator.adapters.schema import did_you_mean
from remediator.errors import Finding

PREFIX = "REMEDIATOR_"
DELIMITER = "__"


def variable(path: Sequence[Hashable]) -> str:
    """The variable that sets what stands at `path`."""
    return PREFIX + DELIMITER.join(map(str, path)).upper()


@dataclass(frozen=True)
class Environment:
    """The variables that we were given, read as values for `model`."""

    model: type[BaseModel]
    variables: Mapping[str, str]

    def read(self) -> tuple[dict[str, Any], list[Finding]]:
        """The values that are set, not validated yet, and what is wrong with the variables themselves."""
        told = [self._unknown(name) for name in self.variables if self._is_unknown(name)]
        left = {name.lower(): value for name, value in self.variables.items()}
        while True:
            try:
                return _Source(self.model, left)(), told
            except SettingsError as error:
                found = re.search(r'field "(\w+)"', str(error))
                name = variable((found[1],)) if found else ""
                if left.pop(name.lower(), None) is None:
                    # The fault is in a variable that we cannot name: what is left cannot be read either.
                    return {}, [*told, self.finding(PREFIX, str(error))]
                told.append(self.finding(name, "this is not JSON"))

    def origin(self, path: Sequence[Hashable]) -> str:
        """The variable that set what stands at `path`; empty where none did."""
        given = {name.upper() for name in self.variables}
        names = (variable(path[:depth]) for depth in range(len(path), 0, -1))
        return next((name for name in names if name in given), "")

    @staticmethod
    def finding(name: str, message: str) -> Finding:
        """A fault of a variable, which has no line."""
        return Finding("environment", 1, 1, f"{name}: {message}")

    def _is_unknown(self, name: str) -> bool:
        """Whether it looks like a setting of ours but is none.

        Kubernetes gives every pod variables such as REMEDIATOR_SERVICE_HOST and REMEDIATOR_PORT: those are
        not for us to judge.
        """
        if not name.upper().startswith(PREFIX):
            return False
        group, delimiter, _ = name.upper().removeprefix(PREFIX).lower().partition(DELIMITER)
        if group in self.model.model_fields:
            return False
        return bool(delimiter) or bool(did_you_mean(group, self.model.model_fields))

    def _unknown(self, name: str) -> Finding:
        group = name.upper().removeprefix(PREFIX).lower().partition(DELIMITER)[0]
        expected = ", ".join(sorted(self.model.model_fields))
        hint = did_you_mean(group, self.model.model_fields)
        return self.finding(name, f"there is no setting {group!r}; expected {expected}{hint}")


class _Source(EnvSettingsSource):
    """pydantic-settings' reading of nested variables, over a mapping instead of the process's environment."""

    def __init__(self, model: type[BaseModel], variables: Mapping[str, str]) -> None:
        self._variables = variables
        named = type("Variables", (BaseSettings, model), {"model_config": _CONFIG, "__module__": __name__})
        super().__init__(named)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


_CONFIG = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="ignore")
