"""One use of each PostgreSQL action, with what a test needs to prepare it, to look at it and to spoil it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from psycopg import sql

from remediator.actions.postgres import (
    CreatePartition,
    DetachPartition,
    DiagnosePostgres,
    DropPartition,
    Dump,
    ReindexConcurrently,
    TerminateIdle,
    VacuumAnalyze,
)
from remediator.domain.plans import Effect, Progress
from remediator.errors import NothingSelected
from tests.support.postgres_home import Home
from tests.support.waiting import eventually

TABLES = (
    "app.secret",
    "app.foreign_property",
    "pg_catalog.pg_class",
    "app.jobs; DROP TABLE app.secret",
    "app.jobs\n",
    'app."jobs"',
    "../jobs",
    "app.*",
    "*",
    "",
    "jobs",
    "other.app.jobs",
    f"app.{'j' * 64}",
)
"""Names that are none, or another tenant's."""

Look = Callable[[], Any]


@dataclass
class Case:
    """A use of an action on a database that was prepared for it."""

    home: Home
    action: Any
    params: Mapping[str, Any]
    look: Look
    done: Callable[[Any, Any], bool]
    spoil: Callable[[], object]
    trigger: bytes
    """What is in the bytes that are sent when it acts."""
    hostile: tuple[Mapping[str, Any], ...]
    seen_after: Progress = Progress.DONE
    """What a second look says where the server had done it before it died, and was started again."""
    seen_before: Progress = Progress.UNTOUCHED
    """The same where the server died before it got the command."""
    reads: bool = False
    irreversible: bool = False
    undone: bool = False
    keep: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def parameters(self, **more: Any) -> Any:
        """The parameters, validated."""
        return self.action.Params.model_validate({"connection": "db", **self.params, **more})

    def rights(self) -> tuple[str, ...]:
        """What `permissions` prints."""
        return tuple(self.action(self.home.connection()).permissions(self.parameters()).postgres)


def tables(home: Home) -> Any:
    """Every table with its rows, its place among partitions, comment and constraints; and every index."""
    # Not the CHECK's name alone: DETACH CONCURRENTLY makes one, and undo has to take it away.
    found = home.admin(
        "SELECT c.relname, c.relkind::text, pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid),"
        " array(SELECT conname::text FROM pg_constraint WHERE conrelid = c.oid ORDER BY 1)"
        " FROM pg_class AS c WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"
    )
    return {row[0]: (*row[1:], home.value(f"SELECT count(*) FROM app.{row[0]}")) for row in found}


def _dead_rows(home: Home) -> None:
    home.admin("INSERT INTO app.jobs SELECT n, md5(n::text) FROM generate_series(1, 2000) AS n")
    home.admin("DELETE FROM app.jobs WHERE id % 2 = 0")


def vacuum(home: Home) -> Case:
    """VACUUM a table half of whose rows are dead."""
    _dead_rows(home)
    query = "SELECT n_dead_tup, last_vacuum, vacuum_count, analyze_count FROM pg_stat_user_tables WHERE relname = 'jobs'"

    def done(before: Any, after: Any) -> bool:
        (rows_before, stats_before), (rows, stats) = before, after
        return bool(
            rows_before == rows and stats_before[0] > 0 == stats[0] and (stats[2], stats[3]) == (1, 1)
        )

    def spoil() -> None:
        home.admin(
            "DROP TABLE app.jobs; SET ROLE {owner}; CREATE TABLE app.jobs (id int PRIMARY KEY, tag text)"
        )

    return Case(
        home,
        VacuumAnalyze,
        {"table": "app.jobs"},
        lambda: (tables(home), home.admin(query)[0]),
        done,
        spoil,
        b"VACUUM (ANALYZE)",
        (*({"table": name} for name in TABLES), {"min_dead_ratio": 2}, {"full": True}),
        # A crash loses the statistics: that it was vacuumed is not known any more, and doing it again is no harm.
        seen_after=Progress.UNTOUCHED,
    )


