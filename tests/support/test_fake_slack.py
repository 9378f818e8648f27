"""The fake Slack keeps to Slack's contract, as seen by Slack's own SDK and by a small service."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from tests.support.fake_slack import (
    APP_TOKEN,
    BOT_TOKEN,
    SIGNING_SECRET,
    FakeSlack,
    NoSuchButtonError,
    NotAcknowledgedError,
)
from tests.support.ports import free_port
from tests.support.waiting import eventually


def button(action_id: str = "approve", text: str = "Approve", **more: Any) -> dict[str, Any]:
    """Return a button."""
    return {"type": "button", "action_id": action_id, "text": {"type": "plain_text", "text": text}, **more}


def section(text: str = "hello") -> dict[str, Any]:
    """Return a section."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def row(*elements: dict[str, Any]) -> dict[str, Any]:
    """Return an actions block."""
    return {"type": "actions", "elements": list(elements)}


PLAN = [section("UNLINK 12 keys"), row(button("approve"), button("reject", "Reject", style="danger"))]


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """A fresh workspace."""
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
def client(slack: FakeSlack) -> AsyncWebClient:
    """Slack's own client, with the bot's token."""
    return AsyncWebClient(token=BOT_TOKEN, base_url=slack.api_url)


class Service:
    """A service that verifies signatures as Slack's SDK does, and keeps the payloads."""

    def __init__(self) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.released = asyncio.Event()
        self.released.set()
        self.port = free_port()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 to what Slack signed, and 401 to the rest."""
        body = await request.read()
        if not SignatureVerifier(SIGNING_SECRET).is_valid_request(body, dict(request.headers)):
            return web.Response(status=401)
        form = await request.post()
        self.payloads.append(json.loads(str(form["payload"])))
        await self.released.wait()
        return web.Response()


@pytest.fixture
async def service(slack: FakeSlack) -> AsyncIterator[Service]:
    """A running service that Slack knows as its Request URL."""
    it = Service()
    app = web.Application()
    app.router.add_post("/interactivity", it.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", it.port).start()
    slack.interactivity_url = f"http://127.0.0.1:{it.port}/interactivity"
    yield it
    it.released.set()
    await runner.cleanup()


async def refused(call: Awaitable[Any]) -> str:
    """Return the error with which Slack refuses a call."""
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


async def test_tokens_are_demanded(slack: FakeSlack) -> None:
    """No token, a wrong one and the other kind of token are each refused by name."""
    url = slack.api_url

    assert await refused(AsyncWebClient(base_url=url).auth_test()) == "not_authed"
    assert await refused(AsyncWebClient(token="xoxb-other", base_url=url).auth_test()) == "invalid_auth"
    assert (
        await refused(AsyncWebClient(token=APP_TOKEN, base_url=url).auth_test()) == "not_allowed_token_type"
    )
    bot = AsyncWebClient(token=BOT_TOKEN, base_url=url)
    assert await refused(bot.apps_connections_open(app_token=BOT_TOKEN)) == "not_allowed_token_type"
    assert (await bot.auth_test())["user_id"] == "U0BOT"


async def test_unknown_method(client: AsyncWebClient) -> None:
    """A method that does not exist is refused."""
    assert await refused(client.api_call("chat.shout")) == "unknown_method"


async def test_post_and_update(slack: FakeSlack, client: AsyncWebClient) -> None:
    """A message is posted to a channel by name or id, and an update replaces what it shows."""
    posted = await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN)
    message = slack.message(posted["ts"])
    assert (message.channel, message.text, message.action_ids) == ("C0OPS", "a plan", ["approve", "reject"])
    assert message.shown.splitlines() == ["UNLINK 12 keys", "Approve", "Reject"]

    await client.chat_update(channel="C0OPS", ts=posted["ts"], text="approved by U1")

    assert (message.text, message.action_ids) == ("approved by U1", [])
    assert len(message.versions) == 2


async def test_update_wants_the_id_of_a_channel_and_a_message(client: AsyncWebClient) -> None:
    """chat.update knows no channel names, and refuses a message that is not there."""
    posted = await client.chat_postMessage(channel="#ops", text="a")

    by_name = await refused(client.chat_update(channel="#ops", ts=posted["ts"], text="b"))
    elsewhere = await refused(client.chat_update(channel="C0SEC", ts=posted["ts"], text="b"))

    assert (by_name, elsewhere) == ("channel_not_found", "message_not_found")


async def test_direct_messages(slack: FakeSlack, client: AsyncWebClient) -> None:
    """conversations.open gives the channel of a user, to which a message can go."""
    opened = await client.conversations_open(users=["U1"])
    await client.chat_postMessage(channel=opened["channel"]["id"], text="hello")

    assert [one.text for one in slack.messages("D1")] == ["hello"]
    assert await refused(client.conversations_open(users="nobody")) == "user_not_found"


async def test_unknown_channel(client: AsyncWebClient) -> None:
    """A message to a channel that is not there is refused."""
    assert await refused(client.chat_postMessage(channel="#nowhere", text="a")) == "channel_not_found"


@pytest.mark.parametrize(
    ("blocks", "complaint"),
    [
        pytest.param([section() for _ in range(51)], "no more than 50 items", id="51-blocks"),
        pytest.param([section("x" * 3001)], "less than 3001 characters", id="long-section"),
        pytest.param([section("")], "more than 0 characters", id="empty-section"),
        pytest.param([{"type": "section"}], "missing required field: text", id="section-without-text"),
        pytest.param([row(button(text="x" * 76))], "less than 76 characters", id="long-button"),
        pytest.param([row(button(value="x" * 2001))], "less than 2001 characters", id="long-value"),
        pytest.param([row(button("x" * 256))], "less than 256 characters", id="long-action-id"),
        pytest.param([row(button("a")), row(button("a"))], "`a` already exists", id="action-id-twice"),
        pytest.param([row(*[button(str(n)) for n in range(26)])], "between 1 and 25 items", id="26-buttons"),
        pytest.param([row(button(style="green"))], "one of primary, danger", id="unknown-style"),
        pytest.param([row(button(colour="red"))], "invalid additional property: colour", id="unknown-key"),
        pytest.param([{"type": "table"}], "unsupported type: table", id="unknown-block"),
        pytest.param(
            [{**section(), "block_id": "b"}, {**section(), "block_id": "b"}],
            "already exists",
            id="block-id-twice",
        ),
        pytest.param(
            [{"type": "header", "text": {"type": "mrkdwn", "text": "a"}}],
            "one of plain_text",
            id="header-in-mrkdwn",
        ),
        pytest.param([{**section(), "fields": []}], "between 1 and 10 items", id="no-fields"),
    ],
)
async def test_block_kit_limits(client: AsyncWebClient, blocks: list[dict[str, Any]], complaint: str) -> None:
    """Blocks beyond Slack's limits are refused, with the place named, and nothing is posted."""
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="#ops", text="a", blocks=blocks)

    assert caught.value.response["error"] == "invalid_blocks"
    messages = caught.value.response["response_metadata"]["messages"]
    assert any(complaint in one for one in messages), messages


