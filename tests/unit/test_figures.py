"""Figures as people read them."""

from __future__ import annotations

import pytest

from remediator.figures import figure, figures


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("keys", 12340, "12,340"),
        ("keys", 0, "0"),
        ("load", 1.5, "1.50"),
        ("bytes", 0, "0 B"),
        ("bytes", 999, "999 B"),
        ("bytes", 1000, "1.0 kB"),
        ("free_bytes", 1_234_567_890, "1.2 GB"),
        ("bytes", 5e18, "5,000.0 PB"),
        ("seconds", 35, "35 s"),
        ("seconds", 0.25, "0.2 s"),
        ("age_seconds", 86400, "86,400 s"),
        ("hit_ratio", 0.123, "12.3%"),
    ],
)
def test_figure(name: str, value: float, expected: str) -> None:
    """By the base unit that the name ends in."""
    assert expected == figure(name, value)


@pytest.mark.parametrize(
    ("values", "at_most", "expected"),
    [
        ({}, {}, ""),
        ({"keys": 10, "bytes": 2000}, {"keys": 12}, "keys 10 (at most 12) · bytes 2.0 kB"),
        ({}, {"open_files": 3}, "open files at most 3"),
    ],
)
def test_figures(values: dict[str, float], at_most: dict[str, float], expected: str) -> None:
    """In one line, with the bounds that the plan asks permission for."""
    assert expected == figures(values, at_most)
