"""The images that docker-compose.yml names, made here of the programs of this machine, since no registry is asked.

They are as the published ones are where the compose file depends on it: paths, users, folders, entry points, and the
`wget` and `redis-cli` of the health checks.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.dockerd import DockerEngine
from tests.support.processes import program
from tests.support.rootfs import rootfs
from tests.support.tools.build import tool

NOBODY = "65534:65534"
REDIS = "999:1000"


@dataclass(frozen=True)
class Recipe:
    """How one service's image is made: its programs by their paths there, its folder, its user, its entry point."""

    programs: dict[str, Path]
    user: str
    folder: str = "/tmp"
    entry: str = ""

    def dockerfile(self, base: str) -> str:
        """The same as a Dockerfile."""
        lines = [
            f"FROM {base}",
            "ADD rootfs.tar /",
            f'RUN ["/bin/busybox", "mkdir", "-p", "{self.folder}"]',
            f'RUN ["/bin/busybox", "chown", "{self.user}", "{self.folder}"]',
            "ENV PATH=/usr/bin:/bin",
            f"USER {self.user}",
            f"WORKDIR {self.folder}",
        ]
        return "\n".join([*lines, *([f'ENTRYPOINT ["{self.entry}"]'] if self.entry else [])]) + "\n"


def _recipes() -> Iterator[tuple[str, Recipe]]:
    for name in ("prometheus", "alertmanager"):
        path = f"/bin/{name}"
        yield name, Recipe({path: tool(name)}, NOBODY, f"/{name}", path)
    both = {f"/usr/bin/{one}": Path(program(one, package="redis")) for one in ("redis-server", "redis-cli")}
    yield "redis", Recipe(both, REDIS, "/data")
    exporter = Path(program("prometheus-redis-exporter", package="prometheus-redis-exporter"))
    yield "redis-exporter", Recipe({"/redis_exporter": exporter}, "59000:59000", entry="/redis_exporter")


def make_images(engine: DockerEngine, services: dict[str, Any]) -> set[str]:
    """Make the images of these services of a compose file under the names it gives; the services that now have one."""
    base = engine.busybox()
    made = set()
    client = engine.client()
    try:
        for service, recipe in _recipes():
            context = io.BytesIO()
            with tarfile.open(fileobj=context, mode="w") as tar:
                for name, content in (
                    ("Dockerfile", recipe.dockerfile(base).encode()),
                    ("rootfs.tar", rootfs(recipe.programs)),
                ):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
            context.seek(0)
            client.images.build(
                fileobj=context, custom_context=True, tag=services[service]["image"], rm=True, forcerm=True
            )
            made.add(service)
    finally:
        client.close()
    return made
