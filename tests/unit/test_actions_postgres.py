"""PostgreSQL actions: what their pure parts make of what was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.actions.postgres import (
    DetachPartition,
    DetachPartitionParams,
    DropPartition,
    DropPartitionParams,
    Dump,
    DumpParams,
    PostgresConnection,
    ReindexConcurrently,
    ReindexParams,
    TerminateIdle,
    TerminateIdleParams,
    VacuumAnalyze,
    VacuumAnalyzeParams,
)
from remediator.actions.postgres.base import quoted
from remediator.actions.postgres.diagnose import findings
from remediator.actions.postgres.dump import SeenDump
from remediator.actions.postgres.indexes import Index, SeenIndexes, estimated_waste
from remediator.actions.postgres.terminate import IdleSession, SeenSessions
from remediator.actions.postgres.vacuum import Part, SeenTable
from remediator.domain.plans import Progress
from remediator.errors import NothingSelected, Refused, TemporaryFailure

NOW = datetime(2025, 12, 31, 23, 30, tzinfo=UTC)
SETTINGS: dict[str, Any] = {
    "kind": "postgres",
    "dsn": "postgresql://remediator@db:5432/shop",
    "owner": "shop_owner",
    "tables": ["public.events"],
    "partitioned": {"public.events": {"archive": {"kind": "table", "table": "ops.archive"}}},
    "sessions_of": ["shop"],
    "dump_dir": "/var/backups/shop",
}
SHOP = PostgresConnection.model_validate(SETTINGS)


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        pytest.param("postgresql://u:secret@db/shop", "password_file", id="password"),
        pytest.param("host=db user=u dbname=shop password=secret", "password_file", id="password-as-key"),
        pytest.param("host=db user=u dbname=shop options=-cx=y", "options", id="options"),
        pytest.param("service=other", "service", id="service"),
        pytest.param("postgresql://u@/shop", "host", id="no-host"),
        pytest.param("postgresql://db/shop", "user", id="no-user"),
        pytest.param("postgresql://u@db", "dbname", id="no-database"),
        pytest.param("postgresql://u@db1,db2/shop", "several hosts", id="two-hosts"),
        pytest.param("postgresql://u:secret@db:x y/shop", "plain connection string", id="no-dsn"),
        pytest.param("postgresql://u:secret@db:port/shop", "plain connection string", id="no-port"),
        pytest.param("host='db' user=u dbname=shop", "plain connection string", id="quotes"),
        pytest.param("host=db user=u dbname=shop krbsrvname=x", "krbsrvname", id="unknown"),
    ],
)
def test_a_dsn_is_complete_and_holds_no_secret(dsn: str, told: str) -> None:
    """It names one database of one server, and what is wrong is told without the secret."""
    with pytest.raises(ValidationError) as refused:
        PostgresConnection.model_validate({**SETTINGS, "dsn": dsn})

    messages = " ".join(one["msg"] for one in refused.value.errors(include_input=False))
    assert told in messages
    assert "secret" not in messages


@pytest.mark.parametrize(
    "table",
    ["events", "public.events;", "public.*", "", "a.b.c", "public.ev ents", 'public."e"', "public.\n"],
)
def test_a_table_is_a_schema_and_a_name(table: str) -> None:
    """Nothing else gets near a statement."""
    with pytest.raises(ValidationError):
        VacuumAnalyzeParams(connection="db", table=table)


def seen_table(**parts: Part) -> SeenTable:
    """A partitioned table with these parts."""
    return SeenTable("1/2", 50, True, {part.name: part for part in parts.values()})


OLD = Part("public.events_2025_07", dead=60, live=40, bytes=8192, last_vacuum=None)
NEW = Part("public.events_2025_12", dead=1, live=99, bytes=8192, last_vacuum="2025-12-01 00:00:00+00")


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        pytest.param(0, ["public.events_2025_07", "public.events_2025_12"], id="all"),
        pytest.param(0.01, ["public.events_2025_07", "public.events_2025_12"], id="at-the-limit"),
        pytest.param(0.2, ["public.events_2025_07"], id="enough"),
    ],
)
def test_vacuum_takes_the_parts_with_enough_dead_rows(least: float, expected: list[str]) -> None:
    """The share of dead rows decides, and the plan says how many there are."""
    params = VacuumAnalyzeParams(connection="db", table="public.events", min_dead_ratio=least)
    effect = VacuumAnalyze(SHOP).plan(params, seen_table(a=OLD, b=NEW))[0]

    assert expected == list(effect.before["last_vacuums"])


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(seen_table(a=OLD, b=NEW), Progress.UNTOUCHED, id="as-planned"),
        pytest.param(
            seen_table(a=replace(OLD, last_vacuum="2025-12-31"), b=replace(NEW, last_vacuum="2025-12-31")),
            Progress.DONE,
            id="both",
        ),
        pytest.param(
            seen_table(a=replace(OLD, last_vacuum="2025-12-31"), b=NEW), Progress.UNTOUCHED, id="one"
        ),
        pytest.param(
            seen_table(a=OLD, b=replace(NEW, last_vacuum=None)), Progress.UNTOUCHED, id="statistics-lost"
        ),
        pytest.param(replace(seen_table(a=OLD, b=NEW), oid=51), Progress.UNCLEAR, id="another-table"),
        pytest.param(seen_table(a=OLD), Progress.UNCLEAR, id="a-part-is-gone"),
        pytest.param(seen_table(a=replace(OLD, bytes=10**12), b=NEW), Progress.UNCLEAR, id="too-large-now"),
    ],
)
def test_progress_of_vacuum(seen: SeenTable, expected: Progress) -> None:
    """Going on with the rest is the same as starting."""
    action = VacuumAnalyze(SHOP)
    effect = action.plan(
        VacuumAnalyzeParams(connection="db", table="public.events"), seen_table(a=OLD, b=NEW)
    )[0]

    assert expected is action.progress(effect, seen)


def index(short: str, ratio: float | None, *, oid: int = 1, valid: bool = True) -> Index:
    """An index of the table."""
    return Index(f"public.{short}", oid, 10_000_000, valid, "_cc" in short, valid, ratio)


def indexes(*found: Index, building: bool = False) -> SeenIndexes:
    """All indexes of the table."""
    return SeenIndexes("1/2", 50, {one.name: one for one in found}, building, "leaf fragmentation")


REINDEX = ReindexParams(connection="db", table="public.events", max_indexes=2)


def test_reindex_takes_the_worst_above_the_limit() -> None:
    """The worst first, no more than allowed, and none that is at the limit or was not measured."""
    seen = indexes(index("a", 0.31), index("b", 0.9), index("c", 0.5), index("d", 0.3), index("e", None))
    effect = ReindexConcurrently(SHOP).plan(REINDEX, seen)[0]

    assert ["public.b", "public.c"] == list(effect.before["indexes"])
    assert "public.b (90% leaf fragmentation)" in effect.summary


def test_reindex_waits_for_one_that_is_being_built() -> None:
    """While somebody builds an index its half-made one is no leftover."""
    with pytest.raises(TemporaryFailure):
        ReindexConcurrently(SHOP).plan(REINDEX, indexes(index("a_ccnew", None, valid=False), building=True))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(indexes(index("a", 0.9), index("b", 0.5, oid=2)), Progress.UNTOUCHED, id="as-planned"),
        pytest.param(indexes(index("a", 0, oid=8), index("b", 0, oid=9)), Progress.DONE, id="both-are-new"),
        pytest.param(
            indexes(index("a", 0, oid=8), index("b", 0.5, oid=2)), Progress.UNTOUCHED, id="one-is-new"
        ),
        pytest.param(
            indexes(index("a", 0, oid=8), index("b", 0, oid=9), index("b_ccold", None, valid=False)),
            Progress.UNTOUCHED,
            id="old-one-left",
        ),
        pytest.param(indexes(index("a", 0.9)), Progress.UNCLEAR, id="one-is-gone"),
        pytest.param(
            indexes(index("a", 0.9), index("b", 0.5, oid=2), building=True), Progress.UNCLEAR, id="under-way"
        ),
    ],
)
def test_progress_of_reindex(seen: SeenIndexes, expected: Progress) -> None:
    """An index with another oid was rebuilt; what a try of ours left behind has to go too."""
    action = ReindexConcurrently(SHOP)
    effect = action.plan(REINDEX, indexes(index("a", 0.9), index("b", 0.5, oid=2)))[0]

    assert expected is action.progress(effect, seen)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param({"entries": 1000.0, "pages": 10.0, "key_bytes": 8.0}, 0.6, id="wasteful"),
        pytest.param({"entries": 100_000.0, "pages": 10.0, "key_bytes": 8.0}, 0.0, id="deduplicated"),
        pytest.param({"entries": -1.0, "pages": 10.0, "key_bytes": 8.0}, None, id="never-analysed"),
        pytest.param({"entries": 0.0, "pages": 1.0, "key_bytes": 8.0}, None, id="empty"),
    ],
)
def test_waste_is_estimated(row: dict[str, float], expected: float | None) -> None:
    """1,000 entries of 20 bytes need 3 leaf pages at 90 %, and one above them: 6 of 10 pages are waste."""
    found = estimated_waste(row)

    assert expected == (found if found is None else round(found, 6))


IDLE = IdleSession(7, "2025/2025", "shop", "web", "10.0.0.1", "idle in transaction", 900.0)


def test_ending_sessions_names_each_and_cannot_be_taken_back() -> None:
    """Exactly the transactions that were seen, by pid and start; the client's work is lost."""
    action, params = TerminateIdle(SHOP), TerminateIdleParams(connection="db", idle_seconds=600)
    effect = action.plan(params, SeenSessions("1/2", "2025-12-01", (IDLE,)))[0]

    assert {"ended": {"7": "2025/2025"}} == effect.after
    assert effect.irreversible
    assert Progress.DONE is action.progress(
        effect, SeenSessions("1/2", "2025-12-01", (replace(IDLE, run="later"),))
    )
    assert Progress.UNCLEAR is action.progress(effect, SeenSessions("1/2", "2025-12-31", ()))
    with pytest.raises(NothingSelected):
        action.plan(params, SeenSessions("1/2", "2025-12-01", ()))


