"""The contract of every Compose action, on a project that the real docker compose runs on a real engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remediator.actions.compose import Recreate, Scale, StopSet
from remediator.domain.plans import Progress
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, PermanentFailure, Refused
from tests.support.compose_cases import LABEL, MAKERS, ProjectOnDisk, case
from tests.support.contract import each_of
from tests.support.docker_line import DockerLine
from tests.support.engine_contract import (
    Case,
    acting,
    planned,
)
from tests.support.passage import When
from tests.support.registry import Registry
from tests.support.tools.build import tool
from tests.support.waiting import eventually

pytest_plugins = ["tests.support.engine_fixtures"]

Make = Callable[[str], Case]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def make(project: ProjectOnDisk) -> Make:
    """Start the project for a use of an action."""
    return lambda kind: MAKERS[kind](project)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["compose.scale", "compose.stop_set"])
async def test_a_lost_answer_is_found_out_by_looking_again(kind: str, when: When, make: Make) -> None:
    """Where only the line is cut, a second look tells how things stand, and going on does it once in all."""
    case = make(kind)
    before = case.look()
    line = DockerLine(case.engine, trigger=case.trigger, when=when)
    async with line, acting(case, line.base_url) as action:
        effect = await planned(action, case)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
    async with acting(case) as action:
        progress = action.progress(effect, await action.observe(case.parameters()))
        if kind == "compose.stop_set":
            await action.apply(effect)
            assert case.done(before, case.look()), (before, case.look())

    # Two are stopped or started at once: the other one's call may have got through.
    possible = {"before": (Progress.UNTOUCHED, Progress.UNCLEAR), "after": (Progress.DONE, Progress.UNCLEAR)}
    assert progress in possible[when]


@each("privilege")
async def test_the_printed_calls_are_enough_and_one_less_is_not(
    kind: str, project: ProjectOnDisk, make: Make
) -> None:
    """Behind a proxy that allows the printed calls alone all works and each is used; without one that changes
    something it does not.
    """
    use = make(kind)
    printed = use.action(use.connect(project.engine.base_url)).permissions(use.parameters()).docker

    async def whole(*allow: str) -> DockerLine:
        project.engine.clean()
        project.pins.unlink(missing_ok=True)
        fresh = make(kind)
        async with DockerLine(fresh.engine, allow=allow) as line, acting(fresh, line.base_url) as action:
            effect = await planned(action, fresh)
            await action.undo(effect, await action.apply(effect))
        return line

    for missing in printed:
        # What docker compose asks for of its own accord it can partly do without.
        if not missing.startswith(("GET", "HEAD")) or kind == "compose.stop_set":
            with pytest.raises(ActionError, match=r"not allowed|refuse"):
                await whole(*(call for call in printed if call != missing))
    line = await whole(*printed)

    assert [] == line.refused
    assert [] == line.unused


STATEFUL: list[tuple[str, dict[str, Any], str]] = [
    ("a-name", {"container_name": "the-api"}, "fixed name the-api"),
    ("a-port", {"ports": ["18080:80"]}, "the host's port 18080"),
    ("a-volume", {"volumes": ["data:/data"]}, "keeps data in /data"),
    ("a-folder", {"volumes": ["/tmp:/data"]}, "keeps data in /data"),
    ("the-host's-network", {"network_mode": "host"}, "network that is not its own"),
]


@pytest.mark.parametrize(("service", "reason"), [pytest.param(s, r, id=i) for i, s, r in STATEFUL])
async def test_a_service_that_keeps_something_is_not_scaled(
    service: dict[str, Any], reason: str, project: ProjectOnDisk
) -> None:
    """What a second container could not have, or would fight for, is a reason to refuse, and is named."""
    project.services = {"api": {**project.services["api"], "depends_on": [], **service}}
    if "network_mode" in service:
        del project.services["api"]["networks"]
    project.up()
    use = case(project, Scale, params={"service": "api", "replicas": 2})
    async with acting(use) as action:
        with pytest.raises(Refused, match=reason):
            await planned(action, use)


async def test_a_read_only_folder_is_no_state(project: ProjectOnDisk) -> None:
    """Configuration that is mounted read-only does not keep a service from being scaled."""
    project.services["api"]["volumes"] = ["/etc/hostname:/config:ro"]
    project.up()
    use = case(project, Scale, params={"service": "api", "step": 1})
    async with acting(use) as action:
        effect = await planned(action, use)

    assert {"replicas": 2} == effect.after


async def test_a_volume_that_only_the_image_declares_is_state(project: ProjectOnDisk) -> None:
    """The files say nothing of it; the containers do."""
    client = project.engine.client()
    try:
        made = client.containers.create("test/busybox:1", ["true"])
        made.commit("shop/api", "1", changes="VOLUME /kept")
        made.remove()
    finally:
        client.close()
    project.up()
    use = case(project, Scale, params={"service": "api", "step": 1})
    async with acting(use) as action:
        with pytest.raises(Refused, match="keeps data in /kept"):
            await planned(action, use)


async def test_another_version_is_not_scaled_to(project: ProjectOnDisk) -> None:
    """Where the tag names another image now, or the files another service, a new container would not be alike."""
    project.up()
    use = case(project, Scale, params={"service": "api", "replicas": 2})
    async with acting(use) as action:
        effect = await planned(action, use)
        project.services["api"]["environment"] = {"NEW": "1"}
        project.write()
        with pytest.raises(Refused, match="say something else"):
            await planned(action, use)
        with pytest.raises(Drifted, match="has changed since"):
            await action.apply(effect)
        project.services["api"]["environment"] = {}
        project.services["api"]["image"] = "shop/api:2"
        project.write()
        with pytest.raises(Refused, match="name another image"):
            await planned(action, use)


async def test_scaling_ends_at_what_is_safe_and_starts_nothing(project: ProjectOnDisk) -> None:
    """A step beyond the maximum ends there; from there none is allowed; one that is down is mended first."""
    project.services["api"]["deploy"] = {"replicas": 2}
    project.up()
    use = case(project, Scale, params={"service": "api", "step": 5})
    async with acting(use) as action:
        effect = await planned(action, use)
        await action.apply(effect)
        with pytest.raises(Refused, match="3 is the most"):
            await planned(action, use)
        with pytest.raises(NothingSelected, match="has 3 containers already"):
            await planned(action, replace(use, params={"service": "api", "replicas": 3}))
        project.compose("stop", "--timeout", "0", "api")
        with pytest.raises(Refused, match="is not running"):
            await planned(action, use)

    assert {"replicas": 3} == effect.after


@pytest.mark.parametrize(("need", "refused"), [(2**20, False), (2**49, True)], ids=["enough", "too-much"])
async def test_scaling_needs_memory(need: int, refused: bool, project: ProjectOnDisk) -> None:
    """Where the connection says what a replica needs, the host has to have it."""
    project.up()
    limits = {"api": {"max_replicas": 3, "memory_bytes": need}}
    use = case(
        project,
        Scale,
        params={"service": "api", "step": 1},
        connect=lambda base_url: project.connect(base_url, scale=limits),
    )
    async with acting(use) as action:
        if refused:
            with pytest.raises(Refused, match="the host has"):
                await planned(action, use)
        else:
            effect = await planned(action, use)
            assert 0 < effect.figures["free_bytes"]


async def test_the_same_image_is_recreated_without_its_dependencies(project: ProjectOnDisk) -> None:
    """Without a digest the running image is pinned: new containers of it, and the db is left alone."""
    project.up()
    use = case(project, Recreate, params={"service": "api"})
    before = use.look()
    async with acting(use) as action:
        effect = await planned(action, use)
        result = await action.apply(effect)
        with pytest.raises(Refused, match="same image as before"):
            await action.undo(effect, result)
    after = use.look()

    assert not effect.undo
    assert before["shop-api-1"]["id"] != after["shop-api-1"]["id"]
    assert before["shop-api-1"]["image"] == after["shop-api-1"]["image"]
    assert before["shop-db-1"] == after["shop-db-1"]
    assert project.images["1"] in after["pins"]


async def test_a_pin_outlives_a_tag_that_moves(project: ProjectOnDisk) -> None:
    """After a recreation a person's `up` keeps the pinned image, whatever the tag names by then."""
    project.up()
    use = case(project, Recreate, params={"service": "api"})
    async with acting(use) as action:
        await action.apply(await planned(action, use))
    client = project.engine.client()
    try:
        client.images.get(project.images["2"]).tag("shop/api", "1")
    finally:
        client.close()
    project.compose("up", "--detach", "--force-recreate", "api")

    assert project.images["1"] == use.look()["shop-api-1"]["image"]


