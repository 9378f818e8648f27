"""A Debian as a tar of files, made once by debootstrap and kept in the user's cache."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.processes import program

SUITE = "bookworm"
LEFT_OUT = (
    "./var/cache/apt",
    "./var/lib/apt/lists",
    "./usr/share/doc",
    "./usr/share/locale",
    "./usr/share/man",
)


def debian_tree(
    name: str, include: Sequence[str], *, version: int = 1, change: Callable[[Path], None] | None = None
) -> Path:
    """Return the tar, making it if it is not in the cache: about a minute, with Debian's mirror to be reached.

    It has Debian's smallest system and the packages of `include`. `change` is done to the tree before it is packed;
    count `version` up when that or `include` changes.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "remediator-tools"
    base.mkdir(parents=True, exist_ok=True)
    tar = base / f"{SUITE}-{name}-{version}.tar"
    with (base / f"{tar.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tar.exists():
            _build(tar, include, change or _nothing)
    return tar


def _nothing(tree: Path) -> None:
    """Leave the tree as debootstrap made it."""


def _build(tar: Path, include: Sequence[str], change: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=tar.parent, prefix=f".{tar.stem}-") as work:
        tree, partial = Path(work) / "tree", Path(work) / tar.name
        options = ["--variant=minbase", f"--include={','.join(include)}"]
        _run([program("debootstrap", package="debootstrap"), *options, SUITE, str(tree)])
        change(tree)
        leave = [f"--exclude={path}/*" for path in LEFT_OUT]
        _run(["tar", "--numeric-owner", *leave, "-C", str(tree), "-cf", str(partial), "."])
        partial.rename(tar)


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr}"
        )
