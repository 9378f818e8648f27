"""Old files below a folder: found without leaving it or its file system, and the oldest first."""

from __future__ import annotations

import fnmatch
import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from remediator.rooted import HIDDEN, Identity, below
from remediator.stoppable import Stop

_DEEPEST = 64
BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True, order=True)
class OldFile:
    """A file that may go. `bytes` is what it takes of the disk; `parts` is its path below the folder."""

    mtime_ns: int
    parts: tuple[str, ...]
    bytes: int
    identity: Identity


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files: names by fnmatch patterns, not changed since `cutoff_ns`, of one user where that is said."""

    names: tuple[str, ...]
    cutoff_ns: int
    owner_uid: int | None = None
    deep: bool = True

    def fits(self, name: str, found: os.stat_result) -> bool:
        """Whether it is such a file. One with a second hard link is not: nothing would be freed."""
        return (
            stat.S_ISREG(found.st_mode)
            and found.st_nlink == 1
            and found.st_mtime_ns < self.cutoff_ns
            and self.owner_uid in (None, found.st_uid)
            and self.named(name)
        )

    def named(self, name: str) -> bool:
        """Whether its name fits; those of our own unfinished files never do."""
        return not name.startswith(HIDDEN) and any(fnmatch.fnmatchcase(name, one) for one in self.names)


@dataclass(slots=True)
class Walk:
    """Walks a folder that is held; `total_bytes` counts all its regular files on the way, wanted or not."""

    wanted: Wanted
    stop: Stop
    total_bytes: int = 0

    def oldest(self, parent: int, most: int) -> list[OldFile]:
        """At most so many of the wanted files, the oldest first."""
        return heapq.nsmallest(most, self._files(parent, (), os.fstat(parent).st_dev))

    def _files(self, parent: int, parts: tuple[str, ...], device: int) -> Iterator[OldFile]:
        inner: list[str] = []
        with os.scandir(parent) as entries:
            for entry in entries:
                self.stop.check()
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    inner.append(entry.name)
                elif stat.S_ISREG(found.st_mode):
                    size = found.st_blocks * BLOCK_BYTES
                    self.total_bytes += size
                    if self.wanted.fits(entry.name, found):
                        yield OldFile(found.st_mtime_ns, (*parts, entry.name), size, Identity.of(found))
        if not self.wanted.deep or len(parts) >= _DEEPEST:
            return
        for name in inner:
            try:
                with below(parent, (name,)) as held:
                    if os.fstat(held).st_dev == device:
                        yield from self._files(held, (*parts, name), device)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # gone, swapped for a link, or not ours to read: what is in it stays
