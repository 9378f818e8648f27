"""files.rollback_model: the newest verified backup in the place of a model, in one step, and the way back."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.actions.files import backups
from remediator.actions.files.backup import SeenModel
from remediator.actions.files.backups import Backup, Content
from remediator.actions.files.connection import FilesAction, Model, Name, allowed
from remediator.actions.files.replacing import put
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import folder, looking, regular
from remediator.stoppable import Stop, stoppable

_SHORT = 12


class RollbackModelParams(BaseModel):
    """Parameters of `files.rollback_model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    model: Name = Field(description="what the connection calls the model")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None,
        description="of the backup that is wanted; where it is left out, the newest one that verifies",
    )
    keep: int = Field(
        default=5,
        ge=1,
        le=100,
        description="how many files that failed are kept; not fewer than the connection says",
    )


class RollbackModel(FilesAction):
    """Replace a model by its newest verified backup, atomically; the file it replaces is kept."""

    kind: ClassVar[str] = "files.rollback_model"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RollbackModelParams

    async def observe(self, params: RollbackModelParams) -> SeenModel:
        """Read the model, list its backups, and read the one to roll back to."""
        return await stoppable(self._observe, params)

    def plan(self, params: RollbackModelParams, seen: SeenModel) -> tuple[Effect, ...]:
        """One effect: which content replaces which."""
        model = self._model(params)
        if seen.chosen is None:
            why = "; ".join(seen.faults) or "there is no backup with a manifest and another content"
            raise NothingSelected(f"model {params.model} has nothing to go back to: {why}")
        live, to = seen.live, seen.chosen
        kept = backups.name_of(model.live.file, live.sha256, seen.now, failed=True) if live else ""
        failed = [one.name for one in seen.backups if one.failed]
        goes = failed[params.keep - 1 :] if live else []
        passed = f" (passed over: {'; '.join(seen.faults)})" if seen.faults else ""
        summary = (
            f"model {params.model}: {to.sha256[:_SHORT]} of {to.taken_at} ({figure('bytes', seen.chosen_bytes)}) "
            f"replaces {_short(live)}{passed}"
        )
        return (
            Effect(
                action=self.kind,
                subject=f"model {self._connection.where(model.live) / model.live.file}",
                params=params.model_dump(mode="json"),
                summary=summary + (f"; {len(goes)} older failed files go" if goes else ""),
                before={"live": live.sha256 if live else "", "backup": to.name},
                after={"sha256": to.sha256, "kept": kept, "gone": goes},
                figures={"bytes": seen.chosen_bytes, "removed_files": len(goes)},
                undo=f"put {_short(live)} back, which is kept as {kept}" if live else "",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Keep the present file, copy the backup beside it, read that back, and swap."""
        params = RollbackModelParams.model_validate(effect.params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Put the replaced file back, found by its SHA-256, if the model is still the one we put there."""
        params = RollbackModelParams.model_validate(effect.params)
        if not effect.before["live"]:
            raise Refused("there was no file before")
        return await stoppable(self._undo, params, effect)

    def progress(self, effect: Effect, seen: SeenModel) -> Progress:
        """Done where the model is what was wanted."""
        now = seen.live.sha256 if seen.live else ""
        if now == effect.after["sha256"]:
            return Progress.DONE
        there = any(one.name == effect.before["backup"] for one in seen.backups)
        return Progress.UNTOUCHED if there and now == effect.before["live"] else Progress.UNCLEAR

    def permissions(self, params: RollbackModelParams) -> Permissions:
        """Writing in the model's folder, where the new file is made, and in that of its backups."""
        model = self._model(params)
        return Permissions(
            files=(
                f"rw {self._connection.where(model.live)}/",
                f"rw {self._connection.where(model.backups)}/",
            )
        )

    def _model(self, params: RollbackModelParams) -> Model:
        model = allowed("models", params.model, self._connection.models)
        if params.keep < model.keep:
            raise Refused(f"{params.model}: the connection keeps {model.keep} files, not {params.keep}")
        return model

    def _observe(self, stop: Stop, params: RollbackModelParams) -> SeenModel:
        model = self._model(params)
        where, kept = self._connection.where(model.live), self._connection.where(model.backups)
        with looking(f"model {params.model}"), folder(where) as live, folder(kept) as store:
            found = backups.listed(store, model.live.file)
            seen = SeenModel(datetime.now(UTC), backups.read(live, model.live.file, stop), found)
            faults: list[str] = []
            for one in found:
                if not _eligible(one, seen.live, params.sha256):
                    continue
                why = backups.fault(store, one, stop)
                if not why:
                    size = os.stat(one.name, dir_fd=store, follow_symlinks=False).st_size
                    return replace(seen, chosen=one, chosen_bytes=size, faults=tuple(faults))
                faults.append(f"{one.name}: {why}")
            return replace(seen, faults=tuple(faults))

    def _apply(self, stop: Stop, params: RollbackModelParams, effect: Effect) -> Result:
        model, wanted = self._model(params), str(effect.after["sha256"])
        where, kept = self._connection.where(model.live), self._connection.where(model.backups)
        with looking(f"model {params.model}"), folder(where) as live, folder(kept) as store:
            now = backups.read(live, model.live.file, stop)
            if now is not None and now.sha256 == wanted:
                return Result(f"model {params.model} is {wanted[:_SHORT]} already", changed=False)
            _still(model, now, str(effect.before["live"]))
            listed = backups.listed(store, model.live.file)
            name = effect.before["backup"]
            to = next((one for one in listed if one.name == name and one.sha256 == wanted), None)
            if to is None:
                raise Drifted(f"the backup {name} is gone")
            if now is not None:
                _keep(stop, live, store, model, now, str(effect.after["kept"]))
            _restore(stop, live, store, model, now, to)
            surplus = backups.surplus(store, model.live.file, params.keep, effect.after["gone"], failed=True)
            for name in surplus:
                backups.remove(store, name)
        return Result(
            f"model {params.model} is {wanted[:_SHORT]} of {to.taken_at} again, instead of {_short(now)}",
            evidence={"backup": to.name, "kept": effect.after["kept"], "removed": surplus},
        )

    def _undo(self, stop: Stop, params: RollbackModelParams, effect: Effect) -> Result:
        model, was = self._model(params), str(effect.before["live"])
        where, kept = self._connection.where(model.live), self._connection.where(model.backups)
        with looking(f"model {params.model}"), folder(where) as live, folder(kept) as store:
            now = backups.read(live, model.live.file, stop)
            if now is not None and now.sha256 == was:
                return Result(f"model {params.model} is {was[:_SHORT]} already", changed=False)
            _still(model, now, str(effect.after["sha256"]))
            for one in backups.listed(store, model.live.file):
                if one.sha256 == was and not backups.fault(store, one, stop):
                    _restore(stop, live, store, model, now, one)
                    return Result(f"put {was[:_SHORT]} back as {model.live.file}")
        raise Refused(f"no verified file with the SHA-256 {was[:_SHORT]} is kept any more")


def _eligible(one: Backup, live: Content | None, sha: str | None) -> bool:
    return not one.failed and (live is None or one.sha256 != live.sha256) and sha in (None, one.sha256)


def _still(model: Model, now: Content | None, expected: str) -> None:
    if (now.sha256 if now else "") != expected:
        raise Drifted(f"{model.live.file} was {expected[:_SHORT] or 'not there'} and is {_short(now)}")


def _keep(stop: Stop, live: int, store: int, model: Model, now: Content, name: str) -> None:
    """Keep the present file under the planned name."""
    told = backups.parsed(model.live.file, name)
    if told is None or not told.failed or told.sha256 != now.sha256:
        raise Refused(f"{name} is no name for this content of {model.live.file}")
    backups.keep(live, model.live.file, store, name, now.sha256, stop)


def _restore(stop: Stop, live: int, store: int, model: Model, now: Content | None, to: Backup) -> None:
    with regular(store, to.name) as source:
        like = (
            os.stat(model.live.file, dir_fd=live, follow_symlinks=False)
            if now is not None
            else os.fstat(source)
        )
        put(
            live,
            model.live.file,
            lambda new: backups.copy(source, new, to.sha256, stop),
            expected=now.identity if now is not None else None,
            like=like,
            stop=stop,
        )


def _short(content: Content | None) -> str:
    return content.sha256[:_SHORT] if content else "nothing"
