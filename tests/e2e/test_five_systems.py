"""Each system's own metrics, through the shipped files, to a suggested plan and back to calm: one story for all cases."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.five_systems import CASES, TARGETS, Case
from tests.e2e.five_systems.host import connections
from tests.e2e.stack import (
    ROOT,
    Remediator,
    alertmanager_config,
    hurried_rules,
    prometheus_config,
    shipped_rules,
)
from tests.support.alertmanager import AlertmanagerServer
from tests.support.feed import Feed
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.prometheus import PrometheusServer
from tests.support.redis import RedisServer
from tests.support.rest import call
from tests.support.waiting import NeverHappenedError, eventually

pytestmark = [pytest.mark.timeout(360), pytest.mark.xdist_group("five-systems")]

WITHIN = 90.0


@dataclass
class Told:
    """What one case came to."""

    fired: dict[str, str] = field(default_factory=dict)
    remediation: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    calm: bool = False
    seconds: list[float] = field(default_factory=list)


Step = Callable[[Case, Told, list[dict[str, str]]], Awaitable[bool]]


@dataclass
class Story:
    """What all cases came to, and what there was to see beside them."""

    told: dict[str, Told]
    early: list[str]
    canary: float
    journal_verifies: str
    kinds: set[str]


def _labelled(labels: dict[str, str], found: dict[str, Any]) -> bool:
    return all(found.get(name) == value for name, value in labels.items())


class Stage:
    """The real servers, and what is fed to them."""

    def __init__(
        self,
        feed: Feed,
        prometheus: PrometheusServer,
        service: Remediator,
        joined: dict[str, Any],
        rule_files: list[Path],
    ) -> None:
        """`joined` is Prometheus's configuration with its Alertmanager, which it starts without."""
        self.feed, self.prometheus, self.service = feed, prometheus, service
        self.joined, self.rule_files = joined, rule_files

    async def firing(self) -> list[dict[str, str]]:
        """The labels of what fires in Prometheus now."""
        return [alert["labels"] for alert in await self.prometheus.alerts() if alert["state"] == "firing"]

    async def suggested(self, case: Case, told: Told, firing: list[dict[str, str]]) -> bool:
        """Whether the alert fired, and its remediation has ended; what was seen is kept."""
        told.fired = told.fired or next((found for found in firing if _labelled(case.labels, found)), {})
        if not told.fired:
            return False
        found = [one for one in await self.service.remediations() if one["rule"] == case.rule]
        told.remediation = found[0] if found else {}
        if not told.remediation.get("final"):
            return False
        told.plan = await self.service.api("GET", f"/api/v1/remediations/{told.remediation['id']}/plan")
        return True

    async def resolved(self, case: Case, told: Told, firing: list[dict[str, str]]) -> bool:
        """Whether the alert is over, for Prometheus and for us; what was seen is kept."""
        told.calm = not any(_labelled(case.labels, found) for found in firing)
        if not told.calm or not told.remediation:
            return False
        told.after = await self.service.api("GET", f"/api/v1/remediations/{told.remediation['id']}")
        return bool(told.after["alert_resolved"])

    async def each(self, step: Step, told: dict[str, Told]) -> None:
        """Ask for every case until all are through or the time is up: what is missing then, its test says."""
        began, left = time.monotonic(), list(CASES)

        async def all_through() -> bool:
            firing = await self.firing()
            for case in tuple(left):
                if await step(case, told[case.id], firing):
                    told[case.id].seconds.append(time.monotonic() - began)
                    left.remove(case)
            return not left

        with contextlib.suppress(NeverHappenedError):
            await eventually(all_through, within=WITHIN, every=1, what="all cases")

    def show(self, which: str) -> None:
        """Feed the `always`, `bad` or `good` readings of every case."""
        for case in CASES:
            self.feed.show(case.target, *getattr(case, which))

    async def calm(self) -> list[str]:
        """Await that none of the alerts fires, and return those that still do."""
        quick = {(case.alert, case.severity) for case in CASES}
        early: list[str] = []

        async def quiet() -> bool:
            early[:] = [
                labels["alertname"]
                for labels in await self.firing()
                if (labels["alertname"], labels["severity"]) in quick
            ]
            return not early

        with contextlib.suppress(NeverHappenedError):
            await eventually(quiet, within=30, every=0.5, what="calm")
        return early

    async def play(self) -> Story:
        """All good, all bad, all good again; whatever a case lacks in the end, its own test says."""
        told = {case.id: Told() for case in CASES}
        await self.prometheus.until(
            "count(count_over_time(up[1m]) >= 4)", lambda found: bool(found) and found[0].value > len(TARGETS)
        )
        await self.prometheus.until("pneumonia:cpu:ratio_avg1w", bool, within=WITHIN)
        early = await self.calm()
        # What fired before the first scrape was told to nobody: Alertmanager is joined only now.
        self.prometheus.write_config(self.joined, rule_files=self.rule_files)
        await self.prometheus.reload()
        self.show("bad")
        await self.each(self.suggested, told)
        self.show("good")
        await self.each(self.resolved, told)
        canary = await self._canary()
        verified = self.service.cli("journal", "verify", "--config", str(self.service.config))
        kinds = {entry["kind"] for entry in self.service.journal()}
        failed = "" if verified.returncode == 0 else verified.stdout + verified.stderr
        return Story(told, early, canary, failed, kinds)

    async def _canary(self) -> float:
        text = str(await call(f"{self.service.url}/metrics"))
        found = re.search(r"^remediator_canary_last_seen_timestamp_seconds (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One Prometheus, one Alertmanager, one service, and all cases at once."""
    folder = tmp_path_factory.mktemp("five-systems")
    port = free_port()
    with (
        Feed() as feed,
        RedisServer(folder / "redis") as redis,
        contextlib.closing(PostgresServer()) as postgres,
    ):
        postgres.start()
        for case in CASES:
            feed.show(case.target, *case.always, *case.good)
        alertmanager = AlertmanagerServer(
            folder / "alertmanager",
            alertmanager_config(folder, f"http://127.0.0.1:{port}/api/v1/alertmanager", canary=True),
        )
        windows = {name: text for case in CASES for name, text in case.windows.items()}
        (folder / "rules-of-prometheus").mkdir()
        jobs = [
            {
                "job_name": job,
                "metrics_path": f"/{job}",
                "honor_labels": True,
                "static_configs": [{"targets": [feed.address], "labels": dict(labels)}],
            }
            for job, labels in TARGETS.items()
        ]
        ours = {"targets": [f"127.0.0.1:{port}"], "labels": {"system": "remediator"}}
        jobs.append({"job_name": "remediator", "honor_labels": True, "static_configs": [ours]})
        rule_files = hurried_rules(
            folder / "rules-of-prometheus", [(case.alert, case.severity) for case in CASES], windows
        )
        joined = prometheus_config(jobs, alertmanager.address)
        prometheus = PrometheusServer(
            folder / "prometheus", {**joined, "alerting": {}}, rule_files=rule_files
        )
        service = Remediator(
            folder / "remediator",
            rules=shipped_rules(
                folder / "rules", connections(folder / "host", prometheus.url, redis.url(), postgres)
            ),
            prometheus=prometheus.url,
            alertmanager=alertmanager.url,
            mode="suggest",
            port=port,
        )
        with alertmanager, service, prometheus:
            yield asyncio.run(Stage(feed, prometheus, service, joined, rule_files).play())


def test_nothing_fires_while_all_is_well(story: Story) -> None:
    """With good values of every system, none of the alerts fires."""
    assert [] == story.early


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_bad_value_becomes_a_suggested_plan(case: Case, story: Story) -> None:
    """Raw metrics of the system make the shipped alert fire, and the shipped rule plans its playbook's first rung."""
    told = story.told[case.id]

    assert case.labels == {name: told.fired.get(name) for name in case.labels}
    assert case.playbook == told.remediation.get("playbook")
    assert "suggested" == told.remediation["phase"], told.remediation["reason"]
    assert case.playbook == told.plan["playbook"]
    effects = [effect["summary"] for step in told.plan["steps"] for effect in step["effects"]]
    if case.plan:
        assert case.plan in "\n".join(effects)
    else:
        assert [] == effects
        assert told.plan["checklist"], "a runbook without steps asks people something"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_good_value_closes_the_episode(case: Case, story: Story) -> None:
    """The alert is over, Alertmanager says so, and the episode is closed; what was suggested stays a suggestion."""
    told = story.told[case.id]

    assert told.calm, "the alert still fires"
    assert True is told.after.get("alert_resolved")
    assert "suggested" == told.after["phase"]
    assert [] == told.after["results"]


def test_the_watchdog_arrives(story: Story) -> None:
    """The alert that always fires (all, none) reaches us, so the whole path is alive."""
    assert story.canary > time.time() - 300


def test_nothing_was_touched_and_the_journal_verifies(story: Story) -> None:
    """A dry run has no intent, and the chain of what was written is whole."""
    assert "" == story.journal_verifies
    assert {"received", "planned", "finished"} <= story.kinds
    assert set() == story.kinds & {"intent", "outcome", "approved"}


def test_every_severity_of_every_system_has_a_case() -> None:
    """The pairs are read from the shipped rules; Watchdog (all, none) has a test of its own."""
    shipped = set()
    for path in (ROOT / "prometheus/rules").glob("30-*.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    system = rule["labels"].get("system", "any")
                    shipped.add(("any" if "{{" in system else system, rule["labels"]["severity"]))

    covered = {(case.group, case.severity) for case in CASES if case.group != "remediator"}
    assert shipped == covered | {("all", "none")}


def test_the_table(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    """Every case has its line, for people to read: what fired and what it came to."""
    lines = []
    for case in CASES:
        told = story.told[case.id]
        resolved = "resolved" if told.after.get("alert_resolved") else "FIRING"
        outcome = f"{told.remediation.get('phase', '-')}, {resolved}"
        seconds = " + ".join(f"{one:.0f} s" for one in told.seconds)
        columns = (
            told.fired.get("system", "-"),
            case.severity,
            case.alert,
            case.rule,
            case.playbook or "notify",
        )
        lines.append(
            "  ".join(f"{text:<{width}}" for text, width in zip(columns, (13, 9, 36, 44, 22), strict=True))
        )
        lines[-1] += f"{outcome}  ({seconds})"
    with capsys.disabled():
        print("", *lines, sep="\n")

    assert [] == [line for line in lines if "suggested, resolved" not in line]
