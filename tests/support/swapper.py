"""A process that swaps a folder for a link to another and back, again and again, until it is told to stop.

python -m tests.support.swapper FOLDER OTHER ASIDE STOP    ASIDE is where the folder is meanwhile; STOP a file
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def swapping(folder: Path, other: Path, *, aside: Path, stop: Path) -> Iterator[None]:
    """Have it swapped while the block runs; afterwards the folder is in its place."""
    argv = [sys.executable, "-m", "tests.support.swapper", str(folder), str(other), str(aside), str(stop)]
    with subprocess.Popen(argv, cwd=ROOT) as process:
        try:
            yield
        finally:
            stop.touch()
            process.wait(timeout=30)


def main(folder: str, other: str, aside: str, stop: str) -> None:
    """Swap at times that nobody can guess."""
    while not Path(stop).exists():
        time.sleep(random.uniform(0, 0.003))
        os.rename(folder, aside)
        os.symlink(other, folder)
        time.sleep(random.uniform(0, 0.003))
        os.unlink(folder)
        os.rename(aside, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
