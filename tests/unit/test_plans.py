"""Plans: what the digest covers, and what counts as drift."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remediator.domain.plans import Effect, Plan, PlannedStep, drift
from remediator.testing import NOON

EFFECT = Effect(
    action="redis.unlink_prefix",
    subject="keys seg:*",
    params={"prefix": "seg:"},
    summary="UNLINK 10 keys",
    before={"server": "a"},
    after={"keys": 0},
    figures={"keys": 10},
    at_most={"keys": 12},
)
STEP = PlannedStep("unlink", "redis.unlink_prefix", "cache", {"prefix": "seg:"}, (EFFECT,))
PLAN = Plan("clear", (STEP,), NOON)


def seen(**changes: object) -> PlannedStep:
    """The same step, planned afresh in a changed world."""
    return replace(STEP, effects=(replace(EFFECT, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(replace(PLAN, made_at=NOON.replace(hour=13)), True, id="time"),
        pytest.param(
            replace(PLAN, steps=(seen(figures={"keys": 11}, summary="UNLINK 11 keys"),)), True, id="figures"
        ),
        pytest.param(replace(PLAN, steps=(seen(at_most={"keys": 13}),)), False, id="bound"),
        pytest.param(replace(PLAN, steps=(seen(before={"server": "b"}),)), False, id="identity"),
        pytest.param(replace(PLAN, steps=(seen(params={"prefix": "x:"}),)), False, id="parameters"),
        pytest.param(replace(PLAN, steps=(replace(STEP, connection="other"),)), False, id="connection"),
        pytest.param(replace(PLAN, playbook="other"), False, id="playbook"),
        pytest.param(replace(PLAN, steps=(STEP, STEP)), False, id="another-step"),
    ],
)
def test_digest(other: Plan, same: bool) -> None:
    """An approval covers everything that would be done, and nothing that moves by itself."""
    assert same == (PLAN.digest == other.digest)


@pytest.mark.parametrize(
    ("fresh", "expected"),
    [
        pytest.param(STEP, (), id="unchanged"),
        pytest.param(seen(figures={"keys": 12}), (), id="within-the-bound"),
        pytest.param(
            seen(figures={"keys": 13}), ("keys seg:*: keys is 13, above the approved 12",), id="above"
        ),
        pytest.param(
            seen(before={"server": "b"}), ("keys seg:*: server was 'a' and is 'b'",), id="another-server"
        ),
        pytest.param(replace(STEP, effects=()), ("keys seg:* is no longer there",), id="gone"),
        pytest.param(
            replace(STEP, effects=(EFFECT, replace(EFFECT, subject="keys y:*"))),
            ("keys y:* was not in the plan",),
            id="one-more",
        ),
    ],
)
def test_drift(fresh: PlannedStep, expected: tuple[str, ...]) -> None:
    """The plan holds while what it was made on holds; a difference is told in words."""
    assert expected == drift(STEP, fresh)


def test_what_the_plan_did_itself_is_no_drift() -> None:
    """A later step on the same subject expects what the earlier one left behind."""
    first = replace(STEP, effects=(replace(EFFECT, after={"server": "b"}),))

    assert drift(STEP, seen(before={"server": "b"}), done=(first,)) == ()
    assert drift(STEP, seen(before={"server": "c"}), done=(first,)) != ()
