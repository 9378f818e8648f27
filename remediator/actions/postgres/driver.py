"""psycopg, imported when a database is first talked to."""

from typing import TYPE_CHECKING

from remediator.deferred import deferred

if TYPE_CHECKING:
    import psycopg
    from psycopg import errors, sql
else:
    psycopg, errors, sql = deferred("psycopg"), deferred("psycopg.errors"), deferred("psycopg.sql")

__all__ = ["errors", "psycopg", "sql"]
