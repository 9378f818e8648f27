"""files.archive_logs: rotated logs are compressed elsewhere, read back, and only then removed, each for itself."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.files.connection import FilesAction, Logs, Name, allowed
from remediator.actions.files.oldfiles import OldFile, Walk, Wanted
from remediator.actions.files.openers import Openers
from remediator.actions.files.packing import archive_name, pack, unpack
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import (
    Identity,
    failed,
    folder,
    look,
    looking,
    regular,
    remove_exactly,
)
from remediator.stoppable import Stop, stoppable

HEADROOM = 1.25
"""How much more may have rotated between the plan and its application. Ours."""


class ArchiveLogsParams(BaseModel):
    """Parameters of `files.archive_logs`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    logs: Name = Field(description="what the connection calls the logs")
    min_age_seconds: int = Field(
        default=86_400, ge=0, description="newer files stay; not less than the connection says"
    )
    max_files: int = Field(default=500, ge=1, le=5000, description="no more than so many at once")


@dataclass(frozen=True, slots=True)
class SeenLogs:
    """The two folders (device:inode) and the rotated logs past the age limit, the oldest first."""

    folder: str
    archive: str
    same_filesystem: bool
    cutoff_at: datetime
    files: tuple[OldFile, ...]


@dataclass(slots=True)
class _Done:
    files: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0
    in_use: int = 0


