"""mlflow.set_alias: have an alias point to a verified version."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.actions.mlflow.registry import AliasName, MlflowAction, Model, ModelName, Version
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.pipeline.ports import Permissions

PREVIOUS = "previous"


class SetAliasParams(BaseModel):
    """Parameters of `mlflow.set_alias`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    model: ModelName = Field(description="the registered model; the connection must allow it")
    alias: AliasName = Field(description="the alias; the connection must allow it")
    version: Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,8}|previous)$")] = Field(
        description="its number, or `previous`: the newest verified one below the one that serves"
    )


class SetAlias(MlflowAction):
    """Have an alias of a registered model point to a verified version; whoever loads by alias gets that one.

    MLflow has no compare-and-set: the alias is read right before it is moved, and again afterwards.
    """

    kind: ClassVar[str] = "mlflow.set_alias"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SetAliasParams

    async def observe(self, params: SetAliasParams) -> Model:
        """Read the model."""
        if params.alias not in self._connection.aliases:
            raise Refused(
                f"the connection does not allow the alias {params.alias} "
                f"(it allows {', '.join(self._connection.aliases) or 'none'})"
            )
        return await self._model(params.model)

    def plan(self, params: SetAliasParams, seen: Model) -> tuple[Effect, ...]:
        """One effect: from the version that was seen to the wanted one."""
        now = seen.aliases.get(params.alias)
        wanted = self._wanted(params, seen, now)
        if wanted.number == now:
            raise NothingSelected(f"{params.model}@{params.alias} points to version {now} already")
        why_not = self.not_verified(wanted)
        if why_not:
            raise Refused(f"{params.model} version {wanted.number} is not verified: {why_not}")
        shown = f"version {now}" if now else "nothing"
        return (
            Effect(
                action=self.kind,
                subject=f"{params.model}@{params.alias}",
                params=params.model_dump(mode="json"),
                summary=f"point {params.model}@{params.alias} to version {wanted.number}; it points to {shown}",
                before={"version": now, "created": wanted.created},
                after={"version": wanted.number},
                figures={"versions": len(seen.versions)},
                undo=f"point it to {shown}" if now else "remove the alias",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Move it, unless it points there."""
        params = SetAliasParams.model_validate(effect.params)
        seen = await self.observe(params)
        now, target = seen.aliases.get(params.alias), str(effect.after["version"])
        if now == target:
            return Result(f"{effect.subject} points to version {target} already", changed=False)
        if now != effect.before["version"]:
            raise Drifted(f"{effect.subject} points to {now}, and {effect.before['version']} was planned on")
        wanted = self._wanted(params, seen, now)
        if (wanted.number, wanted.created) != (target, effect.before["created"]):
            raise Drifted(f"version {target} of {params.model} is not the one that was planned on")
        why_not = self.not_verified(wanted)
        if why_not:
            raise Drifted(f"{params.model} version {target} is not verified any more: {why_not}")
        await self._move(params, target)
        return Result(
            f"{effect.subject} points to version {target}; it pointed to {now or 'nothing'}",
            evidence={"mlflow": {"alias": params.alias, "from": now, "to": target}},
            captured={"version": now},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Have it point to the version that it pointed to, if nobody has moved it since."""
        params = SetAliasParams.model_validate(effect.params)
        seen = await self.observe(params)
        now, was = seen.aliases.get(params.alias), effect.before["version"]
        if now == was:
            return Result(f"{effect.subject} points to {was or 'nothing'} already", changed=False)
        if now != effect.after["version"]:
            raise Drifted(f"{effect.subject} was moved to {now} since")
        if was is not None:
            seen.version(str(was))
        await self._move(params, was)
        return Result(f"{effect.subject} points to {was or 'nothing'} again")

    def progress(self, effect: Effect, seen: Model) -> Progress:
        """By where the alias points."""
        now = seen.aliases.get(effect.params["alias"])
        if now == effect.after["version"]:
            return Progress.DONE
        there = any(
            (one.number, one.created) == (effect.after["version"], effect.before["created"])
            for one in seen.versions
        )
        return Progress.UNTOUCHED if there and now == effect.before["version"] else Progress.UNCLEAR

    def permissions(self, params: SetAliasParams) -> Permissions:
        """Reading the model, and its aliases."""
        return Permissions(http=self._urls("POST registered-models/alias", "DELETE registered-models/alias"))

    def _wanted(self, params: SetAliasParams, seen: Model, now: str | None) -> Version:
        if params.version != PREVIOUS:
            return seen.version(params.version)
        if now is None:
            raise NothingSelected(
                f"{params.model}@{params.alias} points to nothing, so nothing is previous to it"
            )
        for one in seen.versions:
            if int(one.number) < int(now) and not self.not_verified(one):
                return one
        raise NothingSelected(f"{params.model} has no verified version below {now}")

    async def _move(self, params: SetAliasParams, to: Any) -> None:
        body = {"name": params.model, "alias": params.alias}
        if to is None:
            await self._write("DELETE", "registered-models/alias", body)
        else:
            await self._write("POST", "registered-models/alias", {**body, "version": str(to)})
        now = (await self._afterwards(params.model)).aliases.get(params.alias)
        if now != to:
            raise OutcomeUnknown(f"{params.model}@{params.alias} was moved to {to} and points to {now}")