def test_a_dump_needs_room() -> None:
    """Less free space than asked for is refused before anything is written."""
    action, params = Dump(SHOP), DumpParams(connection="db", free_ratio=1.5)
    seen = SeenDump("1/2", 1000, 1500, (), "shop-20251231T233000Z-0a1b2c3d.dump")

    assert {"file": seen.file} == action.plan(params, seen)[0].after
    with pytest.raises(Refused, match="are free"):
        action.plan(params, replace(seen, free_bytes=1499))


def test_what_stands_out() -> None:
    """A calm server gives nothing; one that is full, blocked and neglected says so."""
    calm: dict[str, Any] = {
        "server": {"max_connections": 100, "standby": False, "unfrozen_transactions": 5},
        "sessions": {
            "connections": 10, "blocked": 0, "idle_in_transaction": 0, "oldest_idle_seconds": 0.0, "oldest_transaction_seconds": 1.0,
        },
        "tables_with_dead_rows": [{"table": "public.events", "dead_rows": 20_000, "live_rows": 10**6}],
    }  # fmt: skip
    bad = {
        "server": {"max_connections": 100, "standby": True, "unfrozen_transactions": 1_500_000_000},
        "sessions": {
            "connections": 99, "blocked": 4, "idle_in_transaction": 2, "oldest_idle_seconds": 900.0, "oldest_transaction_seconds": 950.0,
        },
        "tables_with_dead_rows": [{"table": "public.events", "dead_rows": 500_000, "live_rows": 10**6}],
    }  # fmt: skip

    assert [] == list(findings(calm))
    assert 7 == len(list(findings(bad)))


