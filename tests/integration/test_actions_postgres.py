"""The contract of every PostgreSQL action, on a real PostgreSQL, as a role with exactly the printed grants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import ValidationError

from remediator.domain.plans import Effect, Progress
from remediator.errors import (
    ActionError,
    Drifted,
    OutcomeUnknown,
    Refused,
    TemporaryFailure,
)
from tests.support.contract import each_of
from tests.support.cutline import CutLine, When
from tests.support.postgres_cases import MAKERS, Make, in_time, planned
from tests.support.postgres_home import revive

pytest_plugins = ["tests.support.postgres_fixtures"]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(kind: str, make_case: Make) -> None:
    """Observing and planning twice gives the same effect with its figures, and leaves the database as it was."""
    case = make_case(kind)
    action = case.action(case.home.connection())
    first = await in_time(action, case)
    before = case.look()
    second = await planned(action, case)
    seen = await action.observe(case.parameters())

    assert first.before == second.before
    if kind != "postgres.dump":  # each plan names another file, and what is free changes by itself
        assert (first.after, first.at_most) == (second.after, second.at_most)
    assert kind == first.action
    assert case.irreversible == first.irreversible
    assert case.undone == bool(first.undo)
    assert first.figures
    assert action.progress(first, seen) is Progress.UNTOUCHED
    assert before == case.look()


@each("apply")
async def test_apply_does_what_was_planned(kind: str, make_case: Make) -> None:
    """After apply an administrator sees the planned effect and nothing else, and so does a second look."""
    case = make_case(kind)
    action = case.action(case.home.connection())
    effect = await in_time(action, case)
    before = case.look()
    result = await action.apply(effect)
    progress = action.progress(effect, await action.observe(case.parameters()))

    assert result.changed != case.reads
    assert case.done(before, case.look())
    assert progress is (Progress.UNTOUCHED if case.reads else Progress.DONE)
    assert json.dumps([result.evidence, result.captured])


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, make_case: Make) -> None:
    """Applying the same effect again changes nothing and says so."""
    case = make_case(kind)
    action = case.action(case.home.connection())
    effect = await in_time(action, case)
    await action.apply(effect)
    after = case.look()
    again = await action.apply(effect)

    assert not again.changed
    assert after == case.look()


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, make_case: Make) -> None:
    """What somebody else changed after the plan is left as they changed it."""
    case = make_case(kind)
    action = case.action(case.home.connection())
    effect = await in_time(action, case)
    case.spoil()
    case.home.grant(case.rights()[:1])
    spoilt = case.look()
    with pytest.raises(Drifted):
        await action.apply(effect)

    assert spoilt == case.look()


@each("undo")
async def test_undo_restores_or_says_that_nothing_can(kind: str, make_case: Make) -> None:
    """What can be taken back is as before afterwards, and a second undo changes nothing; the rest is refused."""
    case = make_case(kind)
    action = case.action(case.home.connection())
    effect = await in_time(action, case)
    before = case.look()
    result = await action.apply(effect)
    after = case.look()
    if not case.undone:
        with pytest.raises(Refused):
            await action.undo(effect, result)
        assert after == case.look()
        return
    first = await action.undo(effect, result)
    restored = case.look()
    second = await action.undo(effect, result)

    assert first.changed
    assert before == restored
    assert not second.changed
    assert before == case.look()


@each("hostile")
async def test_hostile_parameters_are_refused(kind: str, make_case: Make) -> None:
    """A name with a separator, a wildcard, or of another tenant is no parameter, or is refused; so is what is out of
    bounds, and an effect that was changed to say it.
    """
    case = make_case(kind)
    action = case.action(case.home.connection())
    effect = await in_time(action, case)
    before = case.look()
    for hostile in case.hostile:
        with pytest.raises((ValidationError, Refused)):
            await planned(action, case, **hostile)
        with pytest.raises((ValidationError, ActionError)):
            await action.apply(replace(effect, params={**effect.params, **hostile}))
    for forged in _forged(effect):
        with pytest.raises(ActionError):
            await action.apply(forged)

    assert before == case.look()


def _forged(effect: Effect) -> Iterator[Effect]:
    """Effects that name what was never planned."""
    if "name" in effect.before:
        for name in ("app.secret", "ops.archive", "app.x; DROP TABLE app.secret"):
            yield replace(effect, before={**effect.before, "name": name})
    if "last_vacuums" in effect.before:
        yield replace(effect, before={**effect.before, "last_vacuums": {"app.secret": None}})
    if "indexes" in effect.before:
        yield replace(effect, before={**effect.before, "indexes": {"app.secret_pkey": 1}})
    if "partitions" in effect.after:
        for name in ("ops.events_2031_01", "app.evil"):
            bounds = ["2031-01-01 00:00:00+00", "2031-02-01 00:00:00+00"]
            yield replace(effect, after={"partitions": {name: bounds}})
    if "file" in effect.after:
        for name in ("../x.dump", "/etc/x.dump", "other-20260115T120000Z-0a1b2c3d.dump", ""):
            yield replace(effect, after={"file": name})
    if "ended" in effect.after:
        yield replace(effect, after={"ended": {str(pid): "x" for pid in range(100)}})


@pytest.mark.parametrize("when", ["before", "after"])
@each("dies")
async def test_a_server_that_dies_leaves_a_defined_outcome(kind: str, when: When, make_case: Make) -> None:
    """Where PostgreSQL dies at the change the outcome is unknown (or certain, where nothing can have stayed); a second
    look tells what came of it, and the same effect then does the rest, nothing, or is refused.
    """
    case = make_case(kind)
    server = case.home.server
    direct = case.action(case.home.connection())
    effect = await in_time(direct, case)
    before = case.look()
    async with CutLine(server.port, trigger=case.trigger, when=when, at_cut=server.kill) as line:
        action = case.action(case.home.connection(port=line.port))
        if kind == "postgres.diagnose":
            assert "stopped answering" in (await action.apply(effect)).summary
        else:
            with pytest.raises(TemporaryFailure if kind == "postgres.dump" else OutcomeUnknown):
                await action.apply(effect)
    assert line.cut
    revive(server)
    progress = direct.progress(effect, await direct.observe(case.parameters()))

    expected = case.seen_before if when == "before" else case.seen_after
    assert expected is progress
    if expected is Progress.UNCLEAR:
        with pytest.raises(Drifted):
            await direct.apply(effect)
    else:
        again = await direct.apply(effect)
        assert again.changed == (expected is Progress.UNTOUCHED)
        if kind != "postgres.vacuum_analyze":  # whose figures were lost with the statistics
            assert case.done(before, case.look())


@each("privilege")
async def test_the_printed_grants_are_enough_and_one_less_is_not(kind: str, make_case: Make) -> None:
    """With the grants that `permissions` prints everything works; without any one of them something does not."""
    case = make_case(kind)
    action = case.action(case.home.connection())
    await in_time(action, case)
    before = case.look()
    for right in case.rights():
        case.home.revoke([right])
        with pytest.raises(ActionError, match=r"permission denied|must be a member|are hidden"):
            await action.apply(await planned(action, case))
        case.home.grant([right])
        assert before == case.look(), right

    effect = await planned(action, case)
    result = await action.apply(effect)
    assert case.done(before, case.look())
    if case.undone:
        await action.undo(effect, result)
        assert before == case.look()
