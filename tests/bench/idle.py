"""From the post to the first action, on an idle service: the real web, ledger and world, and an action that only looks
at the clock.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from remediator.adapters.clock import WallClock
from remediator.adapters.ledger import SqlLedger
from remediator.adapters.rulebook import RuleBook
from remediator.adapters.world import HttpWorld
from remediator.assembly import assemble
from remediator.domain.guards import Limits
from remediator.domain.plans import Effect, Result
from remediator.domain.rules import Mode, RuleTable
from remediator.telemetry import set_up_logs
from remediator.testing import FakeAction, FakeActions, MemoryMessenger, make_alert, make_payload
from remediator.web.app import make_app
from remediator.web.auth import People
from remediator.web.config import WebConfig
from tests.support.alertmanager import AlertmanagerServer
from tests.support.prometheus import PrometheusServer
from tests.unit.story import PLAYBOOK, RUNG, rule

TIMES = 40


class Stopwatch(FakeAction):
    """Notes when it was asked to act."""

    begun = 0.0

    async def apply(self, effect: Effect) -> Result:
        """Note the time; the number stays as it was, so that it can be set again."""
        self.begun = time.perf_counter()
        return Result("noted")


async def measure(folder: Path) -> float:
    """The median, in seconds."""
    set_up_logs("warning")
    folder.mkdir(parents=True)
    rules = folder / "always.yml"
    always = {"alert": "Bench", "expr": "vector(1)", "labels": {"system": "brainstem", "severity": "warning"}}
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "interval": "1s", "rules": [always]}]}))
    config = {"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}
    with (
        PrometheusServer(folder / "prometheus", {}, rule_files=[rules]) as prometheus,
        AlertmanagerServer(folder / "alertmanager", config) as alertmanager,
    ):
        await prometheus.until("ALERTS", bool)
        return await _measure(folder, prometheus.url, alertmanager.url)


async def _measure(folder: Path, prometheus: str, alertmanager: str) -> float:
    clock, action = WallClock(), Stopwatch()
    ledger = SqlLedger.open(f"sqlite:///{folder / 'ledger.db'}", clock)
    world = HttpWorld(prometheus, alertmanager)
    limits = Limits(rate=10_000, concurrency=10_000)
    automatic = rule(
        "bench", 'alertname="Bench"', replace(RUNG, mode=Mode.AUTO), subject="{n}", limits=limits
    )
    parts = assemble(
        RuleBook(RuleTable([automatic]), {}, {"set": PLAYBOOK}),
        mode=Mode.AUTO,
        ledger=ledger,
        clock=clock,
        world=world,
        actions=FakeActions(action),
        messenger=MemoryMessenger(),
    )
    parts.service.be("")
    app = make_app(parts.service, WebConfig(mode=Mode.AUTO, webhook_tokens=("t" * 20,)), People(()))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    dispatching = asyncio.create_task(parts.dispatch.run(parts.advance.run))
    took = []
    headers = {"Authorization": "Bearer " + "t" * 20, "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for n in range(TIMES):
            body = make_payload(make_alert("Bench", at=datetime.now(UTC), n=str(n)))
            action.begun, sent = 0.0, time.perf_counter()
            async with session.post(f"http://{host}:{port}/api/v1/alertmanager", data=body) as answer:
                assert 200 == answer.status, await answer.text()
            while not action.begun:
                await asyncio.sleep(0.0005)
            took.append(action.begun - sent)
            # Idle is when the one before has been verified or waits for its next look.
            await asyncio.sleep(0.2)
    dispatching.cancel()
    await asyncio.gather(dispatching, return_exceptions=True)
    await runner.cleanup()
    await world.close()
    await ledger.close()
    return statistics.median(took)
