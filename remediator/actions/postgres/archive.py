"""The proof that a partition was archived: a manifest with its rows, a checksum and when it was verified.

Whoever exports a partition reads the archive back, compares it with the table, and only then writes the manifest.
Here the manifest is believed only where it was verified after the partition could still change, where it counts
exactly the rows that are there, and, where the archive lies beside it, where its SHA-256 is right.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from remediator.actions.postgres.base import identifier, quoted
from remediator.actions.postgres.connection import ArchiveFolder, ArchiveTable, Partitioned, Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.session import Session
from remediator.errors import PermanentFailure, Refused
from remediator.offload import offload

_MANIFEST_BYTES = 65_536
_CHUNK_BYTES = 1024 * 1024


class Manifest(BaseModel):
    """One row of the manifest table, or one file of the manifest folder."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    partition: Table
    rows: int = Field(ge=0)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    verified_at: AwareDatetime
    location: Annotated[str, StringConstraints(max_length=1024)] = ""
    archive: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$")] | None = Field(
        default=None, description="the archive's file, where it lies in the same folder"
    )


def rights(settings: Partitioned) -> tuple[str, ...]:
    """The grants that reading the proof needs."""
    if not isinstance(settings.archive, ArchiveTable):
        return ()
    schema, name = settings.archive.table.split(".", 1)
    return (f"USAGE ON SCHEMA {quoted(schema)}", f"SELECT ON TABLE {quoted(schema, name)}")


def files(settings: Partitioned) -> tuple[str, ...]:
    """The folder that is read."""
    return (f"r {settings.archive.folder}",) if isinstance(settings.archive, ArchiveFolder) else ()


async def proof(link: Session, settings: Partitioned, partition: Table) -> Manifest:
    """The newest manifest of that partition.

    Raises:
        Refused: where there is none, or it cannot be believed.
    """
    if settings.archive is None:
        raise Refused("the connection names no archive: a partition goes only once it is archived")
    if isinstance(settings.archive, ArchiveTable):
        return await _from_table(link, settings.archive.table, partition)
    return await offload(_from_folder, settings.archive.folder, partition)


async def _from_table(link: Session, table: Table, partition: Table) -> Manifest:
    query = sql.SQL(
        "SELECT partition, rows, sha256, verified_at, location FROM {}"
        " WHERE partition = %(partition)s AND verified_at IS NOT NULL ORDER BY verified_at DESC LIMIT 1"
    ).format(identifier(table))
    found = await link.rows(query, {"partition": partition})
    if not found:
        raise Refused(f"{table} holds no verified archive of {partition}")
    try:
        return Manifest.model_validate(found[0])
    except ValidationError as error:
        raise Refused(
            f"{table}: the archive of {partition} is not told as it should be: {_told(error)}"
        ) from error


def _from_folder(folder: Path, partition: Table) -> Manifest:
    path = folder / f"{partition}.json"
    try:
        with _open(path) as file:
            found = Manifest.model_validate_json(file.read(_MANIFEST_BYTES))
    except FileNotFoundError as error:
        raise Refused(f"there is no manifest {path}: {partition} is not archived") from error
    except ValidationError as error:
        raise Refused(f"{path} is no manifest: {_told(error)}") from error
    except OSError as error:
        raise PermanentFailure(f"cannot read {path}: {error.strerror}") from error
    if found.partition != partition:
        raise Refused(f"{path} is the manifest of {found.partition}")
    if found.archive is not None and _sha256(folder / found.archive) != found.sha256:
        raise Refused(
            f"{folder / found.archive} is not the archive that was verified: its SHA-256 is another"
        )
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with _open(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise Refused(f"the archive {path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _told(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))


def problem(manifest: Manifest, upper: datetime | None, rows: int) -> str:
    """Why the manifest proves nothing for a partition with that upper bound and so many rows; empty where it does."""
    if upper is None or manifest.verified_at <= upper:
        return f"the archive of {manifest.partition} was verified before the partition had ended"
    if manifest.rows != rows:
        return f"the archive of {manifest.partition} holds {manifest.rows:,} rows, and the partition {rows:,}"
    return ""