def test_names_are_quoted() -> None:
    """A name can never end its quotes."""
    assert '"public"."ev""ents"' == quoted("public", 'ev"ents')


@pytest.mark.parametrize(
    ("action", "params", "expected"),
    [
        pytest.param(VacuumAnalyze, {"table": "public.events"}, {'"shop_owner"'}, id="vacuum"),
        pytest.param(
            ReindexConcurrently,
            {"table": "public.events"},
            {'"shop_owner"', "pg_stat_scan_tables", 'USAGE ON SCHEMA "public"'},
            id="reindex",
        ),
        pytest.param(
            DropPartition,
            {"table": "public.events"},
            {'"shop_owner"', 'USAGE ON SCHEMA "ops"', 'SELECT ON TABLE "ops"."archive"'},
            id="drop",
        ),
        pytest.param(
            TerminateIdle, {"idle_seconds": 60}, {"pg_read_all_stats", "pg_signal_backend"}, id="terminate"
        ),
        pytest.param(Dump, {}, {"pg_read_all_data"}, id="dump"),
    ],
)
def test_rights_are_the_least(action: Any, params: dict[str, Any], expected: set[str]) -> None:
    """CONNECT and what is used, as GRANT has it; no superuser, and nothing on ALL."""
    given = action.Params.model_validate({"connection": "db", **params})

    assert {'CONNECT ON DATABASE "shop"', *expected} == set(action(SHOP).permissions(given).postgres)


def test_limits_of_the_connection_cannot_be_undercut() -> None:
    """A playbook may ask for more age and grace than the connection, never for less."""
    with pytest.raises(Refused, match="fewer than the 90"):
        DetachPartition(SHOP)._check(
            DetachPartitionParams(connection="db", table="public.events", min_age_days=89)
        )
    with pytest.raises(Refused, match="fewer than the 7"):
        DropPartition(SHOP)._check(DropPartitionParams(connection="db", table="public.events", grace_days=6))


def test_a_dump_dir_is_absolute() -> None:
    """Where a dump goes does not depend on where the service was started."""
    with pytest.raises(ValidationError, match="absolute"):
        PostgresConnection.model_validate({**SETTINGS, "dump_dir": Path("backups")})