class ArchiveLogs(FilesAction):
    """Compress rotated logs into an archive, verify each by reading it back, and remove just what was archived."""

    kind: ClassVar[str] = "files.archive_logs"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = ArchiveLogsParams

    async def observe(self, params: ArchiveLogsParams) -> SeenLogs:
        """List the logs."""
        return await stoppable(self._observe, params)

    def plan(self, params: ArchiveLogsParams, seen: SeenLogs) -> tuple[Effect, ...]:
        """One effect: how many files go to the archive."""
        logs = self._logs(params)
        if seen.same_filesystem and not logs.same_filesystem:
            raise Refused(f"the archive of {params.logs} lies on the file system of the logs")
        if not seen.files:
            age = figure("seconds", params.min_age_seconds)
            raise NothingSelected(f"logs {params.logs}: no rotated file is older than {age}")
        files, size = len(seen.files), sum(file.bytes for file in seen.files)
        where, archive = self._connection.where(logs.folder), self._connection.where(logs.archive)
        return (
            Effect(
                action=self.kind,
                subject=f"logs {where}",
                params=params.model_dump(mode="json"),
                summary=f"archive {files:,} rotated files of logs {params.logs} ({figure('bytes', size)}) to {archive}, "
                f"none changed after {seen.cutoff_at:%Y-%m-%d %H:%M} UTC",
                before={"folder": seen.folder, "archive": seen.archive},
                after={"cutoff_at": seen.cutoff_at.isoformat()},
                figures={"files": files, "bytes": size},
                at_most={
                    "files": math.ceil(files * HEADROOM) + 5,
                    "bytes": math.ceil(size * HEADROOM) + 2**20,
                },
                undo="unpack the archived files where they were; the archives stay",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """One file after the other: compress, fsync, read back, compare, remove."""
        params = ArchiveLogsParams.model_validate(effect.params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Unpack what was archived, where the name is still free."""
        params = ArchiveLogsParams.model_validate(effect.params)
        if not result.captured.get("files"):
            raise Refused("it is not known what was archived; the archive's folder shows it")
        return await stoppable(self._undo, params, list(result.captured["files"]))

    def progress(self, effect: Effect, seen: SeenLogs) -> Progress:
        """Done where no file is left; otherwise going on is the same as starting."""
        if not seen.files:
            return Progress.DONE
        same = (seen.folder, seen.archive) == (effect.before["folder"], effect.before["archive"])
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: ArchiveLogsParams) -> Permissions:
        """Writing in both folders."""
        logs = self._logs(params)
        where, archive = self._connection.where(logs.folder), self._connection.where(logs.archive)
        return Permissions(files=(f"rw {where}/", f"rw {archive}/"))

    def _logs(self, params: ArchiveLogsParams) -> Logs:
        logs = allowed("logs", params.logs, self._connection.logs)
        if params.min_age_seconds < logs.min_age_seconds:
            age = figure("seconds", logs.min_age_seconds)
            raise Refused(f"logs {params.logs}: files newer than {age} are not archived")
        return logs

    def _observe(self, stop: Stop, params: ArchiveLogsParams) -> SeenLogs:
        logs = self._logs(params)
        cutoff_ns = time.time_ns() - params.min_age_seconds * 10**9
        where, archive = self._connection.where(logs.folder), self._connection.where(logs.archive)
        with looking(f"logs {params.logs}"), folder(where) as source, folder(archive) as store:
            files = Walk(_wanted(logs, cutoff_ns), stop).oldest(source, params.max_files)
            return SeenLogs(
                folder=_which(source),
                archive=_which(store),
                same_filesystem=os.fstat(source).st_dev == os.fstat(store).st_dev,
                cutoff_at=datetime.fromtimestamp(cutoff_ns // 10**9, UTC),
                files=tuple(files),
            )

    def _apply(self, stop: Stop, params: ArchiveLogsParams, effect: Effect) -> Result:
        logs = self._logs(params)
        cutoff_ns = min(
            int(datetime.fromisoformat(effect.after["cutoff_at"]).timestamp()) * 10**9,
            time.time_ns() - params.min_age_seconds * 10**9,
        )
        where, archive = self._connection.where(logs.folder), self._connection.where(logs.archive)
        with looking(f"logs {params.logs}"), folder(where) as source, folder(archive) as store:
            if (_which(source), _which(store)) != (effect.before["folder"], effect.before["archive"]):
                raise Drifted(f"logs {params.logs}: a folder is another than was planned on")
            if os.fstat(source).st_dev == os.fstat(store).st_dev and not logs.same_filesystem:
                raise Refused(f"the archive of {params.logs} lies on the file system of the logs")
            most = min(params.max_files, int(effect.at_most["files"]))
            files = Walk(_wanted(logs, cutoff_ns), stop).oldest(source, most)
            done = _Done()
            try:
                _archive_all(stop, source, store, files, done, effect.at_most)
            except (OSError, PermanentFailure) as error:
                if not done.files:
                    raise
                why = failed(error, params.logs) if isinstance(error, OSError) else error
                raise OutcomeUnknown(f"{why}; {len(done.files):,} files were archived by then") from error
        kept = f"; {done.in_use:,} are in use or have changed, and stay" if done.in_use else ""
        return Result(
            f"archived {len(done.files):,} files of logs {params.logs} ({figure('bytes', done.bytes)}){kept}",
            changed=bool(done.files),
            evidence={"files": len(done.files), "bytes": done.bytes, "in_use": done.in_use},
            captured={"files": done.files},
        )

    def _undo(self, stop: Stop, params: ArchiveLogsParams, files: list[Mapping[str, Any]]) -> Result:
        logs = self._logs(params)
        where, archive = self._connection.where(logs.folder), self._connection.where(logs.archive)
        back, taken = 0, 0
        wanted = _wanted(logs, 0)
        with looking(f"logs {params.logs}"), folder(where) as source, folder(archive) as store:
            for file in files:
                name = str(file["name"])
                if not wanted.named(name) or file["archive"] != archive_name(
                    name, file["mtime_ns"], file["sha256"]
                ):
                    raise Refused(f"{name} is no log that was archived")
                if look(source, name) is not None:
                    taken += 1
                    continue
                unpack(stop, store, source, file)
                back += 1
        told = f"unpacked {back:,} files"
        return Result(told + (f"; {taken:,} names are taken" if taken else ""), changed=back > 0)


def _wanted(logs: Logs, cutoff_ns: int) -> Wanted:
    return Wanted(tuple(logs.names), cutoff_ns, deep=False)


def _which(held: int) -> str:
    found = os.fstat(held)
    return f"{found.st_dev}:{found.st_ino}"


def _archive_all(
    stop: Stop, source: int, store: int, files: list[OldFile], done: _Done, at_most: Mapping[str, float]
) -> None:
    openers = Openers()
    for file in files:
        stop.check()
        if done.bytes + file.bytes > at_most["bytes"]:
            return
        name = file.parts[0]
        try:
            with regular(source, name) as held:
                if not openers.free(held) or Identity.of(os.fstat(held)) != file.identity:
                    done.in_use += 1
                    continue
                sha, archive = pack(stop, held, store, name)
                if not remove_exactly(source, name, file.identity):
                    done.in_use += 1
                    continue
                mode = os.fstat(held).st_mode & 0o777
        except (FileNotFoundError, Refused):
            continue  # rotated on, or something else stands there now
        done.bytes += file.bytes
        done.files.append(
            {
                "name": name,
                "archive": archive,
                "sha256": sha,
                "mtime_ns": file.identity.mtime_ns,
                "mode": mode,
            }
        )
    os.fsync(source)
