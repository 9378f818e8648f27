"""Upkeep of a real PostgreSQL: vacuum, indexes, idle sessions, dumps, diagnoses, and a server that fails."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from remediator.actions.postgres import (
    VacuumAnalyze,
    VacuumAnalyzeParams,
)
from remediator.domain.plans import Progress
from remediator.errors import (
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.postgres_cases import Make, planned
from tests.support.postgres_home import Home
from tests.support.waiting import eventually

pytest_plugins = ["tests.support.postgres_fixtures"]


async def test_vacuum_of_a_table_that_is_not_the_owners_is_a_failure(make_case: Make) -> None:
    """To who may not vacuum, the server only whispers: that is told as a failure, and not as done."""
    case = make_case("postgres.vacuum_analyze")
    case.home.admin("ALTER TABLE app.jobs OWNER TO postgres")
    action = case.action(case.home.connection())
    with pytest.raises(PermanentFailure, match=r"was not vacuumed: .*only table or database owner"):
        await action.apply(await planned(action, case))


async def test_vacuum_of_a_partitioned_table_takes_the_parts_that_need_it(postgres_home: Home) -> None:
    """Only partitions with enough dead rows are vacuumed, and the table as a whole is analysed."""
    old, new = postgres_home.partition(6, rows=100), postgres_home.partition(0, rows=100)
    postgres_home.admin(f"DELETE FROM {old} WHERE id % 2 = 0")
    action = VacuumAnalyze(postgres_home.connection())
    params = VacuumAnalyzeParams(connection="db", table="app.events", min_dead_ratio=0.2)
    postgres_home.grant(action.permissions(params).postgres)
    effect = action.plan(params, await action.observe(params))[0]
    result = await action.apply(effect)

    assert {old} == set(effect.before["last_vacuums"])
    assert {old: {"dead_rows_before": 50, "dead_rows": 0}} == result.evidence["vacuumed"]
    query = "SELECT count(*) FROM pg_stat_user_tables WHERE vacuum_count > 0 AND schemaname || '.' || relname = %s"
    assert (1, 0) == (postgres_home.value(query, (old,)), postgres_home.value(query, (new,)))
    assert postgres_home.value("SELECT reltuples FROM pg_class WHERE oid = 'app.events'::regclass") >= 150


async def test_reindex_without_pgstattuple_goes_by_an_estimate(make_case: Make) -> None:
    """Without the extension the share of pages that a fresh index would not need is estimated; a fresh one is left."""
    case = make_case("postgres.reindex_concurrently")
    case.home.admin("DROP EXTENSION pgstattuple; DELETE FROM app.jobs WHERE id % 10 <> 0")
    case.home.admin("VACUUM ANALYZE app.jobs")
    action = case.action(case.home.connection())
    effect = await planned(action, case)
    await action.apply(effect)
    case.home.admin("ANALYZE app.jobs")
    seen = await action.observe(case.parameters())

    assert "estimated waste" in effect.summary
    assert {"app.jobs_tag", "app.jobs_pkey"} == set(effect.before["indexes"])
    with pytest.raises(NothingSelected):
        action.plan(case.parameters(), seen)


async def test_an_interrupted_reindex_is_cleaned_up_and_done(make_case: Make) -> None:
    """While somebody's transaction holds the table, REINDEX gives up in time; what it leaves goes with the next try."""
    case = make_case("postgres.reindex_concurrently")
    action = case.action(case.home.connection(lock_timeout_seconds=0.5))
    effect = await planned(action, case)
    before = case.look()
    with case.home.application("INSERT INTO app.jobs VALUES (-1, 'at work')"):
        with pytest.raises((OutcomeUnknown, TemporaryFailure)):
            await action.apply(effect)
        left = case.look()
        seen = await action.observe(case.parameters())
        progress = action.progress(effect, seen)
    again = await action.apply(effect)

    assert {name for name, _, _ in before} <= {name for name, _, _ in left}
    assert progress is Progress.UNTOUCHED
    assert again.changed
    assert case.done(before, case.look())


