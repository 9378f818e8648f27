"""Whose a silence in Alertmanager is: ours tell in their comment for which remediation they were made."""

from __future__ import annotations

CREATED_BY = "remediator"
"""Whose silences ours are."""


def comment(remediation: str, reference: str, reason: str) -> str:
    """The comment of a silence that this remediation makes; `reference` tells its silences apart."""
    return f"{_beginning(remediation)}{reference}: {reason or 'while we act'}"


def is_own(remediation: str, created_by: str, told: str) -> bool:
    """Whether this remediation made the silence itself. Without a name nothing is its own."""
    return bool(remediation) and created_by == CREATED_BY and told.startswith(_beginning(remediation))


def _beginning(remediation: str) -> str:
    # The blank behind the name keeps `r-1` from taking the silences of `r-12` for its own.
    return f"{CREATED_BY} {remediation} " if remediation else f"{CREATED_BY} "
