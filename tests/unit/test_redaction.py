"""No secret leaves: the configured ones, and what looks like one."""

from __future__ import annotations

import pytest

from remediator.redaction import Redactor

REDACT = Redactor(["s3cret-value", "s3cret-value-longer", "abc", ""])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a s3cret-value here", "a [redacted] here"),
        ("s3cret-value-longer", "[redacted]"),
        ("abc is too short to be searched for", "abc is too short to be searched for"),
        ("token xoxb-1234-abcd", "token [redacted]"),
        ("nothing", "nothing"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    """The longest secret first, and short ones left alone: they would hit ordinary words."""
    assert expected == REDACT(text)


def test_leaves() -> None:
    """Every string of a JSON value, keys too; numbers, booleans and null stay what they are."""
    value = {"s3cret-value": ["x s3cret-value", 1, True, None, {"deep": ("s3cret-value",)}]}

    expected = {"[redacted]": ["x [redacted]", 1, True, None, {"deep": ["[redacted]"]}]}
    assert expected == REDACT.leaves(value)
