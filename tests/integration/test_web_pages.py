"""The pages over real HTTP: who reads them, that nothing from outside becomes markup, and that forms are people's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from remediator.domain.remediations import Phase
from remediator.redaction import Redactor
from remediator.web.app import make_app
from remediator.web.auth import Account, People
from remediator.web.config import WebConfig
from remediator.web.sessions import COOKIE
from tests.support.serving import ADA, EVE, Serving, rule, serving

Client = TestClient[web.Request, web.Application]
PEOPLE = People([Account(ADA, "ada-token"), Account(EVE, "eve-token")])
XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7919*7907 }}"


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))

    def value(self, name: str) -> str:
        """The value of the first input of that name."""
        return next(a.get("value") or "" for tag, a in self.found if tag == "input" and a.get("name") == name)


@pytest.fixture
async def running() -> AsyncIterator[Serving]:
    """A rule that asks for approval."""
    async with serving() as parts:
        yield parts


def config(running: Serving, **more: Any) -> WebConfig:
    """Settings whose sessions live by the pipeline's clock."""
    return WebConfig(
        webhook_tokens=("a-webhook-token",),
        now=running.clock.now,
        redact=Redactor(["hunter-2-hunter"]),
        **more,
    )


@pytest.fixture
async def client(running: Serving, aiohttp_client: AiohttpClient) -> Client:
    """A browser, before anybody signed in."""
    return await aiohttp_client(make_app(running.service, config(running), PEOPLE))


async def sign_in(client: Client, name: str = "ada", **more: str) -> ClientResponse:
    """Send the login form."""
    return await client.post("/login", data={"token": f"{name}-token", **more}, allow_redirects=False)


async def page(client: Client, path: str) -> str:
    """A page that has to be there."""
    answer = await client.get(path)
    assert answer.status == 200
    return await answer.text()


