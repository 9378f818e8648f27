"""The webhook over real HTTP: who may post, what is refused and how, and what the sender is told."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator

import bcrypt
import pytest
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY
from pytest_aiohttp.plugin import AiohttpClient

from remediator.errors import LedgerUnavailable
from remediator.pipeline.ports import Accepted
from remediator.pipeline.service import Service
from remediator.testing import make_alert, make_payload
from remediator.web.app import make_app, set_up
from remediator.web.auth import People
from remediator.web.config import WEBHOOK, WebConfig
from tests.support.serving import ALERT, Serving, serving

Client = TestClient[web.Request, web.Application]

HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
CONFIG = WebConfig(
    webhook_tokens=("a-webhook-token",), webhook_users={"am": HASH}, body_limit=64 * 1024, retry_after=7
)
TOKEN = {"Authorization": "Bearer a-webhook-token"}
BODY = make_payload(make_alert(ALERT, instance="redis-1"))


@pytest.fixture
async def running() -> AsyncIterator[Serving]:
    """The pipeline behind the webhook."""
    async with serving() as parts:
        yield parts


@pytest.fixture
async def client(running: Serving, aiohttp_client: AiohttpClient) -> Client:
    """A sender."""
    return await aiohttp_client(make_app(running.service, CONFIG, People([])))


def rejected(reason: str) -> float:
    """How many posts were refused for this reason so far."""
    return REGISTRY.get_sample_value("remediator_webhook_rejected_total", {"reason": reason}) or 0.0


async def post(client: Client, body: bytes = BODY, headers: dict[str, str] | None = None) -> ClientResponse:
    """Post as Alertmanager does, and follow nothing."""
    shown = {"Content-Type": "application/json", "User-Agent": "Alertmanager/0.28.0", **(headers or {})}
    return await client.post(WEBHOOK, data=body, headers=shown, allow_redirects=False)


async def test_a_post_is_answered_after_the_commit(client: Client, running: Serving) -> None:
    """200 means that the remediation stands in the ledger, and that the very bytes are kept."""
    answer = await post(client, headers=TOKEN)

    assert answer.status == 200
    assert await answer.read() == b""
    assert [one.labels["alertname"] for one in await running.service.list()] == [ALERT]
    assert [delivery.body for delivery in await running.ledger.deliveries()] == [BODY]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("Bearer a-webhook-token", 200, id="token"),
        pytest.param("Basic " + base64.b64encode(b"am:open sesame").decode(), 200, id="password"),
        pytest.param("Bearer wrong", 401, id="wrong-token"),
        pytest.param("Basic " + base64.b64encode(b"am:wrong").decode(), 401, id="wrong-password"),
        pytest.param("", 401, id="nothing"),
    ],
)
async def test_credentials(client: Client, running: Serving, header: str, expected: int) -> None:
    """Without the right credentials nothing is taken in, the refusal is counted, and says what is asked for."""
    before = rejected("auth")

    answer = await post(client, headers={"Authorization": header} if header else {})

    refused = expected == 401
    assert expected == answer.status
    assert refused is ("WWW-Authenticate" in answer.headers)
    assert before + refused == rejected("auth")
    assert (0 if refused else 1) == len(await running.ledger.deliveries())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="not-json"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b'{"version":"3"}', id="version-3"),
        pytest.param(make_payload(), id="no-alerts"),
        pytest.param(BODY.replace(b'"startsAt": "2026', b'"startsAt": "yesterday 2026'), id="startsAt"),
        pytest.param(
            BODY.replace(b'"startsAt": "2026-01', b'"startsAt": "2026-13'), id="a-month-that-is-none"
        ),
    ],
)
async def test_a_wrong_payload_is_refused_with_a_reason(
    client: Client, running: Serving, body: bytes
) -> None:
    """400 with what is wrong; the sender gives up on it, and the bytes are kept for inspection."""
    before = rejected("payload")

    answer = await post(client, body, TOKEN)

    told = await answer.json()
    assert answer.status == 400
    assert told["error"].startswith("not an Alertmanager webhook payload of version 4: ")
    assert "inspection" in told["mend"]
    assert before + 1 == rejected("payload")
    (kept,) = await running.ledger.deliveries()
    assert body == kept.body
    assert kept.rejected == told["error"]


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body that does not tell its length."""
    for _ in range(size // 1024):
        yield b" " * 1024


async def test_a_body_over_the_limit_is_not_read(client: Client, running: Serving) -> None:
    """413, whether the length is announced or not, and nothing is kept."""
    before = rejected("size")

    announced = await post(client, b" " * (CONFIG.body_limit + 1), TOKEN)
    streamed = await client.post(WEBHOOK, data=chunks(CONFIG.body_limit * 2), headers=TOKEN)

    assert [announced.status, streamed.status] == [413, 413]
    assert "65536 bytes" in (await announced.json())["error"]
    assert before + 2 == rejected("size")
    assert await running.ledger.deliveries() == ()


async def test_a_body_at_the_limit_is_read(client: Client) -> None:
    """The limit itself is allowed."""
    body = BODY + b" " * (CONFIG.body_limit - len(BODY))

    assert (await post(client, body, TOKEN)).status == 200


class FullDisk(Service):
    """A service whose ledger takes nothing."""

    async def ingest(self, body: bytes, source: str) -> Accepted:
        """Fail as the ledger does."""
        raise LedgerUnavailable("database or disk is full")


async def test_503_while_nothing_can_be_committed(running: Serving, aiohttp_client: AiohttpClient) -> None:
    """503, never 429, on which Alertmanager would give up; with Retry-After, and counted."""
    whole = running.service
    service = FullDisk(
        whole._ledger, whole._ingest, whole._advance, whole._clock, whole._reload, "suggest", whole._starter
    )
    client = await aiohttp_client(make_app(service, CONFIG, People([])))
    before = rejected("unavailable")

    answer = await post(client, headers=TOKEN)

    assert answer.status == 503
    assert answer.headers["Retry-After"] == "7"
    assert "disk" not in await answer.text()
    assert before + 1 == rejected("unavailable")


async def test_a_ledger_that_was_closed_answers_503(client: Client, running: Serving) -> None:
    """The real ledger, gone: nothing is answered 2xx that is not committed."""
    await running.ledger.close()

    assert (await post(client, headers=TOKEN)).status == 503


@pytest.mark.parametrize(
    "path", [WEBHOOK + "/", WEBHOOK.upper(), "/api/v1//alertmanager", "/api/v1/alertmanager/x"]
)
async def test_the_webhook_never_redirects(client: Client, path: str) -> None:
    """Alertmanager follows redirects and would post elsewhere: another path is 404, with or without a slash."""
    answer = await client.post(path, data=BODY, headers=TOKEN, allow_redirects=False)

    assert answer.status == 404
    assert "Location" not in answer.headers


async def test_only_post(client: Client) -> None:
    """Another method is 405 and says which are taken."""
    answer = await client.get(WEBHOOK, headers=TOKEN, allow_redirects=False)

    assert answer.status == 405
    assert answer.headers["Allow"] == "POST"
    assert set(await answer.json()) == {"error", "mend"}


async def test_repeats_change_nothing(client: Client, running: Serving) -> None:
    """The same post from two Alertmanagers, and again, is one remediation."""
    other = json.dumps({**json.loads(BODY), "externalURL": "http://another:9093"}).encode()

    answers = [await post(client, body, TOKEN) for body in (BODY, other, BODY)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len(await running.service.list()) == 1


def test_no_credentials_is_no_app(running: Serving) -> None:
    """A webhook that anybody may post to is refused at the start, unless somebody asked for it."""
    with pytest.raises(ValueError, match="no credentials"):
        make_app(running.service, WebConfig(), People([]))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, 200, id="alertmanager-on-this-machine"),
        pytest.param({"Origin": "https://evil.example"}, 401, id="a-page-in-a-browser"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 401, id="a-form-in-a-browser"),
    ],
)
async def test_unauthenticated_is_for_this_machine_and_no_browser(
    running: Serving, aiohttp_client: AiohttpClient, headers: dict[str, str], expected: int
) -> None:
    """Without credentials a web page that somebody looks at must not be able to post alerts to us."""
    client = await aiohttp_client(
        make_app(running.service, WebConfig(allow_unauthenticated=True), People([]))
    )

    assert expected == (await post(client, headers=headers)).status


