"""Which project on which engine, and what of it may be touched; and what all its actions share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.actions.compose.project import Project
from remediator.engine import Engine
from remediator.errors import Refused

ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$")]
ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Repository = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._:/-]{0,253}[a-z0-9])?$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Label = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,127}=[a-zA-Z0-9._/-]{1,127}$")
]
"""A label with its value, such as `reads-patient-data=yes`."""

Replicas = Annotated[int, Field(ge=1, le=100)]


class ScaleLimits(BaseModel):
    """How far one service may be scaled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_replicas: Replicas = 1
    max_replicas: Replicas
    memory_bytes: int | None = Field(
        default=None,
        ge=1,
        le=2**50,
        description="what one replica needs; more are refused where the engine's host has not that much left",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self


class ComposeConnection(BaseModel):
    """One project on one engine. What is not named here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["compose"]
    base_url: str = Field(
        default="unix:///var/run/docker.sock", description="unix:// or tcp:// of the engine"
    )
    project: ProjectName
    files: tuple[Path, ...] = Field(min_length=1, description="its compose files, as `--file` names them")
    env_files: tuple[Path, ...] = Field(default=(), description="as `--env-file` names them")
    pins_file: Path | None = Field(
        default=None,
        description="a compose file of ours, read after all others, that pins images by digest; "
        "people who use compose by hand name it last too (COMPOSE_FILE)",
    )
    command: tuple[str, ...] = Field(
        default=("docker", "compose"), min_length=1, description="the program and its first words"
    )
    scale: Mapping[ServiceName, ScaleLimits] = Field(default={}, description="services that may be scaled")
    recreate: Mapping[ServiceName, Repository] = Field(
        default={}, description="services that may be recreated, and the repository that their image is of"
    )
    stop_labels: tuple[Label, ...] = Field(
        default=(), description="labels by which containers of the project may be stopped"
    )
    timeout_seconds: float = Field(default=60, gt=0, le=600, description="of one call")

    @model_validator(mode="after")
    def _whole_paths(self) -> Self:
        named = (*self.files, *self.env_files, *([self.pins_file] if self.pins_file else ()))
        for path in named:
            if not path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{path} is not a whole path")
        return self


class ComposeAction:
    """What all of them share: the connection, the engine, and the project on it."""

    Connection: ClassVar[type[BaseModel]] = ComposeConnection

    def __init__(self, connection: ComposeConnection) -> None:
        self._connection = connection
        self._engine = Engine(connection.base_url, connection.timeout_seconds)
        self._project = Project(
            self._engine,
            connection.project,
            command=connection.command,
            files=connection.files,
            env_files=connection.env_files,
            pins_file=connection.pins_file,
            timeout_seconds=connection.timeout_seconds,
        )

    async def close(self) -> None:
        """Close the client."""
        await self._engine.close()

    def _subject(self, service: str) -> str:
        return f"service {service} of {self._connection.project}"


def allowed(name: str, what: str, among: Mapping[str, object] | tuple[str, ...]) -> None:
    """Raise Refused unless the connection names it."""
    if name not in among:
        told = ", ".join(among) or "none"
        raise Refused(f"the connection does not allow {what} {name} (it allows {told})")