async def vote(client: Client, id_: str, **form: str) -> ClientResponse:
    """Send the decision form."""
    return await client.post(f"/remediations/{id_}/vote", data=form, allow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/remediations/x", "/?view=waiting"])
async def test_nobody_reads_without_signing_in(client: Client, path: str) -> None:
    """A page leads to the login and back, and shows nothing before."""
    answer = await client.get(path, allow_redirects=False)

    assert answer.status == 303
    assert answer.headers["Location"].startswith("/login?next=/")


async def test_signing_in(client: Client, running: Serving) -> None:
    """A person's token makes a session in a cookie that no script reads and no other site sends."""
    answer = await sign_in(client, next="/?view=waiting")

    cookie = answer.cookies[COOKIE]
    assert (answer.status, answer.headers["Location"]) == (303, "/?view=waiting")
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Strict"
    assert cookie["path"] == "/"
    assert "ada-token" not in cookie.value
    assert "ada" in await page(client, "/")


async def test_the_cookie_is_secure_where_the_pages_are(
    running: Serving, aiohttp_client: AiohttpClient
) -> None:
    """Behind https the cookie is sent over https alone, and browsers are told to stay there."""
    app = make_app(running.service, config(running, public_url="https://remediator.example"), PEOPLE)
    client = await aiohttp_client(app)

    answer = await sign_in(client)

    assert answer.cookies[COOKIE]["secure"] is True
    assert "Strict-Transport-Security" in answer.headers


@pytest.mark.parametrize("token", ["wrong", "", "ada-token-and-more", "a-webhook-token"])
async def test_a_wrong_token_is_nobody(client: Client, token: str) -> None:
    """401, the form again, and no cookie."""
    answer = await client.post("/login", data={"token": token}, allow_redirects=False)

    assert answer.status == 401
    assert COOKIE not in answer.cookies
    assert token == "" or token not in await answer.text()


async def test_signing_in_leads_nowhere_else(client: Client) -> None:
    """The address to go on to is one of ours."""
    answer = await sign_in(client, next="//evil.example/")

    assert answer.headers["Location"] == "/"


async def test_a_session_expires(client: Client, running: Serving) -> None:
    """After its time somebody has to sign in again."""
    await sign_in(client)
    await running.clock.sleep(12 * 3600)

    assert (await client.get("/", allow_redirects=False)).status == 303


async def test_signing_out(client: Client) -> None:
    """The cookie is gone, by a form of one's own only."""
    await sign_in(client)
    csrf = Elements(await page(client, "/")).value("csrf")

    foreign = await client.post("/logout", data={"csrf": "x"}, allow_redirects=False)
    own = await client.post("/logout", data={"csrf": csrf}, allow_redirects=False)

    assert [foreign.status, own.status] == [403, 303]
    assert (await client.get("/", allow_redirects=False)).status == 303


async def test_the_pages_tell_the_story(client: Client, running: Serving) -> None:
    """The front page lists it; its own page has the plan in figures, the digest, the guards and the timeline."""
    remediation = await running.fire()
    assert remediation.plan is not None
    await sign_in(client)

    front = await page(client, "/")
    one = await page(client, f"/remediations/{remediation.id}")

    assert f'href="/remediations/{remediation.id}"' in front
    assert "1 waiting for a person" in front
    assert "mode: suggest" in front
    for told in (
        "set 3 -&gt; 7",
        remediation.plan.digest,
        "all 13 guards allow it",
        "Approve this plan",
        "redis-1",
    ):
        assert told in one


async def test_approving_on_the_page(client: Client, running: Serving) -> None:
    """The form's own digest and form token, and the person of the session: it counts, and is done."""
    remediation = await running.fire()
    await sign_in(client)
    form = Elements(await page(client, f"/remediations/{remediation.id}"))

    answer = await vote(
        client,
        remediation.id,
        csrf=form.value("csrf"),
        digest=form.value("digest"),
        choice="approve",
        by="eve",
        reason="ok",
    )
    await running.settle()

    assert (answer.status, answer.headers["Location"]) == (303, f"/remediations/{remediation.id}")
    assert running.action.applied == 1
    assert (await running.now(remediation.id)).agreed == ("ada",)


async def test_rejecting_on_the_page(client: Client, running: Serving) -> None:
    """Rejected with the reason, and nothing is done."""
    remediation = await running.fire()
    await sign_in(client)
    form = Elements(await page(client, f"/remediations/{remediation.id}"))

    await vote(
        client,
        remediation.id,
        csrf=form.value("csrf"),
        digest=form.value("digest"),
        choice="reject",
        reason="no",
    )

    after = await running.now(remediation.id)
    assert (after.phase, after.reason) == (Phase.REJECTED, "rejected by ada: no")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"csrf": ""}, 403, id="no-form-token"),
        pytest.param({"csrf": "0" * 64}, 403, id="another-form-token"),
        pytest.param({"csrf": "ä"}, 403, id="odd-form-token"),
        pytest.param({"digest": "0" * 64}, 409, id="another-digest"),
        pytest.param({"digest": ""}, 409, id="no-digest"),
        pytest.param({"choice": "maybe"}, 400, id="no-decision"),
    ],
)
async def test_a_wrong_form_does_not_count(
    client: Client, running: Serving, change: dict[str, str], expected: int
) -> None:
    """Whatever is wrong with the form, nobody has approved."""
    remediation = await running.fire()
    await sign_in(client)
    own = Elements(await page(client, f"/remediations/{remediation.id}"))
    form = {"csrf": own.value("csrf"), "digest": own.value("digest"), "choice": "approve", **change}

    answer = await vote(client, remediation.id, **form)

    assert expected == answer.status
    assert answer.content_type == "text/html"
    assert (await running.now(remediation.id)).agreed == ()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"Origin": "https://evil.example"}, 403, id="origin"),
        pytest.param({"Origin": "null"}, 403, id="origin-null"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="a-sibling-host"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 303, id="our-own"),
    ],
)
async def test_a_form_of_another_site_does_not_count(
    client: Client, running: Serving, headers: dict[str, str], expected: int
) -> None:
    """Even with the right form token: a decision comes from our own page."""
    remediation = await running.fire()
    await sign_in(client)
    own = Elements(await page(client, f"/remediations/{remediation.id}"))
    form = {"csrf": own.value("csrf"), "digest": own.value("digest"), "choice": "approve"}

    answer = await client.post(
        f"/remediations/{remediation.id}/vote", data=form, headers=headers, allow_redirects=False
    )

    assert expected == answer.status
    assert (expected == 303) is ((await running.now(remediation.id)).agreed == ("ada",))


