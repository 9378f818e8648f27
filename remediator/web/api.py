"""The JSON API for people and their tools. Each route demands a known person's bearer token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remediator.domain.approvals import Person, Vote
from remediator.domain.remediations import Phase
from remediator.errors import CannotStart, MayNotStart
from remediator.pipeline.ports import Loaded
from remediator.pipeline.service import Service
from remediator.web.config import WebConfig
from remediator.web.people import Gate
from remediator.web.problems import Problem
from remediator.web.views import entry_view, plan_view, remediation_view, rule_view, summary_view, switch_view

log = structlog.get_logger()

MOST = 1000
"""Remediations in one answer at most."""
_BODY_LIMIT = 64 * 1024
_STARTED = "GET /api/v1/rules tells of each rule whether people start it (on_demand), and with which choices"

Reason = Annotated[str, Field(max_length=500)]
M = TypeVar("M", bound=BaseModel)
Handler = Callable[[web.Request, Person], Awaitable[web.Response]]


class Ballot(BaseModel):
    """A vote. It names the digest of the plan that its giver saw; who gives it is who is authenticated."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reason: Reason = ""


class SwitchOn(BaseModel):
    """A switch to turn on, and why. An empty scope is everything; else `system=NAME` or `rule=NAME`."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["pause", "kill"]
    scope: Annotated[str, Field(max_length=200)] = ""
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Start(BaseModel):
    """A rule to start on demand, and why. `labels` choose among what the rule leaves open."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, Annotated[str, Field(max_length=200)]] = {}
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class Api:
    """The routes below /api/v1, the webhook aside."""

    def __init__(self, service: Service, config: WebConfig, gate: Gate) -> None:
        self._service, self._config, self._gate = service, config, gate

    def routes(self) -> Sequence[web.RouteDef]:
        """Where each is found."""
        one = "/api/v1/remediations/{id}"
        return [
            web.get("/api/v1/remediations", self._known(self.remediations)),
            web.get(one, self._known(self.remediation)),
            web.get(f"{one}/timeline", self._known(self.timeline)),
            web.get(f"{one}/plan", self._known(self.plan)),
            web.post(f"{one}/approve", self._known(self.approve)),
            web.post(f"{one}/reject", self._known(self.reject)),
            web.get("/api/v1/switches", self._known(self.switches)),
            web.post("/api/v1/switches", self._known(self.switch)),
            web.delete("/api/v1/switches/{name}", self._known(self.unswitch)),
            web.get("/api/v1/rules", self._known(self.rules)),
            web.post("/api/v1/rules/{name}/start", self._known(self.start)),
        ]

    def _known(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def known(request: web.Request) -> web.Response:
            return await handler(request, self._gate.api(request))

        return known

    async def remediations(self, request: web.Request, person: Person) -> web.Response:
        """The newest first; `phase` may be given several times."""
        phases = tuple(_phase(text) for text in request.query.getall("phase", []))
        found = await self._service.list(
            phases=phases,
            system=request.query.get("system", ""),
            limit=_limit(request.query.get("limit", "100")),
        )
        return self._json({"remediations": [summary_view(remediation) for remediation in found]})

    async def remediation(self, request: web.Request, person: Person) -> web.Response:
        """One, with all that is known of it."""
        return self._json(remediation_view(await self._load(request)))

    async def timeline(self, request: web.Request, person: Person) -> web.Response:
        """Its journal entries, in order."""
        await self._load(request)
        entries = await self._service.timeline(request.match_info["id"])
        return self._json({"timeline": [entry_view(entry) for entry in entries]})

    async def plan(self, request: web.Request, person: Person) -> web.Response:
        """Its plan, under the digest that a vote has to name."""
        plan = (await self._load(request)).remediation.plan
        if plan is None:
            raise Problem(
                404, "there is no plan yet", "ask again when its phase is awaiting_approval or suggested"
            )
        return self._json(plan_view(plan))

    async def approve(self, request: web.Request, person: Person) -> web.Response:
        """Permit the plan of that digest."""
        return await self._vote(request, person, approve=True)

    async def reject(self, request: web.Request, person: Person) -> web.Response:
        """Forbid the plan of that digest."""
        return await self._vote(request, person, approve=False)

    async def switches(self, request: web.Request, person: Person) -> web.Response:
        """The switches that are on."""
        return self._json({"switches": [switch_view(switch) for switch in await self._service.switches()]})

    async def switch(self, request: web.Request, person: Person) -> web.Response:
        """Turn one on."""
        wanted = await self._read(request, SwitchOn)
        demand_scope(self._service, wanted.scope)
        await self._service.switch(wanted.name, wanted.scope, wanted.reason, person.name)
        log.warning("switched on", name=wanted.name, scope=wanted.scope, reason=wanted.reason, by=person.name)
        return await self.switches(request, person)

    async def unswitch(self, request: web.Request, person: Person) -> web.Response:
        """Turn one off."""
        name, scope = request.match_info["name"], request.query.get("scope", "")
        if not await self._service.unswitch(name, scope, person.name):
            raise Problem(
                404, f"{name} is not on for {scope or 'everything'}", "GET /api/v1/switches lists those on"
            )
        log.warning("switched off", name=name, scope=scope, by=person.name)
        return await self.switches(request, person)

    async def rules(self, request: web.Request, person: Person) -> web.Response:
        """The rule table in its order."""
        return self._json({"rules": [rule_view(rule) for rule in self._service.rules.rules]})

    async def start(self, request: web.Request, person: Person) -> web.Response:
        """Start a rule on demand; 201 where that began a remediation, 200 where somebody just had."""
        wanted = await self._read(request, Start)
        name = request.match_info["name"]
        try:
            started = await self._service.start(name, wanted.labels, wanted.reason, person)
        except KeyError:
            raise Problem(404, f"there is no rule {name[:80]!r}", _STARTED) from None
        except MayNotStart as error:
            raise Problem(403, str(error), "ask one of them") from None
        except CannotStart as error:
            raise Problem(400, str(error), _STARTED) from None
        answer = self._json({"id": started.id, "begun": started.begun})
        answer.set_status(201 if started.begun else 200)
        return answer

    async def _vote(self, request: web.Request, person: Person, *, approve: bool) -> web.Response:
        ballot = await self._read(request, Ballot)
        loaded = await self._load(request)
        vote = Vote(person, approve, ballot.digest, "api", ballot.reason)
        refused = await self._service.vote(loaded.remediation.id, vote)
        if refused:
            raise Problem(409, refused, "GET the remediation to see where it stands")
        return self._json(remediation_view(await self._load(request)))

    async def _load(self, request: web.Request) -> Loaded:
        return await load(self._service, request.match_info["id"])

    async def _read(self, request: web.Request, model: type[M]) -> M:
        if (request.content_length or 0) > _BODY_LIMIT:
            raise web.HTTPRequestEntityTooLarge(max_size=_BODY_LIMIT)
        try:
            return model.model_validate_json(await request.read())
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False, include_context=False)
            )
            fields = ", ".join(model.model_fields)
            raise Problem(
                400, f"the body is not right: {faults}", f"send JSON with {fields} and nothing else"
            ) from None

    def _json(self, value: Any) -> web.Response:
        return web.json_response(self._config.redact.leaves(value))


