"""The web application: every route in one place, the webhook first."""

from __future__ import annotations

from aiohttp import web

from remediator.pipeline.service import Service
from remediator.web.api import Api
from remediator.web.auth import People
from remediator.web.config import WebConfig
from remediator.web.health import Health
from remediator.web.middleware import outermost
from remediator.web.pages import Pages
from remediator.web.people import Gate
from remediator.web.slackhooks import Interactions, SlackHooks
from remediator.web.webhook import Webhook


def make_app(
    service: Service, config: WebConfig, people: People, slack: Interactions | None = None
) -> web.Application:
    """Join the routes. `slack` is given where interactions come over HTTP, and not where by Socket Mode.

    Raises:
        ValueError: when the webhook would have no credentials, or the session key is too short.
    """
    gate = Gate(config, people)
    pages = Pages(service, config, gate)
    app = web.Application(
        middlewares=[outermost(config, pages.problem)],
        client_max_size=config.body_limit,
    )
    app.add_routes(Webhook(service, config).routes())
    app.add_routes(Health(service, gate).routes())
    app.add_routes(Api(service, config, gate).routes())
    app.add_routes(pages.routes())
    if slack is not None:
        app.add_routes(SlackHooks(slack).routes())
    return app
