"""Many rows in one statement.

A driver gives up the interpreter's lock around every step of a statement and has to win it back from a busy
event loop afterwards. One INSERT of 64 rows does that once, where `executemany` does it 64 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, insert
from sqlalchemy.engine import Dialect

SIZES = (64, 8, 1)
"""Rows in one statement: few different texts, so that each stays prepared."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, each with a value for every column in the table's order."""
    for part in in_sizes(rows):
        connection.exec_driver_sql(
            _insert(table, len(part), connection.dialect), tuple(chain.from_iterable(part))
        )


def in_sizes(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut a sequence into parts of `SIZES`, largest first."""
    start, left = 0, len(items)
    for size in SIZES:
        while left >= size:
            yield items[start : start + size]
            start, left = start + size, left - size


@lru_cache(maxsize=256)
def _insert(table: Table, rows: int, dialect: Dialect) -> str:
    values = [dict.fromkeys(table.columns.keys(), "")] * rows
    return str(insert(table).values(values).compile(dialect=dialect))
