"""kill -9 at every point that matters: nothing is lost, nothing is done twice, and doubt is a person's to settle."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from remediator.testing import make_alert, make_payload
from tests.e2e.stack import Remediator
from tests.support.alertmanager import AlertmanagerServer
from tests.support.dockerd import DockerEngine
from tests.support.prometheus import PrometheusServer
from tests.support.redis import RedisServer
from tests.support.waiting import eventually, until

NAME = "ChaosAlert"
pytestmark = pytest.mark.timeout(180)

TWO_STEPS = {
    "playbook": "clear-two",
    "title": "Clear two prefixes, one after the other",
    "risk": "medium",
    "parameters": {"connection": {"connection": "redis", "description": "the cache"}},
    "steps": [
        {
            "name": "first",
            "action": "redis.unlink_prefix",
            "with": {"connection": "$connection", "prefix": "seg:"},
        },
        {
            "name": "second",
            "action": "redis.unlink_prefix",
            "with": {"connection": "$connection", "prefix": "tmp:"},
        },
    ],
    "undo": "never",
}
RUNBOOK = "\n".join(
    f"## {heading}\n\nFor the test.\n"
    for heading in ("Meaning", "Impact", "Diagnosis", "Mitigation", "What we automate", "Undo")
)


class World:
    """A real Prometheus in which the alert always fires, a real Alertmanager, and the folder of the service."""

    def __init__(self, folder: Path, prometheus: PrometheusServer, alertmanager: AlertmanagerServer) -> None:
        self.folder, self.prometheus, self.alertmanager = folder, prometheus, alertmanager
        self.body = make_payload(make_alert(NAME, at=datetime.now(UTC)))

    def service(self, *, point: str = "", port: int = 0) -> Remediator:
        """The service, which dies at the point."""
        command = (sys.executable, "-m", "tests.chaos.crashing", point) if point else ()
        return Remediator(
            self.folder / "service",
            rules=self.folder / "rules",
            playbooks=self.folder / "playbooks",
            prometheus=self.prometheus.url,
            alertmanager=self.alertmanager.url,
            port=port,
            command=command,
            env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )

    def rule(self, playbook: str, arguments: dict[str, Any], connections: dict[str, Any]) -> None:
        """Write the rule file with one rule."""
        (self.folder / "rules" / "brainstem.yml").write_text(
            yaml.safe_dump(
                {
                    "system": "brainstem",
                    "contacts": {"devops": {"name": "DevOps", "email": "devops@example.com"}},
                    "connections": connections,
                    "rules": [
                        {
                            "name": "chaos",
                            "match": [f'alertname="{NAME}"'],
                            "subject": "brainstem/chaos",
                            "ladder": [
                                {
                                    "playbook": playbook,
                                    "with": arguments,
                                    "mode": "approve",
                                    "approval": {"approvers": ["devops"]},
                                }
                            ],
                            "verify": {"expr": "vector(1) > 0", "hold": "3s", "within": "1m", "every": "1s"},
                            "escalate_to": ["devops"],
                        }
                    ],
                },
                sort_keys=False,
            )
        )


@pytest.fixture
def world(
    tmp_path: Path,
    prometheus_server_factory: Callable[..., PrometheusServer],
    alertmanager_factory: Callable[..., AlertmanagerServer],
) -> World:
    """A world in which the alert fires for ever."""
    rule = {"alert": NAME, "expr": "vector(1)", "labels": {"system": "brainstem", "severity": "warning"}}
    rules = tmp_path / "always.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "always", "interval": "1s", "rules": [rule]}]}))
    prometheus = prometheus_server_factory({"global": {"evaluation_interval": "1s"}}, rule_files=[rules])
    alertmanager = alertmanager_factory({"route": {"receiver": "none"}, "receivers": [{"name": "none"}]})
    for name in ("rules", "playbooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "playbooks" / "clear-two.yml").write_text(yaml.safe_dump(TWO_STEPS, sort_keys=False))
    (tmp_path / "playbooks" / "clear-two.md").write_text(RUNBOOK)
    return World(tmp_path, prometheus, alertmanager)


@pytest.fixture
def cache(world: World, redis_server: RedisServer) -> RedisServer:
    """A cache with two prefixes, which the rule clears."""
    client = redis_server.client()
    client.mset({f"seg:{n}": "x" for n in range(100)})
    client.mset({f"tmp:{n}": "x" for n in range(100)})
    client.config_resetstat()
    world.rule(
        "clear-two",
        {"connection": "cache"},
        {"cache": {"kind": "redis", "url": redis_server.url(), "prefixes": ["seg:", "tmp:"]}},
    )
    return redis_server


async def waiting(service: Remediator) -> dict[str, Any]:
    """The one remediation, once it waits for approval."""
    return await phase(service, "awaiting_approval")


async def phase(service: Remediator, wanted: str) -> dict[str, Any]:
    """The one remediation, once it is in that phase."""

    async def look() -> dict[str, Any] | None:
        found = await service.remediations()
        assert len(found) <= 1
        return found[0] if found and found[0]["phase"] == wanted else None

    found = await eventually(look, within=60, what=f"the remediation to be {wanted}")
    assert found is not None
    return found


async def approve(service: Remediator) -> None:
    """Ada approves what waits; the service may die before it answers."""
    remediation = await waiting(service)
    plan = await service.api("GET", f"/api/v1/remediations/{remediation['id']}/plan")
    await service.api("POST", f"/api/v1/remediations/{remediation['id']}/approve", {"digest": plan["digest"]})


def unlinks(server: RedisServer) -> int:
    """How often UNLINK was called."""
    return int(server.client().info("commandstats").get("cmdstat_unlink", {}).get("calls", 0))


def holds(service: Remediator) -> None:
    """The journal's chain holds."""
    verified = service.cli("journal", "verify", "--config", str(service.config))
    assert 0 == verified.returncode, verified.stdout


