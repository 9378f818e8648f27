"""mlflow.block_promotion: say on a candidate that it must not be promoted, where our own promotion reads it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from remediator.actions.mlflow.registry import MlflowAction, Model, ModelName, Version
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions

NEWEST = "newest"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected text without control characters")
    return text


class BlockPromotionParams(BaseModel):
    """Parameters of `mlflow.block_promotion`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    model: ModelName = Field(description="the registered model; the connection must allow it")
    version: Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,8}|newest)$")] = Field(
        default=NEWEST, description="the number of the candidate, or `newest`"
    )
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)] = (
        Field(default="blocked by remediator", description="what the tag says")
    )


class BlockPromotion(MlflowAction):
    """Tag a candidate version so that it is not promoted; refused where it serves already."""

    kind: ClassVar[str] = "mlflow.block_promotion"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = BlockPromotionParams

    async def observe(self, params: BlockPromotionParams) -> Model:
        """Read the model."""
        return await self._model(params.model)

    def plan(self, params: BlockPromotionParams, seen: Model) -> tuple[Effect, ...]:
        """One effect: the tag."""
        version = _candidate(params, seen)
        subject = f"{params.model} version {version.number}"
        used = seen.used_by(version.number)
        if used:
            raise Refused(f"{subject} serves already: {used}. Blocking is too late; roll back instead")
        tag = self._connection.blocked_tag
        if tag in version.tags:
            raise NothingSelected(f"{subject} is blocked already ({version.tags[tag]!r})")
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"block the promotion of {subject}: {params.reason}",
                before={"number": version.number, "created": version.created, "tag": None},
                after={"tag": params.reason},
                figures={"versions": 1},
                undo=f"remove the tag {tag}",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Set the tag, unless it says so."""
        params = BlockPromotionParams.model_validate(effect.params)
        seen = await self._model(params.model)
        version = _planned(effect, seen)
        tag, now = self._connection.blocked_tag, version.tags.get(self._connection.blocked_tag)
        if now == params.reason:
            return Result(f"{effect.subject} is blocked already", changed=False)
        if now is not None:
            raise Drifted(f"{effect.subject} was blocked since it was planned ({now!r})")
        if _candidate(params, seen).number != version.number:
            raise Drifted(f"{effect.subject} is not the candidate any more")
        used = seen.used_by(version.number)
        if used:
            raise Drifted(f"{effect.subject} serves now: {used}")
        await self._set_tag(params.model, version.number, tag, params.reason)
        return Result(f"blocked the promotion of {effect.subject}: {params.reason}", captured={"tag": tag})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Remove the tag, if it still says what we said."""
        params = BlockPromotionParams.model_validate(effect.params)
        version = _planned(effect, await self._model(params.model))
        tag, now = self._connection.blocked_tag, version.tags.get(self._connection.blocked_tag)
        if now is None:
            return Result(f"{effect.subject} is not blocked any more", changed=False)
        if now != params.reason:
            raise Drifted(f"somebody else blocks {effect.subject} now ({now!r})")
        await self._delete_tag(params.model, version.number, tag)
        return Result(f"{effect.subject} may be promoted again")

    def progress(self, effect: Effect, seen: Model) -> Progress:
        """By the tag of the same version."""
        try:
            version = _planned(effect, seen)
        except Drifted:
            return Progress.UNCLEAR
        now = version.tags.get(self._connection.blocked_tag)
        if now == effect.after["tag"]:
            return Progress.DONE
        return Progress.UNTOUCHED if now is None else Progress.UNCLEAR

    def permissions(self, params: BlockPromotionParams) -> Permissions:
        """Reading the model, and its tags."""
        return Permissions(http=self._urls("POST model-versions/set-tag", "DELETE model-versions/delete-tag"))


def _candidate(params: BlockPromotionParams, seen: Model) -> Version:
    return seen.newest() if params.version == NEWEST else seen.version(params.version)


def _planned(effect: Effect, seen: Model) -> Version:
    for one in seen.versions:
        if (one.number, one.created) == (effect.before["number"], effect.before["created"]):
            return one
    raise Drifted(f"{effect.subject} is not there any more, or is another one than was planned on")
