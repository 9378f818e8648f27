"""Which PostgreSQL database, as whom, and what in it may be acted on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remediator.actions.postgres.dsn import PARTS, read_dsn
from remediator.errors import Refused

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
"""A name in the database, in its own case."""

Table = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}\.[A-Za-z_][A-Za-z0-9_]{0,62}$")
]
"""A table with its schema, such as `public.events`."""

_SECRET = ("password", "passfile", "sslpassword", "service", "options")


class ArchiveTable(BaseModel):
    """A table that says what was archived: `partition`, `rows`, `sha256`, `verified_at`, `location`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["table"]
    table: Table


class ArchiveFolder(BaseModel):
    """A folder of manifests, `<schema>.<partition>.json`, with the same fields; beside them may lie the archives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["folder"]
    folder: Path


class Partitioned(BaseModel):
    """A table partitioned by a range of time, and how its partitions may come and go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Literal["month", "day"] = Field(default="month", description="how much time one partition covers")
    min_age_days: int = Field(
        default=90, ge=1, le=36_500, description="a partition is detached only when its upper bound is older"
    )
    grace_days: int = Field(
        default=7, ge=1, le=3_650, description="a detached partition is dropped only after so long"
    )
    archive: Annotated[ArchiveTable | ArchiveFolder, Field(discriminator="kind")] | None = Field(
        default=None,
        description="where it is proved that a partition was archived; without it none is detached",
    )


class PostgresConnection(BaseModel):
    """One database. What is not named here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["postgres"]
    dsn: str = Field(description="with host, user and database name, without a password")
    password_file: Path | None = Field(default=None, description="read again at each new connection")
    owner: Identifier | None = Field(
        default=None, description="the role that owns the tables: maintenance is done as that role"
    )
    tables: tuple[Table, ...] = Field(default=(), description="tables that may be vacuumed and reindexed")
    partitioned: Mapping[Table, Partitioned] = Field(
        default={}, description="tables whose partitions may be made, detached and dropped"
    )
    sessions_of: tuple[Identifier, ...] = Field(
        default=(), description="roles whose idle transactions may be ended"
    )
    dump_dir: Path | None = Field(default=None, description="where dumps are written; an absolute path")
    extension_schema: Identifier = Field(
        default="public", description="the schema that pgstattuple stands in"
    )
    connect_timeout_seconds: int = Field(default=5, ge=2, le=60)
    lock_timeout_seconds: float = Field(
        default=5, gt=0, le=300, description="for each lock that is waited for"
    )
    statement_timeout_seconds: float = Field(default=30, gt=0, le=600, description="of one short statement")
    maintenance_timeout_seconds: float = Field(
        default=3600, gt=0, le=86_400, description="of one VACUUM, REINDEX, DETACH, count or dump"
    )

    @field_validator("dsn")
    @classmethod
    def _complete_without_password(cls, dsn: str) -> str:
        told = read_dsn(dsn)
        for name in told:
            if name in _SECRET:
                raise ValueError(f"the dsn holds {name!r}; a password belongs into password_file")
            if name not in PARTS:
                raise ValueError(f"the dsn may not hold {name!r}, only {', '.join(sorted(PARTS))}")
        for name in ("host", "user", "dbname"):
            if not told.get(name):
                raise ValueError(f"the dsn does not name {name!r}")
        if "," in str(told["host"]):
            raise ValueError("the dsn names several hosts; we would not know which one is acted on")
        return dsn

    @field_validator("dump_dir")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_absolute():
            raise ValueError("expected an absolute path")
        return folder

    @property
    def target(self) -> Mapping[str, str]:
        """The dsn, taken apart."""
        return read_dsn(self.dsn)

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.target["dbname"]

    @property
    def place(self) -> str:
        """Host, port and database, for people."""
        told = self.target
        return f"{told['host']}:{told.get('port') or 5432}/{told['dbname']}"

    def check_table(self, table: str) -> None:
        """Raise Refused unless the connection allows the table."""
        if table not in self.tables:
            raise Refused(f"the connection does not allow the table {table} ({_told(self.tables)})")

    def partitioning(self, table: str) -> Partitioned:
        """How that table's partitions come and go. Raises Refused where the connection does not name it."""
        if table not in self.partitioned:
            raise Refused(f"the connection does not allow partitions of {table} ({_told(self.partitioned)})")
        return self.partitioned[table]


def _told(names: Any) -> str:
    return f"it allows {', '.join(names) or 'none'}"
