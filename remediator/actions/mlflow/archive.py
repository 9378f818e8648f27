"""mlflow.archive: take a version out of the running; it is kept, so that a rollback to it stays possible."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.mlflow.registry import MlflowAction, Model, ModelName, VersionNumber
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions

ARCHIVED = "Archived"
TAG = "archived"


class ArchiveParams(BaseModel):
    """Parameters of `mlflow.archive`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    model: ModelName = Field(description="the registered model; the connection must allow it")
    version: VersionNumber = Field(description="the number of the version; none that is in use")


class Archive(MlflowAction):
    """Archive one version of a model that is not in use; nothing is deleted, and it stays there for a rollback."""

    kind: ClassVar[str] = "mlflow.archive"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = ArchiveParams

    async def observe(self, params: ArchiveParams) -> Model:
        """Read the model."""
        return await self._model(params.model)

    def plan(self, params: ArchiveParams, seen: Model) -> tuple[Effect, ...]:
        """One effect."""
        version = seen.version(params.version)
        subject = f"{params.model} version {params.version}"
        used = seen.used_by(params.version)
        if used:
            raise Refused(f"{subject} is in use: {used}")
        state = self._state(seen, params.version)
        if state == self._archived:
            raise NothingSelected(f"{subject} is archived already")
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"archive {subject} (its {self._connection.archive_by} is {state or 'not set'}); it is kept",
                before={"state": state, "created": version.created},
                after={"state": self._archived},
                figures={"versions": 1},
                undo=f"set the {self._connection.archive_by} back to {state or 'none'}",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Archive it, unless it is."""
        params = ArchiveParams.model_validate(effect.params)
        seen = await self._same(params, effect)
        state = self._state(seen, params.version)
        if state == self._archived:
            return Result(f"{effect.subject} is archived already", changed=False)
        if state != effect.before["state"]:
            raise Drifted(f"{effect.subject} is {state}, and {effect.before['state']} was planned on")
        used = seen.used_by(params.version)
        if used:
            raise Drifted(f"{effect.subject} is in use now: {used}")
        await self._set(params, self._archived)
        return Result(f"archived {effect.subject}; it is kept", captured={"state": state})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set the state that was, if nobody has set another since."""
        params = ArchiveParams.model_validate(effect.params)
        seen = await self._same(params, effect)
        state, was = self._state(seen, params.version), effect.before["state"]
        if state == was:
            return Result(f"{effect.subject} is not archived any more", changed=False)
        if state != self._archived:
            raise Drifted(f"{effect.subject} was set to {state} since")
        await self._set(params, was)
        return Result(f"{effect.subject} is {was or 'not archived'} again")

    def progress(self, effect: Effect, seen: Model) -> Progress:
        """By the state of the same version."""
        params = ArchiveParams.model_validate(effect.params)
        if not any(
            (one.number, one.created) == (params.version, effect.before["created"]) for one in seen.versions
        ):
            return Progress.UNCLEAR
        state = self._state(seen, params.version)
        if state == self._archived:
            return Progress.DONE
        return Progress.UNTOUCHED if state == effect.before["state"] else Progress.UNCLEAR

    def permissions(self, params: ArchiveParams) -> Permissions:
        """Reading the model, and its stages or tags."""
        by_stage = ("POST model-versions/transition-stage",)
        by_tag = ("POST model-versions/set-tag", "DELETE model-versions/delete-tag")
        return Permissions(http=self._urls(*(by_stage if self._connection.archive_by == "stage" else by_tag)))

    @property
    def _archived(self) -> str:
        return ARCHIVED if self._connection.archive_by == "stage" else "true"

    def _state(self, seen: Model, number: str) -> Any:
        version = seen.version(number)
        return version.stage if self._connection.archive_by == "stage" else version.tags.get(TAG)

    async def _same(self, params: ArchiveParams, effect: Effect) -> Model:
        try:
            seen = await self._model(params.model)
            version = seen.version(params.version)
        except NothingSelected as error:
            raise Drifted(f"{effect.subject} is gone") from error
        if version.created != effect.before["created"]:
            raise Drifted(f"{effect.subject} is another one than was planned on")
        return seen

    async def _set(self, params: ArchiveParams, state: Any) -> None:
        if self._connection.archive_by == "stage":
            await self._set_stage(params.model, params.version, str(state))
        elif state is None:
            await self._delete_tag(params.model, params.version, TAG)
        else:
            await self._set_tag(params.model, params.version, TAG, str(state))