async def test_a_version_of_a_registry_is_pinned_by_its_digest(
    project: ProjectOnDisk, tmp_path: Path
) -> None:
    """An image that was pulled is pinned by repository and digest, and so is the one that the undo brings back."""
    engine = project.engine
    with Registry(engine, tmp_path / "registry") as registry:
        repository = f"127.0.0.1:{registry.port}/shop/api"
        old, new = registry.push("shop/api", "1"), registry.push("shop/api", "2")
        client = engine.client()
        try:
            client.images.pull(repository, tag="1")
            wanted = client.images.pull(f"{repository}@{new}").id
        finally:
            client.close()
    project.services["api"]["image"] = f"{repository}:1"
    project.up()
    connection = project.connect(engine.base_url, recreate={"api": repository})
    use = case(project, Recreate, params={"service": "api", "digest": new}, connect=lambda _: connection)
    before = use.look()
    async with acting(use) as action:
        effect = await planned(action, use)
        result = await action.apply(effect)
        after = use.look()
        await action.undo(effect, result)

    assert wanted == after["shop-api-1"]["image"]
    assert f"{repository}@{new}" in after["pins"]
    assert before["shop-api-1"]["image"] == use.look()["shop-api-1"]["image"]
    assert f"{repository}@{old}" in use.look()["pins"]


