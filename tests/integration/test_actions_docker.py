"""The contract of every Docker action, on a real engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from remediator.actions.docker import Isolate, Start, Stop
from remediator.domain.plans import Effect, Progress
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, Refused
from tests.support.contract import each_of
from tests.support.docker_cases import MAKERS, NAME, run
from tests.support.docker_cases import case as case_of
from tests.support.docker_line import DockerLine
from tests.support.dockerd import DockerEngine
from tests.support.engine_contract import (
    Case,
    acting,
    planned,
)
from tests.support.passage import When
from tests.support.processes import tcp_answers
from tests.support.waiting import until

Make = Callable[[str], Case]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def make(docker_engine: DockerEngine) -> Make:
    """Prepare the engine for a use of an action."""
    return lambda kind: MAKERS[kind](docker_engine)


@each("hostile")
async def test_an_effect_on_another_container_is_refused(
    kind: str, make: Make, docker_engine: DockerEngine
) -> None:
    """An effect that names an allowed container and carries the id of another one is not applied."""
    case = make(kind)
    run(docker_engine, "victim")
    victim = case.look()["victim"]["id"]
    before = case.look()
    async with acting(case) as action:
        effect = await planned(action, case)
        # Of images: also those that are in use, of others, or to roll back to.
        forged: dict[str, Any] = {"id": victim} if "id" in effect.before else {"images": before["images"]}
        with pytest.raises(Drifted):
            await action.apply(replace(effect, before={**effect.before, **forged}))

    assert before == case.look()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", list(MAKERS))
async def test_a_lost_answer_is_found_out_by_looking_again(kind: str, when: When, make: Make) -> None:
    """Where only the line is cut, a second look tells whether it was done, and going on does it once in all."""
    case = make(kind)
    before = case.look()
    line = DockerLine(case.engine, trigger=case.trigger, when=when)
    async with line, acting(case, line.base_url) as action:
        effect = await planned(action, case)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
    async with acting(case) as action:
        progress = action.progress(effect, await action.observe(case.parameters()))
        again = await action.apply(effect)

    # With several calls to make, one of them leaves it in between; going on does the rest.
    several = kind in ("docker.isolate", "docker.rejoin", "docker.prune_images")
    expected = {"before": Progress.UNTOUCHED, "after": Progress.UNCLEAR if several else Progress.DONE}
    if (kind, when) != ("docker.rejoin", "before"):
        assert expected[when] is progress
    assert (when == "before" or several) == again.changed
    assert case.done(before, case.look()), (before, case.look())


@each("privilege")
async def test_the_printed_calls_are_enough_and_one_less_is_not(kind: str, make: Make) -> None:
    """Behind a proxy that allows the printed calls alone all works; without any one of them something does not."""
    case = make(kind)
    printed = case.action(case.connect(case.engine.base_url)).permissions(case.parameters()).docker

    async def whole(*allow: str) -> DockerLine:
        case.engine.clean()
        fresh = make(kind)
        async with DockerLine(fresh.engine, allow=allow) as line, acting(fresh, line.base_url) as action:
            effect = await planned(action, fresh)
            result = await action.apply(effect)
            if fresh.undoes:
                await action.undo(effect, result)
        return line

    for missing in printed:
        with pytest.raises(ActionError, match=r"not allowed|refuse"):
            await whole(*(call for call in printed if call != missing))
    line = await whole(*printed)

    assert [] == line.refused


async def test_nothing_is_planned_where_nothing_is_to_do(docker_engine: DockerEngine) -> None:
    """A running container is not started, a stopped one not stopped, an isolated one not isolated."""
    container = run(docker_engine, NAME, network="none")
    with pytest.raises(NothingSelected, match="in no network"):
        await plan_alone(docker_engine, Isolate)
    with pytest.raises(NothingSelected, match="runs already"):
        await plan_alone(docker_engine, Start)
    container.stop(timeout=0)
    with pytest.raises(NothingSelected, match="exited already"):
        await plan_alone(docker_engine, Stop)
    container.remove()
    with pytest.raises(NothingSelected, match="there is no container"):
        await plan_alone(docker_engine, Stop)


def bare(engine: DockerEngine, action: Any, **params: Any) -> Case:
    """A use of an action on an engine that the test itself prepares."""
    return case_of(engine, action, params={"container": NAME, **params})


async def plan_alone(engine: DockerEngine, action: Any) -> Effect:
    """Only plan it."""
    case = bare(engine, action)
    async with acting(case) as bound:
        return await planned(bound, case)


async def test_an_isolated_container_stays_alone_when_it_is_restarted(make: Make) -> None:
    """The engine puts a container without any network back into its first one; ours it does not."""
    case = make("docker.isolate")
    async with acting(case) as action:
        await action.apply(await planned(action, case))
    client = case.engine.client()
    try:
        client.containers.get(NAME).restart(timeout=0)
    finally:
        client.close()

    assert ["none"] == list(case.look()[NAME]["networks"])


async def test_published_ports_answer_again_after_isolation(docker_engine: DockerEngine) -> None:
    """Isolation cuts a published port off, and its undo brings it back."""
    run(docker_engine, NAME, "httpd", "-f", "-p", "8080", "-h", "/etc", ports={"8080/tcp": None})
    host, port = docker_engine.published(NAME, 8080).split(":")
    until(lambda: tcp_answers(int(port), host), what="the port")
    case = bare(docker_engine, Isolate)
    async with acting(case) as action:
        effect = await planned(action, case)
        result = await action.apply(effect)
        cut_off = not tcp_answers(int(port), host)
        await action.undo(effect, result)

    assert cut_off
    host, port = docker_engine.published(NAME, 8080).split(":")
    until(lambda: tcp_answers(int(port), host), what="the port again")


@pytest.mark.parametrize("mode", ["host", f"container:{NAME}-pause"])
async def test_a_shared_network_is_not_isolated(mode: str, docker_engine: DockerEngine) -> None:
    """What uses the host's network, or another container's, is refused with what to do instead."""
    run(docker_engine, f"{NAME}-pause")
    run(docker_engine, NAME, network_mode=mode)
    case = bare(docker_engine, Isolate)
    async with acting(case) as action:
        with pytest.raises(Refused, match=r"can only be stopped|isolate that one"):
            await planned(action, case)


async def test_a_start_that_does_not_last_is_not_called_done(docker_engine: DockerEngine) -> None:
    """A container that ends at once, or is not healthy in time, is told as such."""
    unwell = {"test": ["CMD", "false"], "interval": 10**9}
    client = docker_engine.client()
    try:
        client.containers.create("test/busybox:1", ["false"], name=NAME)
        case = bare(docker_engine, Start, ready_seconds=3)
        async with acting(case) as action:
            with pytest.raises(OutcomeUnknown, match="after 3 s is exited"):
                await action.apply(await planned(action, case))
        client.containers.get(NAME).remove(force=True)
        client.containers.create("test/busybox:1", ["sleep", "100"], name=NAME, healthcheck=unwell)
        async with acting(case) as action:
            with pytest.raises(OutcomeUnknown, match=r"after 3 s is running, (starting|unhealthy)"):
                await action.apply(await planned(action, case))
    finally:
        client.close()


async def test_a_pruned_set_keeps_what_is_in_use_and_to_roll_back_to(make: Make) -> None:
    """The summary says how many stay and why; the bound is what was planned."""
    case = make("docker.prune_images")
    async with acting(case) as action:
        effect = await planned(action, case)

    assert {"images": 2} == {"images": effect.at_most["images"]}
    for why in ("1 in use", "1 to roll back to", "2 among the newest"):
        assert why in effect.summary
    assert "shop/api:5, shop/api:4" in effect.summary
