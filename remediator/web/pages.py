"""The pages for people: what is going on, one remediation with its plan, and the decision. They need no JavaScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from markupsafe import Markup

from remediator.deferred import deferred
from remediator.domain.approvals import Vote
from remediator.domain.durations import format_duration
from remediator.domain.remediations import FINAL, Phase, Remediation
from remediator.figures import figures
from remediator.pipeline.service import Service
from remediator.web.api import MOST, demand_scope, load, scopes
from remediator.web.config import WebConfig
from remediator.web.people import Gate
from remediator.web.problems import Problem
from remediator.web.sessions import COOKIE, Session, local_path
from remediator.web.telling import TONES, WORDS, reasons, tell
from remediator.web.views import moment

if TYPE_CHECKING:
    import jinja2
else:
    jinja2 = deferred("jinja2")

log = structlog.get_logger()

_HERE = Path(__file__).parent
STATIC = {"style.css": "text/css", "icon.svg": "image/svg+xml"}
SHOWN = 200
"""Remediations on the front page at most; the API lists more."""

FORM_LIMIT = 64 * 1024
"""Bytes of a form at most."""

VIEWS: dict[str, tuple[Phase, ...]] = {
    "all": (),
    "waiting": (Phase.AWAITING_APPROVAL,),
    "active": tuple(phase for phase in Phase if phase not in FINAL),
    "ended": tuple(phase for phase in Phase if phase in FINAL),
}


class Pages:
    """The front page, one remediation, signing in and out, and the switches."""

    def __init__(self, service: Service, config: WebConfig, gate: Gate) -> None:
        self._service, self._config, self._gate = service, config, gate
        self._static = {name: (_HERE / "static" / name).read_bytes() for name in STATIC}

    @cached_property
    def _templates(self) -> jinja2.Environment:
        return _environment(self._config)

    def routes(self) -> Sequence[web.RouteDef]:
        """Where each is found."""
        return [
            web.get("/", self.front),
            web.get("/remediations/{id}", self.one),
            web.post("/remediations/{id}/vote", self.vote),
            web.post("/switches", self.switch),
            web.get("/login", self.login),
            web.post("/login", self.sign_in),
            web.post("/logout", self.sign_out),
            web.get("/static/{name}", self.static),
        ]

    async def front(self, request: web.Request) -> web.Response:
        """The list, those that wait for a person first."""
        if (away := self._away(request)) is not None:
            return away
        view = request.query.get("view", "all")
        system = request.query.get("system", "")[:200]
        found = await self._service.list(phases=VIEWS.get(view, ()), system=system, limit=SHOWN)
        waiting = await self._service.list(phases=VIEWS["waiting"], system=system, limit=MOST)
        return await self._render(
            request,
            "front.html",
            remediations=[*waiting, *(one for one in found if one.phase is not Phase.AWAITING_APPROVAL)],
            view=view if view in VIEWS else "all",
            views=VIEWS,
            system=system,
            waiting=len(waiting),
            scopes=scopes(self._service),
            more=len(found) == SHOWN,
        )

    async def one(self, request: web.Request) -> web.Response:
        """One remediation: its alert, its plan, what the guards said, its timeline, and the decision."""
        if (away := self._away(request)) is not None:
            return away
        loaded = await load(self._service, request.match_info["id"])
        entries = await self._service.timeline(loaded.remediation.id)
        return await self._render(
            request,
            "remediation.html",
            r=loaded.remediation,
            loaded=loaded,
            plan=loaded.remediation.plan,
            timeline=tell(entries),
            guards=reasons(entries),
            deciding=loaded.remediation.phase is Phase.AWAITING_APPROVAL,
        )

    async def vote(self, request: web.Request) -> web.Response:
        """A decision from the form. Back to the page, which shows what came of it."""
        form = await _form(request)
        session = self._gate.form(request, str(form.get("csrf", "")))
        choice = str(form.get("choice", ""))
        if choice not in ("approve", "reject"):
            raise Problem(400, "the form names no decision", "press one of its two buttons")
        loaded = await load(self._service, request.match_info["id"])
        vote = Vote(
            session.person,
            choice == "approve",
            str(form.get("digest", "")),
            "web",
            str(form.get("reason", ""))[:500],
        )
        refused = await self._service.vote(loaded.remediation.id, vote)
        if refused:
            raise Problem(409, refused, "go back and look at the plan as it is now")
        return _see(f"/remediations/{loaded.remediation.id}")

    async def switch(self, request: web.Request) -> web.Response:
        """Pause or resume from the front page, for everything or for what a switch in the list names."""
        form = await _form(request)
        session = self._gate.form(request, str(form.get("csrf", "")))
        name, scope, on = str(form.get("name", "")), str(form.get("scope", "")), form.get("on") == "yes"
        if name not in ("pause", "kill"):
            raise Problem(400, "there is no such switch", "use pause or kill")
        reason = str(form.get("reason", "")).strip()[:500]
        if on and not reason:
            raise Problem(400, "a switch needs a reason", "say in a few words why; the others will read it")
        if on:
            demand_scope(self._service, scope)
            await self._service.switch(name, scope, reason, session.person.name)
        else:
            await self._service.unswitch(name, scope, session.person.name)
        log.warning("switched", name=name, scope=scope, on=on, reason=reason, by=session.person.name)
        return _see("/")

    async def login(self, request: web.Request) -> web.Response:
        """The form that takes a person's token."""
        return await self._render(
            request, "login.html", next=local_path(request.query.get("next", "/")), wrong=False
        )

    async def sign_in(self, request: web.Request) -> web.Response:
        """Make a session out of a token."""
        self._gate.same_origin(request)
        form = await _form(request)
        person = self._gate.sign_in(str(form.get("token", "")))
        wanted = local_path(str(form.get("next", "/")))
        if person is None:
            log.warning("a sign-in was refused", source=request.remote)
            return await self._render(request, "login.html", status=401, next=wanted, wrong=True)
        log.info("signed in", by=person.name, source=request.remote)
        response = _see(wanted)
        response.set_cookie(
            COOKIE,
            self._gate.sessions.begin(person, self._config.now()),
            max_age=int(self._config.session_lasts.total_seconds()),
            httponly=True,
            samesite="Strict",
            secure=self._gate.secure,
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """Forget the cookie."""
        form = await _form(request)
        self._gate.form(request, str(form.get("csrf", "")))
        response = _see("/login")
        response.del_cookie(COOKIE)
        return response

    async def static(self, request: web.Request) -> web.Response:
        """The style sheet and the icon."""
        name = request.match_info["name"]
        if name not in STATIC:
            raise Problem(404, "there is nothing here")
        return web.Response(body=self._static[name], content_type=STATIC[name])

    def problem(self, request: web.Request, problem: Problem) -> web.Response:
        """A problem as a page."""
        text = self._templates.get_template("problem.html").render(problem=problem, session=None, mode="")
        return web.Response(text=text, status=problem.status, content_type="text/html")

    def _away(self, request: web.Request) -> web.Response | None:
        """Where somebody goes who may not read this page; None for who may."""
        if self._gate.session(request) is not None or self._gate.may_read(request):
            return None
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # Coming from a link in Slack, the browser keeps the strict cookie back: ask again from our own page.
            text = self._templates.get_template("again.html").render(
                to=request.path_qs, session=None, mode=""
            )
            return web.Response(text=text, content_type="text/html")
        return _see(str(request.url.with_path("/login").with_query(next=request.path_qs).relative()))

    async def _render(
        self, request: web.Request, name: str, *, status: int = 200, **values: Any
    ) -> web.Response:
        session: Session | None = self._gate.session(request)
        # Who may not read learns nothing of how we are set up, on the login page either.
        reads = session is not None or self._gate.may_read(request)
        switches = await self._service.switches() if reads else ()
        now = self._config.now()
        text = self._templates.get_template(name).render(
            session=session,
            mode=self._config.mode.value if reads else "",
            not_ready=self._service.ready() if reads else "",
            switches=switches,
            now=now,
            ago=partial(ago, now=now),
            path=request.path_qs,
            **values,
        )
        return web.Response(text=text, status=status, content_type="text/html")


def ago(at: datetime, now: datetime) -> str:
    """How long since, or until, in its largest unit."""
    gap = now - at
    size = abs(gap)
    if size < timedelta(seconds=1):
        return "now"
    unit = next((u for u in (86400, 3600, 60) if size >= timedelta(seconds=u)), 1)
    length = format_duration(timedelta(seconds=int(size.total_seconds()) // unit * unit))
    return f"{length} ago" if gap > timedelta(0) else f"in {length}"


def approvers(remediation: Remediation) -> str:
    """Who may decide, in words."""
    return ", ".join(sorted(remediation.current.approval.approvers)) or "nobody"


async def _form(request: web.Request) -> Mapping[str, Any]:
    if (request.content_length or 0) > FORM_LIMIT:
        raise web.HTTPRequestEntityTooLarge(max_size=FORM_LIMIT)
    return await request.post()


def _see(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def _environment(config: WebConfig) -> jinja2.Environment:
    def last_look(value: Any) -> Any:
        # Markup is our own template text; everything else came from outside at some time.
        return config.redact(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=last_look,
    )
    environment.globals.update(words=WORDS, tones=TONES, figures=figures, approvers=approvers, moment=moment)
    return environment
