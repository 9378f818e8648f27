"""The outermost layer of every request: a request id in the logs, its time, its errors, and safe headers."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Histogram

from remediator import telemetry
from remediator.errors import LedgerUnavailable, StaleWrite
from remediator.web.config import WEBHOOK, WebConfig
from remediator.web.problems import STANDARD, Problem

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)
_MACHINES = ("/api/", "/-/", "/slack/", "/metrics")
"""Paths whose errors are JSON; everything else is a page."""

HEADERS = {
    "Server": "remediator",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # same-origin, not no-referrer: with that, browsers send forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
}
"""On every answer. There is no CORS header at all: no other site may read anything."""

_FOR_SENDERS = {name: HEADERS[name] for name in ("Server", "X-Content-Type-Options")}


Page = Callable[[web.Request, Problem], web.Response]
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Outermost:
    """What every request goes through. `page` renders a problem for a person."""

    def __init__(self, config: WebConfig, page: Page) -> None:
        self._config, self._page = config, page
        self._headers = dict(HEADERS)
        if config.public_url.startswith("https://"):
            self._headers["Strict-Transport-Security"] = "max-age=31536000"
        self._timers: dict[str, Histogram] = {}

    @property
    def middleware(self) -> Middleware:
        """The same, as the application's one middleware."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            return await self.around(request, handler, resource.canonical if resource is not None else "none")

        return middleware

    async def around(self, request: web.Request, respond: Respond, route: str) -> web.StreamResponse:
        """The response, or what becomes of an error; named, timed, and with the headers of `route`."""
        begun = time.perf_counter()
        given = request.headers.get("X-Request-ID")
        id_ = given if given and _REQUEST_ID.fullmatch(given) else f"{_PROCESS}-{next(_numbers):x}"
        # Set without being taken back: the next request of this connection sets its own.
        telemetry.REQUEST_ID.set(id_)
        try:
            response = await respond(request)
        except web.HTTPException as error:
            response = self._answer(request, _from_server(error))
        except (Problem, LedgerUnavailable, StaleWrite) as error:
            response = self._answer(request, _known(error, self._config))
        except Exception:
            # The last place: a defect of ours is logged, and the asker sees no traceback.
            log.exception("a request failed", path=request.path)
            mend = f"look for request_id {id_} in the logs"
            response = self._answer(request, Problem(500, "something is wrong on our side", mend))
        headers = response.headers
        # Alertmanager is no browser: what it is told, many times a second, needs little of this.
        headers.update(_FOR_SENDERS if route == WEBHOOK else self._headers)
        headers["X-Request-ID"] = id_
        timer = self._timers.get(route) or self._timers.setdefault(route, telemetry.HTTP.labels(route))
        timer.observe(time.perf_counter() - begun)
        return response

    def _answer(self, request: web.Request, problem: Problem) -> web.Response:
        if request.path.startswith(_MACHINES):
            response = web.json_response(self._config.redact.leaves(problem.body), status=problem.status)
        else:
            response = self._page(request, problem)
        response.headers.update(problem.headers)
        return response


def _known(error: Problem | LedgerUnavailable | StaleWrite, config: WebConfig) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, StaleWrite):
        return Problem(409, "it was changed by somebody else meanwhile", "look at it again, then decide")
    log.error("the ledger could not be written", error=str(error))
    wait = {"Retry-After": str(config.retry_after)}
    return Problem(503, "the ledger cannot be written now", "nothing was changed; try again", headers=wait)


def _from_server(error: web.HTTPException) -> Problem:
    phrase = HTTPStatus(error.status).phrase.lower()
    told, mend = STANDARD.get(error.status, (phrase, ""))
    kept = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    return Problem(error.status, told, mend, headers=kept)
