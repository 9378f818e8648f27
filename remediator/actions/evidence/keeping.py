"""A capture on disk: a directory that is there whole or not at all, with a manifest of what lies in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from remediator.errors import Drifted, OutcomeUnknown, Refused
from remediator.figures import figure
from remediator.rooted import HIDDEN, below, folder, free_bytes, look, looking, move_new, regular, write_all

MANIFEST = "manifest.json"
_UNFINISHED = f"{HIDDEN}evidence-"
"""What the names of directories that are being written begin with; none of them is ever taken for a capture."""
_MOST_MANIFEST_BYTES = 1_048_576


def names(directory: Path, capture: str) -> tuple[str, ...]:
    """The captures of that name that are there, in order."""
    shape = re.compile(rf"{re.escape(capture)}-[0-9]{{4,}}")
    with looking(directory), folder(directory) as held:
        return tuple(sorted((one for one in _listed(held) if shape.fullmatch(one)), key=_number))


def following(present: tuple[str, ...], capture: str) -> str:
    """The name of the next one."""
    return f"{capture}-{_number(present[-1]) + 1 if present else 1:04d}"


def key_of(directory: Path, name: str) -> str | None:
    """The key in the manifest of a capture; None where there is no such capture, empty where it cannot be told."""
    with looking(directory), folder(directory) as held:
        if look(held, name) is None:
            return None
        try:
            with below(held, (name,)) as inside, regular(inside, MANIFEST) as file:
                told = json.loads(os.read(file, _MOST_MANIFEST_BYTES))
                return str(told["key"])
        except (OSError, ValueError, KeyError, TypeError, Refused):
            return ""


def free(directory: Path) -> int:
    """Bytes that may still be written there."""
    with looking(directory), folder(directory) as held:
        return free_bytes(held)


def keep(directory: Path, name: str, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> int:
    """Write a capture: all of it, or nothing. Returns its bytes. What killed runs left half-written goes first.

    Raises:
        Drifted: when one of that name came meanwhile.
        PermanentFailure: when it cannot be written; nothing is left then.
    """
    listed = [
        {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for file, data in files.items()
    ]
    told = json.dumps({**manifest, "files": listed}, indent=1, sort_keys=True).encode()
    with looking(directory), folder(directory) as held, _writing(held), _unfinished(held) as own:
        with below(held, (own,)) as inside:
            for file, data in {**files, MANIFEST: told}.items():
                _write(inside, file, data)
            os.fsync(inside)
        try:
            move_new(held, own, name)
        except FileExistsError as error:
            raise Drifted(f"{name} came since it was planned") from error
        try:
            os.fsync(held)
        except OSError as error:
            raise OutcomeUnknown(f"{name} was written, and the disk did not confirm it") from error
    return sum(map(len, files.values())) + len(told)


def refuse_full(directory: Path, there: int, needed_bytes: int, margin_bytes: int) -> None:
    """Raise Refused where the disk, with `there` bytes free, would have less than the margin afterwards."""
    if there - needed_bytes < margin_bytes:
        raise Refused(
            f"{directory} has {figure('bytes', there)} free; {figure('bytes', needed_bytes)} of evidence and a margin of "
            f"{figure('bytes', margin_bytes)} do not fit"
        )


def _write(parent: int, name: str, data: bytes) -> None:
    file = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=parent
    )
    try:
        write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _unfinished(parent: int) -> Iterator[str]:
    own = f"{_UNFINISHED}{secrets.token_hex(8)}"
    os.mkdir(own, 0o700, dir_fd=parent)
    try:
        yield own
    finally:
        with suppress(FileNotFoundError):
            _remove(parent, own)


@contextmanager
def _writing(directory: int) -> Iterator[None]:
    """Be known as one who writes there; whoever is alone sweeps what killed runs left.

    The lock goes with the process, so who holds it alone knows that nobody is in the middle of writing.
    """
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # Somebody writes now; the next one sweeps.
    else:
        _sweep(directory)
    fcntl.flock(directory, fcntl.LOCK_SH)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


def _sweep(parent: int) -> None:
    for name in _listed(parent):
        if name.startswith(_UNFINISHED):
            # What cannot be removed, as it is of another user, is in nobody's way.
            with suppress(OSError):
                _remove(parent, name)


def _remove(parent: int, name: str) -> None:
    with below(parent, (name,)) as inside:
        for file in _listed(inside):
            os.unlink(file, dir_fd=inside)
    os.rmdir(name, dir_fd=parent)


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _listed(held: int) -> list[str]:
    with os.scandir(held) as entries:
        return [entry.name for entry in entries]
