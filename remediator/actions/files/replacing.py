"""Putting another content in the place of a file in one step, if it is still the file that was planned on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from remediator.errors import Drifted
from remediator.rooted import Identity, alike, exchange, look, move_new, unfinished
from remediator.stoppable import Stop


def put(
    parent: int,
    name: str,
    write: Callable[[int], None],
    *,
    expected: Identity | None,
    like: os.stat_result,
    stop: Stop,
) -> None:
    """Have `write` fill a new file on the same file system, fsync it, and rename it to `name`.

    `expected` is what `name` must still be, None where it must not be there. Owner and mode are those of `like`.
    Whatever fails, `name` is left as it was.

    Raises:
        Drifted: when `name` is another file, or has changed.
    """
    with unfinished(parent) as (new, own):
        write(new)
        alike(new, like)
        os.fsync(new)
        stop.check()
        if expected is None:
            _into_nothing(parent, own, name)
        else:
            _into_place(parent, own, name, expected)
        os.fsync(parent)


def _into_nothing(parent: int, own: str, name: str) -> None:
    try:
        move_new(parent, own, name)
    except FileExistsError as error:
        raise Drifted(f"{name} was not there, and is there now") from error


def _into_place(parent: int, own: str, name: str, expected: Identity) -> None:
    """Swap the two, and swap them back where what came out is not what was expected: nothing is ever lost."""
    try:
        exchange(parent, own, name)
    except FileNotFoundError as error:
        raise Drifted(f"{name} is gone") from error
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        _without_exchange(parent, own, name, expected)
        return
    came_out = os.stat(own, dir_fd=parent, follow_symlinks=False)
    if Identity.of(came_out) != expected:
        exchange(parent, own, name)
        raise Drifted(f"{name} was changed by somebody else")
    os.unlink(own, dir_fd=parent)


def _without_exchange(parent: int, own: str, name: str, expected: Identity) -> None:
    """For file systems that cannot swap, such as NFS: look, and rename at once."""
    found = look(parent, name)
    if found is None or Identity.of(found) != expected:
        raise Drifted(f"{name} was changed by somebody else")
    os.rename(own, name, src_dir_fd=parent, dst_dir_fd=parent)
