"""The contract of every Redis action, on a real redis-server with ACLs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.domain.plans import Progress
from remediator.errors import (
    ActionError,
    Drifted,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.contract import each_of
from tests.support.cutline import CutLine, When
from tests.support.redis import RedisServer
from tests.support.redis_cases import DB, MAKERS, Case, acted, acting, password_file, planned

Make = Callable[[str], Case]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def make(redis_server: RedisServer) -> Make:
    """Prepare the server for a use of an action."""
    return lambda kind: MAKERS[kind](redis_server)


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(kind: str, make: Make) -> None:
    """Observing and planning twice gives the same effect with its figures, and leaves the server as it was."""
    case = make(kind)
    before = case.look()
    async with acting(case) as action:
        first, second = await planned(action, case), await planned(action, case)
        seen = await action.observe(case.parameters())

    assert (first.before, first.after, first.at_most) == (second.before, second.after, second.at_most)
    assert kind == first.action
    assert case.irreversible == first.irreversible
    assert first.figures
    assert not first.undo
    assert action.progress(first, seen) is Progress.UNTOUCHED
    assert before == case.look()


@each("apply")
async def test_apply_does_what_was_planned(kind: str, make: Make) -> None:
    """After apply an administrator sees the planned effect and nothing else, and so does a second look."""
    case = make(kind)
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert acted(case, result)
    assert case.done(before, case.look())
    assert progress is (Progress.UNTOUCHED if case.reads else Progress.DONE)
    assert json.dumps(result.evidence)


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, make: Make) -> None:
    """Applying the same effect again changes nothing, even what came since, and says so."""
    case = make(kind)
    async with acting(case) as action:
        effect = await planned(action, case)
        await action.apply(effect)
        with case.server.client(db=DB) as client:
            client.set("came-later", "1")
        after = case.look()
        again = await action.apply(effect)

    assert not again.changed
    assert after == case.look()


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, make: Make) -> None:
    """After a restart it is another run of the server: its data are left as they are."""
    case = make(kind)
    async with acting(case) as action:
        effect = await planned(action, case)
        case.server.restart()
        MAKERS[kind](case.server)
        spoilt = case.look()
        with pytest.raises(Drifted):
            await action.apply(effect)
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert spoilt == case.look()
    assert progress is Progress.UNCLEAR


@each("undo")
async def test_undo_says_that_nothing_can_be_taken_back(kind: str, make: Make) -> None:
    """None of them has an undo; each refuses with a reason and changes nothing."""
    case = make(kind)
    async with acting(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        after = case.look()
        with pytest.raises(Refused):
            await action.undo(effect, result)

    assert after == case.look()


@each("hostile")
async def test_hostile_parameters_are_refused(kind: str, make: Make) -> None:
    """What is out of bounds, a pattern, or not allowed is no parameter, or is refused; in a forged effect too."""
    case = make(kind)
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
        for hostile in case.hostile:
            with pytest.raises((ValidationError, Refused)):
                await planned(action, case, **hostile)
            with pytest.raises((ValidationError, ActionError)):
                await action.apply(replace(effect, params={**effect.params, **hostile}))

    assert before == case.look()


@pytest.mark.parametrize("when", ["before", "after"])
@each("dies")
async def test_a_server_that_dies_leaves_a_defined_outcome(kind: str, when: When, make: Make) -> None:
    """Where Redis dies at the change the outcome is unknown, and the next run of it is not what was planned on."""
    case = make(kind)
    async with CutLine(case.server.port, trigger=_wire(case), when=when, at_cut=case.server.kill) as line:
        async with acting(case) as direct:
            effect = await planned(direct, case)
        async with acting(case, case.connection(port=line.port)) as action:
            if kind == "redis.diagnose":
                result = await action.apply(effect)
                assert "does not answer" in result.summary
            else:
                with pytest.raises(TemporaryFailure if case.reads else OutcomeUnknown):
                    await action.apply(effect)
    assert line.cut
    case.server.start()
    MAKERS[kind](case.server)
    before = case.look()
    async with acting(case) as action:
        progress = action.progress(effect, await action.observe(case.parameters()))
        with pytest.raises(Drifted):
            await action.apply(effect)

    assert progress is Progress.UNCLEAR
    assert before == case.look()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind not in ("redis.slowlog", "redis.diagnose")])
async def test_a_lost_answer_is_found_out_by_looking_again(kind: str, when: When, make: Make) -> None:
    """Where only the line is cut, a second look tells whether it was done, and the effect is done once in all."""
    case = make(kind)
    before = case.look()
    async with CutLine(case.server.port, trigger=_wire(case), when=when) as line:
        async with acting(case) as direct:
            effect = await planned(direct, case)
        async with acting(case, case.connection(port=line.port)) as action:
            with pytest.raises(OutcomeUnknown):
                await action.apply(effect)
    async with acting(case) as action:
        progress = action.progress(effect, await action.observe(case.parameters()))
        again = await action.apply(effect)

    if when == "before":
        assert progress is Progress.UNTOUCHED
        assert again.changed
    elif kind == "redis.unlink_prefix":
        # Its first batch was unlinked; going on does the rest.
        assert progress is Progress.UNTOUCHED
        assert again.changed
    elif kind == "redis.bgsave":
        # It may still run; then it is waited for.
        assert progress in (Progress.DONE, Progress.UNCLEAR)
        assert not again.changed
    else:
        assert progress is Progress.DONE
        assert not again.changed
    assert case.done(before, case.look())


@each("privilege")
async def test_the_printed_acl_is_enough_and_one_rule_less_is_not(
    kind: str, make: Make, tmp_path: Path
) -> None:
    """With the ACL that `permissions` prints everything works; without any one of its rules something does not."""
    case = make(kind)
    secret = password_file(tmp_path, "open-sesame")
    ours = case.connection(username="janitor", password_file=secret)
    rules = case.action(ours).permissions(case.parameters()).redis
    with case.server.client() as admin:
        for missing in rules:
            _user(admin, [rule for rule in rules if rule != missing])
            before = case.look()
            async with acting(case, ours) as action:
                with pytest.raises(PermanentFailure, match=r"(?i)no permissions|NOPERM|refuse"):
                    await action.apply(await planned(action, case))
            assert before == case.look(), missing

        _user(admin, rules)
        before = case.look()
        async with acting(case, ours) as action:
            result = await action.apply(await planned(action, case))
        admin.execute_command("ACL DELUSER", "janitor")

    assert acted(case, result)
    assert case.done(before, case.look())


def _wire(case: Case) -> bytes:
    """How the client sends the command: each word with its length before it."""
    return b"\r\n".join(part for word in case.command.split() for part in (b"$%d" % len(word), word))


def _user(admin: Any, rules: Any) -> None:
    admin.execute_command("ACL SETUSER", "janitor", "reset", "on", ">open-sesame", *rules)
