"""A package index for a build without the internet: the wheels of our lock files, served where builds can reach them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packaging.markers import Marker

from tests.support.dockerd import DockerEngine
from tests.support.ports import free_port
from tests.support.processes import Server, ServerFailedError, http_answers, program

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "installer.lock")


class Wheels(Server):
    """Serves, within the engine's network, what pip has to have for a Python of the given version, such as 3.11.2."""

    def __init__(self, engine: DockerEngine, folder: Path, python: str) -> None:
        self.port = free_port()
        self.url = f"http://{engine.host}:{self.port}/"
        wheels = folder / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        for lock in LOCKS:
            wanted = folder / lock
            wanted.write_text(_for_python((ROOT / lock).read_text(), python))
            _download(wanted, wheels, python)
        inner = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()[0]
        super().__init__(
            [
                *[program("nsenter", package="util-linux"), f"--target={inner}", "--net", "--"],
                *[sys.executable, "-m", "http.server", "--bind", engine.host, "--directory", str(wheels)],
                str(self.port),
            ],
            name="wheels",
            folder=folder,
            ready=lambda: http_answers(self.url),
        )

    def pip_conf(self) -> Path:
        """Write the configuration that has pip look nowhere else."""
        path = self.folder / "pip.conf"
        path.write_text(
            f"[global]\nno-index = true\nfind-links = {self.url}\ntrusted-host = {self.url[7:-1]}\n"
        )
        return path


def _for_python(lock: str, python: str) -> str:
    """Return a lock without markers, with what it asks for of that Python.

    Told of another Python, pip chooses wheels for it, but goes by the markers of the one that it runs on.
    """
    there = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    kept = []
    for entry in re.split(r"^(?=[a-z0-9])", re.sub(r"(?m)^ *#.*\n", "", lock), flags=re.MULTILINE):
        first, _, hashes = entry.partition("\\\n")
        requirement, _, marker = first.partition(" ; ")
        if not marker or Marker(marker).evaluate(there):
            kept.append(f"{requirement.strip()} \\\n{hashes}" if hashes else entry)
    return "".join(kept)


def _download(lock: Path, into: Path, python: str) -> None:
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"],
            *["--require-hashes", "--no-deps", "--only-binary=:all:", f"--python-version={python}"],
            *["--requirement", str(lock), "--dest", str(into)],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode != 0:
        raise ServerFailedError(f"the wheels of {lock.name} cannot be had: {done.stderr}")
