"""The JSON API over real HTTP, in front of the real pipeline: who may ask, what they see, and what they decide."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pytest_aiohttp.plugin import AiohttpClient

from remediator.domain.remediations import Phase
from remediator.domain.rules import Mode, OnDemand
from remediator.errors import Finding
from remediator.redaction import Redactor
from remediator.web.app import make_app
from remediator.web.auth import Account, People
from remediator.web.config import WebConfig
from tests.support.serving import ADA, BOB, EVE, Serving, rule, serving

Client = TestClient[web.Request, web.Application]

PEOPLE = People([Account(ADA, "ada-token"), Account(BOB, "bob-token"), Account(EVE, "eve-token")])
CONFIG = WebConfig(webhook_tokens=("a-webhook-token",), redact=Redactor(["hunter-2-hunter"]))

ROUTES = [
    ("GET", "/api/v1/remediations"),
    ("GET", "/api/v1/remediations/x"),
    ("GET", "/api/v1/remediations/x/timeline"),
    ("GET", "/api/v1/remediations/x/plan"),
    ("POST", "/api/v1/remediations/x/approve"),
    ("POST", "/api/v1/remediations/x/reject"),
    ("GET", "/api/v1/switches"),
    ("POST", "/api/v1/switches"),
    ("DELETE", "/api/v1/switches/pause"),
    ("GET", "/api/v1/rules"),
    ("POST", "/api/v1/rules/pause/start"),
    ("POST", "/-/reload"),
]
"""Every route that demands a person."""


def as_(name: str) -> dict[str, str]:
    """Ask as somebody."""
    return {"Authorization": f"Bearer {name}-token"}


@pytest.fixture
async def running() -> AsyncIterator[Serving]:
    """A rule that asks one of the devops for approval."""
    async with serving() as parts:
        yield parts


@pytest.fixture
async def client(running: Serving, aiohttp_client: AiohttpClient) -> Client:
    """Somebody's tool."""
    return await aiohttp_client(make_app(running.service, CONFIG, PEOPLE))


async def vote(
    client: Client, id_: str, digest: str, *, by: str = "ada", choice: str = "approve", **more: Any
) -> tuple[int, Any]:
    """Vote, and return the status and the answer."""
    answer = await client.post(
        f"/api/v1/remediations/{id_}/{choice}", json={"digest": digest, **more}, headers=as_(by)
    )
    return answer.status, await answer.json()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nobody"),
        pytest.param({"Authorization": "Bearer wrong"}, id="wrong-token"),
        pytest.param({"Authorization": "Bearer a-webhook-token"}, id="alertmanagers-token"),
        pytest.param({"Cookie": "remediator_session=ada-token"}, id="a-cookie"),
    ],
)
async def test_every_route_demands_a_person(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    """Nobody, a wrong token, the webhook's token and a cookie get 401 everywhere, before anything else is looked at."""
    answer = await client.request(method, path, headers=headers)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert set(await answer.json()) == {"error", "mend"}


def test_the_list_of_routes_is_complete(running: Serving) -> None:
    """A route that is added is in the matrix above, or is the webhook, or is for machines."""
    app = make_app(running.service, CONFIG, PEOPLE)
    found = {
        (route.method, route.resource.canonical.replace("{id}", "x").replace("{name}", "pause"))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    machines = {(method, path) for method, path in found if path.startswith(("/api", "/-", "/metrics"))}

    open_ = {
        ("POST", "/api/v1/alertmanager"),
        ("GET", "/-/healthy"),
        ("GET", "/-/ready"),
        ("GET", "/metrics"),
    }
    assert machines == set(ROUTES) | open_


async def test_a_remediation_is_shown_with_its_plan(client: Client, running: Serving) -> None:
    """The list, the one, its plan and its timeline tell the same story."""
    remediation = await running.fire()

    listed = await (await client.get("/api/v1/remediations", headers=as_("eve"))).json()
    one = await (await client.get(f"/api/v1/remediations/{remediation.id}", headers=as_("eve"))).json()
    plan = await (await client.get(f"/api/v1/remediations/{remediation.id}/plan", headers=as_("eve"))).json()
    timeline = await (
        await client.get(f"/api/v1/remediations/{remediation.id}/timeline", headers=as_("eve"))
    ).json()

    assert [remediation.id] == [row["id"] for row in listed["remediations"]]
    assert one["phase"] == "awaiting_approval"
    assert one["plan"] == plan
    assert one["approval"]["digest"] == plan["digest"]
    assert one["approval"]["approvers"] == ["devops"]
    assert plan["steps"][0]["effects"][0]["summary"] == "set 3 -> 7"
    assert [entry["kind"] for entry in timeline["timeline"]][-1] == "approval_asked"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", ["cache redis-2", "cache redis-1"], id="all"),
        pytest.param("?phase=awaiting_approval", ["cache redis-1"], id="phase"),
        pytest.param("?phase=matched", ["cache redis-2"], id="the-other-is-held-one-at-a-time"),
        pytest.param(
            "?phase=matched&phase=awaiting_approval", ["cache redis-2", "cache redis-1"], id="phases"
        ),
        pytest.param("?phase=suggested", [], id="no-such-phase-now"),
        pytest.param("?system=brainstem", ["cache redis-2", "cache redis-1"], id="system"),
        pytest.param("?system=other", [], id="another-system"),
        pytest.param("?limit=1", ["cache redis-2"], id="limit"),
    ],
)
async def test_the_list_is_filtered(
    client: Client, running: Serving, query: str, expected: list[str]
) -> None:
    """The newest first, by phase, several at once, by system, and by number."""
    await running.fire(instance="redis-1")
    await running.clock.sleep(1)
    await running.fire(instance="redis-2")

    answer = await client.get(f"/api/v1/remediations{query}", headers=as_("ada"))

    assert expected == [row["subject"] for row in (await answer.json())["remediations"]]


