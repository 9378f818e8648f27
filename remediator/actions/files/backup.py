"""files.backup_model: one verified copy more, under a name of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.files import backups
from remediator.actions.files.backups import Backup, Content
from remediator.actions.files.connection import FilesAction, Model, Name, allowed
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import folder, looking
from remediator.stoppable import Stop, stoppable


class BackupModelParams(BaseModel):
    """Parameters of `files.backup_model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    model: Name = Field(description="what the connection calls the model")
    keep: int = Field(
        default=5, ge=1, le=100, description="how many backups stay; not fewer than the connection says"
    )


@dataclass(frozen=True, slots=True)
class SeenModel:
    """A model file and its backups, the newest first. `now` is the time of the look, UTC."""

    now: datetime
    live: Content | None
    backups: tuple[Backup, ...]
    chosen: Backup | None = None
    """The one to roll back to, where that was asked."""
    chosen_bytes: int = 0
    faults: tuple[str, ...] = ()
    """Why newer ones are not to be trusted."""


class BackupModel(FilesAction):
    """Copy the model under a name with time and SHA-256, read it back, and keep the newest so many."""

    kind: ClassVar[str] = "files.backup_model"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = BackupModelParams

    async def observe(self, params: BackupModelParams) -> SeenModel:
        """Read the model and list its backups."""
        return await stoppable(self._observe, params)

    def plan(self, params: BackupModelParams, seen: SeenModel) -> tuple[Effect, ...]:
        """One effect: the copy, and which backups are too many then."""
        model = self._model(params)
        if seen.live is None:
            raise NothingSelected(f"there is no {model.live.file} to keep")
        has = [one.name for one in seen.backups if one.sha256 == seen.live.sha256 and not one.failed]
        name = has[0] if has else backups.name_of(model.live.file, seen.live.sha256, seen.now)
        good = [one.name for one in seen.backups if not one.failed]
        goes = [one for one in ([] if has else [name]) + good if one != name][params.keep - 1 :]
        size = figure("bytes", seen.live.identity.size_bytes)
        what = f"is kept as {name} already" if has else f"copy {size} to {name}"
        summary = f"model {params.model}: {what}" + (f"; {len(goes)} older go" if goes else "")
        return (
            Effect(
                action=self.kind,
                subject=f"backups of {self._connection.where(model.live) / model.live.file}",
                params=params.model_dump(mode="json"),
                summary=summary,
                before={"live": seen.live.sha256},
                after={"backup": name, "gone": goes},
                figures={
                    "copied_bytes": 0 if has else seen.live.identity.size_bytes,
                    "removed_files": len(goes),
                },
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Copy, read back, write the manifest, and only then remove what is too many."""
        params = BackupModelParams.model_validate(effect.params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: a backup more does no harm")

    def progress(self, effect: Effect, seen: SeenModel) -> Progress:
        """Done where the backup is there and the surplus is not; a copy of the same may always be made again."""
        names = {one.name for one in seen.backups}
        if effect.after["backup"] in names and not names & set(effect.after["gone"]):
            return Progress.DONE
        same = seen.live is not None and seen.live.sha256 == effect.before["live"]
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: BackupModelParams) -> Permissions:
        """Reading the model, and writing where its backups lie."""
        model = self._model(params)
        live, kept = self._connection.where(model.live), self._connection.where(model.backups)
        return Permissions(files=(f"r {live / model.live.file}", f"rw {kept}/"))

    def _model(self, params: BackupModelParams) -> Model:
        model = allowed("models", params.model, self._connection.models)
        if params.keep < model.keep:
            raise Refused(f"{params.model}: the connection keeps {model.keep} backups, not {params.keep}")
        return model

    def _observe(self, stop: Stop, params: BackupModelParams) -> SeenModel:
        model = self._model(params)
        where, kept = self._connection.where(model.live), self._connection.where(model.backups)
        with looking(f"model {params.model}"), folder(where) as live, folder(kept) as store:
            content = backups.read(live, model.live.file, stop)
            return SeenModel(datetime.now(UTC), content, backups.listed(store, model.live.file))

    def _apply(self, stop: Stop, params: BackupModelParams, effect: Effect) -> Result:
        model = self._model(params)
        where, kept = self._connection.where(model.live), self._connection.where(model.backups)
        name, wanted = str(effect.after["backup"]), str(effect.before["live"])
        with looking(f"model {params.model}"), folder(where) as live, folder(kept) as store:
            there = {one.name: one for one in backups.listed(store, model.live.file)}
            if name not in there:
                _same(backups.read(live, model.live.file, stop), wanted, model)
                told = backups.parsed(model.live.file, name)
                if told is None or told.failed or told.sha256 != wanted:
                    raise Refused(f"{name} is no name for this content of {model.live.file}")
                made = backups.keep(live, model.live.file, store, name, wanted, stop)
            else:
                why = backups.fault(store, there[name], stop)
                if why:
                    raise PermanentFailure(f"{name} is there, but {why}")
                made = False
            surplus = backups.surplus(store, model.live.file, params.keep, effect.after["gone"], failed=False)
            for one in surplus:
                stop.check()
                backups.remove(store, one)
        what = f"kept {model.live.file} as {name}" if made else f"{name} is there already"
        gone = f"; {len(surplus)} older removed" if surplus else ""
        return Result(
            what + gone,
            changed=made or bool(surplus),
            evidence={"backup": name, "sha256": wanted, "removed": surplus},
        )


def _same(found: Content | None, wanted: str, model: Model) -> None:
    if found is None or found.sha256 != wanted:
        now = found.sha256[:12] if found else "gone"
        raise Drifted(f"{model.live.file} was {wanted[:12]} and is {now}")
