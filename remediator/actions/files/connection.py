"""Which folders, and what in them may be touched: everything has a name here, and parameters only choose names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from remediator.errors import Refused
from remediator.rooted import AbsolutePath, RelativePath

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""What the connection calls something. No path."""

FileName = Annotated[str, StringConstraints(pattern=r"^(\.?[A-Za-z0-9_-])[A-Za-z0-9_.-]{0,119}$")]
"""The name of one file in a folder."""

Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.*?\[\]-]{1,120}$")]
"""File names with the wildcards of fnmatch; never a path."""

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""A variable's name."""

EnvValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./:@,+=-]{0,1024}$")]
"""A value that every reader of env files takes as it stands: no space, quote, `$`, `#`, backslash or line end."""

SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|credential|private.?key|api.?key", re.IGNORECASE)

_STRICT = ConfigDict(extra="forbid", frozen=True)
T = TypeVar("T")


class Place(BaseModel):
    """A path below one of the roots."""

    model_config = _STRICT

    root: Name
    path: RelativePath = Field(default="", description="below the root; empty for the root itself")


class FilePlace(BaseModel):
    """A file below one of the roots."""

    model_config = _STRICT

    root: Name
    folder: RelativePath = Field(default="", description="below the root; empty for the root itself")
    file: FileName


class Model(BaseModel):
    """A model file that is served, and where its backups lie."""

    model_config = _STRICT

    live: FilePlace
    backups: Place
    keep: int = Field(default=5, ge=1, le=100, description="how many backups are never removed")


class Cache(BaseModel):
    """A folder of files that may go when they are old."""

    model_config = _STRICT

    folder: Place
    names: tuple[Pattern, ...] = Field(default=("*",), min_length=1, description="of the files that may go")
    owner_uid: int | None = Field(
        default=None, ge=0, description="only files of this user; in /tmp, say whose they are"
    )
    min_age_seconds: int = Field(default=86_400, ge=60, description="the age limit, which nothing lowers")
    limit_bytes: int | None = Field(
        default=None, gt=0, description="how large it may be, where its use is measured by that"
    )
    expendable: bool = Field(
        default=False,
        description="whether its owner has decided that files past the age limit may be lost for good; "
        "otherwise a prune is irreversible, and a person approves each",
    )


class Logs(BaseModel):
    """A folder of rotated logs, and where their archives go."""

    model_config = _STRICT

    folder: Place
    names: tuple[Pattern, ...] = Field(min_length=1, description="of rotated logs, such as `*.log.*`")
    archive: Place
    min_age_seconds: int = Field(default=3600, ge=0, description="the age limit, which nothing lowers")
    same_filesystem: bool = Field(
        default=False, description="whether the archive may lie on the file system of the logs"
    )


class EnvFile(BaseModel):
    """A file of KEY=value lines, and which keys may be set to what."""

    model_config = _STRICT

    place: FilePlace
    keys: Mapping[Key, tuple[EnvValue, ...]] = Field(
        description="the keys that may be set, each with the values it may have; an empty list allows any"
    )

    @field_validator("keys")
    @classmethod
    def _no_secret(cls, keys: Mapping[str, Any]) -> Mapping[str, Any]:
        for key in keys:
            if SECRET.search(key):
                raise ValueError(f"{key} is named like a secret, and plans and journals show values")
        return keys


class Versions(BaseModel):
    """Files of one name in many versions, of which the oldest may go."""

    model_config = _STRICT

    folder: Place
    names: tuple[Pattern, ...] = Field(min_length=1, description="of the files that are versions of it")
    keep: int = Field(default=5, ge=1, le=1000, description="how many of the newest are never removed")
    in_use: tuple[FilePlace, ...] = Field(
        default=(),
        description="what serves: a link to a version, or a file; the version it means, or equals, never goes",
    )


class FilesConnection(BaseModel):
    """Named folders of this host. `roots` are absolute; no part of their paths may be a symbolic link."""

    model_config = _STRICT

    kind: Literal["files"]
    roots: Mapping[Name, AbsolutePath] = Field(min_length=1)
    models: Mapping[Name, Model] = {}
    caches: Mapping[Name, Cache] = {}
    logs: Mapping[Name, Logs] = {}
    env_files: Mapping[Name, EnvFile] = {}
    versions: Mapping[Name, Versions] = {}

    @model_validator(mode="after")
    def _known_roots(self) -> Self:
        for root in _roots(self.model_dump(exclude={"roots"})):
            if root not in self.roots:
                known = ", ".join(self.roots)
                raise ValueError(f"there is no root {root!r}; expected one of {known}")
        return self

    def where(self, place: Place | FilePlace) -> Path:
        """The folder of a place, as an absolute path."""
        inner = place.path if isinstance(place, Place) else place.folder
        return self.roots[place.root] / inner


def _roots(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "root" in value and isinstance(value["root"], str):
            yield value["root"]
        for inner in value.values():
            yield from _roots(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _roots(inner)


class FilesAction:
    """What all of them share: the connection."""

    Connection: ClassVar[type[BaseModel]] = FilesConnection

    def __init__(self, connection: FilesConnection) -> None:
        self._connection = connection

    async def close(self) -> None:
        """Nothing is held."""


def allowed(what: str, name: str, among: Mapping[str, T]) -> T:
    """What the connection means by that name.

    Raises:
        Refused: when it means nothing.
    """
    if name not in among:
        raise Refused(
            f"{name} is not among the {what} that the connection allows ({', '.join(among) or 'none'})"
        )
    return among[name]
