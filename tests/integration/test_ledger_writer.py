"""Group commit: who waits shares a commit, who fails fails alone, and too much waiting is refused at once."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from remediator.adapters.ledger import SqlLedger
from remediator.adapters.ledger.database import open_database
from remediator.adapters.ledger.transaction import Transaction
from remediator.adapters.ledger.writer import TOGETHER, Writer
from remediator.domain.events import Event
from remediator.domain.remediations import Phase, Transition
from remediator.errors import LedgerError, LedgerUnavailable, StaleWrite
from remediator.pipeline.ports import Accepted, Sighting
from tests.integration.ledger_kit import (
    NOW,
    StillClock,
    alert,
    delivery,
    draft,
    ended,
    post,
    reserve,
    sighting,
)
from tests.support.waiting import eventually


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    """An empty ledger in a file."""
    opened = SqlLedger.open(f"sqlite:///{tmp_path}/ledger.db", StillClock())
    yield opened
    await opened.close()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Somebody else, a backup or a shell, holds the write lock of the database."""
    connection = sqlite3.connect(folder / "ledger.db", isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


async def test_what_waits_shares_a_commit(ledger: SqlLedger, tmp_path: Path) -> None:
    """200 deliveries that wait for the disk are durable after two commits, each with its own answer."""
    before = ledger.stats.commits
    with held(tmp_path):
        accepts = [
            asyncio.ensure_future(ledger.accept(*post(sighting(alert(str(n)), "cache")))) for n in range(200)
        ]
        # The writer takes the first that comes and waits with it; the others come while it does.
        await eventually(lambda: _true(ledger.stats.oldest > 0))
    answers = await asyncio.gather(*accepts)

    assert [Accepted((f"cache-{n}-120000",)) for n in range(200)] == answers
    assert 2 >= ledger.stats.commits - before
    assert 200 == len(await ledger.deliveries(limit=1000))
    assert await ledger.verify() is None


async def _true(value: bool) -> bool:
    return value


async def test_concurrent_duplicates_begin_once(ledger: SqlLedger) -> None:
    """Two Alertmanagers and all their retries at the same moment: one remediation for each rule."""
    one = sighting(alert(), "cache", "second")
    duplicates = [
        (delivery(one.alert)._replace(body=f"{n % 3}".encode(), source=f"peer-{n % 2}"), (one,))
        for n in range(60)
    ]

    answers = await asyncio.gather(*(ledger.accept(*each) for each in duplicates))

    assert ["cache-a-120000", "second-a-120000"] == sorted(id_ for a in answers for id_ in a.started)
    assert 2 == len(await ledger.list())
    assert 6 == len(await ledger.deliveries())


async def test_one_bad_delivery_takes_no_other_with_it(ledger: SqlLedger) -> None:
    """A delivery that the database refuses fails alone; those that shared its commit are durable."""
    clash = replace(draft(alert("clash"), "cache"), id="cache-0-120000")
    good = [post(sighting(alert(str(n)), "cache")) for n in range(5)]

    answers = await asyncio.gather(
        *(ledger.accept(*each) for each in good),
        ledger.accept(delivery(alert("clash")), (Sighting(alert("clash"), (clash,)),)),
        return_exceptions=True,
    )

    assert [Accepted((f"cache-{n}-120000",)) for n in range(5)] == answers[:5]
    assert isinstance(answers[5], LedgerError)
    assert "UNIQUE constraint failed: remediations.id" in str(answers[5])
    assert 5 == len(await ledger.deliveries())
    assert 10 == len(await ledger.journal())
    assert await ledger.verify() is None
    # Nothing of it is remembered either: the same episode begins when it comes with a draft that is right.
    accepted = await ledger.accept(*post(sighting(alert("clash"), "cache")))
    assert Accepted(("cache-clash-120000",)) == accepted


async def test_a_stale_write_leaves_the_others_in_its_group(ledger: SqlLedger, tmp_path: Path) -> None:
    """Of writes that share a commit, the stale one is rolled back to its savepoint, journal included."""
    names = ["a", "b", "c"]
    await ledger.accept(*post(*(sighting(alert(name), "cache") for name in names)))
    begun = [(await ledger.load(f"cache-{name}-120000")).remediation for name in names]
    await ledger.write(Transition(begun[1]), NOW)
    before = ledger.stats.commits

    with held(tmp_path):
        writes = [
            asyncio.ensure_future(ledger.write(Transition(each, (Event(f"moved-{each.subject}"),)), NOW))
            for each in begun
        ]
        await eventually(lambda: _true(ledger.stats.oldest > 0))
    answers = await asyncio.gather(*writes, return_exceptions=True)

    assert 2 >= ledger.stats.commits - before
    assert [1, StaleWrite, 1] == [
        type(answer) if isinstance(answer, BaseException) else answer.version for answer in answers
    ]
    assert ["moved-a", "moved-c"] == [entry.event.kind for entry in await ledger.journal(after=4)]
    assert await ledger.verify() is None


async def test_two_reserve_one_subject_at_once(ledger: SqlLedger) -> None:
    """Of many that reach for the same subject in one commit, one holds it and the others are held off."""
    begun = [draft(alert(str(n)), f"rule-{n}", subject="shared") for n in range(8)]
    for each in begun:
        of = alert(each.labels["instance"])
        await ledger.accept(delivery(of), (Sighting(of, (each,)),))

    settled = await asyncio.gather(*(reserve(ledger, each) for each in begun))

    holders = [each for each in settled if each.phase is Phase.JUDGED]
    assert 1 == len(holders)
    assert {f"shared is held by {holders[0].id}"} == {
        each.reason for each in settled if each is not holders[0]
    }
    freed = await ledger.write(ended(holders[0]), NOW)
    assert freed.final


async def test_reads_do_not_wait_for_writes(ledger: SqlLedger, tmp_path: Path) -> None:
    """While a write is stuck, what was committed is read, and what was not is not there yet."""
    await ledger.accept(*post(sighting(alert("a"), "cache")))
    with held(tmp_path):
        stuck = asyncio.ensure_future(ledger.accept(*post(sighting(alert("b"), "cache"))))
        await eventually(lambda: _true(ledger.stats.oldest > 0))
        assert ["a"] == [found.subject for found in await ledger.list()]
        assert not stuck.done()
    await stuck

    assert ["b", "a"] == [found.subject for found in await ledger.list()]


async def test_too_many_waiting_are_refused_at_once(tmp_path: Path) -> None:
    """Beyond the limit a write is refused while those that wait are kept, and room is made when they are done."""
    ledger = SqlLedger.open(f"sqlite:///{tmp_path}/ledger.db", StillClock(), waiting=3)
    with held(tmp_path):
        first = asyncio.ensure_future(ledger.note(Event("first"), NOW))
        await eventually(lambda: _true(ledger.stats.oldest > 0))
        more = [asyncio.ensure_future(ledger.note(Event("more"), NOW)) for _ in range(3)]
        await eventually(lambda: _true(ledger.stats.waiting == 3))
        with pytest.raises(LedgerUnavailable, match="3 writes are waiting already"):
            await ledger.note(Event("too much"), NOW)
    await asyncio.gather(first, *more)

    await ledger.note(Event("room again"), NOW)
    assert ["first", "more", "more", "more", "room again"] == [e.event.kind for e in await ledger.journal()]
    await ledger.close()


async def test_behind_one_that_waits_too_long_others_are_refused_at_once(tmp_path: Path) -> None:
    """When the disk hangs, senders are told at once; when it is back, so is the ledger."""
    ledger = SqlLedger.open(f"sqlite:///{tmp_path}/ledger.db", StillClock(), patience=0.05)
    with held(tmp_path):
        first = asyncio.ensure_future(ledger.note(Event("first"), NOW))
        await eventually(lambda: _true(ledger.stats.oldest > 0.05))
        with pytest.raises(LedgerUnavailable, match="has not finished a write for"):
            await ledger.note(Event("refused"), NOW)
    await first

    await eventually(lambda: _true(ledger.stats.oldest == 0))
    await ledger.note(Event("back"), NOW)
    assert ["first", "back"] == [entry.event.kind for entry in await ledger.journal()]
    await ledger.close()


async def test_a_caller_who_went_away_hurts_nobody(ledger: SqlLedger, tmp_path: Path) -> None:
    """A cancelled call may have been written, and the others that shared its commit are answered."""
    with held(tmp_path):
        gone = asyncio.ensure_future(ledger.note(Event("gone"), NOW))
        stays = asyncio.ensure_future(ledger.note(Event("stays"), NOW))
        await eventually(lambda: _true(ledger.stats.oldest > 0))
        gone.cancel()
    await stays

    assert ["gone", "stays"] == [entry.event.kind for entry in await ledger.journal()]


async def test_close_finishes_what_waits(ledger: SqlLedger, tmp_path: Path) -> None:
    """Everything that was handed over before the close is durable after it."""
    notes = [asyncio.ensure_future(ledger.note(Event("note"), NOW)) for _ in range(50)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*notes)

    reader = SqlLedger.open(f"sqlite:///{tmp_path}/ledger.db", StillClock(), read_only=True)
    assert 50 == len(await reader.journal())
    await reader.close()


# The writer alone


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    """A writer on an empty database, with a table to write to."""
    database = open_database(f"sqlite:///{tmp_path}/ledger.db")
    assert database.writer is not None
    with database.writer.begin() as connection:
        connection.execute(text("CREATE TABLE notes (n INTEGER PRIMARY KEY)"))
    opened = Writer(database.writer)
    yield opened
    await asyncio.to_thread(opened.close)
    database.close()


async def busy(writer: Writer) -> tuple[threading.Event, asyncio.Future[bool]]:
    """Have the writer in the midst of a unit, so that what follows waits together; the event lets it go on."""
    entered, gate = threading.Event(), threading.Event()

    def work(_: Transaction) -> bool:
        entered.set()
        return gate.wait(30)

    unit = writer.submit(work)
    assert await asyncio.to_thread(entered.wait, 30)
    return gate, unit


def _insert(transaction: Transaction, numbers: Sequence[int]) -> list[int]:
    for n in numbers:
        transaction.connection.execute(text("INSERT INTO notes VALUES (:n)"), {"n": n})
    return list(numbers)


def _notes(transaction: Transaction) -> list[int]:
    return list(transaction.connection.execute(text("SELECT n FROM notes ORDER BY n")).scalars())


async def test_a_unit_that_raises_rolls_back_only_itself(writer: Writer) -> None:
    """In a group of three, the second's rows are gone, and the others' are there."""
    gate, blocked = await busy(writer)

    def fails(transaction: Transaction) -> None:
        _insert(transaction, [2])
        raise KeyError("mine")

    units: list[asyncio.Future[Any]] = [
        writer.submit(lambda tx: _insert(tx, [1])),
        writer.submit(fails),
        writer.submit(lambda tx: _insert(tx, [3])),
    ]
    gate.set()
    await blocked
    answers = await asyncio.gather(*units, return_exceptions=True)

    assert [[1], "KeyError('mine')", [3]] == [
        repr(each) if isinstance(each, Exception) else each for each in answers
    ]
    assert [1, 3] == await writer.submit(_notes)
    assert 3 == writer.stats.commits


async def test_a_batch_that_fails_is_tried_one_by_one(writer: Writer) -> None:
    """Of units that work together, the one at fault is told, and the others are written."""
    gate, blocked = await busy(writer)
    units = [writer.submit_batch(_insert, n) for n in (1, 2, 2, 3)]
    gate.set()
    await blocked
    answers = await asyncio.gather(*units, return_exceptions=True)

    assert [1, 2, 3] == [answers[0], answers[1], answers[3]]
    assert isinstance(answers[2], LedgerError)
    assert [1, 2, 3] == await writer.submit(_notes)


async def test_a_batch_beside_others_that_fails_is_tried_one_by_one(writer: Writer) -> None:
    """The same where the batch shares its commit with other units."""
    gate, blocked = await busy(writer)
    units = [writer.submit_batch(_insert, n) for n in (1, 1)]
    units.append(writer.submit(lambda tx: _insert(tx, [9])[0]))
    gate.set()
    await blocked
    answers = await asyncio.gather(*units, return_exceptions=True)

    assert [1, LedgerError, 9] == [type(each) if isinstance(each, Exception) else each for each in answers]
    assert [1, 9] == await writer.submit(_notes)


async def test_a_commit_has_a_bound(writer: Writer) -> None:
    """Heavy units do not all wait for the last of them: two that fill a commit are answered by it."""
    gate, blocked = await busy(writer)
    units = [writer.submit_batch(_insert, n, TOGETHER // 2) for n in range(6)]
    gate.set()
    await blocked
    await asyncio.gather(*units)

    assert 1 + 3 == writer.stats.commits