async def test_a_form_without_a_session_does_not_count(client: Client, running: Serving) -> None:
    """401 for somebody who is not signed in; a bearer token is no session."""
    remediation = await running.fire()
    assert remediation.plan is not None

    answer = await client.post(
        f"/remediations/{remediation.id}/vote",
        data={"csrf": "x", "digest": remediation.plan.digest, "choice": "approve"},
        headers={"Authorization": "Bearer ada-token"},
        allow_redirects=False,
    )

    assert answer.status == 401
    assert (await running.now(remediation.id)).agreed == ()


async def test_an_unlisted_person_is_told(client: Client, running: Serving) -> None:
    """Eve may read and not decide, and reads why."""
    remediation = await running.fire()
    await sign_in(client, "eve")
    own = Elements(await page(client, f"/remediations/{remediation.id}"))

    answer = await vote(
        client, remediation.id, csrf=own.value("csrf"), digest=own.value("digest"), choice="approve"
    )

    assert answer.status == 409
    assert "eve is not among the approvers (devops)" in await answer.text()


async def test_nothing_from_outside_becomes_markup(client: Client, running: Serving) -> None:
    """Labels and annotations full of markup are shown as text, on both pages."""
    remediation = await running.fire(instance=XSS, odd="javascript:alert(3)")
    await sign_in(client)

    for text in (await page(client, "/"), await page(client, f"/remediations/{remediation.id}")):
        elements = Elements(text).found
        assert "script" not in [tag for tag, _ in elements]
        assert [a["src"] for tag, a in elements if tag == "img"] == ["/static/icon.svg"]
        assert not [name for _, a in elements for name in a if name.startswith("on")]
        assert not [a for _, a in elements if (a.get("href") or "").startswith("javascript:")]
        assert "62615533" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    "path",
    [
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/?view=%3Cscript%3E&system=%3Cscript%3E",
        "/login?next=%22%3E%3Cscript%3E",
    ],
)
async def test_nothing_from_the_address_becomes_markup(client: Client, path: str) -> None:
    """Neither a path nor a query is ever shown as markup."""
    await sign_in(client)

    text = await (await client.get(path)).text()

    assert "script" not in [tag for tag, _ in Elements(text).found]


async def test_no_script_can_run(client: Client) -> None:
    """The policy allows no script, no frame and no other site, on pages and on errors."""
    for path in ("/login", "/nothing-here", "/static/style.css"):
        answer = await client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_page_uses_no_inline_style_or_script(client: Client, running: Serving) -> None:
    """What the policy would block is not there."""
    remediation = await running.fire()
    await sign_in(client)

    for path in ("/", f"/remediations/{remediation.id}", "/login"):
        elements = Elements(await page(client, path)).found
        assert not {"script", "style"} & {tag for tag, _ in elements}
        assert not [a for _, a in elements if "style" in a]


