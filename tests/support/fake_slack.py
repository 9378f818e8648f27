"""A Slack of our own that keeps to Slack's contract and holds the service to it.

It speaks the Web API (slack_web), Socket Mode (slack_socket) and response URLs, refuses what Slack refuses
(slack_blocks), and lets a test do what a person does: read a message, click a button, submit a dialog. A click is
delivered as Slack delivers it, signed, and must be acknowledged within 3 seconds.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
from aiohttp import web

from tests.support.ports import free_port
from tests.support.slack_delivery import (
    ACK_SECONDS,
    Delivery,
    NoSuchButtonError,
    Reply,
    block_actions,
    signed,
    view_submission,
)
from tests.support.slack_socket import NoConnectionError, SlackSockets
from tests.support.slack_state import Message, SlackState
from tests.support.slack_web import SlackWeb
from tests.support.waiting import eventually

BOT_TOKEN, APP_TOKEN = "xoxb-test-bot-token", "xapp-1-test-app-token"
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
CHANNELS = {"C0OPS": "ops", "C0SEC": "security"}

Via = Literal["http", "socket"]

__all__ = ["Delivery", "FakeSlack", "Message", "NoSuchButtonError", "NotAcknowledgedError", "Reply"]


class NotAcknowledgedError(AssertionError):
    """The service did not answer an interaction with 200 (or an envelope id) within 3 seconds."""


class FakeSlack:
    """`async with FakeSlack() as slack:` and point the service at `slack.api_url` with the tokens.

    `interactivity_url` is the service's Request URL for interactivity, to be set before a click over HTTP.
    """

    def __init__(
        self,
        *,
        interactivity_url: str = "",
        bot_token: str = BOT_TOKEN,
        app_token: str = APP_TOKEN,
        signing_secret: str = SIGNING_SECRET,
        channels: Mapping[str, str] = CHANNELS,
    ) -> None:
        self.interactivity_url = interactivity_url
        self.signing_secret = signing_secret
        self.port = free_port()
        self.state = SlackState(bot_token=bot_token, app_token=app_token, channels=channels)
        self.sockets = SlackSockets(self.state)
        self._web = SlackWeb(self.state, lambda ticket: f"ws://127.0.0.1:{self.port}/link/?ticket={ticket}")
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        """What slack_sdk's `base_url` is to be, with its slash at the end."""
        return f"{self.url}/api/"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to listen; after a `stop`, on the same port and with the same memory."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.add_routes([*self._web.routes(), *self.sockets.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Stop listening and close every Socket Mode connection, as an outage of Slack does."""
        await self.sockets.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # What a test tells Slack to do to the service.

    def fail_next(
        self, method: str, *, times: int = 1, status: int = 200, error: str = "internal_error"
    ) -> None:
        """Answer the next calls of a method with an error, or with another HTTP status."""
        fault = {"status": status, "body": {"ok": False, "error": error}, "headers": {}}
        self.state.faults.setdefault(method, deque()).extend([fault] * times)

    def rate_limit_next(self, method: str, *, retry_after: int = 1, times: int = 1) -> None:
        """Answer the next calls of a method with 429 and `Retry-After` (seconds)."""
        body = {"ok": False, "error": "ratelimited"}
        fault = {"status": 429, "body": body, "headers": {"Retry-After": str(retry_after)}}
        self.state.faults.setdefault(method, deque()).extend([fault] * times)

    def pace_messages(self, enabled: bool = True) -> None:
        """Allow a channel one message a second, as Slack does, and answer 429 to more."""
        self.state.pace = enabled

    # What a person sees.

    def messages(self, channel: str | None = None) -> list[Message]:
        """Return the messages that are shown now, of one channel or of all."""
        return [one for one in self.state.messages if not one.deleted and channel in (None, one.channel)]

    def message(self, ts: str) -> Message:
        """Return the message of that `ts`."""
        for one in self.messages():
            if one.ts == ts:
                return one
        raise AssertionError(f"no message {ts}; there are {[(one.ts, one.text) for one in self.messages()]}")

    async def wait_for(
        self, wanted: Callable[[Message], bool], *, within: float = 10, what: str = ""
    ) -> Message:
        """Await the first message that is `wanted`, and return it; `within` is in seconds."""

        async def look() -> list[Message]:
            return [one for one in self.messages() if wanted(one)]

        shown = "\n".join(f"{one.channel} {one.ts} {one.text}" for one in self.messages())
        found = await eventually(look, within=within, what=what or f"the awaited message among:\n{shown}\n")
        return found[0]

    # What a person does.

    def press(
        self,
        ts: str,
        action_id: str,
        user_id: str,
        *,
        version: int = -1,
        timestamp: float | None = None,
        secret: str | None = None,
    ) -> Delivery:
        """Return the delivery of a click, not yet made.

        `version` is which of the message's contents the person still sees (the first is 0); `timestamp` (Unix
        seconds) and `secret` are for forged and for old deliveries.
        """
        payload = block_actions(self.state, self.url, self.message(ts), action_id, user_id, version)
        return signed("interactive", payload, self.signing_secret if secret is None else secret, timestamp)

    async def click(self, ts: str, action_id: str, user_id: str, *, via: Via = "http") -> Reply:
        """Click a button that the message shows now; the service must acknowledge within 3 s."""
        return self._must_be_acknowledged(await self.deliver(self.press(ts, action_id, user_id), via=via))

    async def submit(
        self,
        view_id: str,
        user_id: str,
        values: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        via: Via = "http",
    ) -> Reply:
        """Submit an open dialog with `{block_id: {action_id: {"type": ..., "value": ...}}}`."""
        payload = view_submission(self.state, view_id, user_id, values or {})
        delivery = signed("interactive", payload, self.signing_secret)
        return self._must_be_acknowledged(await self.deliver(delivery, via=via))

    async def deliver(self, delivery: Delivery, *, via: Via = "http") -> Reply:
        """Deliver once, and return the answer whatever it is. Delivering the same again is a replay.

        No answer within 3 s is a Reply with status 0; over Socket Mode an acknowledgement is one with status 200.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(ACK_SECONDS):
                if via == "socket":
                    status, body = await self._by_socket(delivery)
                else:
                    status, body = await self._by_http(delivery)
        except TimeoutError:
            status, body = 0, "no answer within 3 s"
        except (aiohttp.ClientConnectionError, NoConnectionError) as error:
            status, body = 0, str(error)
        return Reply(status, body, time.monotonic() - began)

    async def _by_http(self, delivery: Delivery) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                self.interactivity_url, data=delivery.body, headers=delivery.headers, allow_redirects=False
            ) as answer,
        ):
            return answer.status, await answer.text()

    async def _by_socket(self, delivery: Delivery) -> tuple[int, str]:
        answerable = delivery.payload["type"] == "view_submission"
        future = await self.sockets.send(delivery.kind, delivery.payload, answerable=answerable)
        await asyncio.wait([future])
        if future.cancelled():
            return 0, "the connection was closed before the acknowledgement"
        answer = future.result()
        return 200, json.dumps(answer.get("payload", {})) if answer.get("payload") else ""

    def _must_be_acknowledged(self, reply: Reply) -> Reply:
        if not reply.acknowledged:
            raise NotAcknowledgedError(f"{reply.status} after {reply.seconds:.2f} s: {reply.body[:500]}")
        return reply
