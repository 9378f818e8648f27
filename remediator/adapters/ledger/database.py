"""The database file: who may open it, how its connections behave, and how its schema is brought up to date."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool
from sqlalchemy.schema import CreateTable

from remediator.adapters.ledger.schema import HEAD, metadata
from remediator.errors import LedgerUnavailable

_versions = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))

READERS = 4
"""Read-only connections, each used by one thread at a time."""

BUSY = 5.0
"""Seconds to wait for a lock that somebody else holds on the file, such as a backup or a sqlite3 shell."""

CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead log before a commit also moves them into the database: 16 MB, against pauses."""


@dataclass(frozen=True, slots=True)
class Database:
    """The engines of one ledger. In memory there is one connection, and the writer's thread does the reading."""

    path: Path | None
    writer: Engine | None
    readers: Engine | None
    lock: int | None = None

    def close(self) -> None:
        """Let all connections and the lock go."""
        for engine in (self.readers, self.writer):
            if engine is not None:
                engine.dispose()
        if self.lock is not None:
            os.close(self.lock)


def open_database(url: str, *, read_only: bool = False) -> Database:
    """Open `sqlite:///path` or `sqlite://`, migrated; only to read where `read_only`.

    Raises:
        LedgerUnavailable: when it is none of these, cannot be opened, is in use by another service or does
            not have the schema that this version reads.
    """
    parsed = _parse(url)
    if not parsed.database or parsed.database == ":memory:":
        return _in_memory()
    path = Path(parsed.database).absolute()
    with _unavailable(f"cannot open the ledger {path}"):
        if read_only:
            return _reading(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            writer = _engine(path, writes=True)
            migrate(writer)
            return Database(path, writer, _engine(path, writes=False), lock)
        except BaseException:
            os.close(lock)
            raise


def migrate(engine: Engine) -> None:
    """Bring the schema to `HEAD`, in one transaction.

    Raises:
        LedgerUnavailable: when the database was written by a newer version.
    """
    with engine.begin() as connection:
        current = revision(connection)
        if current == HEAD:
            return
        if not inspect(connection).get_table_names():
            _create(connection)
            return
        # Only here: a start with nothing to migrate pays neither the time nor the memory.
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", "remediator.adapters:migrations")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerUnavailable(
                f"the ledger has schema {current}, which this version does not know ({HEAD} is its newest)"
            ) from error


def _create(connection: Connection) -> None:
    """A new ledger gets today's schema at once, as Alembic's cookbook has it; a test holds it equal to all migrations."""
    metadata.create_all(connection)
    connection.execute(CreateTable(_versions))
    connection.execute(insert(_versions).values(version_num=HEAD))


def revision(connection: Connection) -> str | None:
    """The migration that the database ends in; None where it is new."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(select(_versions.c.version_num)).scalar()
    return found


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise LedgerUnavailable(
            "the ledger's address is not a database URL, such as sqlite:///x.db"
        ) from error
    if parsed.get_backend_name() != "sqlite":
        raise LedgerUnavailable(
            f"a ledger in {parsed.get_backend_name()} is not supported; use sqlite:///x.db"
        )
    return parsed


def _in_memory() -> Database:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=_CONNECT)
    _behave(engine, "BEGIN IMMEDIATE", ("foreign_keys = ON",))
    metadata.create_all(engine)
    return Database(None, engine, None)


def _reading(path: Path) -> Database:
    if not path.exists():
        raise LedgerUnavailable(f"there is no ledger at {path}")
    readers = _engine(path, writes=False)
    with readers.connect() as connection:
        found = revision(connection)
    if found != HEAD:
        readers.dispose()
        raise LedgerUnavailable(
            f"the ledger {path} has schema {found or 'none'} and this version reads {HEAD}; "
            "start the service once to migrate it"
        )
    return Database(path, None, readers)


_CONNECT: dict[str, Any] = {"check_same_thread": False, "timeout": BUSY, "cached_statements": 512}


def _engine(path: Path, *, writes: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        uri = f"{path.as_uri()}?mode={'rwc' if writes else 'ro'}"
        opened: sqlite3.Connection = sqlite3.connect(uri, uri=True, **_CONNECT)
        return opened

    if writes:
        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
        pragmas = ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {CHECKPOINT_PAGES}")
        _behave(engine, "BEGIN IMMEDIATE", (*pragmas, "foreign_keys = ON"))
    else:
        engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=READERS)
        _behave(engine, "BEGIN", ("query_only = ON",))
    return engine


def _behave(engine: Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    """Let SQLAlchemy, not the driver, say when a transaction begins, and set the pragmas."""

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _lock(path: Path) -> int:
    """Take the lock file beside the database, and keep it for as long as this process lives.

    The file stays when the lock goes: removing it would let two services hold locks on two files of one name.
    """
    beside = path.with_name(f"{path.name}.lock")
    handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise LedgerUnavailable(
            f"the ledger {path} is in use by another remediator (process {holder}); one ledger, one service"
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


@contextmanager
def _unavailable(doing: str) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError) as error:
        raise LedgerUnavailable(f"{doing}: {getattr(error, 'orig', None) or error}") from error
