"""A Debian with systemd, D-Bus and polkit as a tar of files, made once by debootstrap and kept in the user's cache."""

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.processes import program

SUITE = "bookworm"
INCLUDE = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "polkitd")
VERSION = 1
"""Counted up when what is done to the tree below changes."""

LEFT_OUT = (
    "./var/cache/apt",
    "./var/lib/apt/lists",
    "./usr/share/doc",
    "./usr/share/locale",
    "./usr/share/man",
)


def systemd_tree() -> Path:
    """Return the tar, making it if it is not in the cache: about a minute, with Debian's mirror to be reached."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "remediator-tools"
    base.mkdir(parents=True, exist_ok=True)
    tar = base / f"{SUITE}-systemd-{VERSION}.tar"
    with (base / f"{tar.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            _build(tar)
    return tar


def _build(tar: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix=".systemd-") as work:
        tree, partial = Path(work) / "tree", Path(work) / tar.name
        _run(
            [
                program("debootstrap", package="debootstrap"),
                "--variant=minbase",
                f"--include={','.join(INCLUDE)}",
                SUITE,
                str(tree),
            ]
        )
        # Each container makes its own.
        (tree / "etc/machine-id").write_text("")
        (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
        leave = [f"--exclude={path}/*" for path in LEFT_OUT]
        _run(["tar", "--numeric-owner", *leave, "-C", str(tree), "-cf", str(partial), "."])
        partial.rename(tar)


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr}"
        )
