"""The gate that people come through: a bearer token for the API, a session for the pages, never one for the other.

A browser sends a cookie by itself and a bearer token never: so the API needs no protection against forged
requests, and the pages' forms have theirs in one place.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from remediator.domain.approvals import Person
from remediator.web.auth import People, bearer, is_loopback
from remediator.web.config import WebConfig
from remediator.web.problems import Problem
from remediator.web.sessions import COOKIE, Session, Sessions

log = structlog.get_logger()


class Gate:
    """Tells who is acting. That is always the authenticated person, never a field of the request."""

    def __init__(self, config: WebConfig, people: People) -> None:
        self._config, self._people = config, people
        self.sessions = Sessions(people, config.session_key, config.session_lasts)
        self.secure = config.public_url.startswith("https://")

    def api(self, request: web.Request) -> Person:
        """The person whose bearer token the request shows. Raises Problem 401."""
        header = request.headers.get("Authorization", "")
        person = self._people.by_token(bearer(header))
        if person is None:
            log.warning("refused: no known token", path=request.path, source=request.remote)
            raise Problem(
                401,
                "no known person's token",
                "send your token as Authorization: Bearer ...",
                headers={"WWW-Authenticate": 'Bearer realm="remediator"'},
            )
        return person

    def session(self, request: web.Request) -> Session | None:
        """The session of a page's request."""
        cookie = request.cookies.get(COOKIE, "")
        return self.sessions.read(cookie, self._config.now()) if cookie else None

    def may_read(self, request: web.Request) -> bool:
        """Whether pages are shown without signing in: only where configured, from loopback, under its own name.

        The name matters because a page elsewhere could point a host name of its own at 127.0.0.1.
        """
        host = urlsplit(f"//{request.host}").hostname or ""
        return (
            self._config.allow_unauthenticated
            and is_loopback(request.remote)
            and (host == "localhost" or is_loopback(host))
        )

    def sign_in(self, token: str) -> Person | None:
        """The person of a token typed into the login page."""
        return self._people.by_token(token.strip())

    def same_origin(self, request: web.Request) -> None:
        """Refuse a form that another site sent. Raises Problem 403."""
        origin = request.headers.get("Origin", "")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        ours = {request.host, urlsplit(self._config.public_url).netloc} - {""}
        if site not in ("same-origin", "none") or (origin and urlsplit(origin).netloc not in ours):
            log.warning("refused: a form from another site", path=request.path, source=request.remote)
            raise Problem(403, "this form was sent by another site", "open the page itself and decide there")

    def form(self, request: web.Request, given: str) -> Session:
        """The session of a form whose CSRF token is right. Raises Problem 401 or 403."""
        self.same_origin(request)
        session = self.session(request)
        if session is None:
            raise Problem(401, "you are not signed in, or no longer", "sign in and try again")
        if not hmac.compare_digest(given.encode(), session.csrf.encode()):
            log.warning("refused: a wrong form token", path=request.path, by=session.person.name)
            raise Problem(403, "this form is not from your session", "load the page again and try once more")
        return session
