"""Where Slack posts what people click. It is answered at once; the work comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from aiohttp import web

from remediator.web.problems import Problem

BODY_LIMIT = 1024 * 1024


class Interactions(Protocol):
    """What the Slack adapter offers: it verifies, and it takes over; it never makes Slack wait."""

    def receive(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Take one interaction over. "" where that happened, else why it is refused."""


class SlackHooks:
    """The Request URL for interactivity of the Slack app."""

    def __init__(self, slack: Interactions) -> None:
        self._slack = slack

    def routes(self) -> Sequence[web.RouteDef]:
        """Where Slack posts."""
        return [web.post("/slack/interactions", self.receive)]

    async def receive(self, request: web.Request) -> web.Response:
        """Acknowledge with an empty 200, as Slack demands within 3 seconds."""
        if (request.content_length or 0) > BODY_LIMIT:
            raise web.HTTPRequestEntityTooLarge(max_size=BODY_LIMIT)
        refused = self._slack.receive(await request.read(), request.headers)
        if refused:
            raise Problem(
                401, refused, "check the signing secret, the app and the workspace in the Slack settings"
            )
        return web.Response()
