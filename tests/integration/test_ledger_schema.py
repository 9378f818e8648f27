"""The migrations end in exactly the schema, and a database of another version is not touched."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from remediator.adapters.ledger import SqlLedger
from remediator.adapters.ledger.database import open_database
from remediator.adapters.ledger.schema import HEAD, metadata
from remediator.domain.events import Event
from remediator.errors import LedgerUnavailable
from tests.integration.ledger_kit import NOW, StillClock


def differences(engine: Engine) -> list[object]:
    """What alembic would still change to reach the schema."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))


def columns(file: Path) -> dict[str, list[object]]:
    """Every table and index of a database, with its columns as SQLite itself tells them."""
    with sqlite3.connect(file) as opened:
        names = opened.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'index')"
        ).fetchall()
        return {
            name: sorted(
                opened.execute(f"PRAGMA {'table_xinfo' if kind == 'table' else 'index_xinfo'}('{name}')")
            )
            for name, kind in names
        }


def versions(file: Path) -> list[object]:
    """What alembic noted."""
    with sqlite3.connect(file) as opened:
        return opened.execute("SELECT version_num FROM alembic_version").fetchall()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///{folder}/ledger.db"])
def test_a_new_ledger_has_the_schema(url: str, tmp_path: Path) -> None:
    """What is made without migrations, in memory and in a new file, is what the code expects."""
    database = open_database(url.format(folder=tmp_path))
    try:
        assert database.writer is not None
        assert [] == differences(database.writer)
    finally:
        database.close()


def test_the_migrations_end_in_the_schema(tmp_path: Path) -> None:
    """A file that goes through every migration ends as a new one begins: same tables, same indexes, same version."""
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")

    for name in ("old", "new"):
        database = open_database(f"sqlite:///{tmp_path}/{name}.db")
        try:
            assert database.writer is not None
            assert [] == differences(database.writer)
        finally:
            database.close()
    assert columns(tmp_path / "new.db") == columns(tmp_path / "old.db")
    assert [(HEAD,)] == versions(tmp_path / "old.db") == versions(tmp_path / "new.db")


def test_a_difference_would_be_found(tmp_path: Path) -> None:
    """The comparison sees a column, an index and a table that are not as they should be."""
    database = open_database(f"sqlite:///{tmp_path}/ledger.db")
    try:
        assert database.writer is not None
        with database.writer.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE episodes ADD COLUMN extra TEXT")
            connection.exec_driver_sql("DROP INDEX ix_outbox_due")
            connection.exec_driver_sql("DROP TABLE cards")

        found = {difference[0] for difference in differences(database.writer)}  # type: ignore[index]

        assert {"remove_column", "add_index", "add_table"} == found
    finally:
        database.close()


def test_head_is_the_newest_migration() -> None:
    """The constant that spares a start the search is the newest migration, and there is one line of them."""
    config = Config()
    config.set_main_option("script_location", "remediator.adapters:migrations")

    assert [HEAD] == ScriptDirectory.from_config(config).get_heads()


async def test_a_second_start_keeps_everything(tmp_path: Path) -> None:
    """Opening again migrates nothing and loses nothing."""
    url = f"sqlite:///{tmp_path}/deep/down/ledger.db"
    for n in range(3):
        ledger = SqlLedger.open(url, StillClock())
        await ledger.note(Event("started", {"n": n}), NOW)
        await ledger.close()

    ledger = SqlLedger.open(url, StillClock(), read_only=True)
    assert [0, 1, 2] == [entry.event.data["n"] for entry in await ledger.journal()]
    assert await ledger.verify() is None
    await ledger.close()


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_newer_schema_is_refused(read_only: bool, tmp_path: Path) -> None:
    """A database that a newer version wrote is left as it is, with a reason, and the lock is given back."""
    path = tmp_path / "ledger.db"
    await SqlLedger.open(f"sqlite:///{path}", StillClock()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=r"schema 9999"):
            SqlLedger.open(f"sqlite:///{path}", StillClock(), read_only=read_only)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("postgresql://db/remediator", "postgresql is not supported", id="another-database"),
        pytest.param("ledger.db", "not a database URL", id="no-url"),
        pytest.param("sqlite:////proc/none/ledger.db", "cannot open the ledger", id="no-folder"),
        pytest.param("sqlite:///{folder}", "cannot open the ledger", id="a-folder"),
        pytest.param("sqlite:///{folder}/text", "not a database", id="no-database"),
    ],
)
def test_what_cannot_be_opened_is_told(url: str, expected: str, tmp_path: Path) -> None:
    """An address that is none, a place that cannot be written and a file that is no database give the reason."""
    (tmp_path / "text").write_text("not a database " * 100)

    with pytest.raises(LedgerUnavailable, match=expected):
        SqlLedger.open(url.format(folder=tmp_path), StillClock())


def test_a_password_in_the_address_is_not_repeated() -> None:
    """The message of a refusal shows nothing of the address."""
    with pytest.raises(LedgerUnavailable) as refused:
        SqlLedger.open("postgresql://user:hunter2@db/remediator", StillClock())

    assert "hunter2" not in str(refused.value)


def test_there_is_nothing_to_read_yet(tmp_path: Path) -> None:
    """Reading a ledger that does not exist does not make one."""
    with pytest.raises(LedgerUnavailable, match="there is no ledger"):
        SqlLedger.open(f"sqlite:///{tmp_path}/ledger.db", StillClock(), read_only=True)

    assert [] == list(tmp_path.iterdir())


async def test_pragmas(tmp_path: Path) -> None:
    """What durability rests on is on: write-ahead log, full synchronisation, foreign keys."""
    database = open_database(f"sqlite:///{tmp_path}/ledger.db")
    try:
        assert database.writer is not None
        with database.writer.connect() as connection:
            told = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000} == told
    finally:
        database.close()
