"""evidence.capture: what it hides and where it cuts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.actions.evidence import EvidenceConnection
from remediator.actions.evidence.hiding import Hiding, tail
from remediator.actions.evidence.keeping import following


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 x", "password=[redacted] x"),
        ('"api_key": "abc", "n": 1', '"api_key": "[redacted]", "n": 1'),
        ("Bearer abcdefghijk", "[redacted]"),
        ("patient MRN-123 seen", "patient [identifier] seen"),
        ("nothing", "nothing"),
    ],
)
def test_hiding(text: str, expected: str) -> None:
    """Credentials and configured identifiers go; the words around them stay."""
    assert expected == Hiding([r"MRN-\d+"])(text)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(100, (b"one\ntwo\n", True)), (6, (b"two\n", False)), (2, (b"", False))],
)
def test_tail(most: int, expected: tuple[bytes, bool]) -> None:
    """Whole lines only: half a line may hide half a secret."""
    assert expected == tail(b"one\ntwo\n", most)


@pytest.mark.parametrize("pattern", ["(", ".*", "x?", ""])
def test_patterns(pattern: str) -> None:
    """A pattern that matches nothing at all, or is none, is refused."""
    sources = {"log": {"type": "file", "path": "/var/log/x"}}
    given = {"kind": "evidence", "directory": "/srv/kept", "sources": sources, "hide": [pattern]}
    with pytest.raises(ValidationError):
        EvidenceConnection.model_validate(given)


def test_numbers_follow() -> None:
    """By number, not by spelling."""
    assert ("x-0001", "x-10000") == (following((), "x"), following(("x-9999",), "x"))
