"""The contract of entering and leaving emergency mode, on a real nginx with containers of a real engine behind it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from remediator.actions.nginx import Isolate, LeaveEmergency
from remediator.domain.plans import Progress
from remediator.errors import (
    ActionError,
    Drifted,
    NothingSelected,
    OutcomeUnknown,
    PermanentFailure,
    Refused,
    TemporaryFailure,
)
from tests.support.contract import each_of
from tests.support.docker_cases import run
from tests.support.docker_line import DockerLine
from tests.support.emergency import MAKERS, PAGE, EmergencySite, case
from tests.support.engine_contract import (
    Case,
    acting,
    planned,
)
from tests.support.processes import tcp_answers
from tests.support.waiting import eventually, until

pytest_plugins = ["tests.support.engine_fixtures"]

Make = Callable[[str], Case]


each = each_of(MAKERS)
"""Run a test for each kind, and mark it as showing this check of the contract."""


@pytest.fixture
def make(site: EmergencySite) -> Make:
    """Prepare the site for a use of an action."""
    return lambda kind: MAKERS[kind](site)


@each("dies")
async def test_an_nginx_that_is_dead_is_told_before_anything_is_done(
    kind: str, make: Make, site: EmergencySite
) -> None:
    """Without nginx there is no page: nothing is stopped or started."""
    use = make(kind)
    async with acting(use) as action:
        effect = await planned(action, use)
        site.nginx.kill()
        before = use_containers(site)
        with pytest.raises(TemporaryFailure, match="nginx does not run"):
            await action.apply(effect)

    assert before == use_containers(site)


def use_containers(site: EmergencySite) -> dict[str, str]:
    """The state of every container; nginx is not asked."""
    client = site.engine.client()
    try:
        return {str(one.name): one.status for one in client.containers.list(all=True)}
    finally:
        client.close()


@each("privilege")
async def test_the_printed_calls_are_enough_and_one_less_is_not(
    kind: str, make: Make, site: EmergencySite
) -> None:
    """Behind a proxy that allows the printed calls alone all works; without any one of them something does not."""
    use = make(kind)
    printed = use.action(use.connect(site.engine.base_url)).permissions(use.parameters()).docker

    async def whole(*allow: str) -> DockerLine:
        async with DockerLine(site.engine, allow=allow) as line, acting(use, line.base_url) as action:
            effect = await planned(action, use)
            result = await action.apply(effect)
            if use.undoes:
                await action.undo(effect, result)
        return line

    prepared = use.look()
    for missing in printed:
        with pytest.raises(ActionError, match=r"not allowed|refuse"):
            await whole(*(call for call in printed if call != missing))
        if prepared != use.look():
            site.reset()
            make(kind)
            prepared = use.look()
    line = await whole(*printed)

    assert [] == line.refused


async def test_what_still_answers_is_named_and_nothing_is_undone(site: EmergencySite) -> None:
    """A service that nobody listed keeps answering: the isolation is not called proven, and it stays in force."""
    site.start()
    use = case(site, Isolate, params={"stop_timeout_seconds": 1, "proof_seconds": 1})
    forgotten = site.connect(site.engine.base_url, containers=["api", "training"])
    use.connect = lambda _: forgotten
    async with acting(use) as action:
        effect = await planned(action, use)
        with pytest.raises(OutcomeUnknown, match=f"tcp://{site.address('dicom')} still answers"):
            await action.apply(effect)
        progress = action.progress(effect, await action.observe(use.parameters()))

    assert progress is Progress.UNCLEAR
    assert PAGE in site.answer()
    assert "exited" == use.look()["api"]["status"]
    assert tcp_answers(site.ports["dicom"], site.engine.host)


async def test_a_service_behind_the_page_is_found(site: EmergencySite) -> None:
    """An emergency configuration that still passes one path on is no isolation, though that path answers an error."""
    site.start()
    text = site.emergency.read_text()
    leak = f"location /api {{ proxy_pass http://{site.address('dicom')}; }} location / {{"
    site.emergency.write_text(text.replace("location / {", leak))
    use = case(site, Isolate, params={"stop_timeout_seconds": 1, "proof_seconds": 1})
    async with acting(use) as action:
        with pytest.raises(OutcomeUnknown, match=r"/api/health still answers \(HTTP 502\)"):
            await action.apply(await planned(action, use))


@pytest.mark.parametrize("kind", list(MAKERS))
async def test_a_configuration_that_nginx_refuses_changes_nothing(
    kind: str, make: Make, site: EmergencySite
) -> None:
    """It is tested first: the link is as before, nothing was stopped or started, and nginx's words are told."""
    for file in (site.normal, site.emergency):
        file.write_text(file.read_text() + "\n# good\n")
    use = make(kind)
    target = site.emergency if kind == "nginx.isolate" else site.normal
    target.write_text("server { nonsense; }")
    before = use.look()
    async with acting(use) as action:
        with pytest.raises(PermanentFailure, match=r"nginx refuses the .* configuration.*nonsense"):
            await action.apply(await planned(action, use))

    assert before == use.look()


