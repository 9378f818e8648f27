"""Free loopback ports that stay ours: no other worker, run or outgoing connection takes them meanwhile.

Binding to port 0 and closing again leaves a gap in which another process gets the same number. Here a number
comes from below the range that the kernel gives to outgoing connections, and is held by an flock on a small
file until this process ends, so that parallel workers and parallel runs never meet.
"""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

FIRST, LAST = 20_000, 31_999
"""The ports that we hand out: below 32768, where Linux begins to number outgoing connections."""

_held: dict[int, int] = {}
_cursor = FIRST + (os.getpid() * 97) % (LAST - FIRST)


class NoFreePortError(RuntimeError):
    """Every port of the range is held or bound."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on, held for us until this process ends."""
    global _cursor
    for _ in range(FIRST, LAST + 1):
        _cursor = FIRST + (_cursor + 1 - FIRST) % (LAST + 1 - FIRST)
        if _cursor not in _held and _hold(_cursor):
            return _cursor
    raise NoFreePortError(f"no free port in {FIRST}..{LAST}")


def _hold(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"remediator-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        os.close(lock)
        return False
    _held[port] = lock
    return True
