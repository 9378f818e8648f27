"""The main job, end to end, with real parts: an alert becomes a reviewed plan, an approved action, a verified result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.e2e.stack import (
    ADA,
    EVE,
    Remediator,
    alertmanager_config,
    prometheus_config,
    quick_rules,
    rules_with,
)
from tests.support.fake_slack import FakeSlack
from tests.support.ports import free_port
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

KEYS = 1500
pytestmark = pytest.mark.timeout(240)


class Traffic:
    """What asks the cache: misses or hits, all the time."""

    def __init__(self, server: RedisServer) -> None:
        self.hits = False
        self._redis = redis.asyncio.Redis.from_url(server.url())

    async def run(self) -> None:
        """Ask 200 times, about ten times a second."""
        await self._redis.set("other:present", "x")
        while True:
            pipe = self._redis.pipeline(transaction=False)
            for n in range(200):
                pipe.get("other:present" if self.hits else f"absent:{n}")
            await pipe.execute()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Let the connection go."""
        await self._redis.aclose()


@contextlib.asynccontextmanager
async def traffic(server: RedisServer) -> AsyncIterator[Traffic]:
    """Traffic for as long as the block lasts."""
    traffic = Traffic(server)
    task = asyncio.create_task(traffic.run())
    try:
        yield traffic
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await traffic.close()


async def test_misses_become_a_plan_an_approval_and_a_verified_result(
    tmp_path: Path,
    redis_server: RedisServer,
    redis_exporter_factory: Callable[..., Any],
    prometheus_server_factory: Callable[..., Any],
    alertmanager_factory: Callable[..., Any],
) -> None:
    """Real misses push the hit rate under 30 %; a person approves the real key count; the keys are gone, the rate is
    back, the alert resolves, the remediation ends `remediated` and the journal verifies.
    """
    client = redis_server.client()
    client.mset({f"seg:{n}": "x" * 100 for n in range(KEYS)})
    client.mset({f"session:{n}": "x" for n in range(50)})
    exporter = redis_exporter_factory(redis_server.url())
    port = free_port()
    rules = rules_with(
        tmp_path / "rules",
        "brainstem",
        {"cache": {"url": redis_server.url()}},
        hold="2s",
        within="90s",
        every="1s",
    )
    webhook = f"http://127.0.0.1:{port}/api/v1/alertmanager"
    alertmanager = alertmanager_factory(alertmanager_config(tmp_path, webhook))
    jobs = [
        {
            "job_name": "redis",
            "static_configs": [{"targets": [exporter.address], "labels": {"system": "brainstem"}}],
        }
    ]
    prometheus = prometheus_server_factory(
        prometheus_config(jobs, alertmanager.address), rule_files=quick_rules(tmp_path, "brainstem")
    )
    async with FakeSlack() as slack, traffic(redis_server) as asking:
        service = Remediator(
            tmp_path / "remediator",
            rules=rules,
            prometheus=prometheus.url,
            alertmanager=alertmanager.url,
            slack=slack,
            port=port,
        )
        with service:
            await prometheus.firing("BrainstemCacheHitRateLow", within=60)
            card = await slack.wait_for(
                lambda message: f"UNLINK {KEYS:,} keys" in message.shown,
                within=60,
                what="the card with the plan",
            )

            await slack.click(card.ts, "remediator_approve", EVE)
            assert KEYS == len(client.keys("seg:*"))
            asking.hits = True
            await slack.click(card.ts, "remediator_approve", ADA)

            await eventually(lambda: _none_left(client), within=30, what="the keys under seg: gone")
            assert 50 == len(client.keys("session:*"))
            await eventually(lambda: _ended(service), within=120, what="the remediation to end")

            (remediation,) = [
                r for r in await service.remediations() if r["rule"] == "brainstem-cache-hit-rate-low"
            ]
            assert "remediated" == remediation["phase"]
            await slack.wait_for(lambda message: "remediated" in message.shown.lower(), within=20)
            await prometheus.until(
                'ALERTS{alertname="BrainstemCacheHitRateLow"}', lambda found: not found, within=60
            )
            await eventually(lambda: _resolved_told(service), within=60, what="the resolved notification")
            verified = service.cli("journal", "verify", "--config", str(service.config))
            assert 0 == verified.returncode, verified.stdout + verified.stderr
            told = [entry["kind"] for entry in service.journal() if entry["remediation"] == remediation["id"]]
            assert ["intent", "outcome"] == [kind for kind in told if kind in ("intent", "outcome")]
            assert "vote_refused" in told


async def _none_left(client: Any) -> bool:
    return not client.keys("seg:*")


async def _ended(service: Remediator) -> bool:
    found = [r for r in await service.remediations() if r["rule"] == "brainstem-cache-hit-rate-low"]
    return bool(found) and found[0]["phase"] not in (
        "awaiting_approval",
        "approved",
        "executing",
        "verifying",
        "matched",
    )


async def _resolved_told(service: Remediator) -> bool:
    return any(entry["kind"] == "received" and entry["data"].get("resolved") for entry in service.journal())
