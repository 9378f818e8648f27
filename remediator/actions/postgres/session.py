"""A database session for one use of an action: bounded, in UTC, read-only unless it is to write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from remediator.actions.postgres.connection import PostgresConnection
from remediator.actions.postgres.driver import errors, psycopg, sql
from remediator.actions.postgres.probe import State, probe
from remediator.errors import (
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    RemediatorError,
    TemporaryFailure,
)
from remediator.redaction import Redactor

if TYPE_CHECKING:
    from psycopg.rows import DictRow

    Query = sql.SQL | sql.Composed | bytes

_GRACE_SECONDS = 5.0
"""How much longer than the server we wait for it to give up by itself."""


@cache
def _passing(*ours: type[Exception]) -> tuple[type[Exception], ...]:
    """What the server refuses today and may grant tomorrow; the statement was rolled back. And `ours` beside it."""
    return (
        *ours,
        errors.LockNotAvailable,
        errors.QueryCanceled,
        errors.DeadlockDetected,
        errors.SerializationFailure,
        errors.InsufficientResources,
        errors.TooManyConnections,
        errors.DiskFull,
        errors.OutOfMemory,
        errors.ObjectInUse,
    )


class Session:
    """One connection. Every statement is bounded by the server and, where that hangs, by us."""

    def __init__(self, link: psycopg.AsyncConnection[DictRow], seconds: float) -> None:
        self._link, self._seconds = link, seconds
        self.notices: list[str] = []
        link.add_notice_handler(lambda notice: self.notices.append(notice.message_primary or ""))

    async def rows(self, query: Query, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Its rows."""
        async with asyncio.timeout(self._seconds + _GRACE_SECONDS):
            cursor = await self._link.execute(query, params)
            return await cursor.fetchall() if cursor.description else []

    async def row(self, query: Query, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Its one row. Raises PermanentFailure where there is none."""
        found = await self.rows(query, params)
        if len(found) != 1:
            raise PermanentFailure(f"postgres gave {len(found)} rows where one was expected")
        return found[0]

    async def run(self, query: Query) -> None:
        """Run it, outside of a transaction unless one is open."""
        await self.rows(query)

    async def become(self, role: str) -> None:
        """Go on with exactly that role's rights."""
        await self.rows(b"SELECT pg_catalog.set_config('role', %(role)s, false)", {"role": role})

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing."""
        async with self._link.transaction():
            yield


@asynccontextmanager
async def session(
    connection: PostgresConnection,
    *,
    role: str | None = None,
    writes: bool = False,
    seconds: float | None = None,
) -> AsyncIterator[Session]:
    """Connect, set the bounds, and close at the end. `seconds` bound each statement.

    Raises:
        TemporaryFailure: when the server does not answer, starts, stops or is full.
        PermanentFailure: when it answers and refuses us.
    """
    bound = connection.statement_timeout_seconds if seconds is None else seconds
    link = await _connect(connection)
    try:
        with looking():
            found = Session(link, bound)
            await found.rows(
                b"SELECT set_config(name, value, false) FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value)",
                _settings(connection, bound, writes),
            )
            if role is not None:
                await found.become(role)
        yield found
    finally:
        await link.close()


def _settings(connection: PostgresConnection, seconds: float, writes: bool) -> dict[str, Any]:
    settings = {
        # Nothing but the catalogue is found without its schema: no table of anybody's can stand in for it.
        "search_path": "pg_catalog",
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "lock_timeout": _milliseconds(connection.lock_timeout_seconds),
        "statement_timeout": _milliseconds(seconds),
        "idle_in_transaction_session_timeout": _milliseconds(60 + _GRACE_SECONDS),
        "default_transaction_read_only": "off" if writes else "on",
    }
    return {"names": list(settings), "values": list(settings.values())}


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def conninfo(connection: PostgresConnection, *, with_password: bool = True) -> str:
    """What libpq is given. Raises PermanentFailure where the password's file cannot be read."""
    secret = password(connection) if with_password else None
    return psycopg.conninfo.make_conninfo(
        **connection.target,
        application_name="remediator",
        connect_timeout=connection.connect_timeout_seconds,
        **({"password": secret} if secret is not None else {}),
    )


def password(connection: PostgresConnection) -> str | None:
    """The password, as its file says now."""
    if connection.password_file is None:
        return None
    try:
        return connection.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentFailure(f"cannot read {connection.password_file}: {type(error).__name__}") from error


async def _connect(connection: PostgresConnection) -> psycopg.AsyncConnection[DictRow]:
    told = conninfo(connection)
    try:
        async with asyncio.timeout(connection.connect_timeout_seconds + _GRACE_SECONDS):
            return await psycopg.AsyncConnection.connect(
                told, autocommit=True, row_factory=psycopg.rows.dict_row, prepare_threshold=None
            )
    except (psycopg.OperationalError, TimeoutError) as error:
        why = _text(error)
        if await probe(connection) is not State.TAKES or full(why):
            raise TemporaryFailure(f"postgres does not answer: {why}") from error
        raise PermanentFailure(f"postgres answers and refuses us: {why}") from error


def full(message: str) -> bool:
    """Whether a refused connection was refused because there are too many."""
    return any(said in message for said in ("too many", "connection slots are reserved"))


@contextmanager
def looking() -> Iterator[None]:
    """Nothing is changed in here, or nothing of it stays: whatever fails, failed for certain."""
    try:
        yield
    except _passing(TimeoutError) as error:
        raise TemporaryFailure(f"postgres could not do it now: {_text(error)}") from error
    except psycopg.Error as error:
        if lost(error):
            raise TemporaryFailure(f"postgres stopped answering: {_text(error)}") from error
        raise PermanentFailure(f"postgres refused: {_text(error)}") from error


@contextmanager
def changing(what: str) -> Iterator[None]:
    """A statement that stays as a whole or not at all; where the answer was lost, nobody knows which."""
    try:
        yield
    except RemediatorError:
        raise
    except TimeoutError as error:
        raise OutcomeUnknown(f"postgres did not answer {what} in time") from error
    except _passing() as error:
        raise TemporaryFailure(f"postgres could not do {what} now: {_text(error)}") from error
    except psycopg.Error as error:
        if lost(error):
            raise OutcomeUnknown(f"postgres stopped answering {what}: {_text(error)}") from error
        raise PermanentFailure(f"postgres refused {what}: {_text(error)}") from error


def lost(error: psycopg.Error) -> bool:
    """Whether the connection ended, rather than a statement."""
    state = error.sqlstate or ""
    ended = state.startswith(("08", "57P"))
    return ended or (not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError))


def _text(error: BaseException) -> str:
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = [line.strip() for line in (told or str(error) or type(error).__name__).splitlines()]
    return Redactor()(" ".join(filter(None, lines)))


def owner(connection: PostgresConnection) -> str:
    """The role that maintains. Raises Refused where the connection names none."""
    if connection.owner is None:
        raise Refused("the connection names no owner, and maintenance is done as the owner of the tables")
    return connection.owner
