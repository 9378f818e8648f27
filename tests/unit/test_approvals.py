"""Approvals: whose word counts, on what, and until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.domain.approvals import Approval, Person, Refused, Vote, admit
from remediator.testing import NOON

APPROVAL = Approval(frozenset({"devops", "grace"}), votes=2)
ADA = Person("ada", frozenset({"devops"}))
YES = Vote(ADA, True, "d1", "slack")


@pytest.mark.parametrize(
    ("vote", "late", "agreed", "counts"),
    [
        pytest.param(YES, -1, (), True, id="by-group"),
        pytest.param(replace(YES, by=Person("grace")), -1, ("ada",), True, id="by-name-as-second"),
        pytest.param(replace(YES, by=Person("eve")), -1, (), False, id="not-listed"),
        pytest.param(
            replace(YES, by=Person("devops-bot", frozenset())), -1, (), False, id="a-name-like-the-group"
        ),
        pytest.param(replace(YES, digest="d0"), -1, (), False, id="another-plan"),
        pytest.param(YES, 0, (), False, id="expired-to-the-second"),
        pytest.param(YES, -1, ("ada",), False, id="one-person-is-one-vote"),
        pytest.param(replace(YES, approve=False), -1, ("ada",), True, id="may-still-reject"),
    ],
)
def test_admit(vote: Vote, late: int, agreed: tuple[str, ...], counts: bool) -> None:
    """Every doubt refuses."""
    now = NOON + timedelta(seconds=late)

    refused = admit(vote, APPROVAL, digest="d1", agreed=agreed, expires_at=NOON, now=now)

    assert counts == (refused is None)


@pytest.mark.parametrize(
    ("vote", "counts"),
    [
        pytest.param(YES, False, id="the-starter"),
        pytest.param(replace(YES, by=Person("grace")), True, id="another"),
        pytest.param(replace(YES, approve=False), True, id="the-starter-may-take-it-back"),
    ],
)
def test_who_started_it_does_not_approve_it(vote: Vote, counts: bool) -> None:
    """Approval is another person's, however the starter is listed."""
    expires_at = NOON + timedelta(hours=1)
    refused = admit(vote, APPROVAL, digest="d1", agreed=(), expires_at=expires_at, now=NOON, started_by="ada")

    assert counts == (refused is None)


def test_nobody_listed_means_nobody() -> None:
    """An empty list of approvers is nobody, not everybody."""
    refused = admit(YES, Approval(), digest="d1", agreed=(), expires_at=NOON + timedelta(hours=1), now=NOON)

    assert isinstance(refused, Refused)
