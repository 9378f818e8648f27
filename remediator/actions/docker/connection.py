"""Which engine, and what of it may be touched; and what all its actions share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remediator.containers import Container, same
from remediator.domain.plans import Effect
from remediator.engine import Engine
from remediator.errors import Refused

ContainerName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
"""A name without a slash or a wildcard."""

NetworkName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]

Repository = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._:/-]{0,253}[a-z0-9])?$")]
"""An image's name without its tag, such as `registry.example:5000/team/api`."""

Tag = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$")]

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


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
    networks: tuple[NetworkName, ...] = Field(
        default=(), description="networks that an isolated container may be joined to again"
    )
    image_repositories: tuple[Repository, ...] = Field(
        default=(), description="repositories whose images may be pruned"
    )
    prune_untagged: bool = Field(default=False, description="whether images without any name may be pruned")
    keep_tags: tuple[Tag, ...] = Field(
        default=("previous",), description="tags that are never pruned: the images to roll back to"
    )
    keep_digests: tuple[Digest, ...] = Field(
        default=(), description="ids and digests of images that are never pruned"
    )
    timeout_seconds: float = Field(default=60, gt=0, le=600)


class DockerAction:
    """What all of them share: the connection, and the client that is made of it."""

    Connection: ClassVar[type[BaseModel]] = DockerConnection

    def __init__(self, connection: DockerConnection) -> None:
        self._connection = connection
        self._engine = Engine(connection.base_url, connection.timeout_seconds)

    async def close(self) -> None:
        """Close the client."""
        await self._engine.close()

    async def _named(self, name: str) -> Container:
        """The container of an allowed name."""
        allowed(name, self._connection.containers)
        return await self._engine.inspect(name)

    async def _planned(self, effect: Effect, name: str) -> Container:
        """The very container that an effect was planned on."""
        allowed(name, self._connection.containers)
        return same(await self._engine.find(effect.before["id"]), effect.before, name)


def allowed(name: str, among: Collection[str]) -> None:
    """Raise Refused unless the connection names it."""
    if name not in among:
        told = ", ".join(among) or "none"
        raise Refused(f"{name} is not among the containers that the connection allows ({told})")


def state(seen: Container) -> str:
    """Its state in words."""
    return seen.status + (f", {seen.health}" if seen.health else "")


def told(seen: Container) -> str:
    """Which one it is, for a person."""
    return f"{seen.name} ({seen.id[:12]}, image {seen.image[:19]}, {state(seen)})"


READS = ("GET /version", "GET /containers/{id}/json")
"""What every use of an action on a container asks the engine. `{id}` is the id of the allowed container."""


def calls(name: str, *changes: str) -> tuple[str, ...]:
    """The engine calls of a use of an action on one container."""
    return (*READS, f"GET /containers/{name}/json", *changes)
