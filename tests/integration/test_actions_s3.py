"""The contract of every S3 action, on MinIO under exactly the printed IAM policy; Glacier on a moto server."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.domain.plans import Effect, Progress
from remediator.errors import (
    Drifted,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.contract import each_of
from tests.support.moto import MotoServer
from tests.support.passage import When
from tests.support.s3_cases import MAKERS, ON_MOTO, Account, Case
from tests.support.s3_line import S3Line

pytest_plugins = ["tests.support.moto_fixtures"]

HOSTILE = (
    "../etc/",
    "data/../secrets/",
    "/data/",
    "data//x/",
    "secrets/",
    "data",
    "data/*",
    "data/?/",
    "data/${aws:username}/",
    "data/a\nb/",
    "data/;reboot/",
    "",
    "/",
    "data/" + "a" * 1100 + "/",
)
BUCKETS = ("of-others", "../other", "OTHER", "*", "", "a", "test bucket", "a" * 80)
REVERSIBLE = ("s3.put_lifecycle", "s3.restore_version", "s3.sync_aside")

Make = Callable[[str], Case]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Make a use of an action, on the server that has what it is about."""

    def one(kind: str) -> Case:
        server = request.getfixturevalue("moto_server" if kind in ON_MOTO else "minio_server")
        account = Account(server.url, server.access_key, server.secret_key, tmp_path)
        return MAKERS[kind](account, tmp_path)

    return one


async def planned(action: Any, case: Case) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    params = case.parameters()
    effects = action.plan(params, await action.observe(params))
    assert len(effects) == 1
    return Effect(**json.loads(json.dumps(asdict(effects[0]))))


async def progress(action: Any, case: Case, effect: Effect) -> Progress:
    """What a second look says."""
    found: Progress = action.progress(effect, await action.observe(case.parameters()))
    return found


def using(case: Case, **others: Any) -> Any:
    """The action on its connection, closed at the end."""
    action = case.make(**others)
    action.aclose = action.close
    return aclosing(action)


@each("plan")
async def test_a_plan_tells_the_effect_and_changes_nothing(kind: str, make: Make) -> None:
    """Planning twice promises the same, with figures, and leaves everything as it was."""
    case = make(kind)
    before = case.look()
    async with using(case) as action:
        first, second = await planned(action, case), await planned(action, case)

        assert (first.before, first.after, first.at_most) == (second.before, second.after, second.at_most)
        assert kind == first.action
        assert case.bucket in first.summary
        assert any(first.figures.values())
        assert case.irreversible == first.irreversible
        assert (kind in REVERSIBLE) == bool(first.undo)
        assert Progress.UNTOUCHED is await progress(action, case, first)
        assert before == case.look()


@each("apply")
async def test_apply_does_what_was_planned(kind: str, make: Make) -> None:
    """After apply root sees the planned effect, and so does a second look."""
    case = make(kind)
    before = case.look()
    async with using(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)

        assert result.changed
        assert case.done(before, case.look())
        assert Progress.DONE is await progress(action, case, effect)


@each("reapply")
async def test_a_second_apply_does_nothing(kind: str, make: Make) -> None:
    """Applying the same effect again changes nothing and says so."""
    case = make(kind)
    async with using(case) as action:
        effect = await planned(action, case)
        await action.apply(effect)
        after = case.look()
        again = await action.apply(effect)

    assert not again.changed
    assert after == case.look()


@each("stale")
async def test_a_stale_plan_is_refused(kind: str, make: Make) -> None:
    """What somebody else changed after the plan is left as they changed it."""
    case = make(kind)
    async with using(case) as action:
        effect = await planned(action, case)
        case.spoil()
        spoilt = case.look()
        with pytest.raises(Drifted):
            await action.apply(effect)

    assert spoilt == case.look()