async def test_no_secret_is_shown(client: Client, running: Serving) -> None:
    """A configured secret, or what looks like one, does not appear on a page."""
    remediation = await running.fire(instance="redis://u:hunter-2-hunter@db", odd="xoxb-123456789012-abcdef")
    await sign_in(client)

    for path in ("/", f"/remediations/{remediation.id}"):
        text = await page(client, path)
        assert "hunter-2-hunter" not in text
        assert "xoxb-123456789012" not in text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("[::1]", 200),
        ("evil.example", 303),
        ("127.0.0.1.evil.example", 303),
    ],
)
async def test_reading_without_signing_in_is_for_this_machine(
    running: Serving, aiohttp_client: AiohttpClient, host: str, expected: int
) -> None:
    """Where it is allowed it is from loopback and under a loopback name: no rebound name reads our pages."""
    client = await aiohttp_client(
        make_app(running.service, config(running, allow_unauthenticated=True), PEOPLE)
    )

    answer = await client.get("/", headers={"Host": f"{host}:8080"}, allow_redirects=False)

    assert expected == answer.status


async def test_reading_without_signing_in_is_not_deciding(
    running: Serving, aiohttp_client: AiohttpClient
) -> None:
    """The page shows the plan and no form."""
    client = await aiohttp_client(
        make_app(running.service, config(running, allow_unauthenticated=True), PEOPLE)
    )
    remediation = await running.fire()

    text = await page(client, f"/remediations/{remediation.id}")

    assert "Sign in to decide" in text
    assert "form" not in [tag for tag, _ in Elements(text).found]


async def test_a_link_from_elsewhere_asks_again(client: Client) -> None:
    """A strict cookie is not sent along a link in Slack: our own page asks again before it asks for a token."""
    answer = await client.get(
        "/remediations/abc", headers={"Sec-Fetch-Site": "cross-site"}, allow_redirects=False
    )

    elements = Elements(await answer.text()).found
    assert answer.status == 200
    assert [a["content"] for _, a in elements if a.get("http-equiv") == "refresh"] == [
        "0;url=/remediations/abc"
    ]


async def test_the_handbrake(client: Client, running: Serving) -> None:
    """Pause from the front page, with a reason; it holds what is new; resume by its own button."""
    await sign_in(client)
    csrf = Elements(await page(client, "/")).value("csrf")

    form = {
        "csrf": csrf,
        "name": "pause",
        "on": "yes",
        "scope": "system=brainstem",
        "reason": "<b>migration</b>",
    }
    await client.post("/switches", data=form)
    held = await running.fire()
    shown = await page(client, "/")
    await client.post("/switches", data={"csrf": csrf, "name": "pause", "scope": "system=brainstem"})

    assert held.phase is Phase.MATCHED
    assert "&lt;b&gt;migration&lt;/b&gt;" in shown
    assert await running.service.switches() == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"csrf": "x"}, 403), ({"reason": " "}, 400), ({"name": "off"}, 400), ({"scope": "brainstem"}, 400)],
)
async def test_a_wrong_handbrake_is_told(
    client: Client, running: Serving, change: dict[str, str], expected: int
) -> None:
    """A forged form, a missing reason, and above all a scope that would hold nothing."""
    await sign_in(client)
    csrf = Elements(await page(client, "/")).value("csrf")

    form = {"csrf": csrf, "name": "kill", "on": "yes", "scope": "", "reason": "x", **change}
    answer = await client.post("/switches", data=form, allow_redirects=False)

    assert expected == answer.status
    assert await running.service.switches() == ()


async def test_a_runbook_is_confirmed(aiohttp_client: AiohttpClient) -> None:
    """A page for a person shows its checklist, and its buttons say what they mean."""
    async with serving(rule(playbook="look-yourself")) as running:
        client = await aiohttp_client(make_app(running.service, config(running), PEOPLE))
        remediation = await running.fire()
        await sign_in(client)

        text = await page(client, f"/remediations/{remediation.id}")

        for told in ("look at the fan", "turn it on", ">Done<", ">Did not help<"):
            assert told in text


async def test_what_is_not_there(client: Client) -> None:
    """An unknown page and an unknown remediation are pages too."""
    await sign_in(client)

    for path in ("/nothing", "/remediations/nothing", "/static/nothing", "/static/..%2fpages.py"):
        answer = await client.get(path)
        assert (answer.status, answer.content_type) == (404, "text/html")
