"""The service as a process: starting, refusing to start, reloading, stopping, and keeping secrets."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest
import yaml

from remediator.testing import make_alert, make_payload
from tests.e2e.stack import ADA_TOKEN, ROOT, WEBHOOK_TOKEN, Remediator
from tests.support.fake_slack import BOT_TOKEN, SIGNING_SECRET, FakeSlack
from tests.support.ports import free_port
from tests.support.processes import ServerFailedError
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.timeout(120)
RULE = {
    "name": "one",
    "match": ['alertname="CacheHitRateLow"'],
    "notify": "for the test",
    "approval": {"approvers": ["devops"]},
}


def rules(folder: Path, *rows: Mapping[str, object]) -> Path:
    """A rule file with these rows."""
    folder.mkdir(exist_ok=True)
    document = {
        "system": "brainstem",
        "contacts": {"devops": {"name": "DevOps", "email": "devops@example.com"}},
        "defaults": {"approval": {"approvers": ["devops"]}, "escalate_to": ["devops"]},
        "rules": [{key: value for key, value in row.items() if key != "approval"} for row in rows],
    }
    (folder / "brainstem.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Remediator]:
    """The service with one rule, and nobody to ask."""
    closed = f"http://127.0.0.1:{free_port()}"
    with Remediator(
        tmp_path / "service", rules=rules(tmp_path / "rules", RULE), prometheus=closed, alertmanager=closed
    ) as service:
        yield service


async def reload(service: Remediator) -> tuple[int, dict[str, object]]:
    """Ask for a reload over HTTP."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {ADA_TOKEN}"}) as session,
        session.post(f"{service.url}/-/reload") as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_a_bad_reload_keeps_the_old_rules_and_says_so(service: Remediator, tmp_path: Path) -> None:
    """The findings name file, line and column; the old rules go on; the mended file is taken over."""
    rules(tmp_path / "rules", RULE, RULE)
    status, told = await reload(service)
    assert 422 == status
    assert "brainstem.yml:" in json.dumps(told)
    assert 1 == len((await service.api("GET", "/api/v1/rules"))["rules"])

    rules(tmp_path / "rules", RULE, {**RULE, "name": "two", "match": ['alertname="Other"']})
    assert 200 == (await reload(service))[0]
    assert 2 == len((await service.api("GET", "/api/v1/rules"))["rules"])


async def test_sighup_reloads(service: Remediator, tmp_path: Path) -> None:
    """The signal that Prometheus's users expect does the same."""
    rules(tmp_path / "rules", RULE, {**RULE, "name": "two", "match": ['alertname="Other"']})
    service.hang_up()

    async def both() -> bool:
        return len((await service.api("GET", "/api/v1/rules"))["rules"]) == 2

    await eventually(both, within=20, what="two rules")
    assert "reloaded" in [entry["kind"] for entry in service.journal()]


def test_a_wrong_rule_stops_the_start(tmp_path: Path) -> None:
    """All errors at once, each with file:line:column, what was found and what was expected."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "brainstem.yml").write_text(
        "system: brainstem\n"
        "contacts: {devops: {name: DevOps, email: a@example.com}}\n"
        "rules:\n"
        "  - {name: a, match: ['alertname=~\"(\"'], notify: x, escalate_to: [devops]}\n"
        "  - {name: b, mtach: ['alertname=\"X\"'], notify: x, escalate_to: [nobody]}\n"
    )
    closed = f"http://127.0.0.1:{free_port()}"
    service = Remediator(tmp_path / "service", rules=folder, prometheus=closed, alertmanager=closed)

    with pytest.raises(ServerFailedError) as raised, service:
        pass

    told = str(raised.value)
    assert "ended with 1" in told
    assert "brainstem.yml:4:" in told
    assert "brainstem.yml:5:" in told


def test_two_services_never_share_a_ledger(service: Remediator, tmp_path: Path) -> None:
    """The second one refuses to start and says why; the first goes on."""
    second = service.cli("serve", "--config", str(service.config))

    assert 0 != second.returncode
    assert "ledger" in second.stderr
    assert service.running


async def test_it_stops_in_order(service: Remediator) -> None:
    """SIGTERM ends it with 0, and the journal verifies without it."""
    assert 200 == await service.post(make_payload(make_alert()))
    process = service._process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    until(lambda: process.poll() is not None, within=20, what="the service to end")

    assert 0 == process.returncode
    assert 0 == service.cli("journal", "verify", "--config", str(service.config)).returncode


async def test_a_changed_journal_is_found(service: Remediator) -> None:
    """The command names the first bad entry."""
    import sqlite3

    assert 200 == await service.post(make_payload(make_alert()))
    service.stop()
    with sqlite3.connect(service.folder / "ledger.db") as database:
        database.execute("UPDATE journal SET data = replace(data, '1', '2') WHERE seq = 2")
    database.close()
    verified = service.cli("journal", "verify", "--config", str(service.config))

    assert 1 == verified.returncode
    assert "entry 2 is the first bad one" in verified.stdout


async def test_no_secret_shows_anywhere(tmp_path: Path) -> None:
    """Secrets planted in settings, labels and annotations are in no log, journal, page, metric, answer or message."""
    planted = "xoxb-0123456789-abcdefghij"
    closed = f"http://127.0.0.1:{free_port()}"
    async with FakeSlack() as slack:
        service = Remediator(
            tmp_path / "service",
            rules=rules(tmp_path / "rules", RULE),
            prometheus=closed,
            alertmanager=closed,
            slack=slack,
        )
        with service:
            alert = make_alert(job=f"Bearer {planted}")
            assert 200 == await service.post(make_payload(alert))
            assert 400 == await service.post(b'{"version": "' + planted.encode() + b'"}')
            async with aiohttp.ClientSession() as session:
                async with session.post(
                    service.webhook, data=b"{}", headers={"Authorization": f"Bearer {planted}"}
                ) as answer:
                    assert 401 == answer.status
                    refused = await answer.text()
                async with session.get(f"{service.url}/metrics") as answer:
                    metrics = await answer.text()

            async def held() -> bool:
                return bool(slack.messages())

            await eventually(held, within=30, what="a card")
            shown = {
                "answers": refused + json.dumps(await service.api("GET", "/api/v1/remediations")),
                "metrics": metrics,
                "slack": json.dumps([message.versions for message in slack.messages()]),
                "journal": json.dumps(service.journal()),
            }
        shown["log"] = service.log.read_text()
        for secret in (WEBHOOK_TOKEN, ADA_TOKEN, BOT_TOKEN, SIGNING_SECRET):
            assert [] == [where for where, text in shown.items() if secret in text], secret
        assert [] == [where for where, text in shown.items() if planted in text and where != "answers"]


def test_the_shipped_recording_replays_as_expected() -> None:
    """`remediator replay --check` on what ships: the same timeline every time, without asking anybody."""
    import subprocess
    import sys

    recordings = sorted(map(str, (ROOT / "remediator/recordings").glob("*.json")))
    command = [sys.executable, "-m", "remediator", "replay", "--check", *recordings]
    env_free = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "REMEDIATOR_SERVER__ALLOW_UNAUTHENTICATED": "true"},
    )

    assert 0 == env_free.returncode, env_free.stdout + env_free.stderr
    assert "SUGGESTED" in env_free.stdout