@pytest.fixture
async def short(running: Serving) -> AsyncIterator[str]:
    """Where the service itself listens, with the webhook's short way."""
    runner = await set_up(make_app(running.service, CONFIG, People([])))
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        pytest.param("POST", WEBHOOK, BODY, TOKEN, id="accepted"),
        pytest.param("POST", WEBHOOK, BODY, {}, id="no-credentials"),
        pytest.param("POST", WEBHOOK, b"{}", TOKEN, id="no-payload"),
        pytest.param("POST", WEBHOOK, b"x" * 65 * 1024, TOKEN, id="too-large"),
        pytest.param("POST", f"{WEBHOOK}?a=b", BODY, TOKEN, id="with-a-query"),
        pytest.param("POST", f"{WEBHOOK}/", BODY, TOKEN, id="another-path"),
        pytest.param("GET", WEBHOOK, b"", TOKEN, id="another-method"),
        pytest.param("GET", "/-/healthy", b"", {}, id="another-route"),
    ],
)
async def test_the_short_way_answers_as_the_routes_do(
    client: Client, short: str, method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    """Posts skip the search for their route, and nothing else: status, headers and text are the same."""
    given = {**headers, "Content-Type": "application/json", "X-Request-ID": "same"}
    routed = await client.request(method, path, data=body, headers=given)
    async with (
        ClientSession() as session,
        session.request(method, short + path, data=body, headers=given) as answer,
    ):
        assert routed.status == answer.status
        assert {**routed.headers, "Date": ""} == {**answer.headers, "Date": ""}
        assert await routed.read() == await answer.read()


async def test_every_answer_has_a_request_id_and_safe_headers(client: Client) -> None:
    """An id to find it by in the logs: the sender's where it is one, else ours; and nothing tells what we run on."""
    ours = await post(client, headers=TOKEN)
    theirs = await post(client, headers={**TOKEN, "X-Request-ID": "abc-123"})
    odd = await post(client, headers={**TOKEN, "X-Request-ID": "a b<c>"})

    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", ours.headers["X-Request-ID"])
    assert theirs.headers["X-Request-ID"] == "abc-123"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", odd.headers["X-Request-ID"])
    assert ours.headers["Server"] == "remediator"
    assert ours.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in ours.headers
