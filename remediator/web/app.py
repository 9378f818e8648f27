"""The web application: every route in one place, the webhook first."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from remediator.pipeline.service import Service
from remediator.web.api import Api
from remediator.web.auth import People
from remediator.web.config import WEBHOOK, WebConfig
from remediator.web.health import Health
from remediator.web.middleware import Outermost
from remediator.web.pages import Pages
from remediator.web.people import Gate
from remediator.web.slackhooks import Interactions, SlackHooks
from remediator.web.webhook import Webhook


@dataclass(frozen=True, slots=True)
class ShortWay:
    """A post of alerts, answered without looking for its route; whatever else a route's answer gets, it gets too."""

    outermost: Outermost
    webhook: Webhook

    def __call__(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """The answer."""
        return self.outermost.around(request, self.webhook.receive, WEBHOOK)


_SHORT = web.AppKey("short way", ShortWay)


def make_app(
    service: Service, config: WebConfig, people: People, slack: Interactions | None = None
) -> web.Application:
    """Join the routes. `slack` is given where interactions come over HTTP, and not where by Socket Mode.

    Raises:
        ValueError: when the webhook would have no credentials, or the session key is too short.
    """
    gate = Gate(config, people)
    pages = Pages(service, config, gate)
    outermost = Outermost(config, pages.problem)
    webhook = Webhook(service, config)
    app = web.Application(middlewares=[outermost.middleware], client_max_size=config.body_limit)
    app[_SHORT] = ShortWay(outermost, webhook)
    app.add_routes(webhook.routes())
    app.add_routes(Health(service, gate).routes())
    app.add_routes(Api(service, config, gate).routes())
    app.add_routes(pages.routes())
    if slack is not None:
        app.add_routes(SlackHooks(slack).routes())
    return app


async def set_up(app: web.Application) -> web.AppRunner:
    """Make the application ready to be listened to. Posts of alerts take a short way, before all routing.

    Finding a route costs as much as validating an alert, and of the posts that come in crowds all are for one route.
    Nothing is left out but the search: `Outermost` is around them as around everything.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    server = runner.server
    assert server is not None
    routed, short = server.request_handler, app[_SHORT]

    def respond(request: Any) -> Awaitable[web.StreamResponse]:
        return short(request) if request.raw_path == WEBHOOK and request.method == "POST" else routed(request)

    server.request_handler = respond
    return runner
