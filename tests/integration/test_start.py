"""`remediator start` against the service as a process: what it prints, what it begins, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.e2e.stack import Remediator
from tests.support.alertmanager import AlertmanagerServer
from tests.support.ports import free_port
from tests.support.prometheus import PrometheusServer
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)

RULES = {
    "system": "brainstem",
    "contacts": {"devops": {"name": "DevOps", "email": "devops@example.com"}},
    "defaults": {"approval": {"approvers": ["devops"]}, "escalate_to": ["devops"]},
    "rules": [
        {"name": "by-alert", "match": ['alertname="Late"'], "notify": "for the test"},
        {
            "name": "look-by-hand",
            "on_demand": {"labels": {"store": "tiles"}, "choices": {"store": ["tiles", "segments"]}},
            "subject": "brainstem/{store}",
            "ladder": [
                {
                    "playbook": "diagnose-service",
                    "with": {
                        "service": {"label": "store", "among": {"tiles": "tiles", "segments": "segments"}},
                        "look_at": "the memory",
                    },
                    "mode": "notify",
                }
            ],
        },
    ],
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remediator]:
    """The service with one rule for an alert and one for people, and no alert anywhere."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "rules").mkdir()
    (folder / "rules" / "brainstem.yml").write_text(yaml.safe_dump(RULES, sort_keys=False))
    closed = f"http://127.0.0.1:{free_port()}"
    with Remediator(
        folder / "service", rules=folder / "rules", prometheus=closed, alertmanager=closed
    ) as service:
        yield service


def start(service: Remediator, *argv: str, token: str = "ada") -> tuple[int, str, str]:
    """Run the command; its code, and what it printed and complained of."""
    file = service.folder / "secrets" / token
    done = service.cli("start", "--url", service.url, "--token-file", str(file), *argv)
    return done.returncode, done.stdout, done.stderr


async def test_a_person_starts_a_rule_from_the_command_line(service: Remediator) -> None:
    """What is listed can be started; the answer is the remediation's id, and its journal says by whom and why."""
    code, listed, _ = start(service, "--list")
    assert 0 == code
    assert "look-by-hand" in listed
    assert "store=tiles|segments (else tiles)" in listed
    assert "by-alert" not in listed

    code, id_, _ = start(service, "look-by-hand", "--label", "store=segments", "--reason", "it is slow")
    assert 0 == code
    (one,) = await service.remediations()
    assert (id_.strip(), "brainstem/segments") == (one["id"], one["subject"])

    async def judged() -> bool:
        # Alertmanager does not answer, which is never a yes: it waits, and Prometheus was not asked.
        (one,) = await service.remediations()
        return "Alertmanager did not say" in one["reason"] and "Prometheus" not in one["reason"]

    await eventually(judged, within=20, what="the verdict of the guards")
    own = [entry for entry in service.journal() if entry["remediation"] == one["id"]]
    assert ["started", "matched"] == [entry["kind"] for entry in own][:2]
    assert ("ada", "it is slow") == (own[0]["data"]["by"], own[0]["data"]["reason"])


CLEAR = {
    "name": "clear-by-hand",
    "on_demand": {"choices": {"store": ["tiles", "segments"]}},
    "subject": "brainstem/cache/{store}",
    "ladder": [
        {
            "playbook": "clear-cache-prefix",
            "with": {
                "connection": "cache",
                "prefix": {"label": "store", "among": {"tiles": "tile:", "segments": "seg:"}},
            },
            "mode": "approve",
        }
    ],
    "verify": {"expr": "vector(1) == 1", "hold": "1s", "within": "1m", "every": "1s"},
}


def with_bob(service: Remediator) -> Remediator:
    """The same, with a second person who may approve."""
    token = service.folder / "secrets" / "bob"
    token.write_text("bob-token-for-tests-000001\n")
    settings = yaml.safe_load(service.config.read_text())
    settings["people"].append({"name": "bob", "groups": ["devops"], "token_file": str(token)})
    service.config.write_text(yaml.safe_dump(settings, sort_keys=False))
    return service