async def test_an_image_that_does_not_run_is_told_and_can_be_taken_back(project: ProjectOnDisk) -> None:
    """A version that ends at once is no success; the outcome is unknown, and the image before is still there."""
    client = project.engine.client()
    try:
        made = client.containers.create("test/busybox:1", ["true"])
        broken = made.commit("shop/api", "3", changes='ENTRYPOINT ["/bin/false"]').id
        made.remove()
    finally:
        client.close()
    project.up()
    use = case(project, Recreate, params={"service": "api", "digest": broken, "healthy_seconds": 5})
    async with acting(use) as action:
        effect = await planned(action, use)
        with pytest.raises(OutcomeUnknown):
            await action.apply(effect)
        seen = await action.observe(use.parameters())
        assert action.progress(effect, seen) is Progress.UNCLEAR
        back = case(project, Recreate, params={"service": "api", "digest": project.images["1"]})
        await action.apply(await planned(action, back))

    assert project.images["1"] == use.look()["shop-api-1"]["image"]


async def test_a_project_file_that_is_wrong_changes_nothing(project: ProjectOnDisk) -> None:
    """Compose's own message is passed on, and the pins are as they were."""
    project.up()
    use = case(project, Recreate, params={"service": "api", "digest": project.images["2"]})
    before = use.look()
    async with acting(use) as action:
        effect = await planned(action, use)
        project.file.write_text("services: [")
        with pytest.raises(PermanentFailure, match="docker compose config failed"):
            await action.apply(effect)

    assert before == use.look()


async def test_cancelled_it_leaves_no_compose_behind(project: ProjectOnDisk, tmp_path: Path) -> None:
    """Who cancels ends docker compose with it, and a second look tells how things stand."""
    project.up()
    slow, began = tmp_path / "slow-compose", tmp_path / "began"
    slow.write_text(
        f'#!/bin/sh\ncase " $* " in *" up "*) echo $$ > {began}; exec sleep 100;; esac\n'
        f'exec {tool("docker-compose")} "$@"\n'
    )
    slow.chmod(0o755)
    connection = project.connect(project.engine.base_url, command=[str(slow)])
    use = case(project, Scale, params={"service": "api", "replicas": 2}, connect=lambda _: connection)
    before = use.look()
    async with acting(use) as action:
        effect = await planned(action, use)
        applying = asyncio.create_task(action.apply(effect))

        async def running() -> bool:
            return began.exists() and bool(began.read_text().strip())

        await eventually(running, within=60, what="docker compose up")
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying
        progress = action.progress(effect, await action.observe(use.parameters()))

    assert before == use.look()
    assert progress is Progress.UNTOUCHED
    with pytest.raises(ProcessLookupError):
        os.kill(int(began.read_text()), 0)


async def test_pins_of_others_are_not_written(project: ProjectOnDisk) -> None:
    """A pins file with anything but images, or a symlink, is not ours."""
    project.up()
    use = case(project, Recreate, params={"service": "api"})
    text = "services: {api: {image: shop/api:1, privileged: true}}\n"
    project.pins.write_text(text)
    async with acting(use) as action:
        with pytest.raises(Refused, match="not ours to write"):
            await planned(action, use)
        project.pins.rename(project.folder / "elsewhere.yml")
        project.pins.symlink_to(project.folder / "elsewhere.yml")
        with pytest.raises(Refused, match="file of ours"):
            await planned(action, use)

    assert text == (project.folder / "elsewhere.yml").read_text()


async def test_nothing_is_stopped_unless_all_that_must_be_are(project: ProjectOnDisk) -> None:
    """A service that lacks the label would go on running: that is told before anything is stopped."""
    del project.services["db"]["labels"]
    project.up()
    use = case(project, StopSet, params={"label": LABEL, "must_include": ["api", "db"]})
    async with acting(use) as action:
        with pytest.raises(Refused, match="no container of db carries"):
            await planned(action, use)
        project.compose("stop", "--timeout", "0", "api")
        with pytest.raises(NothingSelected, match="none of them runs"):
            await planned(action, replace(use, params={"label": LABEL}))


async def test_other_projects_are_not_stopped(project: ProjectOnDisk) -> None:
    """A container of another project, or of none, is left alone though it carries the label."""
    project.up()
    client = project.engine.client()
    try:
        client.containers.run(
            "test/busybox:1", ["sleep", "1000"], name="other", detach=True, labels={"reads-data": "yes"}
        )
    finally:
        client.close()
    use = case(project, StopSet, params={"label": LABEL, "stop_timeout_seconds": 1})
    async with acting(use) as action:
        await action.apply(await planned(action, use))

    assert "running" == use.look()["other"]["status"]