@pytest.mark.parametrize(
    "query", ["?phase=x", "?limit=0", "?limit=1001", "?limit=x", "?limit=-1", "?limit=²"]
)
async def test_a_wrong_query_is_told(client: Client, query: str) -> None:
    """400 with what would be right."""
    answer = await client.get(f"/api/v1/remediations{query}", headers=as_("ada"))

    assert answer.status == 400
    assert (await answer.json())["mend"]


@pytest.mark.parametrize("path", ["", "/timeline", "/plan"])
async def test_an_unknown_remediation_is_404(client: Client, path: str) -> None:
    """What is not there is not there, in JSON."""
    answer = await client.get(f"/api/v1/remediations/nothing{path}", headers=as_("ada"))

    assert answer.status == 404
    assert "nothing" in (await answer.json())["error"]


async def test_an_approval_runs_the_plan(client: Client, running: Serving) -> None:
    """The whole way: approved under the plan's digest, journaled under the person's own name, done."""
    remediation = await running.fire()
    assert remediation.plan is not None

    status, _ = await vote(client, remediation.id, remediation.plan.digest, reason="looks right")
    await running.settle()

    assert status == 200
    assert running.action.applied == 1
    votes = [
        entry.event.data
        for entry in await running.service.timeline(remediation.id)
        if entry.event.kind == "vote"
    ]
    assert [(one["by"], one["via"], one["reason"]) for one in votes] == [("ada", "api", "looks right")]


async def test_a_rejection_ends_it(client: Client, running: Serving) -> None:
    """Rejected, and nothing was touched."""
    remediation = await running.fire()
    assert remediation.plan is not None

    status, told = await vote(
        client, remediation.id, remediation.plan.digest, choice="reject", reason="not now"
    )
    await running.settle()

    assert (status, told["phase"]) == (200, "rejected")
    assert told["reason"] == "rejected by ada: not now"
    assert running.action.applied == 0


async def test_another_digest_does_not_count(client: Client, running: Serving) -> None:
    """An approval of something else than what stands there now is refused, and nothing is done."""
    remediation = await running.fire()

    status, told = await vote(client, remediation.id, "0" * 64)
    await running.settle()

    assert (status, told["error"]) == (409, "the plan has changed since you saw it; look at the new one")
    assert running.action.applied == 0


