"""A real MLflow tracking server of its own for a test, from a virtual environment that is built once into the user's cache."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import MissingProgramError, Server, http_answers
from tests.support.rest import call_now
from tests.support.tools.build import cache_folder

MLFLOW = "2.22.4"
PACKAGES = (
    f"mlflow-skinny=={MLFLOW}",
    "flask==3.1.3",
    "sqlalchemy==2.0.46",
    "alembic>=1.14,<2",
    "graphene==3.4.3",
    "gunicorn==23.0.0",
    "numpy<3",
    "pandas<4",
    "setuptools<80",
)
"""What its server needs: `mlflow` itself would bring scikit-learn, pyarrow and matplotlib too."""


def environment() -> Path:
    """The folder of the virtual environment, made now unless it is in the cache."""
    folder = cache_folder() / f"mlflow-{MLFLOW}"
    with (cache_folder() / f"mlflow-{MLFLOW}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            (folder / "complete").touch()
    return folder


def _make(folder: Path) -> None:
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    made = (
        [uv, "venv", "-q", "-p", sys.executable, str(folder)]
        if uv
        else [sys.executable, "-m", "venv", str(folder)]
    )
    install = (
        [uv, "pip", "install", "-q", "--python", str(python), *PACKAGES]
        if uv
        else [str(python), "-m", "pip", "install", "-q", *PACKAGES]
    )
    with tempfile.TemporaryFile("w+") as told:
        for argv in (made, install):
            if subprocess.run(argv, check=False, stdout=told, stderr=told, timeout=600).returncode != 0:
                told.seek(0)
                raise MissingProgramError(
                    f"MLflow could not be installed into {folder}; it needs a package index: {' '.join(argv)}\n"
                    f"{told.read()[-2000:]}"
                )


class MlflowServer(Server):
    """MLflow on SQLite in one folder. It is started as `mlflow server` starts it: gunicorn with mlflow.server:app."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        store = f"sqlite:///{folder / 'mlflow.db'}"
        super().__init__(
            [
                str(environment() / "bin" / "python"),
                "-m",
                "gunicorn",
                f"--bind=127.0.0.1:{self.port}",
                "--workers=1",
                "mlflow.server:app",
            ],
            name="mlflow",
            folder=folder,
            ready=lambda: http_answers(
                f"{self.url}/api/2.0/mlflow/registered-models/search"
            ),  # /health answers without its database
            within=180,
            env={
                "_MLFLOW_SERVER_FILE_STORE": store,
                "_MLFLOW_SERVER_REGISTRY_STORE": store,
                "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
                "PYTHONDONTWRITEBYTECODE": "",
                "HOME": str(folder),
            },
        )

    @property
    def url(self) -> str:
        """Where its API and pages are."""
        return f"http://127.0.0.1:{self.port}"

    def rest(self, method: str, what: str, **body: Any) -> Any:
        """Call its API as an administrator."""
        url = f"{self.url}/api/2.0/mlflow/{what}"
        return call_now(url, method=method, body=body or None, timeout=60)

    def model(self, name: str, *, versions: int = 3, verified: tuple[int, ...] = ()) -> str:
        """Register a model with so many versions, these of them verified, and return its name."""
        self.rest("POST", "registered-models/create", name=name)
        for number in range(1, versions + 1):
            self.rest("POST", "model-versions/create", name=name, source=f"s3://models/{name}/{number}")
            if number in verified:
                self.tag(name, number, "validation_status", "approved")
        return name

    def tag(self, name: str, number: int, key: str, value: str) -> None:
        """Tag a version."""
        self.rest("POST", "model-versions/set-tag", name=name, version=str(number), key=key, value=value)

    def point(self, name: str, alias: str, number: int) -> None:
        """Move an alias."""
        self.rest("POST", "registered-models/alias", name=name, alias=alias, version=str(number))

    def look(self, *names: str) -> dict[str, Any]:
        """These models: their aliases, and their versions with stages and tags."""
        found: dict[str, Any] = {}
        for name in names:
            told = self.rest("GET", f"registered-models/get?name={name}")["registered_model"]
            versions = self.rest("GET", f"model-versions/search?filter=name%3D%27{name}%27")
            found[name] = {
                "aliases": {one["alias"]: one["version"] for one in told.get("aliases", [])},
                "versions": {
                    one["version"]: (
                        one["current_stage"],
                        {tag["key"]: tag["value"] for tag in one.get("tags", [])},
                    )
                    for one in versions.get("model_versions", [])
                },
            }
        return found
