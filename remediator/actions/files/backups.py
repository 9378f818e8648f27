"""The backups of a model: `best_model_<UTC time>_<sha256>.pth`, each beside its manifest `<name>.sha256`.

The manifest is what `sha256sum` writes, and is written last: a backup with a manifest is a whole one. A file that a
rollback replaced is kept as `best_model_failed_<UTC time>_<sha256>.pth`, and is never rolled back to.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from remediator.errors import PermanentFailure, Refused
from remediator.rooted import (
    CHUNK_BYTES,
    Identity,
    free_bytes,
    look,
    move_new,
    read_back,
    regular,
    sha256,
    unfinished,
    write_all,
)
from remediator.stoppable import Stop

MANIFEST = ".sha256"
_STAMP = "%Y%m%dT%H%M%SZ"
_MANIFEST_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Backup:
    """A kept file by its name: when it was taken (UTC), its SHA-256, and whether it is one that failed."""

    name: str
    taken_at: str
    sha256: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Content:
    """A file that was read: its state, and its SHA-256."""

    identity: Identity
    sha256: str


def name_of(file: str, sha: str, now: datetime, *, failed: bool = False) -> str:
    """The name under which a content of `file` is kept."""
    path = PurePath(file)
    return f"{path.stem}_{'failed_' if failed else ''}{now.strftime(_STAMP)}_{sha}{path.suffix}"


def parsed(file: str, name: str) -> Backup | None:
    """What the name of a backup of `file` says; None where it is no such name."""
    path = PurePath(file)
    shaped = re.fullmatch(
        rf"{re.escape(path.stem)}_(failed_)?(\d{{8}}T\d{{6}}Z)_([0-9a-f]{{64}}){re.escape(path.suffix)}", name
    )
    return Backup(name, shaped[2], shaped[3], bool(shaped[1])) if shaped else None


def listed(parent: int, file: str) -> tuple[Backup, ...]:
    """The backups of `file` that have a manifest, the newest first."""
    names = set(os.listdir(parent))
    found = [one for name in names if name + MANIFEST in names and (one := parsed(file, name))]
    return tuple(sorted(found, key=lambda one: (one.taken_at, one.name), reverse=True))


def surplus(parent: int, file: str, keep: int, approved: Collection[str], *, failed: bool) -> list[str]:
    """Which backups, or files that failed, are more than the newest `keep`, among those that may go."""
    of_kind = [one.name for one in listed(parent, file) if one.failed == failed]
    return [name for name in of_kind[keep:] if name in approved]


def read(parent: int, name: str, stop: Stop) -> Content | None:
    """A file with its SHA-256; None where there is none.

    Raises:
        Refused: when it is no regular file.
        PermanentFailure: when it changes while it is read.
    """
    if look(parent, name) is None:
        return None
    with regular(parent, name) as file:
        before = Identity.of(os.fstat(file))
        digest = sha256(file, stop)
        if Identity.of(os.fstat(file)) != before:
            raise PermanentFailure(f"{name} is being written")
        return Content(before, digest)


def fault(parent: int, backup: Backup, stop: Stop) -> str:
    """Why a backup cannot be trusted; empty where its content is what its name and its manifest say."""
    try:
        with regular(parent, backup.name + MANIFEST) as file:
            told = os.read(file, _MANIFEST_BYTES).decode("ascii", errors="replace")
        if told.split()[:2] != [backup.sha256, backup.name]:
            return "its manifest is of another file"
        with regular(parent, backup.name) as file:
            if sha256(file, stop) != backup.sha256:
                return "its SHA-256 is another"
    except (OSError, Refused) as error:
        return f"it cannot be read: {error}"
    return ""


def copy(source: int, new: int, wanted: str, stop: Stop) -> None:
    """Copy an open file into a new one, and read it back.

    Raises:
        PermanentFailure: when what was read back has not the wanted SHA-256, or there is no room.
    """
    size = os.fstat(source).st_size
    if free_bytes(new) < size:
        raise PermanentFailure(f"the file system has no room for {size:,} bytes; nothing was changed")
    at = 0
    while chunk := os.pread(source, CHUNK_BYTES, at):
        stop.check()
        write_all(new, chunk)
        at += len(chunk)
    if read_back(new, stop) != wanted:
        raise PermanentFailure("the copy is not what was to be copied: its SHA-256 is another")


def keep(source_parent: int, source: str, parent: int, name: str, sha: str, stop: Stop) -> bool:
    """Copy a file into the backups under that name, with its manifest; whether it was not there yet."""
    if look(parent, name) is not None and look(parent, name + MANIFEST) is not None:
        return False
    with regular(source_parent, source) as file:
        _write(parent, name, os.fstat(file), lambda new: copy(file, new, sha, stop))
        text = f"{sha}  {name}\n".encode("ascii")
        _write(parent, name + MANIFEST, os.fstat(file), lambda new: write_all(new, text))
    return True


def remove(parent: int, name: str) -> bool:
    """Remove a backup, its manifest first, so that half of it is never taken for a whole one."""
    there = look(parent, name) is not None
    for one in (name + MANIFEST, name):
        if look(parent, one) is not None:
            os.unlink(one, dir_fd=parent)
    os.fsync(parent)
    return there


def _write(parent: int, name: str, like: os.stat_result, write: Callable[[int], None]) -> None:
    with unfinished(parent) as (new, own):
        write(new)
        os.fchmod(new, stat.S_IMODE(like.st_mode) & 0o777)
        os.fsync(new)
        if look(parent, name) is not None:
            # Left by a run that was cut short before the manifest: not a backup yet.
            os.unlink(name, dir_fd=parent)
        move_new(parent, own, name)
        os.fsync(parent)