async def test_after_commit_before_the_answer(world: World, cache: RedisServer) -> None:
    """The alert was committed but not answered: Alertmanager sends it again, and there is one remediation."""
    dying = world.service(point="after_commit")
    with dying:
        with pytest.raises(aiohttp.ClientError):
            await dying.post(world.body)
        until(lambda: not dying.running, within=10, what="the service to die")
    with world.service() as service:
        await waiting(service)
        assert 200 == await service.post(world.body)

        assert 1 == len(await service.remediations())
        assert 1 == [entry["kind"] for entry in service.journal()].count("matched")
        holds(service)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        pytest.param("after_intent", 2, id="between-intent-and-outcome-nothing-done"),
        pytest.param("before_outcome", 2, id="between-intent-and-outcome-done"),
        pytest.param("after_outcome", 2, id="between-outcome-and-next-step"),
    ],
)
async def test_in_the_middle_of_the_steps(
    world: World, cache: RedisServer, point: str, expected: int
) -> None:
    """An intent without an outcome is looked at again: what was done counts as done, what was not is done once."""
    dying = world.service(point=point)
    with dying:
        assert 200 == await dying.post(world.body)
        await approve_and_die(dying)
    with world.service() as service:
        await phase(service, "remediated")

        assert expected == unlinks(cache)
        assert [] == cache.client().keys("*:*")
        kinds = [entry["kind"] for entry in service.journal()]
        assert ("unknown" in kinds) == (point != "after_outcome")
        holds(service)


async def approve_and_die(service: Remediator) -> None:
    """Ada approves, and the service dies of it, before or after it answers her."""
    with contextlib.suppress(aiohttp.ClientError):
        await approve(service)

    async def dead() -> bool:
        return not service.running

    await eventually(dead, within=20, what="the service to die")


async def test_while_awaiting_approval(world: World, cache: RedisServer) -> None:
    """What waits for a person still waits after the restart, and the same plan can be approved."""
    with world.service() as dying:
        assert 200 == await dying.post(world.body)
        before = await waiting(dying)
        digest = (await dying.api("GET", f"/api/v1/remediations/{before['id']}/plan"))["digest"]
        dying.kill()
    with world.service() as service:
        answer = await service.api("POST", f"/api/v1/remediations/{before['id']}/approve", {"digest": digest})
        assert "error" not in answer
        await phase(service, "remediated")

        assert 2 == unlinks(cache)
        holds(service)


async def test_while_verifying(world: World, cache: RedisServer) -> None:
    """A verification that was cut short goes on; no step is done again."""
    with world.service() as dying:
        assert 200 == await dying.post(world.body)
        await approve(dying)
        await phase(dying, "verifying")
        dying.kill()
    with world.service() as service:
        await phase(service, "remediated")

        assert 2 == unlinks(cache)
        holds(service)


async def test_a_step_that_may_not_be_repeated_is_unknown(world: World, docker_engine: DockerEngine) -> None:
    """A restart whose outcome was lost, and which a look cannot find done, is not tried again: a person decides."""
    container = docker_engine.client().containers.run(
        docker_engine.busybox(), ["sleep", "1000"], name="chaos-api", detach=True
    )
    container.reload()
    started = container.attrs["State"]["StartedAt"]
    (world.folder / "playbooks" / "restart-container.yml").write_text(
        (Path(__file__).resolve().parents[2] / "playbooks/restart-container.yml").read_text()
    )
    (world.folder / "playbooks" / "restart-container.md").write_text(RUNBOOK)
    world.rule(
        "restart-container",
        {"connection": "engine", "container": "chaos-api"},
        {"engine": {"kind": "docker", "base_url": docker_engine.base_url, "containers": ["chaos-api"]}},
    )
    dying = world.service(point="after_intent")
    with dying:
        assert 200 == await dying.post(world.body)
        await approve_and_die(dying)
    with world.service() as service:
        await phase(service, "unknown")

        container.reload()
        assert started == container.attrs["State"]["StartedAt"]
        assert ["unknown", "reobserved"] == [
            entry["kind"]
            for entry in service.journal()
            if entry["kind"] in ("unknown", "reobserved", "outcome")
        ]
        holds(service)
