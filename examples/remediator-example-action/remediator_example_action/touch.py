"""example.touch: renew the modification time of one file, for a watcher that waits for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, PermanentFailure, Refused
from remediator.offload import offload
from remediator.pipeline.ports import Permissions

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
"""The name of a file: no slash, and no dot at its beginning."""


class TouchConnection(BaseModel):
    """A folder, and the files in it that may be touched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["example"]
    folder: Path = Field(description="an absolute path, no part of it a link")
    names: tuple[Name, ...] = Field(default=(), description="names of the files that may be touched")

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        if not folder.is_absolute():
            raise ValueError("expected an absolute path")
        return folder


class TouchParams(BaseModel):
    """Parameters of `example.touch`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    name: Name = Field(description="which file; the connection must allow it")


@dataclass(frozen=True, slots=True)
class Seen:
    """The file as it stands; inode 0 where there is none."""

    inode: int = 0
    modified_ns: int = 0


class Touch:
    """Renew the modification time of one file, or make it, empty, where it is missing."""

    kind: ClassVar[str] = "example.touch"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = TouchParams
    Connection: ClassVar[type[BaseModel]] = TouchConnection

    def __init__(self, connection: TouchConnection) -> None:
        # It does not connect yet: actions are made to be asked for their permissions, too.
        self._connection = connection

    async def observe(self, params: TouchParams) -> Seen:
        """Look at the file itself, never through a link."""
        self._check(params)
        return await offload(self._look, params.name)

    def plan(self, params: TouchParams, seen: Seen) -> tuple[Effect, ...]:
        """One effect on exactly the file that was seen."""
        path = self._connection.folder / params.name
        return (
            Effect(
                action=self.kind,
                subject=f"file {path}",
                params=params.model_dump(mode="json"),
                summary=f"{'touch' if seen.inode else 'make'} {path}",
                before={"inode": seen.inode, "modified_ns": seen.modified_ns},
                figures={"files": 1},
                undo="set its old modification time" if seen.inode else "remove it, where it is still empty",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Touch it, unless it was touched since it was planned."""
        params = TouchParams.model_validate(effect.params)
        self._check(params)
        seen = await offload(self._look, params.name)
        match self.progress(effect, seen):
            case Progress.DONE:
                return Result(f"{params.name} was touched since it was planned", changed=False)
            case Progress.UNCLEAR:
                raise Drifted(f"{params.name} is another file than was planned on")
        after = await offload(self._touch, params.name, seen.inode == 0)
        return Result(
            f"touched {params.name}", captured={"inode": after.inode, "modified_ns": after.modified_ns}
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set the old time, or remove what was made; refused where somebody touched it since."""
        params = TouchParams.model_validate(effect.params)
        self._check(params)
        ours = Seen(result.captured["inode"], result.captured["modified_ns"])
        if await offload(self._look, params.name) != ours:
            raise Refused(f"{params.name} was changed since: it is left as it is")
        await offload(self._back, params.name, effect.before["modified_ns"])
        return Result(f"{params.name} is as it was")

    def progress(self, effect: Effect, seen: Seen) -> Progress:
        """Done where the same file has a later time, or where one is there now."""
        before = Seen(effect.before["inode"], effect.before["modified_ns"])
        if seen == before:
            return Progress.UNTOUCHED
        same = before.inode in (0, seen.inode) and seen.modified_ns > before.modified_ns
        return Progress.DONE if same else Progress.UNCLEAR

    def permissions(self, params: TouchParams) -> Permissions:
        """Writing in the folder, where the file may have to be made."""
        self._check(params)
        return Permissions(files=(f"rw {self._connection.folder}/",))

    async def close(self) -> None:
        """Nothing is kept open."""

    def _check(self, params: TouchParams) -> None:
        if params.name not in self._connection.names:
            allowed = ", ".join(self._connection.names) or "none"
            raise Refused(f"{params.name} is not among the files that the connection allows ({allowed})")

    def _look(self, name: str) -> Seen:
        with self._opened() as folder:
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return Seen()
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{name} is no plain file")
        return Seen(found.st_ino, found.st_mtime_ns)

    def _touch(self, name: str, new: bool) -> Seen:
        with self._opened() as folder:
            flags = os.O_WRONLY | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if new else 0)
            file = os.open(name, flags, 0o644, dir_fd=folder)
            try:
                os.utime(file)
                found = os.fstat(file)
            finally:
                os.close(file)
        return Seen(found.st_ino, found.st_mtime_ns)

    def _back(self, name: str, modified_ns: int) -> None:
        with self._opened() as folder:
            if modified_ns:
                os.utime(name, ns=(modified_ns, modified_ns), dir_fd=folder, follow_symlinks=False)
            elif os.stat(name, dir_fd=folder, follow_symlinks=False).st_size:
                raise Refused(f"{name} is not empty any more")
            else:
                os.unlink(name, dir_fd=folder)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder. One system call changes the file: whatever fails, failed before it."""
        path = self._connection.folder
        try:
            if Path(os.path.realpath(path, strict=True)) != path:
                raise Refused(f"a link leads to {path}")
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                yield folder
            finally:
                os.close(folder)
        except OSError as error:
            raise PermanentFailure(f"{path}: {error.strerror}") from error