async def test_one_person_starts_and_another_approves(tmp_path: Path) -> None:
    """The whole way with a real Redis, Prometheus and Alertmanager: chosen, silenced, planned, approved, verified."""
    folder = tmp_path / "rules"
    folder.mkdir()
    with (
        RedisServer(tmp_path / "redis") as redis,
        PrometheusServer(tmp_path / "prometheus", {"global": {"evaluation_interval": "1s"}}) as prometheus,
        AlertmanagerServer(
            tmp_path / "alertmanager", {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
        ) as alertmanager,
        redis.client() as client,
    ):
        client.mset({"seg:1": "a", "seg:2": "b", "tile:1": "c"})
        cache = {"kind": "redis", "url": redis.url(), "prefixes": ["seg:", "tile:"]}
        document = {**RULES, "connections": {"cache": cache}, "rules": [CLEAR]}
        (folder / "brainstem.yml").write_text(yaml.safe_dump(document, sort_keys=False))
        service = with_bob(
            Remediator(
                tmp_path / "service",
                rules=folder,
                prometheus=prometheus.url,
                alertmanager=alertmanager.url,
            )
        )
        with service:
            await alertmanager.silence(alertname="OnDemandClearByHand", store="tiles")
            assert 0 == start(service, "clear-by-hand", "--label", "store=tiles", "--reason", "x")[0]
            code, id_, told = start(
                service, "clear-by-hand", "--label", "store=segments", "--reason", "stale"
            )
            assert (0, "") == (code, told)
            path = f"/api/v1/remediations/{id_.strip()}"

            async def phase(wanted: str) -> bool:
                return bool((await service.api("GET", path))["phase"] == wanted)

            await eventually(partial(phase, "awaiting_approval"), within=20, what="a plan that waits")
            digest = (await service.api("GET", f"{path}/plan"))["digest"]
            approve = ("approve", id_.strip(), "--digest", digest, "--url", service.url, "--token-file")
            own = service.cli(*approve, str(service.folder / "secrets" / "ada"))
            assert (1, True) == (own.returncode, "another person has to agree" in own.stderr)
            assert 3 == client.dbsize()
            other = service.cli(*approve, str(service.folder / "secrets" / "bob"))
            assert 0 == other.returncode, other.stderr

            await eventually(partial(phase, "remediated"), within=30, what="the verified end")
            assert ["tile:1"] == client.keys()
            held = next(row for row in await service.remediations() if row["id"] != id_.strip())
            assert ("matched", True) == (held["phase"], "silenced by" in held["reason"])


@pytest.mark.parametrize(
    ("argv", "token", "code", "told"),
    [
        pytest.param(("look-by-hand", "--reason", "x"), "webhook", 1, "token", id="alertmanagers-token"),
        pytest.param(("by-alert", "--reason", "x"), "ada", 1, "no on_demand", id="a-rule-for-alerts"),
        pytest.param(("../switches", "--reason", "x"), "ada", 1, "there is no rule", id="a-path"),
        pytest.param(
            ("look-by-hand", "--reason", "x", "--label", "store=all"),
            "ada",
            1,
            "choose tiles, segments",
            id="not-listed",
        ),
        pytest.param(("look-by-hand",), "ada", 2, "--reason", id="no-reason"),
        pytest.param(
            ("look-by-hand", "--reason", "x", "--label", "store"), "ada", 2, "name=value", id="no-value"
        ),
    ],
)
async def test_what_is_refused_begins_nothing(
    service: Remediator, argv: tuple[str, ...], token: str, code: int, told: str
) -> None:
    """Each refusal says what is wrong, and the service has begun nothing."""
    before = await service.remediations()
    found, _, complaint = start(service, *argv, token=token)

    assert (code, True) == (found, told in complaint), complaint
    assert before == await service.remediations()
    assert len(before) == [entry["kind"] for entry in service.journal()].count("started")
