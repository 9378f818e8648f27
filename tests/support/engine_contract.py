"""The contract of an action on a Docker engine, as steps that the tests of Docker, Compose and nginx share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from remediator.domain.plans import Effect, Progress
from remediator.errors import ActionError, Drifted, OutcomeUnknown, Refused, TemporaryFailure
from tests.support.docker_line import DockerLine
from tests.support.dockerd import DockerEngine

Look = dict[str, Any]


@dataclass
class Case:
    """A use of an action on an engine that was prepared for it."""

    engine: DockerEngine
    action: Any
    connect: Callable[[str], BaseModel]
    """The connection as a rule file would name it, to an engine at that address."""
    params: Mapping[str, Any]
    look: Callable[[], Look]
    """What an administrator sees."""
    trigger: str = ""
    """The call that changes something, as a pattern."""
    done: Callable[[Look, Look], bool] = lambda _, __: True
    """Whether the second look is the planned effect on the first."""
    spoil: Callable[[], object] = lambda: None
    """Make the plan stale."""
    after_crash: tuple[Progress, ...] = ()
    """What a look may tell after the engine, and all containers with it, died at the change."""
    hostile: tuple[Mapping[str, Any], ...] = ()
    undoes: bool = True
    undo_is_told: bool = True
    irreversible: bool = False

    def parameters(self, **more: Any) -> Any:
        """The parameters, validated."""
        return self.action.Params.model_validate({"connection": "engine", **self.params, **more})


def look(engine: DockerEngine) -> Look:
    """Every container with its run and networks, and every image."""
    client = engine.client()
    try:
        found = [client.api.inspect_container(one["Id"]) for one in client.api.containers(all=True)]
        images = sorted(image["Id"] for image in client.api.images())
    finally:
        client.close()
    return {"images": images, **{one["Name"].lstrip("/"): _told(one) for one in found}}


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    state = found["State"]
    networks = {
        name: {
            "aliases": sorted(set(one["Aliases"] or ()) - {found["Id"][:12]}),
            "fixed": (one["IPAMConfig"] or {}).get("IPv4Address", ""),
        }
        for name, one in found["NetworkSettings"]["Networks"].items()
    }
    return {
        "id": found["Id"],
        "image": found["Image"],
        "status": state["Status"],
        "started_at": state["StartedAt"],
        "networks": networks,
    }


def changed(before: Look, after: Look) -> set[str]:
    """The names of what differs."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


@asynccontextmanager
async def acting(case: Case, base_url: str = "") -> AsyncIterator[Any]:
    """The action on that engine, closed at the end."""
    action = case.action(case.connect(base_url or case.engine.base_url))
    try:
        yield action
    finally:
        await action.close()


async def planned(action: Any, case: Case, **more: Any) -> Effect:
    """The one effect of a case, as it comes back from the ledger."""
    params = case.parameters(**more)
    (effect,) = action.plan(params, await action.observe(params))
    return Effect(**json.loads(json.dumps(asdict(effect))))


async def shows_plan(case: Case) -> None:
    """Observing and planning twice gives the same effect with its figures, and leaves the engine as it was."""
    before = case.look()
    async with acting(case) as action:
        first, second = await planned(action, case), await planned(action, case)
        seen = await action.observe(case.parameters())

    assert replace(first, figures={}, summary="") == replace(second, figures={}, summary="")
    assert case.action.kind == first.action
    assert case.irreversible == first.irreversible
    assert (case.undoes and case.undo_is_told) == bool(first.undo)
    assert first.figures
    assert action.progress(first, seen) is Progress.UNTOUCHED
    assert before == case.look()


async def shows_apply(case: Case) -> None:
    """After apply an administrator sees the planned effect and nothing else, and so does a second look."""
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert result.changed
    assert case.done(before, case.look()), (before, case.look())
    assert progress is Progress.DONE
    assert json.dumps([result.evidence, result.captured])


async def shows_reapply(case: Case) -> None:
    """Applying the same effect again changes nothing and says so."""
    async with acting(case) as action:
        effect = await planned(action, case)
        await action.apply(effect)
        after = case.look()
        again = await action.apply(effect)

    assert not again.changed
    assert after == case.look()


async def shows_stale(case: Case) -> None:
    """What somebody else has changed since is left as they left it."""
    async with acting(case) as action:
        effect = await planned(action, case)
        case.spoil()
        spoilt = case.look()
        with pytest.raises(Drifted):
            await action.apply(effect)

    assert spoilt == case.look()


async def shows_undo(case: Case, same: Callable[[Look], object]) -> None:
    """What was there before is there again, as far as `same` tells; or the undo is refused with a reason."""
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        after = case.look()
        if not case.undoes:
            with pytest.raises(Refused):
                await action.undo(effect, result)
            assert after == case.look()
            return
        undone = await action.undo(effect, result)
        restored = case.look()
        again = await action.undo(effect, result)

    assert undone.changed
    assert not again.changed
    assert same(before) == same(restored)
    assert restored == case.look()


async def shows_hostile(case: Case) -> None:
    """What is out of bounds, a pattern, or not allowed is no parameter, or is refused; in a forged effect too."""
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
        for hostile in case.hostile:
            with pytest.raises((ValidationError, Refused)):
                await planned(action, case, **hostile)
            with pytest.raises((ValidationError, ActionError)):
                await action.apply(replace(effect, params={**effect.params, **hostile}))

    assert case.hostile
    assert before == case.look()


async def shows_death(case: Case) -> None:
    """Where the engine dies at the change the outcome is unknown; when it is back, a look tells how things stand."""
    line = DockerLine(case.engine, trigger=case.trigger, when="after", at_cut=case.engine.kill)
    async with line, acting(case, line.base_url) as action:
        effect = await planned(action, case)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
        with pytest.raises(ActionError):
            await action.observe(case.parameters())
    assert line.cut
    case.engine.start()
    async with acting(case) as action:
        progress = action.progress(effect, await action.observe(case.parameters()))

    assert progress in case.after_crash


async def shows_absence(case: Case) -> None:
    """Where nothing was sent, nothing was changed, and that is what is said."""
    async with acting(case) as action:
        effect = await planned(action, case)
    async with acting(case, "unix:///nowhere/docker.sock") as action:
        with pytest.raises(TemporaryFailure):
            await action.observe(case.parameters())
        with pytest.raises(TemporaryFailure):
            await action.apply(effect)


def without_runs(found: Look) -> Look:
    """A look without when containers were started."""
    return {name: {**one, "started_at": ""} if isinstance(one, dict) else one for name, one in found.items()}
