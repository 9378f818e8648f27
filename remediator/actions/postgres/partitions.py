"""What the catalogue says of a table partitioned by time: its partitions, and those that we detached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.actions.postgres.base import database, find_table, identifier
from remediator.actions.postgres.connection import Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.periods import Bounds, parse
from remediator.actions.postgres.session import Session
from remediator.errors import PermanentFailure, Refused

_KEY = b"""
SELECT p.partstrat = 'r' AND p.partnatts = 1 AND p.partattrs[0] <> 0 AS simple, p.partdefid <> 0 AS has_default,
       a.attname AS column, format_type(a.atttypid, NULL) AS type, now() AS now
FROM pg_partitioned_table AS p
LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
WHERE p.partrelid = %(oid)s
"""
_PARTITIONS = b"""
SELECT n.nspname || '.' || c.relname AS name, c.oid::bigint AS oid, pg_get_expr(c.relpartbound, c.oid) AS bounds,
       i.inhdetachpending AS pending, pg_table_size(c.oid) AS bytes
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = %(oid)s AND c.relpartbound IS NOT NULL
  AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
ORDER BY 1
"""
_LOOSE = b"""
SELECT n.nspname || '.' || c.relname AS name, c.oid::bigint AS oid, pg_table_size(c.oid) AS bytes,
       obj_description(c.oid, 'pg_class') AS comment
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind = 'r' AND NOT c.relispartition AND starts_with(c.relname, %(stem)s)
ORDER BY 1
"""
TYPES = ("date", "timestamp without time zone", "timestamp with time zone")

_MARK = re.compile(
    r"remediator: detached from (?P<parent>\S+) (?P<bounds>FOR VALUES FROM \([^()]+\) TO \([^()]+\)) at (?P<at>\S+)"
)


@dataclass(frozen=True, slots=True)
class Partition:
    """One attached partition. `pending` says that a DETACH CONCURRENTLY was begun and not finished."""

    name: str
    oid: int
    bounds: str
    pending: bool
    bytes: int

    @property
    def span(self) -> Bounds:
        """Its bounds, as moments. Raises PermanentFailure for bounds that are none."""
        try:
            return parse(self.bounds)
        except ValueError as error:
            raise PermanentFailure(f"{self.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Mark:
    """What we wrote on a table as its comment when we detached it."""

    parent: str
    bounds: str
    at: datetime

    def __str__(self) -> str:
        return f"remediator: detached from {self.parent} {self.bounds} at {self.at.isoformat()}"


@dataclass(frozen=True, slots=True)
class Loose:
    """A table beside the parent that is named like its partitions and is none."""

    name: str
    oid: int
    bytes: int
    comment: str | None

    @property
    def mark(self) -> Mark | None:
        """Our mark, where it carries one."""
        found = _MARK.search(self.comment or "")
        return Mark(found["parent"], found["bounds"], datetime.fromisoformat(found["at"])) if found else None


@dataclass(frozen=True, slots=True)
class SeenPartitions:
    """The parent with everything that is, or was, part of it. `now` is the database's time."""

    database: str
    parent: int
    column: str
    type: str
    has_default: bool
    now: datetime
    partitions: Mapping[str, Partition]
    loose: Mapping[str, Loose]


async def look(link: Session, table: Table) -> SeenPartitions:
    """Read the catalogue. Raises Refused for a table that is not partitioned by a range of one time column."""
    found = await find_table(link, table)
    oid, (schema, short) = found["oid"], table.split(".", 1)
    key = await link.rows(_KEY, {"oid": oid})
    if not key or not key[0]["simple"] or key[0]["type"] not in TYPES:
        raise Refused(f"{table} is not partitioned by a range of one date or timestamp column")
    loose = await link.rows(_LOOSE, {"schema": schema, "stem": f"{short}_"})
    return SeenPartitions(
        database=await database(link),
        parent=oid,
        column=key[0]["column"],
        type=key[0]["type"],
        has_default=key[0]["has_default"],
        now=key[0]["now"],
        partitions=_by_name(Partition, await link.rows(_PARTITIONS, {"oid": oid})),
        loose=_by_name(Loose, loose),
    )


def _by_name(made: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {row["name"]: made(**row) for row in rows}


async def count(link: Session, name: Table) -> int:
    """How many rows it holds."""
    query = sql.SQL("SELECT count(*) AS rows FROM ONLY {}").format(identifier(name))
    return int((await link.row(query))["rows"])
