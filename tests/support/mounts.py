"""Small file systems of a test's own (tmpfs), so that a disk can really be full, or really be another one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import program


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of that size, mounted on the folder. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount, umount = program("mount", package="mount"), program("umount", package="mount")
    subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size_bytes},mode=0755", "tmpfs", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)