async def test_limits_are_reached(slack: FakeSlack, client: AsyncWebClient) -> None:
    """What is just within the limits is accepted."""
    blocks = [section("x" * 3000) for _ in range(49)]
    blocks.append(row(*[button(f"{n}".rjust(255, "a"), "x" * 75, value="x" * 2000) for n in range(25)]))

    await client.chat_postMessage(channel="#ops", text="a", blocks=blocks)

    assert len(slack.messages()[0].action_ids) == 25


@pytest.mark.filterwarnings("ignore:The top-level `text` argument is missing:UserWarning")
async def test_fallback_text_is_demanded(client: AsyncWebClient) -> None:
    """Blocks without the text that a notification shows are refused (stricter than Slack)."""
    assert await refused(client.chat_postMessage(channel="#ops", blocks=PLAN)) == "no_text"


async def test_mentions(slack: FakeSlack, client: AsyncWebClient) -> None:
    """A text that would ring everybody is seen, in blocks too; an escaped one is not."""
    await client.chat_postMessage(channel="#ops", text="&lt;!here&gt;", blocks=[section("<!channel> look")])

    assert slack.messages()[0].mentions == ["<!channel>"]


async def test_told_rate_limit(slack: FakeSlack, client: AsyncWebClient) -> None:
    """A 429 has Retry-After, and Slack's own retry handler gets through after it."""
    slack.rate_limit_next("chat.postMessage", retry_after=1)
    client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=1))
    began = time.monotonic()

    await client.chat_postMessage(channel="#ops", text="a")

    assert time.monotonic() - began >= 1
    assert [one.text for one in slack.messages()] == ["a"]


