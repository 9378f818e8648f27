"""Partitions of a real PostgreSQL: made without locking others out, detached with proof, dropped after their grace."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime

import psycopg
import pytest

from remediator.actions.postgres import (
    CreatePartition,
    CreatePartitionParams,
    DetachPartition,
    DetachPartitionParams,
    DropPartition,
    DropPartitionParams,
)
from remediator.domain.plans import Progress
from remediator.errors import (
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.postgres_cases import Make, planned
from tests.support.postgres_home import Home

pytest_plugins = ["tests.support.postgres_fixtures"]


async def test_partitions_are_made_while_others_read_and_write(make_case: Make) -> None:
    """An open transaction that has read and written the table is not in the way, and rows of the new months fit in."""
    case = make_case("postgres.create_partition")
    action = case.action(case.home.connection())
    effect = await planned(action, case)
    with case.home.application("SELECT count(*) FROM app.events", "DELETE FROM app.events WHERE id = 1"):
        result = await action.apply(effect)
    made = result.evidence["partitions"]
    for name in made:
        lower = effect.after["partitions"][name][0]
        case.home.admin("INSERT INTO app.events (at) VALUES (%s)", (lower,))

    assert 2 == len(made)
    assert [1, 1] == [case.home.value(f"SELECT count(*) FROM {name} WHERE payload = 'x'") for name in made]
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid"
    assert [2, 2] == [case.home.value(indexes, (name,)) for name in made]
    owners = {
        case.home.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = %s::regclass", (name,))
        for name in made
    }
    assert {case.home.owner} == owners


async def test_a_month_that_is_covered_in_part_is_a_persons_decision(postgres_home: Home) -> None:
    """Where a partition of another length reaches into a missing month, nothing is made."""
    postgres_home.admin(
        "SET timezone = 'UTC'; SET ROLE {owner}; DO $$ BEGIN EXECUTE format('CREATE TABLE app.odd PARTITION OF app.events"
        " FOR VALUES FROM (%L) TO (%L)', date_trunc('month', now()) - interval '10 days', date_trunc('month', now())"
        " + interval '3 days'); END $$"
    )
    action = CreatePartition(postgres_home.connection())
    params = CreatePartitionParams(connection="db", table="app.events")
    postgres_home.grant(action.permissions(params).postgres)
    seen = await action.observe(params)

    with pytest.raises(Refused, match=r"app\.odd holds a part of the month"):
        action.plan(params, seen)


@pytest.mark.parametrize(
    ("rows", "verified", "told"),
    [
        pytest.param(None, "", "holds no verified archive", id="none"),
        pytest.param(39, "now()", "holds 39 rows, and the partition 40", id="a-row-less"),
        pytest.param(40, "now() - interval '7 months'", "before the partition had ended", id="too-early"),
        pytest.param(40, "NULL", "holds no verified archive", id="not-verified"),
    ],
)
async def test_nothing_is_detached_without_proof(
    postgres_home: Home, rows: int | None, verified: str, told: str
) -> None:
    """Without a manifest, verified after the end of the partition, that counts its rows, the plan is refused."""
    old = postgres_home.partition(6, rows=40)
    if rows is not None:
        postgres_home.archive(old, rows, verified=verified)
    action = DetachPartition(postgres_home.connection())
    params = DetachPartitionParams(connection="db", table="app.events")
    postgres_home.grant(action.permissions(params).postgres)
    seen = await action.observe(params)

    with pytest.raises(Refused, match=told):
        action.plan(params, seen)


async def test_a_manifest_folder_proves_by_the_archives_checksum(postgres_home: Home) -> None:
    """A manifest file counts only while the archive beside it has its SHA-256, and is no link."""
    old = postgres_home.partition(6, rows=40)
    folder = postgres_home.folder / "archive"
    folder.mkdir()
    (folder / "old.parquet").write_bytes(b"forty rows")
    manifest = folder / f"{old}.json"
    told = {
        "partition": old,
        "rows": 40,
        "sha256": hashlib.sha256(b"forty rows").hexdigest(),
        "verified_at": datetime.now(UTC).isoformat(),
        "archive": "old.parquet",
    }
    manifest.write_text(json.dumps(told))
    partitioned = {"app.events": {"archive": {"kind": "folder", "folder": str(folder)}}}
    action = DetachPartition(postgres_home.connection(partitioned=partitioned))
    params = DetachPartitionParams(connection="db", table="app.events")
    postgres_home.grant(action.permissions(params).postgres)
    effect = action.plan(params, await action.observe(params))[0]
    (folder / "old.parquet").write_bytes(b"other rows")
    changed = await action.observe(params)
    manifest.rename(folder / "elsewhere.json")
    manifest.symlink_to(folder / "elsewhere.json")

    assert told["sha256"] == effect.before["archive_sha256"]
    assert (f"r {folder}",) == action.permissions(params).files
    with pytest.raises(Refused, match="its SHA-256 is another"):
        action.plan(params, changed)
    with pytest.raises(PermanentFailure, match="cannot read"):
        await action.observe(params)


async def test_a_partition_that_is_not_old_enough_stays(postgres_home: Home) -> None:
    """Its upper bound, not its lower one, has to be older than the limit."""
    young = postgres_home.partition(2, rows=10)
    postgres_home.archive(young, 10)
    action = DetachPartition(postgres_home.connection())
    params = DetachPartitionParams(connection="db", table="app.events")
    postgres_home.grant(action.permissions(params).postgres)

    with pytest.raises(NothingSelected):
        action.plan(params, await action.observe(params))


async def test_a_detach_that_waits_for_others_is_bounded_and_can_be_finished(make_case: Make) -> None:
    """A reader holds the detach up: the outcome is told, and the same effect finishes it once the reader is gone."""
    case = make_case("postgres.detach_partition")
    action = case.action(case.home.connection(lock_timeout_seconds=0.5))
    effect = await planned(action, case)
    before = case.look()
    with (
        case.home.application("SELECT count(*) FROM app.events"),
        pytest.raises((OutcomeUnknown, TemporaryFailure)),
    ):
        await action.apply(effect)
    progress = action.progress(effect, await action.observe(case.parameters()))
    again = await action.apply(effect)
    done = case.done(before, case.look())
    await action.undo(effect, again)

    assert progress is Progress.UNTOUCHED
    assert again.changed
    assert done
    assert before["events"] == case.look()["events"]


async def test_nothing_is_dropped_within_its_grace(make_case: Make) -> None:
    """What was detached just now is not selected, and an effect of before is refused."""
    case = make_case("postgres.drop_partition")
    action = case.action(case.home.connection())
    effect = await planned(action, case)
    name = effect.before["name"]
    fresh = re.sub(r" at \S+$", f" at {datetime.now(UTC).isoformat()}", effect.before["mark"])
    case.home.admin(f"COMMENT ON TABLE {name} IS '{fresh.replace(chr(39), chr(39) * 2)}'")
    with pytest.raises(NothingSelected):
        await planned(action, case)
    with pytest.raises(Drifted):
        await action.apply(effect)

    assert name.removeprefix("app.") in case.look()


async def test_a_table_that_we_did_not_detach_is_never_dropped(postgres_home: Home) -> None:
    """A table that only has a partition's name carries no mark of ours, and is left."""
    postgres_home.admin("SET ROLE {owner}; CREATE TABLE app.events_2020_01 (id int)")
    action = DropPartition(postgres_home.connection())
    params = DropPartitionParams(connection="db", table="app.events")
    postgres_home.grant(action.permissions(params).postgres)

    with pytest.raises(NothingSelected):
        action.plan(params, await action.observe(params))


async def test_a_drop_gives_up_where_somebody_reads(make_case: Make) -> None:
    """The lock is waited for only so long; then nothing was changed."""
    case = make_case("postgres.drop_partition")
    action = case.action(case.home.connection(lock_timeout_seconds=0.3))
    effect = await planned(action, case)
    before = case.look()
    reader = psycopg.connect(case.home.server.dsn(case.home.database))
    reader.execute(f"SELECT 1 FROM {effect.before['name']}")
    with reader, pytest.raises(TemporaryFailure):
        await action.apply(effect)

    assert before == case.look()
