"""Partitions by time: names, bounds and proofs, in UTC."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from remediator.actions.postgres import (
    CreatePartition,
    CreatePartitionParams,
    DetachPartition,
    DetachPartitionParams,
    DropPartition,
    DropPartitionParams,
    PostgresConnection,
)
from remediator.actions.postgres.archive import Manifest, problem
from remediator.actions.postgres.create import SeenForCreation
from remediator.actions.postgres.detach import Candidate, SeenForDetach
from remediator.actions.postgres.drop import SeenForDrop
from remediator.actions.postgres.partitions import Loose, Mark, Partition, SeenPartitions
from remediator.actions.postgres.periods import Bounds, Every, Period, literal, name, parse, periods
from remediator.errors import NothingSelected, Refused

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


def bounds(lower: str, upper: str) -> str:
    """What pg_get_expr says of a partition."""
    return f"FOR VALUES FROM ('{lower} 00:00:00+00') TO ('{upper} 00:00:00+00')"


def partitions(
    *spans: tuple[str, str, str], loose: tuple[Loose, ...] = (), default: bool = False
) -> SeenPartitions:
    """A partitioned table with these partitions: name, lower and upper bound."""
    attached = {
        f"public.{short}": Partition(f"public.{short}", oid, bounds(lower, upper), False, 8192)
        for oid, (short, lower, upper) in enumerate(spans, 100)
    }
    type_ = "timestamp with time zone"
    return SeenPartitions("1/2", 50, "at", type_, default, NOW, attached, {one.name: one for one in loose})


@pytest.mark.parametrize(
    ("now", "every", "ahead", "expected"),
    [
        pytest.param(
            NOW, "month", 2, ["events_2025_12", "events_2026_01", "events_2026_02"], id="over-the-year"
        ),
        pytest.param(
            datetime(2026, 1, 1, 0, 30, tzinfo=UTC).astimezone(timezone(timedelta(hours=-5))),
            "month",
            1,
            ["events_2026_01", "events_2026_02"],
            id="another-zone",
        ),
        pytest.param(
            datetime(2028, 1, 31, 12, tzinfo=UTC), "month", 1, ["events_2028_01", "events_2028_02"], id="31st"
        ),
        pytest.param(
            datetime(2028, 2, 28, 12, tzinfo=UTC),
            "day",
            2,
            ["events_2028_02_28", "events_2028_02_29", "events_2028_03_01"],
            id="leap-day",
        ),
    ],
)
def test_names_are_computed_in_utc(now: datetime, every: Every, ahead: int, expected: list[str]) -> None:
    """The current period and the next ones, whatever the month's length and the clock's zone."""
    assert expected == [name("events", period, every) for period in periods(now, every, ahead)]


@pytest.mark.parametrize("every", ["month", "day"])
def test_periods_leave_no_gap(every: Every) -> None:
    """Each begins where the one before it ended, for six years."""
    found = periods(NOW, every, 31 if every == "day" else 72)

    assert all(one.upper == next_.lower for one, next_ in pairwise(found))
    assert all(timedelta(0) < one.upper - one.lower <= timedelta(days=31) for one in found)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("FOR VALUES FROM ('2025-11-01') TO ('2025-12-01')", (11, 12), id="date"),
        pytest.param(
            "FOR VALUES FROM ('2025-11-01 00:00:00') TO ('2025-12-01 00:00:00')", (11, 12), id="timestamp"
        ),
        pytest.param(bounds("2025-11-01", "2025-12-01"), (11, 12), id="timestamptz"),
        pytest.param("FOR VALUES FROM (MINVALUE) TO ('2025-12-01')", (None, 12), id="from-the-beginning"),
        pytest.param("FOR VALUES FROM ('2025-11-01') TO (MAXVALUE)", (11, None), id="for-ever"),
    ],
)
def test_bounds_are_read(expression: str, expected: tuple[int | None, int | None]) -> None:
    """Every type's way of writing them, and the open ends."""
    lower, upper = (None if month is None else datetime(2025, month, 1, tzinfo=UTC) for month in expected)

    assert Bounds(lower, upper) == parse(expression)


@pytest.mark.parametrize(
    "expression",
    ["DEFAULT", "FOR VALUES IN ('a')", "FOR VALUES FROM ('a', 1) TO ('b', 2)", "FOR VALUES FROM ('x') TO ('y')",
     "FOR VALUES FROM ('2025-01-01') TO ('2025-02-01'); DROP TABLE x"],
)  # fmt: skip
def test_other_bounds_are_an_error(expression: str) -> None:
    """Lists, several columns and anything behind the bounds are not guessed at."""
    with pytest.raises(ValueError, match=r"bounds|moment|isoformat"):
        parse(expression)


