"""What Prometheus and Alertmanager really say, and how the service reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from remediator.actions.alertmanager import AlertmanagerConnection, Silence, SilenceParams
from remediator.adapters.world import HttpWorld
from remediator.domain.alerts import fingerprint
from remediator.errors import WorldUnavailable
from tests.support.alertmanager import AlertmanagerServer
from tests.support.ports import free_port
from tests.support.prometheus import PrometheusServer
from tests.support.waiting import eventually

CONFIG = {
    "route": {"receiver": "none"},
    "receivers": [{"name": "none"}],
    "inhibit_rules": [
        {
            "source_matchers": ["severity=critical"],
            "target_matchers": ["severity=warning"],
            "equal": ["system"],
        }
    ],
}
RULES = {
    "groups": [
        {
            "name": "g",
            "interval": "1s",
            "rules": [
                {"alert": "Firing", "expr": "vector(1)", "labels": {"system": "brainstem", "odd": 'a"b\\c'}},
                {"alert": "Pending", "expr": "vector(1)", "for": "1h", "labels": {"system": "brainstem"}},
            ],
        }
    ]
}


@pytest.fixture
async def alertmanager(alertmanager_factory: Callable[..., AlertmanagerServer]) -> AlertmanagerServer:
    """A real Alertmanager that notifies nobody."""
    return alertmanager_factory(CONFIG)


@pytest.fixture
async def world(
    tmp_path: Path,
    alertmanager: AlertmanagerServer,
    prometheus_server_factory: Callable[..., PrometheusServer],
) -> AsyncIterator[HttpWorld]:
    """Both, real."""
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(RULES))
    prometheus = prometheus_server_factory(
        {"global": {"evaluation_interval": "1s", "external_labels": {"cluster": "a"}}}, rule_files=[rules]
    )
    await prometheus.until("ALERTS", lambda found: len(found) == 2)
    world = HttpWorld(prometheus.url, alertmanager.url)
    yield world
    await world.close()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({"alertname": "Firing", "system": "brainstem", "odd": 'a"b\\c'}, True, id="fires"),
        pytest.param(
            {"alertname": "Firing", "system": "brainstem", "odd": 'a"b\\c', "cluster": "a"},
            True,
            id="external-labels",
        ),
        pytest.param(
            {"alertname": "Firing", "system": "other", "odd": 'a"b\\c'}, False, id="a-sibling-fires"
        ),
        pytest.param({"alertname": "Pending", "system": "brainstem"}, False, id="pending-is-not-firing"),
        pytest.param({"alertname": 'x"} or vector(1) or {a="'}, False, id="a-label-is-never-promql"),
    ],
)
async def test_firing(world: HttpWorld, labels: dict[str, str], expected: bool) -> None:
    """An alert fires where Prometheus has it as firing with just these labels, external ones aside."""
    assert expected == await world.firing(labels)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        pytest.param("vector(1) > 0", True, id="holds"),
        pytest.param("vector(1) > 1", False, id="does-not"),
        pytest.param("absent_series", False, id="absent-is-not-success"),
        pytest.param("vector(0) / 0", False, id="not-a-number-is-not-success"),
    ],
)
async def test_sample(world: HttpWorld, expr: str, expected: bool) -> None:
    """A verification needs a sample that is a number."""
    assert expected == (await world.sample(expr))[0]


async def test_a_wrong_expression_is_no_answer(world: HttpWorld) -> None:
    """Prometheus refuses it: that is no yes and no no."""
    with pytest.raises(WorldUnavailable, match="400"):
        await world.sample("sum(")


async def test_silences_and_inhibition(world: HttpWorld, alertmanager: AlertmanagerServer) -> None:
    """The silence and the inhibiting alert are named, for the very label set and no sibling."""
    await alertmanager.fire("A", system="brainstem", severity="warning")
    await alertmanager.fire("A", system="photonic", severity="warning")
    silence = await alertmanager.silence(system="brainstem")
    await alertmanager.fire("B", system="photonic", severity="critical")

    assert ((silence,), ()) == await _settled(
        world, {"alertname": "A", "system": "brainstem", "severity": "warning"}
    )
    inhibitor = fingerprint({"alertname": "B", "system": "photonic", "severity": "critical"})
    assert ((), (inhibitor,)) == await _settled(
        world, {"alertname": "A", "system": "photonic", "severity": "warning"}
    )
    assert ((), ()) == await world.muted({"alertname": "A", "system": "nobody", "severity": "warning"})


async def test_a_remediations_own_silence_is_left_out(
    world: HttpWorld, alertmanager: AlertmanagerServer
) -> None:
    """Only for the remediation that made it, and only where it was made under our name; also where Alertmanager holds
    no such alert.
    """
    labels = {"alertname": "A", "system": "brainstem", "severity": "warning"}
    await alertmanager.fire(**labels)  # type: ignore[arg-type]
    connection = AlertmanagerConnection(
        kind="alertmanager", url=alertmanager.url, labels={"system": "brainstem"}
    )
    action = Silence(connection)
    params = SilenceParams(connection="am", labels=labels, remediation="r1")
    effects = action.plan(params, await action.observe(params))
    own = str((await action.apply(effects[0])).captured["silence"])
    assert ((own,), ()) == await _settled(world, labels)
    copied = (await alertmanager.silences())[0]["comment"]
    theirs = await alertmanager.silence(comment=copied, **labels)  # type: ignore[arg-type]

    async def told(asked: dict[str, str], remediation: str, expected: set[str]) -> None:
        async def known() -> bool:
            return expected == set((await world.muted(asked, remediation))[0])

        await eventually(known, within=10, what=f"{remediation or 'nobody'} to be told {expected}")

    for asked in (labels, {**labels, "instance": "alertmanager holds no such alert"}):
        await told(asked, "r1", {theirs})
        await told(asked, "r12", {own, theirs})
        await told(asked, "", {own, theirs})


SCHEDULED = {"alertname": "ScheduledWeeklyScan", "system": "brainstem", "rule": "weekly-scan"}


@pytest.mark.parametrize(
    ("matchers", "expected"),
    [
        pytest.param([("system", "brainstem", False, True)], True, id="equal"),
        pytest.param([("alertname", "Scheduled.*", True, True)], True, id="pattern"),
        pytest.param([("system", "photonic", False, False)], True, id="not-equal"),
        pytest.param([("system", "brain.*", True, False)], False, id="not-the-pattern"),
        pytest.param(
            [("system", "brainstem", False, True), ("task", "x", False, True)], False, id="one-fails"
        ),
    ],
)
async def test_a_silence_of_what_alertmanager_does_not_hold(
    alertmanager: AlertmanagerServer, matchers: list[tuple[str, str, bool, bool]], expected: bool
) -> None:
    """A scheduled run is no alert of Alertmanager's: its silences are compared with the run's labels."""
    names = ("name", "value", "isRegex", "isEqual")
    now = datetime.now(UTC)
    body = {
        "matchers": [dict(zip(names, matcher, strict=True)) for matcher in matchers],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "a freeze",
    }
    world = HttpWorld("", alertmanager.url)
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{alertmanager.url}/api/v2/silences", json=body) as response:
                id_ = (await response.json())["silenceID"]

            def active(found: list[dict[str, Any]]) -> bool:
                return any(one["id"] == id_ and one["status"]["state"] == "active" for one in found)

            async with asyncio.timeout(10):
                while True:
                    async with session.get(f"{alertmanager.url}/api/v2/silences") as response:
                        if active(await response.json()):
                            break
            assert (((id_,) if expected else ()), ()) == await world.muted(SCHEDULED)
            async with session.delete(f"{alertmanager.url}/api/v2/silence/{id_}") as response:
                assert 200 == response.status
        assert ((), ()) == await world.muted(SCHEDULED)
    finally:
        await world.close()


async def _settled(world: HttpWorld, labels: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    async def look() -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        muted = await world.muted(labels)
        return muted if any(muted) else None

    found = await eventually(look, within=10, what=f"{labels} to be muted")
    assert found is not None
    return found


async def test_fingerprints_are_alertmanagers(alertmanager: AlertmanagerServer) -> None:
    """We compute what Alertmanager computes, whatever is in the labels."""
    for odd in ("plain", "ümläut ☃", 'quote " and \\', "new\nline", "x" * 2000):
        await alertmanager.fire("Odd", value=odd, at=datetime.now(UTC).isoformat())

    found = await alertmanager.alerts()
    assert 5 == len(found)
    assert [alert["fingerprint"] for alert in found] == [fingerprint(alert["labels"]) for alert in found]


async def test_the_group_of_a_truncated_notification(
    world: HttpWorld, alertmanager: AlertmanagerServer
) -> None:
    """What was cut off is found again by the group's labels."""
    for n in range(3):
        await alertmanager.fire("Many", system="brainstem", instance=str(n))
    await alertmanager.fire("Other", system="photonic")

    found = await world.alerts({"alertname": "Many", "system": "brainstem"})

    assert {"0", "1", "2"} == {alert.labels["instance"] for alert in found}


async def test_nobody_there() -> None:
    """A closed port is no answer, and says which address it was."""
    port = free_port()
    world = HttpWorld(f"http://127.0.0.1:{port}", "", timeout_seconds=1)
    with pytest.raises(WorldUnavailable, match=str(port)):
        await world.firing({"alertname": "X"})
    with pytest.raises(WorldUnavailable, match="no address"):
        await world.muted({"alertname": "X"})
    await world.close()