async def test_pace(slack: FakeSlack, client: AsyncWebClient) -> None:
    """With pacing, a second message to a channel within a second is refused, and one to another channel is not."""
    slack.pace_messages()
    await client.chat_postMessage(channel="#ops", text="1")

    assert await refused(client.chat_postMessage(channel="#ops", text="2")) == "ratelimited"
    await client.chat_postMessage(channel="#security", text="3")
    slack.state.pass_time(1.0)
    await client.chat_postMessage(channel="#ops", text="4")

    assert [one.text for one in slack.messages()] == ["1", "3", "4"]


async def test_faults(slack: FakeSlack, client: AsyncWebClient) -> None:
    """A method fails as often as told, and works again."""
    slack.fail_next("auth.test", times=2)

    assert await refused(client.auth_test()) == "internal_error"
    assert await refused(client.auth_test()) == "internal_error"
    assert (await client.auth_test())["ok"]


async def test_outage(slack: FakeSlack, client: AsyncWebClient) -> None:
    """A stopped Slack refuses connections, and comes back with its memory."""
    await client.chat_postMessage(channel="#ops", text="a")
    await slack.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.auth_test()

    await slack.start()

    assert (await client.auth_test())["ok"]
    assert [one.text for one in slack.messages()] == ["a"]


async def test_click(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A click arrives signed, says who clicked what on which message, and its acknowledgement is seen."""
    posted = await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN)

    reply = await slack.click(posted["ts"], "approve", "U1")

    (payload,) = service.payloads
    assert (reply.status, reply.body) == (200, "")
    assert ("block_actions", "U1", "approve", posted["ts"]) == (
        payload["type"],
        payload["user"]["id"],
        payload["actions"][0]["action_id"],
        payload["container"]["message_ts"],
    )


async def test_click_of_nothing(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A button that the message does not show cannot be clicked, but one that it did show can be, by a stale screen."""
    posted = await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN)
    await client.chat_update(channel="C0OPS", ts=posted["ts"], text="rejected")

    with pytest.raises(NoSuchButtonError, match="shows no approve"):
        await slack.click(posted["ts"], "approve", "U1")
    stale = await slack.deliver(slack.press(posted["ts"], "approve", "U1", version=0))

    assert stale.acknowledged
    assert service.payloads[0]["message"]["text"] == "a plan"