def test_literals_fit_the_type() -> None:
    """Each type gets the very text that the catalogue shows for it."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert "2026-01-01" == literal(moment, "date")
    assert "2026-01-01 00:00:00" == literal(moment, "timestamp without time zone")
    assert "2026-01-01 00:00:00+00" == literal(moment, "timestamp with time zone")


def test_a_period_knows_what_reaches_into_it() -> None:
    """Touching bounds do not overlap; one moment in common does."""
    january = Period(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    day = timedelta(days=1)

    assert not january.overlaps(Bounds(january.upper, None))
    assert not january.overlaps(Bounds(None, january.lower))
    assert january.overlaps(Bounds(january.upper - day, None))
    assert january.within(Bounds(None, january.upper))
    assert not january.within(Bounds(january.lower + day, None))


def test_creation_names_what_is_missing_only() -> None:
    """A month that is there, under whatever name, is not made again; a clash of names is a person's decision."""
    action, params = CreatePartition(SHOP), CreatePartitionParams(connection="db", table="public.events")
    there = partitions(
        ("events_2025_12", "2025-12-01", "2026-01-01"), ("first_quarter", "2026-01-01", "2026-02-01")
    )
    effect = action.plan(params, SeenForCreation("month", there))[0]
    clash = replace(there, loose={"public.events_2026_02": Loose("public.events_2026_02", 1, 0, None)})

    assert ["public.events_2026_02"] == effect.before["missing"]
    assert {"public.events_2026_02": ["2026-02-01 00:00:00+00", "2026-03-01 00:00:00+00"]} == effect.after[
        "partitions"
    ]
    with pytest.raises(Refused, match="not attached"):
        action.plan(params, SeenForCreation("month", clash))
    with pytest.raises(Refused, match="default partition"):
        action.plan(params, SeenForCreation("month", replace(there, has_default=True)))


def test_nothing_is_missing() -> None:
    """Where all is there, nothing is planned: an alert that fires by mistake changes nothing."""
    action, params = CreatePartition(SHOP), CreatePartitionParams(connection="db", table="public.events")
    with pytest.raises(NothingSelected):
        action.plan(params, SeenForCreation("month", partitions(("all", "2025-01-01", "2027-01-01"))))


MANIFEST = Manifest(partition="public.events_2025_07", rows=40, sha256="ab" * 32, verified_at=NOW)


@pytest.mark.parametrize(
    ("manifest", "rows", "fine"),
    [
        pytest.param(MANIFEST, 40, True, id="matches"),
        pytest.param(MANIFEST, 41, False, id="a-row-more"),
        pytest.param(
            MANIFEST.model_copy(update={"verified_at": datetime(2025, 8, 1, tzinfo=UTC)}),
            40,
            False,
            id="at-its-end",
        ),
        pytest.param(MANIFEST.model_copy(update={"rows": 0}), 0, True, id="empty-and-archived"),
    ],
)
def test_a_manifest_proves(manifest: Manifest, rows: int, fine: bool) -> None:
    """It counts when verified after the partition's end, and it holds exactly the rows that are there."""
    assert fine == (problem(manifest, datetime(2025, 8, 1, tzinfo=UTC), rows) == "")


def test_an_unbounded_partition_is_never_proved() -> None:
    """What has no end may still grow."""
    assert problem(MANIFEST, None, 40)


def test_detaching_says_rows_and_archive_and_how_to_take_it_back() -> None:
    """The plan binds the approval to the partition, its rows and the archive's checksum."""
    seen = partitions(("events_2025_07", "2025-07-01", "2025-08-01"))
    part = seen.partitions["public.events_2025_07"]
    params = DetachPartitionParams(connection="db", table="public.events")
    effect = DetachPartition(SHOP).plan(params, SeenForDetach(seen, Candidate(part, 40, MANIFEST)))[0]

    assert {
        "name": "public.events_2025_07",
        "rows": 40,
        "archive_sha256": "ab" * 32,
    }.items() <= effect.before.items()
    assert "ATTACH public.events_2025_07 to public.events again" == effect.undo
    assert not effect.irreversible


def test_detaching_needs_proof_and_no_default_partition() -> None:
    """What is not proved is refused with the reason; with a default partition CONCURRENTLY is not possible."""
    seen = partitions(("events_2025_07", "2025-07-01", "2025-08-01"))
    part = seen.partitions["public.events_2025_07"]
    action, params = DetachPartition(SHOP), DetachPartitionParams(connection="db", table="public.events")
    with pytest.raises(Refused, match="no archive of it"):
        action.plan(params, SeenForDetach(seen, Candidate(part, 40, None, "no archive of it")))
    with pytest.raises(Refused, match="default partition"):
        action.plan(params, SeenForDetach(replace(seen, has_default=True), Candidate(part, 40, MANIFEST)))
    with pytest.raises(NothingSelected):
        action.plan(params, SeenForDetach(seen, None))


def test_a_mark_is_read_back() -> None:
    """What we write as a comment, below one that was there, tells parent, bounds and time; another comment does not."""
    mark = Mark("public.events", bounds("2025-07-01", "2025-08-01"), NOW)

    assert mark == Loose("public.x", 1, 0, f"Kept for audits.\n{mark}").mark
    assert Loose("public.x", 1, 0, "remediator: detached from nowhere").mark is None
    assert Loose("public.x", 1, 0, None).mark is None


def test_dropping_nothing_is_nothing() -> None:
    """Without a table whose grace is over there is nothing to select."""
    params = DropPartitionParams(connection="db", table="public.events")
    with pytest.raises(NothingSelected):
        DropPartition(SHOP).plan(params, SeenForDrop(partitions(), None))
