"""Health, readiness, reload and metrics, where Prometheus and its family have them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from remediator.pipeline.service import Service
from remediator.web.people import Gate
from remediator.web.problems import Problem

log = structlog.get_logger()


class Health:
    """What machines ask. Only the reload needs a person: it changes what we do."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self._service, self._gate = service, gate

    def routes(self) -> Sequence[web.RouteDef]:
        """Where each is found."""
        return [
            web.get("/-/healthy", self.healthy),
            web.get("/-/ready", self.ready),
            web.post("/-/reload", self.reload),
            web.get("/metrics", self.metrics),
        ]

    async def healthy(self, request: web.Request) -> web.Response:
        """The process answers."""
        return web.json_response({"status": "healthy"})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether alerts are accepted and acted on; 503 with the reason where not."""
        why_not = self._service.ready()
        if why_not:
            raise Problem(503, why_not, "look at the logs; /-/healthy only says that the process answers")
        return web.json_response({"status": "ready"})

    async def reload(self, request: web.Request) -> web.Response:
        """Read rules and playbooks again; where they are wrong the old ones stay, and every finding is told."""
        person = self._gate.api(request)
        findings = await self._service.reload()
        if findings:
            raise Problem(
                422,
                f"the new rules are wrong in {len(findings)} places; the old ones stay",
                "mend the findings and reload again; `remediator check` shows the same",
                more={"findings": [str(finding) for finding in findings]},
            )
        log.info("reloaded", by=person.name)
        return web.json_response({"status": "reloaded"})

    async def metrics(self, request: web.Request) -> web.Response:
        """Every metric, in the text or the OpenMetrics format."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})