@each("undo")
async def test_undo_restores_or_says_that_nothing_can(kind: str, make: Make) -> None:
    """What can be taken back is as before afterwards, and a second undo changes nothing; the rest is refused."""
    case = make(kind)
    before = case.look()
    async with using(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        if case.undone is None:
            with pytest.raises(Refused):
                await action.undo(effect, result)
            return
        first = await action.undo(effect, result)
        restored = case.look()
        second = await action.undo(effect, result)

    assert first.changed
    assert not second.changed
    assert case.undone(before, restored)
    assert restored == case.look()


@each("hostile")
async def test_hostile_names_are_refused(kind: str, make: Make) -> None:
    """A prefix, key or bucket that is outside the allowed ones, leads out of them, or holds a wildcard, is no parameter
    or is refused; so is an effect that was changed to name it.
    """
    case = make(kind)
    before = case.look()
    tried = [("bucket", value) for value in BUCKETS] + [(case.subject, value) for value in HOSTILE]
    async with using(case) as action:
        effect = await planned(action, case)
        for name, value in tried:
            given: Any = [value] if name == "keys" else value
            with pytest.raises((ValidationError, Refused)):
                await action.observe(case.parameters(**{name: given}))
            forged = replace(effect, params={**effect.params, name: given})
            with pytest.raises((ValidationError, Refused)):
                await action.apply(forged)

    assert before == case.look()


@pytest.mark.parametrize("when", ["before", "after"])
@each("dies", [kind for kind in MAKERS if kind != "s3.sync_aside"])
async def test_a_server_that_dies_leaves_a_defined_outcome(
    kind: str, when: When, make: Make, request: pytest.FixtureRequest
) -> None:
    """When the server dies at the change, the outcome is unknown; a second look tells whether it happened, and the same
    effect then does the rest, or nothing. moto would forget everything: there only the line is cut.
    """
    case = make(kind)
    before = case.look()
    server = None if kind in ON_MOTO else request.getfixturevalue("minio_server")
    kill = server.kill if server else (lambda: None)
    async with S3Line(case.account.url, kill=kill, when=when) as line, using(case, url=line.url) as action:
        effect = await planned(action, case)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
        if server:
            server.start()
        seen = await progress(action, case, effect)
        again = await action.apply(effect)

    assert 1 == len(line.lost)
    assert (Progress.DONE if when == "after" else Progress.UNTOUCHED) is seen
    assert (when == "before") == again.changed
    assert case.done(before, case.look())


@each("dies", ["s3.sync_aside"])
async def test_a_server_that_dies_during_a_sync_changes_nothing(
    kind: str, make: Make, request: pytest.FixtureRequest
) -> None:
    """When the server dies between two objects, the live folder is as before and nothing is left beside it; the same
    effect then does all of it.
    """
    case = make(kind)
    before = case.look()
    server = request.getfixturevalue("minio_server")
    async with (
        S3Line(case.account.url, kill=server.kill, reads=2) as line,
        using(case, url=line.url) as action,
    ):
        effect = await planned(action, case)
        with pytest.raises(TemporaryFailure):
            await action.apply(effect)
        server.start()
        half = case.look()
        beside = list(Path(case.settings["live_folders"]["set"]).parent.iterdir())
        seen = await progress(action, case, effect)
        again = await action.apply(effect)

    assert before == half
    assert ["live"] == [path.name for path in beside]
    assert Progress.UNTOUCHED is seen
    assert again.changed
    assert case.done(before, case.look())


@each("privilege", [kind for kind in MAKERS if kind not in ON_MOTO])
async def test_the_printed_policy_is_enough_and_one_statement_less_is_not(kind: str, make: Make) -> None:
    """With credentials of just the printed policy everything works; without any one of its statements it does not."""
    case = make(kind)
    statements = policy(case)
    for number in range(len(statements)):
        less = statements[:number] + statements[number + 1 :]
        async with using(case, secrets=case.account.assumed(less)) as action:
            with pytest.raises(PermanentFailure, match="answered 403"):
                await whole_use(action, case)

    before = case.look()
    async with using(case, secrets=case.account.assumed(statements)) as action:
        result = await whole_use(action, case)

    assert result.changed
    assert case.undone is not None or case.done(before, case.look())


@each("privilege", ON_MOTO)
async def test_the_printed_actions_are_enough_and_one_less_is_not(
    kind: str, make: Make, moto_server: MotoServer
) -> None:
    """A user with just the printed policy can do it; without any one of its actions he cannot, and nothing changes."""
    case = make(kind)
    (statement,) = policy(case)
    before = case.look()

    async def used(actions: list[str]) -> Any:
        keys = moto_server.user([{**statement, "Action": actions}])
        secrets = case.account.secrets(access_key=keys["AccessKeyId"], secret_key=keys["SecretAccessKey"])
        async with using(case, secrets=secrets) as action:
            with moto_server.enforcing():
                return await whole_use(action, case)

    for missing in statement["Action"]:
        with pytest.raises(PermanentFailure, match="answered 403"):
            await used([one for one in statement["Action"] if one != missing])
        assert before == case.look()

    assert (await used(statement["Action"])).changed
    assert case.done(before, case.look())


def policy(case: Case) -> list[dict[str, Any]]:
    """What `permissions` says that this use needs."""
    action = case.make()
    return [dict(one) for one in action.permissions(case.parameters()).iam]


async def whole_use(action: Any, case: Case) -> Any:
    """Look, plan, apply and, where it can be, undo."""
    effect = await planned(action, case)
    result = await action.apply(effect)
    if effect.undo:
        await action.undo(effect, result)
    return result
