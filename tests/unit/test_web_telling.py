"""The journal in sentences: every kind that the pipeline writes has its own, and an unknown one is told plainly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import remediator.domain
from remediator.domain.events import Entry, Event
from remediator.domain.remediations import Phase
from remediator.testing import NOON
from remediator.web.telling import SENTENCES, TONES, WORDS, reasons, tell

DOMAIN = Path(next(iter(remediator.domain.__path__)))
KINDS = sorted(
    {
        kind
        for file in DOMAIN.glob("*.py")
        for kind in re.findall(r'Event\(\s*"([a-z_]+)"', file.read_text("utf-8"))
    }
)


def entry(kind: str, **data: object) -> Entry:
    """An entry of the journal."""
    return Entry(3, NOON, "id", Event(kind, data), "", "")


def told(kind: str, **data: object) -> tuple[str, tuple[str, ...], str]:
    """Its sentence."""
    (line,) = tell([entry(kind, **data)])
    return line.title, line.lines, line.tone


def test_every_phase_has_its_word() -> None:
    """No page breaks on a phase that was added."""
    assert set(WORDS) == set(Phase)
    assert set(TONES) <= set(Phase)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_its_sentence(kind: str) -> None:
    """Each kind that the state machine journals is told in words of its own, even without its data."""
    title, _, _ = told(kind)

    assert kind in SENTENCES
    assert title


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (
            "judged",
            {"denied": [{"guard": "pause", "reason": "paused: x", "until": None}], "allowed": ["claim"]},
            ("judged: held back", ("pause: paused: x",), "bad"),
        ),
        ("judged", {"denied": [], "allowed": ["a", "b"]}, ("judged: all 2 guards allow it", (), "good")),
        (
            "rechecked",
            {"denied": [], "allowed": [], "drift": ["x was 1 and is 2"]},
            ("checked again before acting: held back", ("drift: x was 1 and is 2",), "bad"),
        ),
        (
            "vote",
            {
                "by": "ada",
                "via": "slack",
                "digest": "abcdef0123456789",
                "votes": 1,
                "needed": 2,
                "reason": "ok",
            },
            ("approved by ada via slack", ("1 of 2 votes", "ok", "digest abcdef012345"), "good"),
        ),
        ("approved", {"by": ["ada", "bob"], "digest": ""}, ("approved, by ada, bob", (), "good")),
        (
            "outcome",
            {"step": 0, "changed": True, "summary": "12 gone"},
            ("finished step 1", ("12 gone",), "good"),
        ),
        ("sampled", {"gone": None, "value": ""}, ("no sample", (), "bad")),
        ("sampled", {"gone": True, "value": "1"}, ("the symptom is gone", ("1",), "good")),
        (
            "escalating",
            {"outcome": "failed", "reason": "no", "to": ["a", "b"]},
            ("handed over to a, b", ("no",), "bad"),
        ),
        ("finished", {"outcome": "resolved_itself", "reason": ""}, ("ended: resolved itself", (), "quiet")),
        ("something_new", {"what": "x", "empty": ""}, ("something new", ("what: x",), "quiet")),
    ],
)
def test_sentences(kind: str, data: dict[str, object], expected: tuple[str, tuple[str, ...], str]) -> None:
    """What was decided, by whom and why, in one line and what belongs below it."""
    assert expected == told(kind, **data)


def test_the_newest_reasons_count() -> None:
    """The guards' last word, those against first."""
    old = entry("judged", denied=[{"guard": "pause", "reason": "x"}], allowed=[])
    new = entry("rechecked", denied=[{"guard": "claim", "reason": "held"}], allowed=["pause"])

    assert reasons([old, new, entry("intent")]) == (("claim", "held", True), ("pause", "", False))
    assert reasons([entry("intent")]) == ()