async def test_an_unlisted_person_does_not_count(client: Client, running: Serving) -> None:
    """A known person who is no approver is refused, and that stands in the journal."""
    remediation = await running.fire()
    assert remediation.plan is not None

    status, told = await vote(client, remediation.id, remediation.plan.digest, by="eve")
    await running.settle()

    assert (status, told["error"]) == (409, "eve is not among the approvers (devops)")
    assert running.action.applied == 0
    kinds = [entry.event.kind for entry in await running.service.timeline(remediation.id)]
    assert kinds[-1] == "vote_refused"


async def test_an_approval_counts_once(client: Client, running: Serving) -> None:
    """The same approval again is refused: it is used up."""
    remediation = await running.fire()
    assert remediation.plan is not None

    first, _ = await vote(client, remediation.id, remediation.plan.digest)
    again, told = await vote(client, remediation.id, remediation.plan.digest)
    await running.settle()
    later, _ = await vote(client, remediation.id, remediation.plan.digest, by="bob")

    assert [first, again, later] == [200, 409, 409]
    assert told["error"].startswith("there is nothing to decide")
    assert running.action.applied == 1


async def test_two_votes_are_two_people(aiohttp_client: AiohttpClient) -> None:
    """Where two must agree, one person's second vote is refused and another's is the second."""
    async with serving(rule(votes=2)) as running:
        client = await aiohttp_client(make_app(running.service, CONFIG, PEOPLE))
        remediation = await running.fire()
        assert remediation.plan is not None
        digest = remediation.plan.digest

        one = await vote(client, remediation.id, digest)
        same = await vote(client, remediation.id, digest)
        untouched = running.action.applied
        two = await vote(client, remediation.id, digest, by="bob")
        await running.settle()

        assert [one[0], same[0], two[0]] == [200, 409, 200]
        assert one[1]["approval"]["agreed"] == ["ada"]
        assert [untouched, running.action.applied] == [0, 1]


async def test_an_expired_approval_does_not_count(client: Client, running: Serving) -> None:
    """After its time an approval is refused, whoever gives it."""
    remediation = await running.fire()
    assert remediation.plan is not None
    await running.clock.sleep(3600)

    status, told = await vote(client, remediation.id, remediation.plan.digest)

    assert status == 409
    assert "expired" in told["error"]
    assert running.action.applied == 0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="no-digest"),
        pytest.param({"digest": "abc"}, id="short-digest"),
        pytest.param({"digest": "A" * 64}, id="not-hex"),
        pytest.param({"digest": None}, id="null"),
        pytest.param({"digest": "0" * 64, "reason": "x" * 501}, id="long-reason"),
        pytest.param({"digest": "0" * 64, "by": "ada"}, id="a-name-in-the-body"),
        pytest.param([], id="a-list"),
    ],
)
async def test_a_wrong_ballot_is_told(client: Client, running: Serving, body: Any) -> None:
    """400; above all where the body says who votes: that is the authenticated person and nobody else."""
    remediation = await running.fire()

    answer = await client.post(
        f"/api/v1/remediations/{remediation.id}/approve", json=body, headers=as_("eve")
    )

    assert answer.status == 400
    assert (await answer.json())["mend"] == "send JSON with digest, reason and nothing else"
    assert (await running.now(remediation.id)).phase == Phase.AWAITING_APPROVAL


async def test_switches(client: Client, running: Serving) -> None:
    """A pause is turned on with a reason and by name of who did it, holds what is new, and is turned off."""
    body = {"name": "pause", "reason": "migration", "scope": "system=brainstem"}
    on = await client.post("/api/v1/switches", json=body, headers=as_("ada"))
    held = await running.fire()
    off = await client.delete("/api/v1/switches/pause?scope=system=brainstem", headers=as_("bob"))
    again = await client.delete("/api/v1/switches/pause?scope=system=brainstem", headers=as_("bob"))

    (told,) = (await on.json())["switches"]
    assert (
        told["name"],
        told["scope"],
        told["reason"],
        told["by"],
    ) == ("pause", "system=brainstem", "migration", "ada")
    assert held.phase is Phase.MATCHED
    assert held.reason == "paused: migration"
    assert (await off.json())["switches"] == []
    assert [on.status, off.status, again.status] == [200, 200, 404]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "pause"},
        {"name": "pause", "reason": ""},
        {"name": "pause", "reason": "x", "scope": "brainstem"},
        {"name": "off", "reason": "x"},
        {"name": "kill", "reason": "x", "by": "bob"},
    ],
)
async def test_a_wrong_switch_is_told(client: Client, running: Serving, body: Any) -> None:
    """Only the two switches, always with a reason, never in another's name."""
    answer = await client.post("/api/v1/switches", json=body, headers=as_("ada"))

    assert answer.status == 400
    assert await running.service.switches() == ()