async def test_cancelled_while_nginx_tests_the_link_is_as_before(site: EmergencySite, tmp_path: Path) -> None:
    """Who cancels while the configuration is being tested finds the link where it was, and the test ended."""
    site.start()
    slow, began = tmp_path / "slow-nginx", tmp_path / "began"
    slow.write_text(f"#!/bin/sh\necho $$ > {began}\nexec sleep 100\n")
    slow.chmod(0o755)
    connection = site.connect(site.engine.base_url, binary=slow, timeout_seconds=60)
    use = case(site, Isolate, params={}, connect=lambda _: connection)
    before = use.look()
    async with acting(use) as action:
        effect = await planned(action, use)
        applying = asyncio.create_task(action.apply(effect))

        async def testing() -> bool:
            return began.exists() and bool(began.read_text().strip())

        await eventually(testing, within=30, what="the test of the configuration")
        pid = int(began.read_text())
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying

    assert before == use.look()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_is_not_as_configured_is_not_touched(site: EmergencySite) -> None:
    """A link that is a file, one that points elsewhere, and a pid that is not nginx's are refused."""
    site.start()
    use = case(site, Isolate, params={})
    async with acting(use) as action:
        site.link.unlink()
        site.link.symlink_to("/etc/passwd")
        with pytest.raises(Refused, match="neither of the two"):
            await planned(action, use)
        site.link.unlink()
        site.link.write_text(site.normal.read_text())
        with pytest.raises(Refused, match="is not a symlink"):
            await planned(action, use)
        site.link.unlink()
        site.link.symlink_to(site.normal)
        pid_file = site.nginx.folder / "other.pid"
        pid_file.write_text(f"{os.getpid()}\n")
    use.connect = lambda base_url: site.connect(base_url, pid_file=pid_file)
    async with acting(use) as action:
        with pytest.raises(Refused, match="not nginx"):
            await planned(action, use)


async def test_nothing_to_do_is_told(site: EmergencySite) -> None:
    """An isolated site is not isolated again, one that serves has nothing to leave."""
    site.start()
    leaving = case(site, LeaveEmergency, params={"containers": ["api"]})
    async with acting(leaving) as action:
        with pytest.raises(NothingSelected, match="not in emergency mode"):
            await planned(action, leaving)
    site.stop()
    isolating = case(site, Isolate, params={})
    async with acting(isolating) as action:
        with pytest.raises(NothingSelected, match="isolated already"):
            await planned(action, isolating)


async def test_a_service_that_is_not_well_keeps_the_page(site: EmergencySite) -> None:
    """Where one of the services does not get healthy the page goes on answering, and the outcome is unknown."""
    site.start()
    client = site.engine.client()
    try:
        client.containers.get("training").remove(force=True)
    finally:
        client.close()
    run(site.engine, "training", "false")
    site.stop()
    use = case(site, LeaveEmergency, params={"containers": ["api", "training"], "ready_seconds": 2})
    async with acting(use) as action:
        effect = await planned(action, use)
        with pytest.raises(OutcomeUnknown, match="the static page is still what answers"):
            await action.apply(effect)

    assert "emergency.conf" == use.look()["link"]
    assert PAGE in site.answer()


async def test_services_start_again_one_by_one(site: EmergencySite) -> None:
    """Only what is named is started; what nobody named stays stopped."""
    site.start()
    site.stop()
    use = case(site, LeaveEmergency, params={"containers": ["api"]})
    async with acting(use) as action:
        await action.apply(await planned(action, use))

    found = use.look()
    assert ["running", "exited", "exited"] == [found[name]["status"] for name in ("api", "dicom", "training")]
    until(lambda: PAGE not in site.answer(), what="the service")


async def test_a_service_that_was_started_since_is_told(site: EmergencySite) -> None:
    """A run that nobody saw when the plan was approved is not stopped under that approval."""
    site.start()
    use = case(site, Isolate, params={"stop_timeout_seconds": 1})
    async with acting(use) as action:
        effect = await planned(action, use)
        client = site.engine.client()
        try:
            client.containers.get("training").restart(timeout=0)
        finally:
            client.close()
        with pytest.raises(Drifted, match="training was started since"):
            await action.apply(effect)

    assert "normal.conf" == use.look()["link"]
