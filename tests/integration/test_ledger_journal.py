"""The journal in the database: whoever changes it is found out, and anchors find what the chain cannot."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.adapters.anchors import AnchorFile
from remediator.adapters.ledger import SqlLedger
from remediator.domain.events import GENESIS, Event, chain, entry_hash
from remediator.domain.remediations import Transition
from remediator.errors import LedgerError
from tests.integration.ledger_kit import NOW, StillClock, alert, post, sighting

Tamper = Callable[[sqlite3.Connection], object]


async def written(path: Path) -> AnchorFile:
    """A journal of ten entries, of all the ways that entries come about, with its head anchored."""
    ledger = SqlLedger.open(f"sqlite:///{path}", StillClock())
    await ledger.accept(*post(sighting(alert("a"), "cache", 'quo"ted → rule'), sighting(alert("b"), "cache")))
    begun = (await ledger.load("cache-a-120000")).remediation
    await ledger.write(Transition(replace(begun, reason="x"), (Event("moved", {"n": 1.5, "ü": ["→"]}),)), NOW)
    for n in range(5):
        await ledger.note(Event("note", {"n": n}), NOW + timedelta(microseconds=n))
    anchors = AnchorFile(path.with_name("anchors"))
    seq, hash_ = await ledger.head()
    assert 10 == seq
    anchors.append(seq, hash_, NOW)
    await ledger.close()
    return anchors


async def verified(path: Path, anchors: AnchorFile | None = None) -> tuple[int, str] | None:
    """What `journal verify` finds, read while nobody writes."""
    ledger = SqlLedger.open(f"sqlite:///{path}", StillClock(), read_only=True)
    try:
        return await ledger.verify(anchors.read() if anchors else None)
    finally:
        await ledger.close()


async def test_the_hashes_are_the_domains(tmp_path: Path) -> None:
    """The ledger's shorter way to a hash ends where the domain's does, for every kind of entry."""
    path = tmp_path / "ledger.db"
    anchors = await written(path)

    ledger = SqlLedger.open(f"sqlite:///{path}", StillClock(), read_only=True)
    entries = await ledger.journal()
    await ledger.close()
    assert 10 == len(entries)
    assert [
        entry_hash(entry.previous, entry.seq, entry.at, entry.remediation, entry.event) for entry in entries
    ] == [entry.hash for entry in entries]
    assert [GENESIS, *(entry.hash for entry in entries[:-1])] == [entry.previous for entry in entries]
    assert await verified(path, anchors) is None


def renumber(connection: sqlite3.Connection, first: int) -> None:
    """Move the entries from `first` on by one, to make room."""
    connection.execute("UPDATE journal SET seq = -seq WHERE seq >= ?", (first,))
    connection.execute("UPDATE journal SET seq = 1 - seq WHERE seq < 0")


def insert_at_five(connection: sqlite3.Connection) -> None:
    """An entry that fits behind the fourth."""
    renumber(connection, 5)
    (previous,) = connection.execute("SELECT hash FROM journal WHERE seq = 4").fetchone()
    entry = chain(previous, 5, NOW, "", Event("forged", {}))
    at = connection.execute("SELECT at FROM journal WHERE seq = 4").fetchone()[0]
    connection.execute(
        "INSERT INTO journal VALUES (5, ?, '', 'forged', '{}', ?, ?)", (at, previous, entry.hash)
    )


def swap(connection: sqlite3.Connection) -> None:
    """The fifth and the sixth entry change places."""
    for old, new in ((5, -1), (6, 5), (-1, 6)):
        connection.execute("UPDATE journal SET seq = ? WHERE seq = ?", (new, old))


def rewrite_from_five(connection: sqlite3.Connection) -> None:
    """Somebody who knows how the chain is made changes the fifth and makes all that follow anew."""
    import json

    from remediator.adapters.ledger.codec import from_micros

    connection.execute("UPDATE journal SET kind = 'forged' WHERE seq = 5")
    (previous,) = connection.execute("SELECT hash FROM journal WHERE seq = 4").fetchone()
    for seq, at, of, kind, data in connection.execute(
        "SELECT seq, at, remediation, kind, data FROM journal WHERE seq >= 5 ORDER BY seq"
    ).fetchall():
        entry = chain(previous, seq, from_micros(at), of, Event(kind, json.loads(data)))
        connection.execute(
            "UPDATE journal SET previous = ?, hash = ? WHERE seq = ?", (previous, entry.hash, seq)
        )
        previous = entry.hash


def run(sql: str) -> Tamper:
    """One statement."""
    return lambda connection: connection.execute(sql)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        pytest.param(run("UPDATE journal SET kind = 'other' WHERE seq = 5"), 5, id="kind-changed"),
        pytest.param(run("UPDATE journal SET data = '{\"n\":7}' WHERE seq = 6"), 6, id="data-changed"),
        pytest.param(run("UPDATE journal SET data = 'garbage' WHERE seq = 6"), 6, id="data-is-no-json"),
        pytest.param(run("UPDATE journal SET at = at + 1 WHERE seq = 1"), 1, id="time-changed"),
        pytest.param(run("UPDATE journal SET at = 'noon' WHERE seq = 3"), 3, id="time-is-no-number"),
        pytest.param(
            run("UPDATE journal SET remediation = 'x' WHERE seq = 10"), 10, id="remediation-changed"
        ),
        pytest.param(run("UPDATE journal SET hash = previous WHERE seq = 4"), 4, id="hash-changed"),
        pytest.param(run("DELETE FROM journal WHERE seq = 5"), 5, id="deleted"),
        pytest.param(run("DELETE FROM journal WHERE seq = 1"), 1, id="first-deleted"),
        pytest.param(run("UPDATE journal SET seq = -5 WHERE seq = 5"), 1, id="moved-before-the-first"),
        pytest.param(insert_at_five, 6, id="inserted"),
        pytest.param(swap, 5, id="exchanged"),
    ],
)
async def test_tampering_names_the_first_bad_entry(tamper: Tamper, expected: int, tmp_path: Path) -> None:
    """Every change to the table is found at its first entry, without any help from outside."""
    path = tmp_path / "ledger.db"
    await written(path)
    with sqlite3.connect(path) as connection:
        tamper(connection)
    connection.close()

    found = await verified(path)

    assert found is not None
    assert expected == found[0]


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        pytest.param(run("DELETE FROM journal WHERE seq > 7"), 8, id="cut-off"),
        pytest.param(run("DELETE FROM journal"), 1, id="emptied"),
        pytest.param(rewrite_from_five, 10, id="made-anew"),
    ],
)
async def test_anchors_find_what_the_chain_cannot(tamper: Tamper, expected: int, tmp_path: Path) -> None:
    """A shorter or a newly made journal looks whole by itself, and is found out by the head kept elsewhere."""
    path = tmp_path / "ledger.db"
    anchors = await written(path)
    with sqlite3.connect(path) as connection:
        tamper(connection)
    connection.close()

    assert await verified(path) is None
    found = await verified(path, anchors)
    assert found is not None
    assert expected == found[0]


async def test_a_long_journal_is_read_in_pages(tmp_path: Path) -> None:
    """Verification goes past the first page, and finds a fault behind it."""
    path = tmp_path / "ledger.db"
    ledger = SqlLedger.open(f"sqlite:///{path}", StillClock())
    await asyncio.gather(*(ledger.note(Event("note", {"n": n}), NOW) for n in range(2_500)))
    assert await ledger.verify() is None
    await ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE journal SET data = '{}' WHERE seq = 2400")
    connection.close()

    assert (2400, "its content does not match its hash") == await verified(path)


async def test_verify_while_the_service_writes(tmp_path: Path) -> None:
    """Another process's reader sees a whole journal at any time, and the service goes on."""
    path = tmp_path / "ledger.db"
    ledger = SqlLedger.open(f"sqlite:///{path}", StillClock())
    reader = SqlLedger.open(f"sqlite:///{path}", StillClock(), read_only=True)

    for _ in range(5):
        notes = [asyncio.ensure_future(ledger.note(Event("note"), NOW)) for _ in range(50)]
        assert await reader.verify() is None
        await asyncio.gather(*notes)

    assert 250 == len(await reader.journal())
    await reader.close()
    await ledger.close()