async def load(service: Service, id_: str) -> Loaded:
    """One remediation. Raises Problem 404."""
    try:
        return await service.show(id_)
    except KeyError:
        raise Problem(
            404, f"there is no remediation {id_[:64]}", "GET /api/v1/remediations lists them"
        ) from None


def scopes(service: Service) -> tuple[str, ...]:
    """What a switch can be turned on for: everything, a system, or a rule."""
    rules = service.rules.rules
    systems = sorted({rule.system for rule in rules})
    return ("", *(f"system={name}" for name in systems), *(f"rule={rule.name}" for rule in rules))


def demand_scope(service: Service, scope: str) -> None:
    """Refuse a scope that names nothing: a handbrake that holds nothing must not look pulled. Raises Problem 400."""
    if scope not in scopes(service):
        raise Problem(
            400,
            f"{scope[:80]!r} is neither a system nor a rule",
            "leave the scope empty for everything, or write system=NAME or rule=NAME",
        )


def _phase(text: str) -> Phase:
    try:
        return Phase(text)
    except ValueError:
        known = ", ".join(phase.value for phase in Phase)
        raise Problem(400, f"{text[:40]!r} is no phase", f"use one of {known}") from None


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST:
        raise Problem(400, f"limit {text[:20]!r} is not a number from 1 to {MOST}", "leave it out for 100")
    return int(text)
