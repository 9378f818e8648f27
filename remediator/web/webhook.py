"""The Alertmanager webhook. 200 after the commit, 503 while nothing can be committed, 4xx for what can never work.

Never 429: Alertmanager gives up on it. Never a redirect: it would follow, and post elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from aiohttp import web

from remediator import telemetry
from remediator.errors import BadPayload, LedgerUnavailable
from remediator.pipeline.service import Service
from remediator.web.auth import WebhookKeys, is_loopback
from remediator.web.config import WEBHOOK, WebConfig
from remediator.web.problems import STANDARD, Problem

log = structlog.get_logger()

_DEMANDED = {"WWW-Authenticate": 'Bearer realm="remediator", Basic realm="remediator", charset="UTF-8"'}


class Webhook:
    """Takes posts in. The body goes on as it came: what is kept for inspection is what was sent."""

    def __init__(self, service: Service, config: WebConfig) -> None:
        self._service, self._config = service, config
        self._keys = WebhookKeys(config.webhook_tokens, config.webhook_users)
        if not self._keys.any and not config.allow_unauthenticated:
            raise ValueError(
                "the webhook has no credentials: configure a token or a user, or allow none on loopback"
            )

    def routes(self) -> Sequence[web.RouteDef]:
        """Where Alertmanager posts."""
        return [web.post(WEBHOOK, self.receive)]

    async def receive(self, request: web.Request) -> web.Response:
        """Take one post in."""
        if not self._keys.knows(request.headers.get("Authorization", "")):
            await self._authenticate(request)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large(self._config.body_limit) from None
        try:
            await self._service.ingest(body, request.remote or "")
        except BadPayload as error:
            telemetry.REJECTED.labels("payload").inc()
            log.warning("webhook refused: payload", error=str(error), source=request.remote, bytes=len(body))
            raise Problem(
                400, str(error), "kept for inspection; send Alertmanager's webhook payload, version 4"
            ) from error
        except LedgerUnavailable:
            telemetry.REJECTED.labels("unavailable").inc()
            raise
        return web.Response()

    async def _authenticate(self, request: web.Request) -> None:
        header = request.headers.get("Authorization", "")
        if self._keys.any and await self._keys.admit(header):
            return
        # Without credentials: only this machine, and no browser, which a page elsewhere could have post to us.
        if (
            not self._keys.any
            and is_loopback(request.remote)
            and "Origin" not in request.headers
            and "Sec-Fetch-Site" not in request.headers
        ):
            return
        telemetry.REJECTED.labels("auth").inc()
        log.warning("webhook refused: credentials", source=request.remote, shown=bool(header))
        raise Problem(
            401,
            "the webhook's credentials are missing or wrong"
            if self._keys.any
            else "only this machine may post here",
            "set http_config.authorization or basic_auth in Alertmanager's webhook_config",
            headers=_DEMANDED,
        )

    @staticmethod
    def _too_large(limit: int) -> Problem:
        telemetry.REJECTED.labels("size").inc()
        log.warning("webhook refused: size", limit=limit)
        return Problem(413, f"the body is larger than {limit} bytes", STANDARD[413][1])
