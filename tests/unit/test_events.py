"""The journal's chain, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from remediator.domain.events import GENESIS, Entry, Event, chain, entry_hash, first_bad

NOW = datetime(2025, 9, 10, 12, tzinfo=UTC)


def journal(length: int = 6) -> list[Entry]:
    """A whole chain."""
    entries: list[Entry] = []
    previous = GENESIS
    for seq in range(1, length + 1):
        at = NOW + timedelta(seconds=seq)
        entries.append(chain(previous, seq, at, f"r{seq % 2}", Event("kind", {"n": seq})))
        previous = entries[-1].hash
    return entries


def rewritten(entries: list[Entry], start: int) -> list[Entry]:
    """The chain made again from the entry at index `start` on, as somebody who knows how it is made would."""
    done = entries[:start]
    for entry in entries[start:]:
        previous = done[-1].hash if done else GENESIS
        done.append(chain(previous, len(done) + 1, entry.at, entry.remediation, entry.event))
    return done


def test_a_whole_chain_holds() -> None:
    """Nothing is found where nothing was done, with and without anchors; an empty journal is whole."""
    entries = journal()

    assert first_bad(entries) is None
    assert first_bad(entries, {3: entries[2].hash, 6: entries[5].hash}) is None
    assert first_bad([]) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"at": NOW}, id="time"),
        pytest.param({"remediation": "other"}, id="remediation"),
        pytest.param({"event": Event("other", {"n": 3})}, id="kind"),
        pytest.param({"event": Event("kind", {"n": 4})}, id="data"),
        pytest.param({"hash": "0" * 64}, id="hash"),
    ],
)
def test_a_changed_entry_is_named(change: dict[str, object]) -> None:
    """Whatever of an entry is changed, its number is told."""
    entries = journal()
    entries[2] = replace(entries[2], **change)  # type: ignore[arg-type]

    assert (3, "its content does not match its hash") == first_bad(entries)


def test_another_predecessor_is_named() -> None:
    """An entry that names another one before it does not belong there."""
    entries = journal()
    entries[2] = replace(entries[2], previous="0" * 64)

    assert (3, "it does not name the entry before it") == first_bad(entries)


def test_a_removed_entry_is_named() -> None:
    """A gap is told by the number that is missing, at the start too."""
    entries = journal()

    assert (3, "entry 3 is missing; the next one is 4") == first_bad(entries[:2] + entries[3:])
    assert (1, "entry 1 is missing; the next one is 2") == first_bad(entries[1:])


def test_an_inserted_entry_is_named() -> None:
    """An entry put between two others, with the later ones renumbered, breaks the chain behind it."""
    entries = journal()
    extra = chain(entries[2].hash, 4, NOW, "r", Event("extra"))
    after = [replace(entry, seq=entry.seq + 1) for entry in entries[3:]]

    assert (5, "it does not name the entry before it") == first_bad([*entries[:3], extra, *after])


def test_two_exchanged_entries_are_named() -> None:
    """Their order is part of the chain, even when their numbers are exchanged as well."""
    entries = journal()
    entries[2], entries[3] = replace(entries[3], seq=3), replace(entries[2], seq=4)

    assert (3, "it does not name the entry before it") == first_bad(entries)


@pytest.mark.parametrize(("anchor", "expected"), [(5, 5), (6, 5)])
def test_a_cut_tail_needs_an_anchor(anchor: int, expected: int) -> None:
    """Alone, a shorter journal looks whole; an anchor of what was cut off tells."""
    entries = journal()

    assert first_bad(entries[:4]) is None
    found = first_bad(entries[:4], {anchor: entries[anchor - 1].hash})
    assert (
        expected,
        f"the journal ends before entry {anchor}, which an anchor kept elsewhere names",
    ) == found


def test_a_rewritten_chain_needs_an_anchor() -> None:
    """A chain made anew looks whole; the first anchor behind the change tells."""
    entries = journal()
    forged = [*entries]
    forged[2] = replace(forged[2], event=Event("kind", {"n": 99}))
    forged = rewritten(forged, 2)

    assert first_bad(forged) is None
    assert first_bad(forged, {2: entries[1].hash}) is None
    assert (5, "it differs from the anchor kept elsewhere") == first_bad(forged, {5: entries[4].hash})


def test_the_hash_does_not_depend_on_how_it_was_said() -> None:
    """The order of names, the time zone, and lists or tuples make no difference; a value does."""
    told = Event("k", {"a": (1, 2), "b": "ü"})
    same = Event("k", {"b": "ü", "a": [1, 2]})
    abroad = NOW.astimezone(timezone(timedelta(hours=2)))

    assert entry_hash(GENESIS, 1, NOW, "r", told) == entry_hash(GENESIS, 1, abroad, "r", same)
    assert entry_hash(GENESIS, 1, NOW, "r", told) != entry_hash(
        GENESIS, 1, NOW, "r", Event("k", {"a": [1, 2]})
    )
