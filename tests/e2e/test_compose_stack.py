"""The shipped image and the shipped compose file: built, started, and the whole chain at work in containers.

The base image is a Debian made here, and the other services' images are made of this machine's programs; Grafana is
not among them. Everything else is what is shipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.debian_tree import debian_tree
from tests.support.dockerd import DockerEngine
from tests.support.processes import http_answers
from tests.support.stack_images import make_images
from tests.support.tools.build import tool
from tests.support.waiting import until
from tests.support.wheels import Wheels

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "remediator:local"
BASE, PYTHON = "test/python:3.11", "3.11.2"
"""Debian 12's Python, as the image that stands for the one that the Dockerfile names."""
TOKEN = "0123456789abcdef" * 4
OVERRIDE = """
services:
  remediator:
    build: {{args: {{PYTHON: "{base}"}}, secrets: [pip]}}
    ports: !override ["8080:8080"]
  prometheus:
    ports: !override ["9090:9090"]
  alertmanager:
    ports: !override ["9093:9093"]
    volumes: ["{secrets}:/etc/alertmanager/secrets:ro"]
secrets:
  pip: {{file: "{pip}"}}
  remediator_token: {{file: "{secrets}/remediator_token"}}
  grafana_admin_password: {{file: "{secrets}/remediator_token"}}
"""
"""What differs: where pip looks, where the secrets lie, and that ports can be reached from outside the engine."""
LEFTOVERS = """
import importlib.util, os
print([path for path in ("/build", "/opt/build", "/etc/pip.conf") if os.path.exists(path)])
print(importlib.util.find_spec("hatchling"))
"""

pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Stack:
    """The compose file with the test's differences, on an engine of its own."""

    engine: DockerEngine
    files: tuple[Path, ...]

    def compose(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Use docker compose as a person does in the top folder."""
        files = [f"--file={path}" for path in self.files]
        return subprocess.run(
            [str(tool("docker-compose")), *files, f"--project-directory={ROOT}", "--progress=plain", *argv],
            env={**os.environ, "DOCKER_HOST": self.engine.base_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def must(self, *argv: str) -> str:
        """The same, where it has to succeed; what it printed."""
        done = self.compose(*argv)
        assert 0 == done.returncode, done.stdout[-4000:] + done.stderr[-8000:]
        return done.stdout

    def url(self, port: int) -> str:
        """Where a published port is reached."""
        return f"http://{self.engine.host}:{port}"


def services() -> dict[str, Any]:
    """The services of the shipped compose file."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """An engine of these tests' own, since what they leave on it is much."""
    engine = DockerEngine()
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def built(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The product's image, built by docker compose from the shipped Dockerfile; nothing is fetched but from us."""
    folder = tmp_path_factory.mktemp("stack")
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "remediator_token").write_text(TOKEN + "\n")
    secrets.chmod(0o755)
    (secrets / "remediator_token").chmod(0o444)
    tree = debian_tree("python", ("python3", "python3-venv", "ca-certificates"))
    client = engine.client()
    client.api.import_image_from_file(str(tree), *BASE.split(":"))
    client.close()
    stack = Stack(engine, (ROOT / "docker-compose.yml", folder / "override.yml"))
    with Wheels(engine, folder / "index", PYTHON) as wheels:
        stack.files[1].write_text(OVERRIDE.format(base=BASE, secrets=secrets, pip=wheels.pip_conf()))
        stack.must("build", "remediator")
    return stack


@pytest.fixture(scope="module")
def stack(built: Stack) -> Stack:
    """The stack, up and healthy; it goes with its engine."""
    started = make_images(built.engine, services()) | {"remediator"}
    assert services().keys() - started == {"grafana"}
    built.must("up", "--detach", "--no-build", "--wait", "--wait-timeout=180", *sorted(started))
    return built


def get(url: str) -> Any:
    """What is answered, as data."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def query(stack: Stack, expr: str) -> list[tuple[str, float]]:
    """What Prometheus answers: each sample's job and value."""
    told = get(f"{stack.url(9090)}/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
    return [(one["metric"].get("job", ""), float(one["value"][1])) for one in told["data"]["result"]]


def test_compose_accepts_the_shipped_file(engine: DockerEngine) -> None:
    """`docker compose config` resolves it without a warning, to the services and images that stand in it."""
    done = Stack(engine, (ROOT / "docker-compose.yml",)).compose("config", "--format=json")

    assert (0, "") == (done.returncode, done.stderr)
    resolved = json.loads(done.stdout)["services"]
    assert {name: one["image"] for name, one in services().items()} == {
        name: one["image"] for name, one in resolved.items()
    }


def test_the_image_shows_the_first_plan(built: Stack) -> None:
    """Started as `make run` starts it, it gets healthy, and prints the plan of the shipped recording."""
    client = built.engine.client()
    try:
        container = client.containers.run(
            IMAGE, ["serve", "--demo"], detach=True, read_only=True, tmpfs={"/tmp": ""}
        )

        def healthy() -> bool:
            container.reload()
            assert "running" == container.status, str(container.logs())
            return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

        until(healthy, within=90, every=0.5, what="the container to be healthy")
        until(lambda: b"UNLINK 12,340 keys under seg:" in container.logs(), within=30, what="the plan")
        who = container.exec_run(["id", "-u"]).output
        container.remove(force=True, v=True)
    finally:
        client.close()

    assert b"10001\n" == who


def test_the_image_holds_nothing_that_was_needed_to_build_it(built: Stack) -> None:
    """Of the build there is no folder, no configuration of pip and no build back end in what is shipped."""
    client = built.engine.client()
    try:
        found = client.containers.run(IMAGE, ["-c", LEFTOVERS], entrypoint=["python"], remove=True)
        history = json.dumps(client.images.get(IMAGE).history())
    finally:
        client.close()

    assert b"[]\nNone\n" == found
    assert "find-links" not in history


def test_every_service_is_healthy_and_confined(stack: Stack) -> None:
    """Each container passes its health check, as somebody who is not root, and without a capability."""
    client = stack.engine.client()
    try:
        seen = {
            one.labels["com.docker.compose.service"]: (
                one.attrs["State"]["Health"]["Status"],
                one.attrs["HostConfig"]["CapDrop"],
                one.attrs["Config"]["User"].partition(":")[0] not in ("", "0", "root"),
            )
            for one in client.containers.list()
        }
    finally:
        client.close()

    assert dict.fromkeys(services().keys() - {"grafana"}, ("healthy", ["ALL"], True)) == seen


def test_prometheus_scrapes_all_that_is_configured(stack: Stack) -> None:
    """Each of the four jobs is up, by the names that the services have for each other."""
    jobs = {"prometheus", "alertmanager", "remediator", "redis"}

    until(
        lambda: {(job, 1.0) for job in jobs} == set(query(stack, "up")), within=60, every=0.5, what="all up"
    )


def test_an_alert_goes_round(stack: Stack) -> None:
    """Watchdog fires, Alertmanager posts it with the token, we take it, and Prometheus reads from us that we did."""
    seen = "max(remediator_canary_last_seen_timestamp_seconds) > 0"
    until(lambda: query(stack, seen), within=120, every=1, what="the canary in Prometheus")
    verified = stack.must("exec", "-T", "remediator", "remediator", "journal", "verify")

    assert "the chain holds" in verified


def test_a_stranger_is_refused(stack: Stack) -> None:
    """It answers to anybody that it lives, and takes no alert without the token."""
    assert http_answers(f"{stack.url(8080)}/-/ready")
    request = urllib.request.Request(f"{stack.url(8080)}/api/v1/alertmanager", data=b"{}", method="POST")

    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
