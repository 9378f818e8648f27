"""A container that stops answering is restarted after a person approved it: the very container that was seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import ADA, Remediator, alertmanager_config, prometheus_config, quick_rules, rules_with
from tests.support.blackbox import BlackboxExporter
from tests.support.dockerd import DockerEngine
from tests.support.fake_slack import FakeSlack
from tests.support.ports import free_port
from tests.support.processes import http_answers
from tests.support.waiting import eventually, until

NAME, PORT = "brainstem-api", 8000
SERVE = [
    "sh",
    "-c",
    f"mkdir -p /www && echo ok > /www/health && httpd -p {PORT} -h /www && exec sleep 100000",
]
pytestmark = pytest.mark.timeout(240)


async def test_a_hung_container_is_restarted_after_approval(
    tmp_path: Path,
    docker_engine: DockerEngine,
    prometheus_server_factory: Callable[..., Any],
    alertmanager_factory: Callable[..., Any],
) -> None:
    """It hangs, the health probe fails, the alert fires, a person approves, that container runs anew and answers."""
    client = docker_engine.client()
    container = client.containers.run(
        docker_engine.busybox(), SERVE, name=NAME, detach=True, ports={f"{PORT}/tcp": PORT}
    )
    target = f"http://{docker_engine.published(NAME, PORT)}/health"
    until(lambda: http_answers(target), within=20, what="the container to answer")
    port = free_port()
    rules = rules_with(
        tmp_path / "rules",
        "brainstem",
        {"engine": {"base_url": docker_engine.base_url}},
        hold="2s",
        within="90s",
        every="1s",
    )
    alertmanager = alertmanager_factory(
        alertmanager_config(tmp_path, f"http://127.0.0.1:{port}/api/v1/alertmanager")
    )
    with BlackboxExporter(tmp_path / "blackbox") as blackbox:
        prometheus = prometheus_server_factory(
            prometheus_config([blackbox.job(target, system="brainstem")], alertmanager.address),
            rule_files=quick_rules(tmp_path, "brainstem"),
        )
        async with FakeSlack() as slack:
            service = Remediator(
                tmp_path / "remediator",
                rules=rules,
                prometheus=prometheus.url,
                alertmanager=alertmanager.url,
                slack=slack,
                port=port,
            )
            with service:
                await prometheus.until(
                    "brainstem:api_up:min", lambda found: bool(found) and found[0].value == 1
                )
                container.reload()
                before = container.attrs["State"]["StartedAt"]
                container.exec_run(["killall", "httpd"])
                await prometheus.firing("BrainstemApiDown", within=60)
                card = await slack.wait_for(
                    lambda message: f"restart container {NAME} ({str(container.id)[:12]}" in message.shown,
                    within=60,
                    what="the card with the container's id",
                )

                await slack.click(card.ts, "remediator_approve", ADA)

                async def ended() -> str:
                    found = [r for r in await service.remediations() if r["rule"] == "brainstem-api-down"]
                    return (
                        str(found[0]["phase"])
                        if found and found[0]["phase"] in ("remediated", "ineffective", "failed")
                        else ""
                    )

                assert "remediated" == await eventually(ended, within=120, what="the remediation to end")
                container.reload()
                assert before != container.attrs["State"]["StartedAt"]
                assert http_answers(target)
                assert 0 == service.cli("journal", "verify", "--config", str(service.config)).returncode
    client.close()
