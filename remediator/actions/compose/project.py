"""A compose project: what its files say of a service, what of it runs, and the one command that changes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remediator.containers import Container
from remediator.engine import Engine
from remediator.errors import ActionError, OutcomeUnknown, PermanentFailure, Refused, TemporaryFailure
from remediator.programs import Finished, run

LABEL = "com.docker.compose"
HASH_LABEL = f"{LABEL}.config-hash"

READS = (
    "HEAD /_ping",
    "GET /version",
    "GET /containers/json",
    "GET /containers/{id}/json",
    "GET /images/{name}/json",
    "GET /networks/{name}",
    "GET /volumes/{name}",
)
"""What we and compose ask before a service is changed."""

CHANGES = (
    "POST /containers/create",
    "POST /containers/{id}/start",
    "POST /containers/{id}/stop",
    "DELETE /containers/{id}",
    "POST /networks/{name}/connect",
)
"""How compose changes the number of a service's containers, each in all of its networks."""


class Project:
    """One project of one engine, through `docker compose` and the engine's API."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        command: Sequence[str],
        files: Sequence[Path],
        env_files: Sequence[Path] = (),
        pins_file: Path | None = None,
        timeout_seconds: float = 60,
    ) -> None:
        self.name = name
        self._engine = engine
        self._command, self._files, self._env_files = tuple(command), tuple(files), tuple(env_files)
        self._pins_file, self._timeout_seconds = pins_file, timeout_seconds

    async def containers(self, service: str) -> tuple[Container, ...]:
        """All containers of a service, running or not; not those of `compose run`."""
        return await self._engine.containers(
            f"{LABEL}.project={self.name}", f"{LABEL}.service={service}", f"{LABEL}.oneoff=False"
        )

    async def labelled(self, label: str) -> tuple[Container, ...]:
        """All containers of the project that carry the label `key=value`."""
        return await self._engine.containers(f"{LABEL}.project={self.name}", label)

    async def service(self, name: str) -> Mapping[str, Any]:
        """A service as the files say, all files and variables resolved."""
        found = json.loads(await self._asked("config", "--format", "json"))
        services: Mapping[str, Mapping[str, Any]] = found.get("services") or {}
        if name not in services:
            raise Refused(f"the files of {self.name} name no service {name}")
        return services[name]

    async def config_hash(self, service: str) -> str:
        """What compose compares to see whether a container is as the files say."""
        told = await self._asked("config", "--hash", service)
        return told.split()[-1]

    async def up(self, service: str, replicas: int, *options: str, more_seconds: float = 0) -> Finished:
        """Bring one service to so many containers: nothing else, and no image is pulled or built."""
        argv = ("up", "--detach", "--no-deps", "--no-build", "--pull", "never", "--quiet-pull")
        return await self._run(
            *argv, "--scale", f"{service}={replicas}", *options, service, more_seconds=more_seconds
        )

    async def failed(self, finished: Finished, service: str, before: Sequence[Container]) -> ActionError:
        """Which failure it is that compose ended badly: whether it had changed anything by then."""
        told = f"docker compose failed ({finished.status}): {finished.told}"
        try:
            after = await self.containers(service)
        except ActionError as error:
            return OutcomeUnknown(f"{told}; and then: {error}")
        if _runs(after) == _runs(before):
            return PermanentFailure(told)
        return OutcomeUnknown(told)

    async def _asked(self, *argv: str) -> str:
        finished = await self._run(*argv)
        if finished.status is None:
            raise TemporaryFailure(finished.told)
        if finished.status != 0:
            raise PermanentFailure(f"docker compose {argv[0]} failed: {finished.told}")
        return finished.out

    async def _run(self, *argv: str, more_seconds: float = 0) -> Finished:
        whole = (*self._command, "--ansi", "never", "--progress", "quiet", "--project-name", self.name)
        for path in self._files:
            whole += ("--file", str(path))
        if self._pins_file is not None and self._pins_file.exists():
            whole += ("--file", str(self._pins_file))
        for path in self._env_files:
            whole += ("--env-file", str(path))
        where = ("--project-directory", str(self._files[0].parent))
        env = {"DOCKER_HOST": self._engine.base_url}
        return await run((*whole, *where, *argv), self._timeout_seconds + more_seconds, env)


def _runs(containers: Sequence[Container]) -> list[tuple[str, str, str]]:
    return [(one.id, one.status, one.started_at) for one in containers]


def image_of(containers: Sequence[Container], service: str) -> str:
    """The one image that all of them run.

    Raises:
        Refused: when they run several.
    """
    images = {one.image for one in containers}
    if len(images) != 1:
        raise Refused(f"the containers of {service} run {len(images)} different images")
    return images.pop()
