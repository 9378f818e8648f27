"""files.prune_versions: the newest so many versions stay, and the one in use; the others go, by exact name."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.files.backups import MANIFEST
from remediator.actions.files.connection import FilePlace, FilesAction, Name, Versions, allowed
from remediator.actions.files.oldfiles import OldFile, Walk, Wanted
from remediator.actions.files.openers import Openers
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import failed, folder, look, looking, regular, remove_exactly, sha256
from remediator.stoppable import Stop, stoppable

_EVERY = 100_000
_FOREVER_NS = 2**63 - 1


class PruneVersionsParams(BaseModel):
    """Parameters of `files.prune_versions`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    versions: Name = Field(description="what the connection calls them")
    keep: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="how many of the newest stay; not fewer than the connection says",
    )


@dataclass(frozen=True, slots=True)
class SeenVersions:
    """All versions, the newest first, and the names of those in use, with why."""

    folder: str
    files: tuple[OldFile, ...]
    in_use: dict[str, str]


class PruneVersions(FilesAction):
    """Remove all but the newest versions of a file, with their `.sha256`, and never one that is in use."""

    kind: ClassVar[str] = "files.prune_versions"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = PruneVersionsParams

    async def observe(self, params: PruneVersionsParams) -> SeenVersions:
        """List the versions, and find out which serve."""
        return await stoppable(self._observe, params)

    def plan(self, params: PruneVersionsParams, seen: SeenVersions) -> tuple[Effect, ...]:
        """One effect, which names each file that goes."""
        versions = self._versions(params)
        goes = [file for file in seen.files[params.keep :] if file.parts[0] not in seen.in_use]
        if not goes:
            raise NothingSelected(
                f"versions {params.versions}: {len(seen.files):,} are there, and none but the newest {params.keep} "
                "and those in use"
            )
        size = sum(file.bytes for file in goes)
        names = [file.parts[0] for file in goes]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        spared = [
            name for name in seen.in_use if name in {file.parts[0] for file in seen.files[params.keep :]}
        ]
        return (
            Effect(
                action=self.kind,
                subject=f"versions {self._connection.where(versions.folder)}",
                params=params.model_dump(mode="json"),
                summary=f"remove {len(goes):,} of {len(seen.files):,} versions of {params.versions} "
                f"({figure('bytes', size)}): {shown}" + (f"; in use: {', '.join(spared)}" if spared else ""),
                before={"folder": seen.folder, "files": {file.parts[0]: _state(file) for file in goes}},
                figures={"files": len(goes), "bytes": size},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Remove each, unless it has changed or come into use."""
        params = PruneVersionsParams.model_validate(effect.params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("removed versions cannot be brought back")

    def progress(self, effect: Effect, seen: SeenVersions) -> Progress:
        """Done where none of them is left; some of them gone is the same as starting."""
        there = {file.parts[0]: _state(file) for file in seen.files}
        left = {name: state for name, state in effect.before["files"].items() if name in there}
        if not left:
            return Progress.DONE
        same = all(there[name] == state for name, state in left.items())
        return Progress.UNTOUCHED if same and seen.folder == effect.before["folder"] else Progress.UNCLEAR

    def permissions(self, params: PruneVersionsParams) -> Permissions:
        """Writing in their folder, and reading what serves."""
        versions = self._versions(params)
        serving = [f"r {self._connection.where(one) / one.file}" for one in versions.in_use]
        return Permissions(files=(f"rw {self._connection.where(versions.folder)}/", *serving))

    def _versions(self, params: PruneVersionsParams) -> Versions:
        versions = allowed("versions", params.versions, self._connection.versions)
        if params.keep < versions.keep:
            raise Refused(
                f"versions {params.versions}: the connection keeps {versions.keep}, not {params.keep}"
            )
        return versions

    def _observe(self, stop: Stop, params: PruneVersionsParams) -> SeenVersions:
        versions = self._versions(params)
        where = self._connection.where(versions.folder)
        with looking(f"versions {params.versions}"), folder(where) as held:
            return self._seen(stop, held, versions, where)

    def _seen(self, stop: Stop, held: int, versions: Versions, where: Path) -> SeenVersions:
        walk = Walk(Wanted(tuple(versions.names), _FOREVER_NS, deep=False), stop)
        found_files = [one for one in walk.oldest(held, _EVERY) if not one.parts[0].endswith(MANIFEST)]
        files = tuple(reversed(found_files))
        if len(files) >= _EVERY:
            raise Refused(f"{where} holds more than {_EVERY:,} versions: that is not what this is for")
        found = os.fstat(held)
        return SeenVersions(
            f"{found.st_dev}:{found.st_ino}", files, self._in_use(stop, held, versions, files)
        )

    def _in_use(
        self, stop: Stop, held: int, versions: Versions, files: tuple[OldFile, ...]
    ) -> dict[str, str]:
        """Which versions serve: what a link means, or what has the content of the file that serves."""
        used: dict[str, str] = {}
        for place in versions.in_use:
            path = self._connection.where(place) / place.file
            with folder(self._connection.where(place)) as parent:
                serving = _serving(parent, place)
                try:
                    for file in files:
                        if _is(stop, held, file, serving):
                            used[file.parts[0]] = f"{path} is it"
                finally:
                    os.close(serving)
        openers = Openers()
        for file in files:
            try:
                with regular(held, file.parts[0]) as one:
                    if not openers.free(one):
                        used.setdefault(file.parts[0], "a process has it open")
            except (OSError, Refused):
                used.setdefault(file.parts[0], "nobody knows whether it is open")
        return used

    def _apply(self, stop: Stop, params: PruneVersionsParams, effect: Effect) -> Result:
        versions = self._versions(params)
        where = self._connection.where(versions.folder)
        approved = dict(effect.before["files"])
        gone: list[str] = []
        size = 0
        with looking(f"versions {params.versions}"), folder(where) as held:
            seen = self._seen(stop, held, versions, where)
            if seen.folder != effect.before["folder"]:
                raise Drifted(f"versions {params.versions}: the folder is another than was planned on")
            goes = _still_to_go(seen, approved, params.keep)
            for file in goes:
                stop.check()
                try:
                    if remove_exactly(held, file.parts[0], file.identity):
                        gone.append(file.parts[0])
                        size += file.bytes
                        with suppress(FileNotFoundError):
                            os.unlink(file.parts[0] + MANIFEST, dir_fd=held)
                except OSError as error:
                    if not gone:
                        raise
                    raise OutcomeUnknown(
                        f"{failed(error, where)}; {len(gone):,} versions were gone by then"
                    ) from error
            os.fsync(held)
        return Result(
            f"removed {len(gone):,} versions of {params.versions} ({figure('bytes', size)})",
            changed=bool(gone),
            evidence={"removed": gone},
        )


def _still_to_go(seen: SeenVersions, approved: dict[str, str], keep: int) -> list[OldFile]:
    """Those approved that are there. Raises Drifted where one is another now, is in use, or is among the newest."""
    newest = {file.parts[0] for file in seen.files[:keep]}
    goes = [file for file in seen.files if file.parts[0] in approved]
    for file in goes:
        name = file.parts[0]
        if _state(file) != approved[name]:
            raise Drifted(f"{name} has changed")
        if name in seen.in_use:
            raise Drifted(f"{name} is in use now: {seen.in_use[name]}")
        if name in newest:
            raise Drifted(f"{name} is among the newest {keep} now")
    return goes


def _state(file: OldFile) -> str:
    found = file.identity
    return f"{found.inode}:{found.size_bytes}:{found.mtime_ns}"


def _serving(parent: int, place: FilePlace) -> int:
    """The file that serves, through a link where it is one; where there is none, nothing may be removed."""
    if look(parent, place.file) is None:
        raise PermanentFailure(f"{place.file} is not there: nobody knows which version is in use")
    try:
        file = os.open(place.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise PermanentFailure(
                f"{place.file} leads nowhere: nobody knows which version is in use"
            ) from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Refused(f"{place.file} is no regular file")
    return file


def _is(stop: Stop, held: int, file: OldFile, serving: int) -> bool:
    """Whether a version is the file that serves, or has its content."""
    found = os.fstat(serving)
    if file.identity.same_file(found):
        return True
    if file.identity.size_bytes != found.st_size:
        return False
    with regular(held, file.parts[0]) as one:
        return sha256(one, stop) == sha256(serving, stop)