async def test_rules(client: Client) -> None:
    """The rule table, as it is in force."""
    (told,) = (await (await client.get("/api/v1/rules", headers=as_("eve"))).json())["rules"]

    assert told["matchers"] == ['alertname="CacheHitRateLow"']
    assert told["ladder"][0]["mode"] == "approve"
    assert told["ladder"][0]["approval"] == {"approvers": ["devops"], "votes": 1, "expires": "1h"}


STARTED = replace(
    rule(name="set-by-hand"),
    subject="cache {store}",
    on_demand=OnDemand({"store": "tiles"}, {"store": ("tiles", "segments")}),
)


@pytest.fixture
async def by_hand(aiohttp_client: AiohttpClient) -> AsyncIterator[tuple[Client, Serving]]:
    """A rule that people may start, beside one that they may not, and a Prometheus where nothing fires."""
    async with serving(rule(), STARTED) as parts:
        parts.world.is_firing = False
        yield await aiohttp_client(make_app(parts.service, CONFIG, PEOPLE)), parts


async def start(
    client: Client, name: str = "set-by-hand", *, by: str = "ada", **body: Any
) -> tuple[int, Any]:
    """Start a rule, and return the status and the answer."""
    body = {"reason": "a new release", **body}
    answer = await client.post(f"/api/v1/rules/{name}/start", json=body, headers=as_(by))
    return answer.status, await answer.json()


async def test_a_person_starts_a_rule(by_hand: tuple[Client, Serving]) -> None:
    """It is begun once in its minute, says by whom and why, and another person's approval carries it out."""
    client, running = by_hand
    status, begun = await start(client, labels={"store": "segments"})
    again = await start(client, labels={"store": "segments"}, by="bob")
    await running.settle()

    assert (201, True) == (status, begun["begun"])
    assert (200, {"id": begun["id"], "begun": False}) == again
    one = await (await client.get(f"/api/v1/remediations/{begun['id']}", headers=as_("eve"))).json()
    assert ("ada", "cache segments", "awaiting_approval") == (one["started_by"], one["subject"], one["phase"])
    assert "started by ada: a new release" == one["annotations"]["summary"]
    timeline = await (
        await client.get(f"/api/v1/remediations/{begun['id']}/timeline", headers=as_("eve"))
    ).json()
    assert ("started", "ada", "a new release") == (
        timeline["timeline"][0]["kind"],
        timeline["timeline"][0]["data"]["by"],
        timeline["timeline"][0]["data"]["reason"],
    )

    own, told = await vote(client, begun["id"], one["approval"]["digest"])
    assert (409, "ada started it; another person has to agree") == (own, told["error"])
    assert 200 == (await vote(client, begun["id"], one["approval"]["digest"], by="bob"))[0]
    await running.settle()
    assert 7 == running.action.value


async def test_what_can_be_started_is_listed(by_hand: tuple[Client, Serving]) -> None:
    """The rule table says which rules people start, and what they may choose."""
    client, _ = by_hand
    rows = (await (await client.get("/api/v1/rules", headers=as_("eve"))).json())["rules"]

    assert [None, {"labels": {"store": "tiles"}, "choices": {"store": ["tiles", "segments"]}}] == [
        row["on_demand"] for row in rows
    ]