# The file of anchors


def test_anchors_are_read_as_they_were_written(tmp_path: Path) -> None:
    """The folder is made, and what was appended is there; no file is no anchors."""
    anchors = AnchorFile(tmp_path / "elsewhere" / "anchors")
    assert {} == anchors.read()
    anchors.append(3, "a" * 64, NOW)
    anchors.append(9, "b" * 64, NOW)

    assert {3: "a" * 64, 9: "b" * 64} == anchors.read()
    assert f"3 {'a' * 64} 2025-09-10T12:00:00.123456+00:00" == anchors.path.read_text().splitlines()[0]


def test_a_line_that_a_crash_cut_off_is_no_anchor(tmp_path: Path) -> None:
    """It is not read, and the next one takes its place."""
    anchors = AnchorFile(tmp_path / "anchors")
    anchors.append(3, "a" * 64, NOW)
    with anchors.path.open("a") as file:
        file.write("9 bbbb")

    assert {3: "a" * 64} == anchors.read()
    anchors.append(12, "c" * 64, NOW)
    assert {3: "a" * 64, 12: "c" * 64} == anchors.read()


def test_a_long_file_of_anchors(tmp_path: Path) -> None:
    """Only the end is looked at before another is added, and all are read."""
    anchors = AnchorFile(tmp_path / "anchors")
    for seq in range(1, 101):
        anchors.append(seq, f"{seq:064x}", NOW)
    with anchors.path.open("a") as file:
        file.write("101 00")
    anchors.append(101, f"{101:064x}", NOW)

    assert {seq: f"{seq:064x}" for seq in range(1, 102)} == anchors.read()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("hello", "anchors:2: this is no anchor: 'hello'", id="no-anchor"),
        pytest.param("4 abc 2025-09-10", "anchors:2: this is no anchor", id="no-hash"),
        pytest.param(f"3 {'b' * 64} 2025-09-10", "anchors:2: entry 3 has another hash", id="contradiction"),
    ],
)
def test_a_changed_file_of_anchors_is_told(line: str, expected: str, tmp_path: Path) -> None:
    """What is no anchor is not passed over: it may have been one."""
    anchors = AnchorFile(tmp_path / "anchors")
    anchors.append(3, "a" * 64, NOW)
    with anchors.path.open("a") as file:
        file.write(line + "\n")

    with pytest.raises(LedgerError, match=expected):
        anchors.read()
