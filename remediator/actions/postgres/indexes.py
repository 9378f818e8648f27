"""The indexes of a table: how fragmented each is, and what an interrupted REINDEX CONCURRENTLY left behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.actions.postgres.base import database, find_table
from remediator.actions.postgres.connection import PostgresConnection
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.session import Session, owner
from remediator.errors import Refused, TemporaryFailure

_INDEXES = b"""
SELECT n.nspname || '.' || c.relname AS name, c.oid::bigint AS oid, pg_relation_size(c.oid) AS bytes,
       i.indisvalid AS valid, c.relname ~ '_cc(new|old)[0-9]*$' AS leftover,
       am.amname = 'btree' AND NOT i.indisexclusion AND i.indisvalid AS rebuildable
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_am AS am ON am.oid = c.relam
WHERE t.relkind = 'r' AND c.relkind = 'i'
  AND (t.oid = %(oid)s OR t.oid IN (SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass) WHERE isleaf))
ORDER BY 1
"""
_EXTENSION = b"""
SELECT n.nspname AS schema FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pgstattuple'
"""
# A row of somebody else's shows neither table nor phase to who may not see it: it counts as one of ours.
_BUILDING = b"""
SELECT count(*) AS builds FROM pg_stat_progress_create_index
WHERE datname = current_database()
  AND (relid IS NULL OR relid = %(oid)s
       OR relid IN (SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass) WHERE isleaf))
"""
# What the index would take if its leaf pages were filled to 90 %, by the widths in the statistics: an entry is its
# key, rounded up to 8 bytes, 8 bytes of header and 4 of line pointer, and 8152 of a page's 8192 bytes hold entries.
_ESTIMATE = b"""
SELECT c.reltuples::float8 AS entries, c.relpages::float8 AS pages, sum(coalesce(s.avg_width, 8))::float8 AS key_bytes
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = t.relnamespace
CROSS JOIN unnest(i.indkey::int2[]) AS k (attnum)
LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.attnum AND k.attnum > 0
LEFT JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = t.relname AND s.attname = a.attname
WHERE i.indexrelid = %(oid)s
GROUP BY c.reltuples, c.relpages
"""


@dataclass(frozen=True, slots=True)
class Index:
    """One index. `fragmentation_ratio` is None where it was not measured: too small, or of no kind we measure."""

    name: str
    oid: int
    bytes: int
    valid: bool
    leftover: bool
    rebuildable: bool
    fragmentation_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class SeenIndexes:
    """All indexes of a table and its partitions. `building` says that one is being built just now."""

    database: str
    table: int
    indexes: Mapping[str, Index]
    building: bool
    measured: str = ""

    @property
    def leftovers(self) -> tuple[Index, ...]:
        """Invalid indexes that a REINDEX CONCURRENTLY made and did not finish."""
        return tuple(index for index in self.indexes.values() if index.leftover and not index.valid)

    @property
    def invalid(self) -> tuple[str, ...]:
        """Other invalid indexes: a person's, whose fate we do not know."""
        return tuple(one.name for one in self.indexes.values() if not one.valid and not one.leftover)


async def look(link: Session, table: str) -> SeenIndexes:
    """All but the fragmentation."""
    found = await find_table(link, table)
    rows = await link.rows(_INDEXES, {"oid": found["oid"]})
    building = (await link.row(_BUILDING, {"oid": found["oid"]}))["builds"] > 0
    indexes = {row["name"]: Index(**row) for row in rows}
    return SeenIndexes(await database(link), found["oid"], indexes, building)


async def measure(
    link: Session, connection: PostgresConnection, seen: SeenIndexes, min_bytes: int
) -> SeenIndexes:
    """The same with the fragmentation of each B-tree index that is large enough.

    From pgstattuple where it is installed: the share of leaf pages out of order. Else an estimate: the share of
    pages that a fresh index would not need.
    """
    schema = await _pgstattuple(link, connection)
    if schema is None:
        # The widths of columns are shown to who may read the table.
        await link.become(owner(connection))
    told: dict[str, Index] = {}
    for index in seen.indexes.values():
        ratio = None
        if index.rebuildable and not index.leftover and index.bytes >= min_bytes:
            ratio = await (_fragmentation(link, schema, index.oid) if schema else _estimate(link, index.oid))
        told[index.name] = Index(
            index.name, index.oid, index.bytes, index.valid, index.leftover, index.rebuildable, ratio
        )
    how = "leaf fragmentation" if schema else "estimated waste"
    return SeenIndexes(seen.database, seen.table, told, seen.building, how)


async def _pgstattuple(link: Session, connection: PostgresConnection) -> str | None:
    found = await link.rows(_EXTENSION)
    schema = str(found[0]["schema"]) if found else None
    if schema not in (None, connection.extension_schema):
        raise Refused(
            f"pgstattuple stands in the schema {schema}, and the connection names {connection.extension_schema}"
        )
    return schema


async def _fragmentation(link: Session, schema: str, oid: int) -> float | None:
    query = sql.SQL("SELECT leaf_fragmentation::float8 AS percent FROM {}({}::oid::regclass)")
    row = await link.row(query.format(sql.Identifier(schema, "pgstatindex"), sql.Literal(oid)))
    percent = row["percent"]
    return None if percent is None or math.isnan(percent) else percent / 100


async def _estimate(link: Session, oid: int) -> float | None:
    return estimated_waste(await link.row(_ESTIMATE, {"oid": oid}))


def estimated_waste(row: Mapping[str, Any]) -> float | None:
    """The share of an index's pages that a fresh one would not need; None where it was never analysed."""
    entries, pages = row["entries"], row["pages"]
    if entries < 0 or pages <= 1:
        return None
    entry_bytes = math.ceil((row["key_bytes"] + 8) / 8) * 8 + 4
    needed = 1 + math.ceil(entries * entry_bytes / (8152 * 0.9))
    return float(max(0.0, 1 - needed / pages))


def refuse_building(seen: SeenIndexes, table: str) -> None:
    """Raise TemporaryFailure while an index of the table is being built: its half-made one is no leftover."""
    if seen.building:
        raise TemporaryFailure(f"an index of {table} is being built just now")