def reindex(home: Home) -> Case:
    """Rebuild an index that grew in random order."""
    home.admin(
        "INSERT INTO app.jobs SELECT n, md5(n::text) FROM generate_series(1, 20000) AS n; ANALYZE app.jobs"
    )
    query = (
        "SELECT c.relname, c.oid, i.indisvalid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'app.jobs'::regclass ORDER BY 1"
    )

    def done(before: Any, after: Any) -> bool:
        was, now = {r[0]: r[1:] for r in before}, {r[0]: r[1:] for r in after}
        rebuilt = was["jobs_tag"][0] != now["jobs_tag"][0] and was["jobs_pkey"] == now["jobs_pkey"]
        return rebuilt and set(was) == set(now) and all(valid for _, valid in now.values())

    return Case(
        home,
        ReindexConcurrently,
        {"table": "app.jobs", "min_index_bytes": 8192},
        lambda: home.admin(query),
        done,
        lambda: home.admin("DROP INDEX app.jobs_tag"),
        b"REINDEX INDEX CONCURRENTLY",
        (
            *({"table": name} for name in TABLES),
            {"fragmentation_above_ratio": 0},
            {"fragmentation_above_ratio": 1},
            {"max_indexes": 0},
            {"index": "jobs_tag"},
        ),
    )


def create(home: Home) -> Case:
    """Make the partitions of the next two months, where this month's is there."""
    home.partition(0, rows=3)
    return Case(
        home,
        CreatePartition,
        {"table": "app.events"},
        lambda: tables(home),
        lambda before, after: len(after) == len(before) + 2 and before.items() <= after.items(),
        lambda: (
            home.admin("SET ROLE {owner}; CREATE TABLE app.rest PARTITION OF app.events DEFAULT") and None
        ),
        b"COMMIT",
        (
            *({"table": name} for name in (*TABLES, "app.jobs")),
            {"periods_ahead": 0},
            {"periods_ahead": 10_000},
            {"name": "events_2025_01"},
        ),
    )


def detach(home: Home) -> Case:
    """Detach the oldest partition, which is archived."""
    old = home.partition(6, rows=40)
    home.partition(5, rows=20)
    home.partition(0, rows=3)
    home.archive(old, 40)
    short = old.removeprefix("app.")

    def done(before: Any, after: Any) -> bool:
        rest = {name: told for name, told in before.items() if name not in (short, "events")}
        bound, comment = after[short][1], after[short][2] or ""
        return bool(bound is None and "remediator: detached" in comment and rest.items() <= after.items())

    return Case(
        home,
        DetachPartition,
        {"table": "app.events"},
        lambda: tables(home),
        done,
        lambda: home.admin(f"INSERT INTO {old} (id, at) SELECT 0, min(at) FROM {old}"),
        b"DETACH PARTITION",
        (
            *({"table": name} for name in (*TABLES, "app.jobs")),
            {"min_age_days": 0},
            {"min_age_days": 89},
            {"partition": "app.secret"},
        ),
        # It is detached, but when that was is not written down yet; going on does that.
        seen_after=Progress.UNTOUCHED,
        undone=True,
    )


def drop(home: Home) -> Case:
    """Drop a partition that was detached eight days ago."""
    old = home.partition(6, rows=40)
    home.partition(0, rows=3)
    home.archive(old, 40)
    short = old.removeprefix("app.")
    home.admin(
        "DO $$ DECLARE bounds text; BEGIN SET LOCAL timezone = 'UTC';"
        f" SELECT pg_get_expr(relpartbound, oid) INTO bounds FROM pg_class WHERE oid = '{old}'::regclass;"
        f" ALTER TABLE app.events DETACH PARTITION {old};"
        f" EXECUTE format('COMMENT ON TABLE {old} IS %L', 'remediator: detached from app.events ' || bounds || ' at '"
        " || to_char(now() - interval '8 days', 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')); END $$"
    )
    return Case(
        home,
        DropPartition,
        {"table": "app.events"},
        lambda: tables(home),
        lambda before, after: after == {name: told for name, told in before.items() if name != short},
        lambda: home.admin(f"INSERT INTO {old} (id, at) SELECT 0, min(at) FROM {old}"),
        b"COMMIT",
        (
            *({"table": name} for name in (*TABLES, "app.jobs")),
            {"grace_days": 0},
            {"grace_days": 6},
            {"cascade": True},
        ),
        irreversible=True,
    )


