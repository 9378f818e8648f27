"""One use of each Compose action, on a project that the real `docker compose` started."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remediator.actions.compose import ComposeConnection, Recreate, Scale, StopSet
from remediator.domain.plans import Progress
from tests.support.dockerd import BUSYBOX, DockerEngine
from tests.support.engine_contract import Case, Look, changed, look
from tests.support.tools.build import tool

REPOSITORY = "shop/api"
LABEL = "reads-data=yes"


class ProjectOnDisk:
    """A project `shop` of a stateless api, on which a web and a db with a volume are built."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.file, self.pins = folder / "compose.yml", folder / "pins.yml"
        self.services: dict[str, dict[str, Any]] = {
            "api": self._service(
                image=f"{REPOSITORY}:1",
                depends_on=["db"],
                labels={"reads-data": "yes"},
                networks=["default", "side"],
            ),
            "db": self._service(volumes=["data:/data"], labels={"reads-data": "yes"}),
            "web": self._service(ports=["8080"], labels={"reads-data": "no"}),
        }
        self.images = {number: self._image(number) for number in ("1", "2")}

    @staticmethod
    def _service(**more: Any) -> dict[str, Any]:
        return {"image": BUSYBOX, "command": ["sleep", "1000"], "stop_signal": "SIGKILL", **more}

    def _image(self, number: str) -> str:
        client = self.engine.client()
        try:
            made = client.containers.create(BUSYBOX, ["true"])
            image = made.commit(REPOSITORY, number, changes=f"LABEL version={number}")
            made.remove()
            return str(image.id)
        finally:
            client.close()

    def write(self) -> None:
        """Write the file as it is now."""
        whole = {"services": self.services, "volumes": {"data": {}}, "networks": {"side": {}}}
        self.file.write_text(json.dumps(whole))

    def compose(self, *argv: str) -> str:
        """Use docker compose as a person does."""
        files = ["--file", str(self.file)] + (["--file", str(self.pins)] if self.pins.exists() else [])
        done = subprocess.run(
            [str(tool("docker-compose")), *files, "--project-name", "shop", "--progress", "quiet", *argv],
            env={**os.environ, "DOCKER_HOST": self.engine.base_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self, *options: str) -> None:
        """Write the file and start everything."""
        self.write()
        self.compose("up", "--detach", *options)

    def connect(self, base_url: str, **more: Any) -> ComposeConnection:
        """The connection as a rule file would name it."""
        given = {
            "kind": "compose",
            "base_url": base_url,
            "project": "shop",
            "files": [self.file],
            "pins_file": self.pins,
            "command": [str(tool("docker-compose"))],
            "scale": {"api": {"max_replicas": 3}, "db": {"max_replicas": 3}, "web": {"max_replicas": 3}},
            "recreate": {"api": REPOSITORY},
            "stop_labels": [LABEL],
            "timeout_seconds": 60,
            **more,
        }
        return ComposeConnection.model_validate(given)


def case(project: ProjectOnDisk, action: Any, **more: Any) -> Case:
    """A use of an action on the project; a look shows the pins too."""

    def seen() -> Look:
        pinned = project.pins.read_text() if project.pins.exists() else ""
        return {**look(project.engine), "pins": pinned}

    given = {"look": seen, "connect": project.connect, **more}
    return Case(project.engine, action, **given)


HOSTILE = tuple(
    {"service": name}
    for name in ("other", "../api", "api;id", "api\nb", "*", "", "--all", "api db", "shop-api-1", "x" * 100)
)


def scale(project: ProjectOnDisk) -> Case:
    """From one api to three."""
    project.up()

    def done(before: Look, after: Look) -> bool:
        return {"shop-api-2", "shop-api-3"} == changed(before, after) and {project.images["1"]} == {
            after[f"shop-api-{number}"]["image"] for number in (1, 2, 3)
        }

    return case(
        project,
        Scale,
        params={"service": "api", "replicas": 3, "wait_seconds": 30},
        trigger="POST /containers/.*/start$",
        done=done,
        spoil=lambda: project.compose("up", "--detach", "--no-deps", "--scale", "api=2", "api"),
        after_crash=(Progress.UNCLEAR,),
        hostile=(
            *HOSTILE,
            {"replicas": 0},
            {"replicas": 4},
            {"replicas": None, "step": 0},
            {"replicas": None},
            {"step": 1},
            {"max_replicas": 50},
        ),
    )


def recreate(project: ProjectOnDisk) -> Case:
    """Two containers of version 1, to be of version 2."""
    project.services["api"]["deploy"] = {"replicas": 2}
    project.up()

    def done(before: Look, after: Look) -> bool:
        names = {"shop-api-1", "shop-api-2"}
        return names | {"pins"} == changed(before, after) and {project.images["2"]} == {
            after[name]["image"] for name in names
        }

    return case(
        project,
        Recreate,
        params={
            "service": "api",
            "digest": project.images["2"],
            "healthy_seconds": 30,
            "stop_timeout_seconds": 1,
        },
        trigger="POST /containers/create$",
        done=done,
        spoil=lambda: project.compose("up", "--detach", "--no-deps", "--force-recreate", "api"),
        after_crash=(Progress.UNTOUCHED, Progress.UNCLEAR),
        hostile=(
            *HOSTILE,
            {"service": "db"},
            {"digest": "sha256:" + "0" * 64},
            {"digest": "latest"},
            {"digest": "evil/image@sha256:" + "0" * 64},
            {"digest": project.images["2"] + "\n"},
            {"stop_timeout_seconds": -1},
        ),
    )


def stop_set(project: ProjectOnDisk) -> Case:
    """The api and the db carry the label, the web does not."""
    project.up()

    def done(before: Look, after: Look) -> bool:
        names = {"shop-api-1", "shop-db-1"}
        return names == changed(before, after) and {"exited"} == {after[name]["status"] for name in names}

    return case(
        project,
        StopSet,
        params={"label": LABEL, "must_include": ["api", "db"], "stop_timeout_seconds": 1},
        trigger="POST /containers/.*/stop$",
        done=done,
        spoil=lambda: project.compose("up", "--detach", "--no-deps", "--scale", "api=2", "api"),
        after_crash=(Progress.DONE,),
        hostile=(
            {"label": "reads-data=no"},
            {"label": "reads-data"},
            {"label": "reads-data=*"},
            {"label": ""},
            {"label": "com.docker.compose.project=shop"},
            {"label": "reads-data=yes\n"},
            {"must_include": ["web"]},
            {"max_containers": 0},
        ),
    )


MAKERS: Mapping[str, Callable[[ProjectOnDisk], Case]] = {
    "compose.recreate": recreate,
    "compose.scale": scale,
    "compose.stop_set": stop_set,
}
