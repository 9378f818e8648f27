"""Where evidence is kept, how much of it, and what may be read for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import re2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from remediator.httpcalls import BaseUrl
from remediator.rooted import AbsolutePath


def _pattern(text: str) -> str:
    try:
        found = re2.compile(text)
    except re2.error as error:
        raise ValueError(f"no RE2 pattern: {error}") from error
    if found.search(""):
        raise ValueError("the pattern matches nothing at all, so it would match everywhere")
    return text


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_pattern)]
SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
ContainerName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")]
UnitName = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9:_.@-]{0,200}\.(service|timer|socket|mount)$")
]
Lines = Annotated[int, Field(ge=1, le=10_000)]


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DockerSource(_Source):
    """A container's log tail, or its statistics and state."""

    type: Literal["docker_logs", "docker_stats"]
    base_url: str = Field(default="unix:///var/run/docker.sock", pattern=r"^(unix|tcp)://[^\s@]{1,300}$")
    container: ContainerName
    lines: Lines = Field(default=500, description="of the log")


class RedisSource(_Source):
    """INFO and the slow log, without what the commands carried."""

    type: Literal["redis"]
    url: str = Field(pattern=r"^(redis|rediss|unix)://[^\s@]{1,300}$", description="without a password")
    username: str | None = None
    password_file: Path | None = None
    entries: int = Field(default=50, ge=1, le=1000, description="of the slow log")


class JournalSource(_Source):
    """The end of a unit's journal."""

    type: Literal["journal"]
    unit: UnitName
    lines: Lines = 500
    directory: AbsolutePath | None = Field(
        default=None, description="of the journal's files; the host's where empty"
    )


class FileSource(_Source):
    """The end of a file; no part of its path is a symbolic link."""

    type: Literal["file"]
    path: AbsolutePath


class PageSource(_Source):
    """A page, such as one of metrics."""

    type: Literal["http"]
    url: BaseUrl = Field(description="without credentials or query")


Source = Annotated[
    DockerSource | RedisSource | JournalSource | FileSource | PageSource, Field(discriminator="type")
]


class EvidenceConnection(BaseModel):
    """One directory that evidence is kept in. `sources` are the only things that are read for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evidence"]
    directory: AbsolutePath = Field(description="has to be there; nobody but us needs to read it")
    max_bytes: int = Field(default=5_000_000, ge=10_000, le=1_000_000_000, description="of one capture")
    min_free_bytes: int = Field(
        default=500_000_000, ge=0, description="what has to stay free on its disk; less is refused"
    )
    sources: Mapping[SourceName, Source] = Field(min_length=1)
    hide: tuple[Pattern, ...] = Field(
        default=(),
        max_length=50,
        description="RE2 patterns of what must not be kept, such as patient identifiers",
    )
    timeout_seconds: float = Field(default=20, gt=0, le=120, description="of one source")