async def test_forgeries_are_told_apart(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A wrong secret, an old timestamp and a changed body do not verify; a replay does, being the same bytes."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    good = slack.press(ts, "approve", "U1")

    assert (await slack.deliver(slack.press(ts, "approve", "U1", secret="guessed"))).status == 401
    assert (await slack.deliver(slack.press(ts, "approve", "U1", timestamp=time.time() - 301))).status == 401
    assert (await slack.deliver(good.tampered())).status == 401
    assert (await slack.deliver(good)).status == 200
    assert (await slack.deliver(good)).status == 200
    assert len(service.payloads) == 2


async def test_slow_acknowledgement(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A service that takes more than 3 s has not acknowledged."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    service.released.clear()

    with pytest.raises(NotAcknowledgedError, match="no answer within 3 s"):
        await slack.click(ts, "approve", "U1")


async def test_unreachable_service(slack: FakeSlack, client: AsyncWebClient) -> None:
    """A click that reaches nobody is not acknowledged, over HTTP and over Socket Mode."""
    slack.interactivity_url = f"http://127.0.0.1:{free_port()}/"
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]

    with pytest.raises(NotAcknowledgedError):
        await slack.click(ts, "approve", "U1")
    with pytest.raises(NotAcknowledgedError, match="no Socket Mode connection"):
        await slack.click(ts, "approve", "U1", via="socket")


async def test_response_url(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A response URL replaces the message, posts, tells one person alone, and is spent after five uses."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    await slack.click(ts, "approve", "U1")
    url = service.payloads[0]["response_url"]

    async with aiohttp.ClientSession() as session:

        async def answer(body: dict[str, Any]) -> tuple[int, str]:
            async with session.post(url, json=body) as response:
                return response.status, await response.text()

        assert await answer({"text": "approved", "replace_original": True}) == (200, "ok")
        assert await answer({"text": "for all", "response_type": "in_channel"}) == (200, "ok")
        assert await answer({"text": "for you"}) == (200, "ok")
        assert (await answer({"text": "", "response_type": "in_channel"}))[0] == 400
        assert await answer({"delete_original": True}) == (200, "ok")
        spent = await answer({"text": "too late"})

    assert (spent[0], json.loads(spent[1])["error"]) == (404, "used_url")
    assert [one.text for one in slack.messages()] == ["for all"]
    assert [one["text"] for one in slack.state.ephemeral] == ["for you"]


async def test_response_url_ages(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A response URL is good for 30 minutes."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    await slack.click(ts, "approve", "U1")
    slack.state.pass_time(1801)

    async with (
        aiohttp.ClientSession() as session,
        session.post(service.payloads[0]["response_url"], json={"text": "late"}) as response,
    ):
        assert (response.status, (await response.json())["error"]) == (404, "expired_url")


VIEW = {
    "type": "modal",
    "title": {"type": "plain_text", "text": "Reject"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "why",
            "label": {"type": "plain_text", "text": "Why?"},
            "element": {"type": "plain_text_input", "action_id": "text"},
        }
    ],
}


async def test_dialog(slack: FakeSlack, client: AsyncWebClient, service: Service) -> None:
    """A trigger opens one dialog, within 3 s, and the dialog's submission arrives with its values."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    await slack.click(ts, "reject", "U1")
    await slack.click(ts, "reject", "U1")
    first, second = (payload["trigger_id"] for payload in service.payloads)

    opened = await client.views_open(trigger_id=first, view=VIEW)
    assert await refused(client.views_open(trigger_id=first, view=VIEW)) == "exchanged_trigger_id"
    slack.state.pass_time(3.1)
    assert await refused(client.views_open(trigger_id=second, view=VIEW)) == "expired_trigger_id"
    assert await refused(client.views_open(trigger_id="guessed", view=VIEW)) == "invalid_trigger_id"

    values = {"why": {"text": {"type": "plain_text_input", "value": "not now"}}}
    await slack.submit(opened["view"]["id"], "U1", values)

    assert service.payloads[-1]["type"] == "view_submission"
    assert values == service.payloads[-1]["view"]["state"]["values"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"title": {"type": "plain_text", "text": "x" * 25}}, id="long-title"),
        pytest.param({"submit": None}, id="no-submit"),
        pytest.param({"private_metadata": "x" * 3001}, id="long-metadata"),
        pytest.param({"type": "popup"}, id="unknown-type"),
        pytest.param({"blocks": [section() for _ in range(101)]}, id="101-blocks"),
    ],
)
async def test_dialog_limits(slack: FakeSlack, client: AsyncWebClient, change: dict[str, Any]) -> None:
    """A dialog beyond Slack's limits is refused and does not use up the trigger."""
    trigger = slack.state.new_trigger()

    assert (
        await refused(client.views_open(trigger_id=trigger, view={**VIEW, **change})) == "invalid_arguments"
    )
    assert (await client.views_open(trigger_id=trigger, view=VIEW))["ok"]


Listener = Callable[[AsyncBaseSocketModeClient, SocketModeRequest], Awaitable[None]]


class Listening:
    """A Socket Mode client of Slack's SDK, with the payloads that it got."""

    def __init__(self, slack: FakeSlack, *, answer: bool = True) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.answer = answer
        web_client = AsyncWebClient(token=BOT_TOKEN, base_url=slack.api_url)
        self.client = SocketModeClient(app_token=APP_TOKEN, web_client=web_client, ping_interval=0.2)
        self.client.socket_mode_request_listeners.append(self.hear)

    async def hear(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        """Keep the payload and acknowledge it."""
        self.payloads.append(request.payload)
        if self.answer:
            await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))


@pytest.fixture
async def listening(slack: FakeSlack) -> AsyncIterator[Listening]:
    """A connected client."""
    it = Listening(slack)
    await it.client.connect()  # type: ignore[no-untyped-call]
    yield it
    await it.client.close()  # type: ignore[no-untyped-call]
    await it.client.aiohttp_client_session.close()


async def test_socket_click(slack: FakeSlack, client: AsyncWebClient, listening: Listening) -> None:
    """A click goes over Socket Mode and its acknowledgement comes back, without any contract broken."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]

    reply = await slack.click(ts, "approve", "U1", via="socket")

    assert reply.acknowledged
    assert [payload["actions"][0]["action_id"] for payload in listening.payloads] == ["approve"]
    assert slack.state.violations == []


async def test_socket_silence(slack: FakeSlack, client: AsyncWebClient, listening: Listening) -> None:
    """An envelope that is not acknowledged within 3 s fails the click."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    listening.answer = False

    with pytest.raises(NotAcknowledgedError, match="no answer within 3 s"):
        await slack.click(ts, "approve", "U1", via="socket")


async def test_socket_wrong_acknowledgement(slack: FakeSlack, listening: Listening) -> None:
    """Acknowledging an envelope that was never sent is noted as a violation."""
    await listening.client.send_socket_mode_response(SocketModeResponse(envelope_id="made-up"))

    async def noted() -> bool:
        return len(slack.state.violations) == 1

    await eventually(noted)


@pytest.mark.parametrize("way", ["refresh", "cut"])
async def test_socket_renewal(
    slack: FakeSlack, client: AsyncWebClient, listening: Listening, way: str
) -> None:
    """After a refresh request or a broken connection the SDK comes back with a new ticket, and clicks arrive."""
    ts = (await client.chat_postMessage(channel="#ops", text="a plan", blocks=PLAN))["ts"]
    if way == "refresh":
        await slack.sockets.disconnect()
    else:
        await slack.sockets.cut()

    async def renewed() -> bool:
        return slack.sockets.opened >= 2 and len(slack.sockets.connections) == 1

    await eventually(renewed, within=20)

    assert (await slack.click(ts, "approve", "U1", via="socket")).acknowledged


async def test_socket_ticket(slack: FakeSlack) -> None:
    """A ticket is good for one connection, and for 30 s."""
    client = AsyncWebClient(base_url=slack.api_url)
    async with aiohttp.ClientSession() as session:
        url = (await client.apps_connections_open(app_token=APP_TOKEN))["url"]
        async with session.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url)
        late = (await client.apps_connections_open(app_token=APP_TOKEN))["url"]
        slack.state.pass_time(31)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(late)


async def test_socket_limit(slack: FakeSlack) -> None:
    """The eleventh connection is told that there are too many."""
    client = AsyncWebClient(base_url=slack.api_url)
    async with aiohttp.ClientSession() as session:
        sockets = []
        for _ in range(11):
            url = (await client.apps_connections_open(app_token=APP_TOKEN))["url"]
            sockets.append(await session.ws_connect(url))
        hellos = [await socket.receive_json() for socket in sockets]
        for socket in sockets:
            await socket.close()

    assert [hello["type"] for hello in hellos[:10]] == ["hello"] * 10
    assert hellos[10]["reason"] == "too_many_websockets"
