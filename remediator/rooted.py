"""Folders and files reached from a configured path without following a symbolic link, whatever is swapped meanwhile.

Every part of a path is opened below the one before it (openat, O_NOFOLLOW): the path that was configured is the
path that is used, and what another process puts in its place later changes nothing for who holds the folder.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from remediator.errors import Drifted, NothingSelected, PermanentFailure, Refused, TemporaryFailure
from remediator.stoppable import Stop

CHUNK_BYTES = 1024 * 1024
HIDDEN = ".remediator-"
"""What the names of our own unfinished files begin with."""

_NEW, _OLD = f"{HIDDEN}new-", f"{HIDDEN}old-"
_LEFT_BEHIND_SECONDS = 86_400

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EXCHANGE, _NO_REPLACE = 2, 1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def _absolute(path: Path) -> Path:
    if (
        not path.is_absolute()
        or str(path) != os.path.normpath(path)
        or path == Path("/")
        or "\0" in str(path)
    ):
        raise ValueError("expected an absolute path as realpath prints it, and not /")
    return path


def _relative(text: str) -> str:
    path = PurePosixPath(text)
    if text and (
        text != str(path) or path.is_absolute() or ".." in path.parts or "\0" in text or text == "."
    ):
        raise ValueError("expected a relative path without .., or nothing")
    return text


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""Of configuration: absolute, without `..`, and no part of it a symbolic link when it is used."""

RelativePath = Annotated[str, AfterValidator(_relative)]
"""Of configuration: below a root; empty for the root itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one state of a file from every other: where it lies on which device, its size, and when it changed."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """That of a stat."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def same_file(self, found: os.stat_result) -> bool:
        """Whether it is that file, whatever its content is now."""
        return (self.device, self.inode) == (found.st_dev, found.st_ino)


@contextmanager
def folder(path: Path, *parts: str) -> Iterator[int]:
    """The file descriptor of a folder, each part of whose path is a folder and no symbolic link."""
    held = os.open("/", os.O_PATH | _FOLDER)
    names = (*path.parts[1:], *parts)
    try:
        for number, name in enumerate(names, 1):
            how = os.O_RDONLY if number == len(names) else os.O_PATH
            below = os.open(name, how | _FOLDER, dir_fd=held)
            os.close(held)
            held = below
        yield held
    finally:
        os.close(held)


@contextmanager
def below(parent: int, parts: Sequence[str]) -> Iterator[int]:
    """The file descriptor of a folder below one that is held; of that itself where there are no parts."""
    held = os.dup(parent)
    try:
        for name in parts:
            inner = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=held)
            os.close(held)
            held = inner
        yield held
    finally:
        os.close(held)


@contextmanager
def regular(parent: int, name: str) -> Iterator[int]:
    """The file descriptor, for reading, of a regular file.

    Raises:
        Refused: when it is anything else.
    """
    try:
        held = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Refused(f"{name} is no regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise Refused(f"{name} is no regular file")
        yield held
    finally:
        os.close(held)


def look(parent: int, name: str) -> os.stat_result | None:
    """The stat of a name, of a link itself; None where there is none."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def sha256(file: int, stop: Stop) -> str:
    """The SHA-256 of an open file from its beginning, in hex."""
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(file, CHUNK_BYTES, at):
        stop.check()
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def read_back(file: int, stop: Stop) -> str:
    """Write an open file out, and the SHA-256 of what is read of it afterwards."""
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return sha256(file, stop)


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write everything."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def alike(file: int, model: os.stat_result) -> None:
    """Give an open file the owner and the mode of another."""
    own = os.fstat(file)
    if (own.st_uid, own.st_gid) != (model.st_uid, model.st_gid):
        os.fchown(file, model.st_uid, model.st_gid)
    os.fchmod(file, stat.S_IMODE(model.st_mode))


@contextmanager
def unfinished(parent: int) -> Iterator[tuple[int, str]]:
    """A new file in a folder, and its name; whoever keeps it renames it, otherwise it goes.

    What runs that were killed left behind goes a day later.
    """
    _sweep(parent)
    own = f"{_NEW}{secrets.token_hex(8)}"
    held = os.open(
        own, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    made = os.fstat(held)
    try:
        yield held, own
    finally:
        os.close(held)
        left = look(parent, own)
        if left is not None and (left.st_dev, left.st_ino) == (made.st_dev, made.st_ino):
            os.unlink(own, dir_fd=parent)


def exchange(parent: int, one: str, other: str) -> None:
    """Swap two names of a folder in one step (renameat2 RENAME_EXCHANGE): nobody ever sees either missing."""
    _renameat2(parent, one, other, _EXCHANGE)


def move_new(parent: int, one: str, other: str) -> None:
    """Rename, and raise FileExistsError where the new name is taken (renameat2 RENAME_NOREPLACE)."""
    _renameat2(parent, one, other, _NO_REPLACE)


def remove_exactly(parent: int, name: str, expected: Identity) -> bool:
    """Remove a file if the name still means just that file, unchanged; whether it did.

    The name is taken away first and looked at then: what another process put there meanwhile is given back.
    """
    own = f"{_OLD}{secrets.token_hex(8)}"
    try:
        move_new(parent, name, own)
    except FileNotFoundError:
        return False
    found = os.stat(own, dir_fd=parent, follow_symlinks=False)
    if Identity.of(found) == expected and stat.S_ISREG(found.st_mode):
        os.unlink(own, dir_fd=parent)
        return True
    with suppress(FileExistsError):
        move_new(parent, own, name)
    return False


def free_bytes(file: int) -> int:
    """What may still be written to the file system of an open file or folder."""
    found = os.fstatvfs(file)
    return found.f_bavail * found.f_frsize


@contextmanager
def looking(what: object) -> Iterator[None]:
    """Nothing is changed in here, or what was changed is taken back: whatever fails, failed for certain."""
    try:
        yield
    except FileNotFoundError as error:
        raise NothingSelected(f"there is no {error.filename or ''} ({what})") from error
    except OSError as error:
        raise failed(error, what) from error


def failed(error: OSError, what: object) -> Refused | Drifted | PermanentFailure | TemporaryFailure:
    """What an error of the file system means where nothing was changed."""
    told = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return Refused(f"{told}: a part of the path is a symbolic link, or no folder")
    if error.errno in _FULL:
        return PermanentFailure(f"{told}: nothing was changed; make room first")
    if error.errno in (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETXTBSY):
        return TemporaryFailure(told)
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return Drifted(told)
    return PermanentFailure(told)


def _sweep(parent: int) -> None:
    with os.scandir(parent) as entries:
        mine = [entry.name for entry in entries if entry.name.startswith(_NEW)]
    for name in mine:
        found = look(parent, name)
        if found is not None and time.time() - found.st_mtime > _LEFT_BEHIND_SECONDS:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)


def _renameat2(parent: int, one: str, other: str, flags: int) -> None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "the C library has no renameat2", one)
    if call(parent, os.fsencode(one), parent, os.fsencode(other), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)