def terminate(home: Home) -> Case:
    """End a session of the application that was left in a transaction; another one of it is at work."""
    keep = contextlib.ExitStack()
    keep.enter_context(home.application("INSERT INTO app.jobs VALUES (1, 'not committed')"))
    keep.enter_context(home.application("SELECT 1", autocommit=True))
    query = "SELECT pid, state FROM pg_stat_activity WHERE datname = %s AND usename = %s ORDER BY 1"

    def done(before: Any, after: Any) -> bool:
        return bool(after == [one for one in before if one[1] != "idle in transaction"])

    return Case(
        home,
        TerminateIdle,
        {"idle_seconds": 1},
        lambda: home.admin(query, (home.database, home.app)),
        done,
        home.server.restart,
        b"pg_terminate_backend",
        (
            {"idle_seconds": 0},
            {"idle_seconds": "nan"},
            {"max_sessions": 0},
            {"max_sessions": 10**6},
            {"pid": 1},
            {"role": "postgres"},
        ),
        # The sessions that were planned on were those of another run of the server.
        seen_after=Progress.UNCLEAR,
        seen_before=Progress.UNCLEAR,
        irreversible=True,
        keep=keep,
    )


def diagnose(home: Home) -> Case:
    """Say what it is like."""
    _dead_rows(home)
    return Case(
        home,
        DiagnosePostgres,
        {},
        lambda: tables(home),
        lambda before, after: before == after,
        home.server.restart,
        b"pg_blocking_pids",
        ({"sessions": 0}, {"sessions": 10**6}, {"query": "SELECT 1"}),
        seen_after=Progress.UNCLEAR,
        seen_before=Progress.UNCLEAR,
        reads=True,
    )


def dump(home: Home) -> Case:
    """Dump a small database."""
    _dead_rows(home)
    folder = home.folder / "dumps"

    def spoil() -> None:
        # The same name, and another database: as after a restore.
        old = f"{home.database}_old"
        for statement in (
            "ALTER DATABASE {database} RENAME TO {old}",
            "CREATE DATABASE {database}",
            "DROP DATABASE {old} WITH (FORCE)",
        ):
            names = {"database": sql.Identifier(home.database), "old": sql.Identifier(old)}
            home.server.run(sql.SQL(statement).format(**names))

    def look() -> Any:
        return sorted(path.name for path in folder.iterdir())

    return Case(
        home,
        Dump,
        {},
        look,
        lambda before, after: len(after) == len(before) + 1 and all(name.endswith(".dump") for name in after),
        spoil,
        b"COPY app.jobs",
        ({"free_ratio": 0}, {"compress_level": 99}, {"file": "/etc/passwd"}, {"database": "postgres"}),
        # Whatever pg_dump had read by then, no file came of it.
        seen_after=Progress.UNTOUCHED,
    )


MAKERS: Mapping[str, Callable[[Home], Case]] = {
    "postgres.vacuum_analyze": vacuum,
    "postgres.reindex_concurrently": reindex,
    "postgres.create_partition": create,
    "postgres.detach_partition": detach,
    "postgres.drop_partition": drop,
    "postgres.terminate_idle": terminate,
    "postgres.diagnose": diagnose,
    "postgres.dump": dump,
}

Make = Callable[[str], Case]
"""The fixture that prepares the database for a use of an action."""


async def planned(action: Any, case: Case, **more: Any) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    params = case.parameters(**more)
    effects = action.plan(params, await action.observe(params))
    assert len(effects) == 1
    return Effect(**json.loads(json.dumps(asdict(effects[0]))))


async def in_time(action: Any, case: Case) -> Effect:
    """The same, once there is something to select: a transaction has to be idle for a while first."""

    async def look() -> Effect | None:
        try:
            return await planned(action, case)
        except NothingSelected:
            return None

    found = await eventually(look, within=20, every=0.1, what="something to select")
    assert found is not None
    return found