@pytest.mark.parametrize(
    ("name", "body", "status", "told"),
    [
        pytest.param("no-such-rule", {}, 404, "there is no rule", id="unknown-rule"),
        pytest.param("cache-hit-rate", {}, 400, "it has no on_demand", id="a-rule-for-alerts"),
        pytest.param(
            "set-by-hand", {"labels": {"store": "all"}}, 400, "store cannot be 'all'", id="not-listed"
        ),
        pytest.param(
            "set-by-hand", {"labels": {"instance": "db-1"}}, 400, "not for you to choose", id="unknown-label"
        ),
        pytest.param("set-by-hand", {"labels": {"store": 1}}, 400, "labels.store", id="a-number"),
        pytest.param("set-by-hand", {"reason": ""}, 400, "reason", id="no-reason"),
        pytest.param(
            "set-by-hand", {"started_by": "bob"}, 400, "started_by: Extra inputs", id="in-anothers-name"
        ),
    ],
)
async def test_a_wrong_start_is_told(
    by_hand: tuple[Client, Serving], name: str, body: dict[str, Any], status: int, told: str
) -> None:
    """What cannot be started so is refused with how to mend it, and nothing begins."""
    client, running = by_hand
    found, answer = await start(client, name, **body)

    assert (status, True) == (found, told in answer["error"])
    assert answer["mend"]
    assert () == await running.service.list()


async def test_only_approvers_start_what_asks_nobody(aiohttp_client: AiohttpClient) -> None:
    """Eve is known and no approver: what acts by itself is not hers to start."""
    async with serving(replace(STARTED, ladder=rule(Mode.AUTO).ladder), cap=Mode.AUTO) as running:
        client = await aiohttp_client(make_app(running.service, CONFIG, PEOPLE))

        assert 403 == (await start(client, by="eve"))[0]
        assert () == await running.service.list()
        assert 201 == (await start(client, by="bob"))[0]


async def test_a_bad_reload_tells_every_finding(client: Client, running: Serving) -> None:
    """Reload needs a person, and where the rules are wrong it says where and that the old ones stay."""
    good = await client.post("/-/reload", headers=as_("ada"))
    running.findings.append(Finding("rules/x.yml", 3, 7, "found 'autoo', expected a mode"))
    bad = await client.post("/-/reload", headers=as_("ada"))

    assert [good.status, bad.status] == [200, 422]
    assert (await bad.json())["findings"] == ["rules/x.yml:3:7: error: found 'autoo', expected a mode"]


async def test_health_and_readiness(client: Client, running: Serving) -> None:
    """Healthy is the process; ready is the work, with the reason where not."""
    ready = await client.get("/-/ready")
    running.service.be("the ledger is read-only")
    not_ready = await client.get("/-/ready")
    healthy = await client.get("/-/healthy")

    assert [ready.status, not_ready.status, healthy.status] == [200, 503, 200]
    assert (await not_ready.json())["error"] == "the ledger is read-only"


async def test_metrics(client: Client, running: Serving) -> None:
    """What Prometheus scrapes is in its format, and requests are timed by route and never by path."""
    remediation = await running.fire()
    await client.get(f"/api/v1/remediations/{remediation.id}", headers=as_("ada"))

    answer = await client.get("/metrics")

    text = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    routes = {sample.labels["route"] for sample in families["remediator_http_seconds"].samples}
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "/api/v1/remediations/{id}" in routes
    assert remediation.id not in text


async def test_no_secret_passes(client: Client, running: Serving) -> None:
    """A secret that got into a label, or that looks like one, is hidden in every answer."""
    remediation = await running.fire(dsn="redis://u:hunter-2-hunter@db", note="Bearer abcdefgh12345")

    text = await (await client.get(f"/api/v1/remediations/{remediation.id}", headers=as_("ada"))).text()

    assert "hunter-2-hunter" not in text
    assert "abcdefgh12345" not in text
    assert "[redacted]" in text


async def test_what_is_not_there_is_json_for_machines(client: Client) -> None:
    """An unknown route of the API answers as its other routes do."""
    answer = await client.get("/api/v1/nothing", headers=as_("ada"))

    assert answer.status == 404
    assert set(await answer.json()) == {"error", "mend"}
