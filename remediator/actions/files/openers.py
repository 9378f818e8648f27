"""Whether a file is in use: open in, or mapped by, any process.

A write lease is granted only where nobody else has the file open, in this container or another, and as long as it
is held the kernel makes whoever opens the file wait. Where we may not take one (another user's file) or the file
system has none, /proc is asked; where that does not show us every process of this host, as in a container, the
answer is that nobody knows, and the file stays. Other hosts, on a network file system, are seen by neither.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_FRESH_SECONDS = 2.0
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""Linux's own constant (PROC_PID_INIT_INO): in any other namespace /proc shows a part of the host's processes."""


class Openers:
    """The files that processes have open or mapped, looked up again when that is some seconds old."""

    def __init__(self) -> None:
        self._looked_at = float("-inf")
        self._open: set[tuple[int, int]] = set()
        self._mapped: set[int] = set()
        self._complete = False

    def free(self, file: int) -> bool:
        """Whether nobody but us has this open file; as long as it stays open nobody gets at it, where the kernel helps."""
        leased = _lease(file)
        if leased is not None:
            return leased
        self._look()
        found = os.fstat(file)
        used = (found.st_dev, found.st_ino) in self._open or found.st_ino in self._mapped
        return self._complete and not used

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < _FRESH_SECONDS:
            return
        self._open, self._mapped = set(), set()
        # Without process 1 /proc hides those of others (hidepid).
        self._complete = (
            str(Path("/proc/self/ns/pid").readlink()) == _INITIAL_PID_NAMESPACE and Path("/proc/1").exists()
        )
        own = str(os.getpid())
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and process.name != own:
                self._look_at(process)
        self._looked_at = time.monotonic()

    def _look_at(self, process: Path) -> None:
        try:
            for file in (process / "fd").iterdir():
                with suppress(FileNotFoundError):
                    found = file.stat()
                    self._open.add((found.st_dev, found.st_ino))
            for line in (process / "maps").read_text(errors="replace").splitlines():
                # Only the inode: on overlay and btrfs the device here is another than stat's.
                self._mapped.add(int(line.split(maxsplit=5)[4]))
        except (FileNotFoundError, ProcessLookupError):
            return  # it has ended
        except PermissionError:
            self._complete = False


def _lease(file: int) -> bool | None:
    """Take a write lease; None where there is none to be had, False where somebody has the file open."""
    try:
        # The signal of a broken lease; by default SIGIO, which would end us. SIGURG is ignored by default.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return False if error.errno == errno.EAGAIN else None
    return True
