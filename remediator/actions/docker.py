"""Docker: restart one container, the very one that was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from pydantic import BaseModel, ConfigDict, Field

from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import (
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from remediator.offload import offload
from remediator.pipeline.ports import Permissions


class DockerConnection(BaseModel):
    """One engine. `containers` are the names that may be acted on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["docker"]
    base_url: str = Field(
        default="unix:///var/run/docker.sock", description="unix:// or tcp:// of the engine"
    )
    containers: tuple[str, ...] = Field(
        default=(), description="names of the containers that may be acted on"
    )
    timeout_seconds: float = Field(default=60, gt=0, le=600)


class RestartParams(BaseModel):
    """Parameters of `docker.restart`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    container: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")
    stop_timeout_seconds: int = Field(default=10, ge=0, le=300, description="before it is killed")


@dataclass(frozen=True, slots=True)
class Container:
    """What the engine says of a container. `started_at` tells one run from the next."""

    id: str
    name: str
    image: str
    status: str
    health: str
    started_at: str


class Restart:
    """Stop and start a container by the id that was seen, never by its name."""

    kind: ClassVar[str] = "docker.restart"
    # Not idempotent: while a first restart still waits for the process to stop, a look sees nothing changed,
    # and a second one would stop the container again.
    idempotent: ClassVar[bool] = False
    Params: ClassVar[type[BaseModel]] = RestartParams
    Connection: ClassVar[type[BaseModel]] = DockerConnection

    def __init__(self, connection: DockerConnection) -> None:
        self._connection = connection
        self._client: Any = None

    async def observe(self, params: RestartParams) -> Container:
        """Inspect it by its configured name."""
        if params.container not in self._connection.containers:
            allowed = ", ".join(self._connection.containers) or "none"
            raise Refused(
                f"{params.container} is not among the containers that the connection allows ({allowed})"
            )
        return await self._inspect(params.container)

    def plan(self, params: RestartParams, seen: Container) -> tuple[Effect, ...]:
        """One effect on exactly this id and run."""
        state = seen.status + (f", {seen.health}" if seen.health else "")
        return (
            Effect(
                action=self.kind,
                subject=f"container {seen.name}",
                params=params.model_dump(mode="json"),
                summary=f"restart container {seen.name} ({seen.id[:12]}, image {seen.image[:19]}, {state})",
                before={"id": seen.id, "started_at": seen.started_at, "image": seen.image},
                figures={"containers": 1},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Restart it, unless that was done since it was planned."""
        params = RestartParams.model_validate(effect.params)
        seen = await self._inspect(effect.before["id"])
        if seen.started_at != effect.before["started_at"]:
            return Result(f"{seen.name} was already started again at {seen.started_at}", changed=False)
        try:
            await offload(self._restart, seen.id, params.stop_timeout_seconds)
        except NotFound as error:
            raise Drifted(f"container {seen.id[:12]} is gone") from error
        except APIError as error:
            raise PermanentFailure(
                f"the engine refused to restart {seen.name}: {error.explanation}"
            ) from error
        except (DockerException, requests.RequestException) as error:
            raise OutcomeUnknown(f"the engine stopped answering while {seen.name} was restarted") from error
        after = await self._inspect(seen.id)
        return Result(f"restarted {seen.name}, now {after.status}", evidence={"started_at": after.started_at})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Nothing to take back: the same container runs again."""
        raise Refused("a restart has no inverse")

    def progress(self, effect: Effect, seen: Container) -> Progress:
        """Done where the same container runs since a later time."""
        if seen.id != effect.before["id"]:
            return Progress.UNCLEAR
        if seen.started_at != effect.before["started_at"]:
            return Progress.DONE if seen.status == "running" else Progress.UNCLEAR
        return Progress.UNTOUCHED

    def permissions(self, params: RestartParams) -> Permissions:
        """Two calls, on one container."""
        name = params.container
        return Permissions(docker=(f"GET /containers/{name}/json", f"POST /containers/{name}/restart"))

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await offload(self._client.close)

    async def _inspect(self, reference: str) -> Container:
        try:
            found = await offload(lambda: self._engine().api.inspect_container(reference))
        except NotFound as error:
            raise NothingSelected(f"there is no container {reference}") from error
        except (DockerException, requests.RequestException) as error:
            raise TemporaryFailure(f"the Docker engine does not answer: {error}") from error
        state = found["State"]
        return Container(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            image=found["Image"],
            status=state["Status"],
            health=(state.get("Health") or {}).get("Status", ""),
            started_at=state["StartedAt"],
        )

    def _engine(self) -> Any:
        if self._client is None:
            # The version is fixed so that making a client does not ask the engine first.
            timeout = int(self._connection.timeout_seconds)
            self._client = docker.DockerClient(
                base_url=self._connection.base_url, version="1.41", timeout=timeout
            )
        return self._client

    def _restart(self, id_: str, stop_timeout_seconds: int) -> None:
        # The HTTP call lasts as long as the stop does.
        api = self._engine().api
        api.timeout = int(self._connection.timeout_seconds) + stop_timeout_seconds
        api.restart(id_, timeout=stop_timeout_seconds)