async def test_leftovers_of_a_crash_are_planned_and_dropped(make_case: Make) -> None:
    """An invalid _ccnew index of an earlier crash is told in the plan and dropped; a person's invalid one is not."""
    case = make_case("postgres.reindex_concurrently")
    case.home.admin(
        "SET ROLE {owner}; CREATE INDEX jobs_tag_ccnew ON app.jobs (tag); CREATE INDEX mine ON app.jobs (tag)"
    )
    case.home.admin("UPDATE pg_index SET indisvalid = false WHERE indexrelid::regclass::text ~ 'ccnew|mine'")
    action = case.action(case.home.connection())
    params = case.parameters(fragmentation_above_ratio=0.99)
    effect = action.plan(params, await action.observe(params))[0]
    result = await action.apply(effect)

    assert "DROP the invalid app.jobs_tag_ccnew" in effect.summary
    assert "not touched, though invalid: app.mine" in effect.summary
    assert "dropped app.jobs_tag_ccnew" == result.summary
    assert ["jobs_pkey", "jobs_tag", "mine"] == [row[0] for row in case.look()]


async def test_only_the_sessions_that_were_planned_end(make_case: Make) -> None:
    """A session that went on meanwhile, one of a role that is not named, and the superuser's, stay."""
    case = make_case("postgres.terminate_idle")
    action = case.action(case.home.connection())
    with (
        case.home.application("SELECT 1") as moves,
        psycopg.connect(case.home.server.dsn(case.home.database)) as boss,
    ):
        boss.execute("SELECT 1")

        async def both() -> bool:
            return len((await action.observe(case.parameters())).idle) == 2

        await eventually(both, within=20, every=0.1, what="two idle transactions")
        effect = await planned(action, case)
        moves.commit()
        moves.execute("SELECT 2")
        result = await action.apply(effect)

        assert 2 == len(effect.after["ended"])
        assert 1 == len(result.evidence["ended"])
        assert str(moves.info.backend_pid) not in result.evidence["ended"]
        assert (2,) == moves.execute("SELECT 2").fetchone()
        assert (1,) == boss.execute("SELECT 1").fetchone()


