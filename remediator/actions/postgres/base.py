"""What all PostgreSQL actions share: the connection, the rights they print, and how a database is told from others."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from remediator.actions.postgres.connection import PostgresConnection, Table
from remediator.actions.postgres.driver import sql
from remediator.actions.postgres.session import Session
from remediator.domain.plans import Values
from remediator.errors import Drifted, NothingSelected
from remediator.pipeline.ports import Permissions

_DATABASE = b"""
SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || d.oid AS database
FROM pg_database AS d WHERE d.datname = current_database()
"""
_TABLE = b"""
SELECT c.oid::bigint AS oid, c.relkind::text AS kind
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'p')
"""


class PostgresAction:
    """A connection is opened for each use and closed after it: none is held while nothing is done."""

    Connection: ClassVar[type[BaseModel]] = PostgresConnection

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def close(self) -> None:
        """Nothing is held."""

    def _subject(self, what: str = "") -> str:
        return f"postgres {self._connection.place} {what}".rstrip()

    def _rights(self, *more: str, owner: bool = False, other: tuple[str, ...] = ()) -> Permissions:
        """CONNECT, these grants, and membership in the owner where that is needed."""
        grants = [f"CONNECT ON DATABASE {quoted(self._connection.database)}", *more]
        if owner and self._connection.owner:
            grants.append(quoted(self._connection.owner))
        elif owner:
            other = (*other, "ownership of the tables")
        return Permissions(postgres=tuple(grants), other=other)


def quoted(*names: str) -> str:
    """A name as SQL has it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def identifier(table: str) -> sql.Identifier:
    """`schema.name`, for a statement."""
    return sql.Identifier(*table.split(".", 1))


async def database(link: Session) -> str:
    """What tells this database from every other: the cluster's number and its own."""
    return str((await link.row(_DATABASE))["database"])


async def find_table(link: Session, table: Table) -> dict[str, Any]:
    """Its oid and kind (r, or p for partitioned). Raises NothingSelected where there is none."""
    schema, name = table.split(".", 1)
    found = await link.rows(_TABLE, {"schema": schema, "name": name})
    if not found:
        raise NothingSelected(f"there is no table {table}")
    return found[0]


def must_hold(subject: str, before: Values, now: Values) -> None:
    """Raise Drifted where something that was planned on is another one now."""
    for name, value in now.items():
        if before.get(name) != value:
            raise Drifted(f"{subject}: {name} was {before.get(name)!r} and is {value!r}")
