"""The contract of an action on an HTTP API, as checks that each of those actions' tests runs on its own server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.domain.plans import Effect, Progress
from remediator.errors import ActionError, Drifted, OutcomeUnknown, PermanentFailure, Refused
from tests.support.cutline import CutLine, When
from tests.support.http_line import HttpLine


@dataclass
class Case:
    """A use of an action on a server that was prepared for it."""

    action: Any
    port: int
    settings: Callable[[str], Mapping[str, Any]]
    """The connection at a base URL."""
    params: Mapping[str, Any]
    look: Callable[[], Awaitable[Any]]
    """What an administrator sees."""
    done: Callable[[Any, Any], bool]
    """Whether the second look is the planned effect on the first."""
    spoil: Callable[[], Awaitable[None]]
    """Make its plan stale."""
    hostile: tuple[Mapping[str, Any], ...]
    trigger: bytes
    """What begins the call that acts."""
    reads: bool = False
    undoes: tuple[str, ...] = ()
    """Those of its permissions that only its undo needs, or an undo of a first time."""

    @property
    def url(self) -> str:
        """Of the server itself."""
        return f"http://127.0.0.1:{self.port}"

    def parameters(self, **more: Any) -> Any:
        """The parameters, validated."""
        return self.action.Params.model_validate({"connection": "it", **self.params, **more})

    @asynccontextmanager
    async def acting(self, url: str = "", **more: Any) -> AsyncIterator[Any]:
        """The action, on the server or on a way to it, closed at the end."""
        given = {**self.settings(url or self.url), **more}
        action = self.action(self.action.Connection.model_validate(given))
        try:
            yield action
        finally:
            await action.close()

    async def planned(self, action: Any, **more: Any) -> Effect:
        """Its one effect, as it comes back from the ledger."""
        params = self.parameters(**more)
        effects = action.plan(params, await action.observe(params))
        assert len(effects) == 1
        return Effect(**json.loads(json.dumps(asdict(effects[0]))))


async def check_plan(case: Case) -> None:
    """Observing and planning twice gives the same effect with figures, and changes nothing."""
    before = await case.look()
    async with case.acting() as action:
        first, second = await case.planned(action), await case.planned(action)
        progress = action.progress(first, await action.observe(case.parameters()))

    assert (first.before, first.after, first.at_most) == (second.before, second.after, second.at_most)
    assert case.action.kind == first.action
    assert first.figures
    assert not first.irreversible
    assert progress is Progress.UNTOUCHED
    assert before == await case.look()


async def check_apply(case: Case) -> None:
    """After apply an administrator sees the planned effect and nothing else, and so does a second look."""
    before = await case.look()
    async with case.acting() as action:
        effect = await case.planned(action)
        result = await action.apply(effect)
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert case.reads != result.changed
    assert case.done(before, await case.look())
    assert progress is (Progress.UNTOUCHED if case.reads else Progress.DONE)
    assert json.dumps([result.evidence, result.captured])


async def check_reapply(case: Case) -> None:
    """A second apply of the same effect changes nothing, and says so."""
    async with case.acting() as action:
        effect = await case.planned(action)
        await action.apply(effect)
        after = await case.look()
        again = await action.apply(effect)

    assert not again.changed
    assert after == await case.look()


async def check_stale(case: Case) -> None:
    """A plan that a change made stale is refused, and nothing is changed."""
    async with case.acting() as action:
        effect = await case.planned(action)
        await case.spoil()
        spoilt = await case.look()
        with pytest.raises(Drifted):
            await action.apply(effect)
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert progress is Progress.UNCLEAR
    assert spoilt == await case.look()


async def check_undo(case: Case, same: Callable[[Any], Any] = lambda seen: seen) -> None:
    """Undo restores what was; a second undo does nothing. What only reads refuses."""
    before = await case.look()
    async with case.acting() as action:
        effect = await case.planned(action)
        result = await action.apply(effect)
        if case.reads:
            with pytest.raises(Refused):
                await action.undo(effect, result)
        else:
            assert effect.undo
            assert (await action.undo(effect, result)).changed
            assert not (await action.undo(effect, result)).changed

    assert same(before) == same(await case.look())


async def check_hostile(case: Case) -> None:
    """What is out of bounds or not allowed is no parameter, or is refused; in a forged effect too."""
    before = await case.look()
    async with case.acting() as action:
        effect = await case.planned(action)
        for hostile in case.hostile:
            with pytest.raises((ValidationError, ActionError)):
                await case.planned(action, **hostile)
            with pytest.raises((ValidationError, ActionError)):
                await action.apply(replace(effect, params={**effect.params, **hostile}))

    assert before == await case.look()


async def check_lost(case: Case, when: When) -> None:
    """Where the answer to the change is lost the outcome is unknown, a second look tells, and it is done once in all."""
    before = await case.look()
    async with CutLine(case.port, trigger=case.trigger, when=when) as line:
        async with case.acting() as direct:
            effect = await case.planned(direct)
        async with case.acting(f"http://127.0.0.1:{line.port}") as action:
            with pytest.raises(OutcomeUnknown):
                await action.apply(effect)
    assert line.cut
    async with case.acting() as action:
        progress = action.progress(effect, await action.observe(case.parameters()))
        again = await action.apply(effect)

    assert (Progress.UNTOUCHED if when == "before" else Progress.DONE) is progress
    assert (when == "before") == again.changed
    assert case.done(before, await case.look())


async def check_privilege(case: Case, folder: Path) -> None:
    """The printed calls with the token are enough; one less, or another token, is not, and changes nothing."""
    token = folder / "token"
    token.write_text("open-sesame-1\n")
    before = await case.look()
    async with (
        HttpLine(case.url, token="open-sesame-1") as line,
        case.acting(line.url, token_file=token) as action,
    ):
        printed = action.permissions(case.parameters()).http
        for missing in (
            one for one in printed if one not in [f"{m} {line.url}{p}" for m, p in map(_parted, case.undoes)]
        ):
            line.allow = [one for one in printed if one != missing]
            with pytest.raises(PermanentFailure, match="403"):
                await action.apply(await case.planned(action))
            assert before == await case.look(), missing
        line.allow = printed
        token.write_text("another-token\n")
        with pytest.raises(PermanentFailure, match="403"):
            await case.planned(action)
        token.write_text("open-sesame-1\n")
        refused = len(line.refused)
        effect = await case.planned(action)
        result = await action.apply(effect)
        assert case.done(before, await case.look())
        await action.undo(effect, result)

    assert refused == len(line.refused)


def _parted(call: str) -> tuple[str, str]:
    method, _, path = call.partition(" ")
    return method, path