async def test_a_dump_can_be_restored(make_case: Make) -> None:
    """What the dump holds is what the table holds, and only its owner may read the file."""
    case = make_case("postgres.dump")
    action = case.action(case.home.connection())
    told = (await action.apply(await planned(action, case))).evidence
    file = Path(told["file"])
    listed = subprocess.run(
        ["pg_restore", "--data-only", "--table=jobs", "--file=-", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert 1000 == sum(1 for line in listed.stdout.splitlines() if re.match(r"\d+\t[0-9a-f]{32}$", line))
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["bytes"] == file.stat().st_size
    assert 0o600 == file.stat().st_mode & 0o777


async def test_a_dump_that_is_cancelled_leaves_nothing(make_case: Make) -> None:
    """Cancelled while it waits for a lock, pg_dump is gone, and so is its partial file."""
    case = make_case("postgres.dump")
    action = case.action(case.home.connection(lock_timeout_seconds=60))
    effect = await planned(action, case)
    with psycopg.connect(case.home.server.dsn(case.home.database)) as holder:
        holder.execute("LOCK TABLE app.jobs IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(action.apply(effect))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'remediator' AND wait_event_type = 'Lock'"

        async def waiting() -> bool:
            return bool(case.home.value(waits))

        await eventually(waiting, within=30, every=0.1, what="pg_dump waiting for the lock")
        partial = case.look()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert [True] == [name.endswith(".partial") for name in partial]
    assert [] == case.look()


async def test_a_dump_dir_that_a_link_leads_to_is_refused(make_case: Make) -> None:
    """Neither the folder nor anything above it may be a link."""
    case = make_case("postgres.dump")
    link = case.home.folder / "link"
    link.symlink_to(case.home.folder / "dumps")
    action = case.action(case.home.connection(dump_dir=link))
    with pytest.raises(Refused, match="a link leads to it"):
        await action.observe(case.parameters())


async def test_a_server_that_is_down_is_a_finding(make_case: Make) -> None:
    """A diagnosis of a dead server is planned and made all the same: it says that nothing answers."""
    case = make_case("postgres.diagnose")
    action = case.action(case.home.connection())
    case.home.server.kill()
    effect = await planned(action, case)
    result = await action.apply(effect)

    assert "it does not answer" in effect.summary
    assert {"state": "it does not answer", "findings": ["it does not answer"]} == result.evidence["postgres"]


async def test_a_diagnosis_tells_who_waits_for_whom(make_case: Make) -> None:
    """A session that waits for another's lock is told, with pids, and no text of any query is kept."""
    case = make_case("postgres.diagnose")
    action = case.action(case.home.connection())
    with (
        case.home.application("UPDATE app.jobs SET tag = 'alice' WHERE id = 1") as holder,
        case.home.application() as waiter,
    ):
        blocked = threading.Thread(
            target=waiter.execute, args=("UPDATE app.jobs SET tag = 'bob' WHERE id = 1",)
        )
        blocked.start()

        async def told() -> Any:
            kept = (await action.apply(await planned(action, case))).evidence["postgres"]
            return kept if kept["sessions"]["blocked"] else None

        kept = await eventually(told, within=20, every=0.1, what="a blocked session")
        pid = holder.info.backend_pid
        holder.rollback()
        blocked.join(10)

    assert any("wait for locks of others" in one for one in kept["findings"])
    assert any([pid] == one["blocked_by"] for one in kept["oldest_transactions"])
    assert "alice" not in json.dumps(kept)


async def test_a_wrong_password_is_a_permanent_failure_that_names_no_secret(
    make_case: Make, tmp_path: Path
) -> None:
    """The server answers and refuses us: trying again cannot help; a file that cannot be read is told as such."""
    case = make_case("postgres.diagnose")
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-secret\n")
    with pytest.raises(PermanentFailure, match="answers and refuses us") as refused:
        await planned(case.action(case.home.connection(password_file=wrong)), case)
    with pytest.raises(PermanentFailure, match="cannot read"):
        await planned(case.action(case.home.connection(password_file=tmp_path / "none")), case)

    assert "not-the-secret" not in str(refused.value)


async def test_a_hanging_server_is_not_waited_for(make_case: Make) -> None:
    """A frozen server costs the timeout and is a temporary failure; for a diagnosis it is the finding."""
    create, diagnose = make_case("postgres.create_partition"), make_case("postgres.diagnose")
    connection = create.home.connection(connect_timeout_seconds=2)
    create.home.server.freeze()
    try:
        with pytest.raises(TemporaryFailure):
            await create.action(connection).observe(create.parameters())
        effect = await planned(diagnose.action(connection), diagnose)
    finally:
        create.home.server.thaw()

    assert "it does not answer" in effect.summary


async def test_a_cancelled_reindex_is_stopped_on_the_server_too(make_case: Make) -> None:
    """When we stop waiting, the server stops working; the same effect then cleans up and does it."""
    case = make_case("postgres.reindex_concurrently")
    action = case.action(case.home.connection(lock_timeout_seconds=60))
    effect = await planned(action, case)
    before = case.look()
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND query LIKE 'REINDEX%%' AND state = 'active'"

    async def under_way() -> bool:
        return bool(case.home.value(query, (case.home.ours,)))

    with case.home.application("INSERT INTO app.jobs VALUES (-1, 'at work')"):
        task = asyncio.create_task(action.apply(effect))
        await eventually(under_way, within=30, every=0.05, what="the REINDEX")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stopped = not await under_way()
    again = await action.apply(effect)

    assert stopped
    assert again.changed
    assert case.done(before, case.look())
