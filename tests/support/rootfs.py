"""Images of programs that are installed here: each with the libraries that it needs, and nothing else."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def rootfs(programs: Mapping[str, Path], *, trees: Sequence[Path] = ()) -> bytes:
    """Return a tar of the programs, by their paths in the image, and of their libraries at the paths of here.

    `trees` are folders of here that are taken whole.
    """
    files = {inside.lstrip("/"): outside for inside, outside in programs.items()}
    for outside in programs.values():
        files |= {str(library).lstrip("/"): library for library in _libraries(outside)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        entry = tarfile.TarInfo("tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
        for inside, outside in sorted(files.items()):
            tar.add(outside.resolve(), inside)
        for tree in trees:
            tar.add(tree, str(tree).lstrip("/"))
    return buffer.getvalue()


def _libraries(binary: Path) -> set[Path]:
    """Return what the dynamic loader would load, and the loader; nothing for a static program."""
    told = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False, timeout=30)
    words = {word for line in told.stdout.splitlines() for word in line.split()}
    return {Path(word) for word in words if word.startswith("/") and Path(word).is_file()}
