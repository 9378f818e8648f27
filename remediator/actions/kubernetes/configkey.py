"""kubernetes.set_config_key: one key of one ConfigMap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from remediator.actions.kubernetes.cluster import Object
from remediator.actions.kubernetes.connection import ConfigKey, KubernetesAction, Name, allowed, rule
from remediator.actions.kubernetes.gitops import refuse_reverted
from remediator.actions.kubernetes.workloads import must_hold
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, Refused
from remediator.pipeline.ports import Permissions

CONFIG_MAP = "/api/v1/namespaces/{namespace}/configmaps/{name}"

_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|credential|private.?key|api.?key", re.IGNORECASE)
_SHOWN = 60


class SetConfigKeyParams(BaseModel):
    """Parameters of `kubernetes.set_config_key`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    config_map: Name = Field(description="one of the namespace's ConfigMaps that the connection allows")
    key: ConfigKey = Field(description="one of the keys of that ConfigMap that the connection allows")
    value: str = Field(max_length=8192, description="what the key is set to")

    @field_validator("key")
    @classmethod
    def _no_secret(cls, key: str) -> str:
        if _SECRET.search(key):
            raise ValueError("a key of that name belongs in a Secret, and plans and journals show this value")
        return key

    @field_validator("value")
    @classmethod
    def _text(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("the value holds a NUL")
        return value


@dataclass(frozen=True, slots=True)
class SeenConfigMap:
    """A ConfigMap as it was seen, None where there is none."""

    object: Object | None


class SetConfigKey(KubernetesAction):
    """Set one key of a ConfigMap, all others left as they are; pods see it at their next start, or a minute later."""

    kind: ClassVar[str] = "kubernetes.set_config_key"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SetConfigKeyParams

    async def observe(self, params: SetConfigKeyParams) -> SeenConfigMap:
        """Read the ConfigMap."""
        self._check(params)
        return SeenConfigMap(
            await self._cluster.get(CONFIG_MAP, namespace=params.namespace, name=params.config_map)
        )

    def plan(self, params: SetConfigKeyParams, seen: SeenConfigMap) -> tuple[Effect, ...]:
        """One effect: from the value that was seen to the wanted one."""
        subject = f"ConfigMap/{params.config_map} in {params.namespace}, key {params.key}"
        if seen.object is None:
            raise NothingSelected(f"there is no ConfigMap/{params.config_map} in {params.namespace}")
        if seen.object.get("immutable"):
            raise Refused(f"{subject}: the ConfigMap is immutable")
        if params.key in (seen.object.get("binaryData") or {}):
            raise Refused(f"{subject} holds binary data")
        refuse_reverted(seen.object, subject, "data", params.key)
        now = _value(seen.object, params.key)
        if now == params.value:
            raise NothingSelected(f"{subject} has that value already")
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"set {subject}: {_shown(now)} -> {_shown(params.value)}",
                before={"uid": seen.object["metadata"]["uid"], "value": now},
                after={"value": params.value},
                figures={"keys": 1},
                undo="remove the key" if now is None else f"set it back to {_shown(now)}",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Set the key, unless it has the value."""
        params = SetConfigKeyParams.model_validate(effect.params)
        if not await self._set(params, effect, effect.before["value"], params.value):
            return Result(f"{effect.subject} has that value already", changed=False)
        return Result(f"set {effect.subject} to {_shown(params.value)}")

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set the value that was, or remove the key, if nobody has set another value since."""
        params = SetConfigKeyParams.model_validate(effect.params)
        was = effect.before["value"]
        if not await self._set(params, effect, params.value, was):
            return Result(f"{effect.subject} has its old value already", changed=False)
        return Result(f"set {effect.subject} back to {_shown(was)}")

    def progress(self, effect: Effect, seen: SeenConfigMap) -> Progress:
        """Done where the key has the value."""
        if seen.object is None or seen.object["metadata"]["uid"] != effect.before["uid"]:
            return Progress.UNCLEAR
        now = _value(seen.object, effect.params["key"])
        if now == effect.after["value"]:
            return Progress.DONE
        return Progress.UNTOUCHED if now == effect.before["value"] else Progress.UNCLEAR

    def permissions(self, params: SetConfigKeyParams) -> Permissions:
        """Reading and patching the one ConfigMap. RBAC knows no keys: that only one is set is our own doing."""
        where, names = params.namespace, (params.config_map,)
        return Permissions(kubernetes=(rule("", "configmaps", "get patch", namespace=where, names=names),))

    def _check(self, params: SetConfigKeyParams) -> None:
        maps = self._connection.namespace(params.namespace).config_maps
        allowed(params.config_map, "ConfigMap", maps)
        allowed(params.key, f"key of ConfigMap {params.config_map}", maps[params.config_map])

    async def _set(
        self, params: SetConfigKeyParams, effect: Effect, expected: str | None, wanted: str | None
    ) -> bool:
        self._check(params)
        uid = effect.before["uid"]

        def change(found: Object) -> Object | None:
            now = {"uid": found["metadata"]["uid"], "value": _value(found, params.key)}
            if now == {"uid": uid, "value": wanted}:
                return None
            must_hold(effect.subject, {"uid": uid, "value": expected}, now)
            return {"data": {params.key: wanted}}

        return await self._cluster.change(
            CONFIG_MAP, change, namespace=params.namespace, name=params.config_map
        )


def _value(config_map: Object, key: str) -> str | None:
    value: str | None = (config_map.get("data") or {}).get(key)
    return value


def _shown(value: str | None) -> str:
    if value is None:
        return "(none)"
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
