"""Slack as a Messenger: one card per remediation, kept up to date, and escalations as replies that ring people.

slack_client    settings, client, waiting, logging
slack_blocks    what a message looks like
slack_inbound   what people click
slack_socket    Socket Mode
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from remediator.adapters.slack_blocks import Content, Look, card, channels, escalation, texts
from remediator.adapters.slack_client import TIMEOUT, SlackConfig, error_code, retry_after, web_client
from remediator.adapters.slack_inbound import SlackInbound
from remediator.adapters.slack_socket import SlackSocket
from remediator.errors import DeliveryFailed
from remediator.pipeline.ports import Outgoing
from remediator.pipeline.service import Service

log = structlog.get_logger()

GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"})
"""Answers to an update that mean: the card is not there any more, post another."""
NO_ENTRY = frozenset({"channel_not_found", "not_in_channel", "is_archived", "restricted_action"})
"""Answers that mean that a channel is not ours to post in."""
REMEMBERED = 1000
"""Unfinished escalations remembered at most."""
REFUSED_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long"})
"""Answers that mean that Slack dislikes our blocks; then people are told in plain text."""


class SlackMessenger:
    """Posts and updates. A message may be posted twice where Slack's answer was lost; a card is never lost."""

    def __init__(self, config: SlackConfig) -> None:
        self._config = config
        self._look = Look(config.redact, config.page, config.contacts)
        self._session: aiohttp.ClientSession | None = None
        self._client: AsyncWebClient | None = None
        self._not_before = 0.0
        # What of an escalation was posted already, by the message's id, in case the rest has to be tried again.
        self._done: OrderedDict[int, dict[str, str]] = OrderedDict()
        self.inbound: SlackInbound | None = None
        self.socket: SlackSocket | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self, service: Service) -> None:
        """Take clicks from now on: through Socket Mode where there is an app token, else through `receive`."""
        self.inbound = SlackInbound(self._config, service)
        if self._config.app_token:
            self.socket = SlackSocket(self._config, self.inbound)
            self._listening = asyncio.create_task(self.socket.run(), name="slack-socket-mode")

    def receive(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Take over an interaction that came by HTTP: "" where it was, else why it is refused."""
        return self.inbound.receive(body, headers) if self.inbound else "the service is starting"

    async def deliver(self, outgoing: Outgoing) -> str:
        """Post or update; the reference is `channel:ts` of the card.

        Raises:
            DeliveryFailed: with Slack's Retry-After where it named one.
        """
        wait = self._not_before - asyncio.get_running_loop().time()
        if wait > 0:
            raise DeliveryFailed("Slack asked us to wait", retry_after=wait)
        try:
            if outgoing.message.kind == "escalation":
                return await self._escalate(outgoing)
            return await self._show(outgoing, outgoing.ref)
        except SlackApiError as error:
            raise self._failed(error) from None
        except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
            # Not chained: what the client says may hold the request.
            raise DeliveryFailed(f"Slack could not be reached: {type(error).__name__}") from None

    async def close(self) -> None:
        """Finish what was clicked, and let the connections go."""
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        if self.inbound is not None:
            await self.inbound.close()
        if self._session is not None:
            await self._session.close()

    async def _show(self, outgoing: Outgoing, ref: str) -> str:
        content = card(outgoing.remediation, self._look)
        channel, _, ts = ref.partition(":")
        if ts:
            try:
                await self._call("chat.update", content, channel=channel, ts=ts)
                return ref
            except SlackApiError as error:
                if error_code(error) not in GONE:
                    raise
        return await self._call(
            "chat.postMessage", content, channel=self._channel(outgoing.remediation.system)
        )

    async def _escalate(self, outgoing: Outgoing) -> str:
        """Reply to the card, and post to the channels among the contacts; what an earlier try did is not done again."""
        id_ = outgoing.remediation.id
        done = self._done.setdefault(outgoing.id, {})
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        ref = outgoing.ref or done.get("card") or await self._show(outgoing, "")
        done["card"] = ref
        channel, _, ts = ref.partition(":")
        data = outgoing.message.data
        content = escalation(outgoing.remediation, data, self._look)
        if "reply" not in done:
            done["reply"] = await self._call(
                "chat.postMessage", content, channel=channel, thread_ts=ts, reply_broadcast=True
            )
        for place in channels(data.get("to") or outgoing.remediation.escalate_to, self._config.contacts):
            if place not in done:
                done[place] = await self._also(place, content, id_)
        self._done.pop(outgoing.id, None)
        return ref

    async def _also(self, place: str, content: Content, id_: str) -> str:
        try:
            return await self._call("chat.postMessage", content, channel=place)
        except SlackApiError as error:
            if error_code(error) not in NO_ENTRY:
                raise
            # The reply below the card was posted, so people know; trying again would not open the channel.
            log.warning(
                "an escalation could not be posted there",
                channel=place,
                why=error_code(error),
                remediation=id_,
            )
            return ""

    async def _call(self, method: str, content: Content, **where: Any) -> str:
        body = {"text": content.text, "blocks": list(content.blocks), "parse": "none", "link_names": False}
        try:
            return await self._send(method, {**body, **where})
        except SlackApiError as error:
            if error_code(error) not in REFUSED_BLOCKS:
                raise
            log.warning("Slack refused our blocks", method=method, answer=str(error.response.data))
            plain = "\n".join([content.text, *texts(content.blocks)])[:3500]
            return await self._send(method, {**body, "text": plain, "blocks": [], **where})

    async def _send(self, method: str, body: Mapping[str, Any]) -> str:
        answer = await self._connected().api_call(
            method, json={**body, "unfurl_links": False, "unfurl_media": False}
        )
        return f"{answer['channel']}:{answer['ts']}"

    def _connected(self) -> AsyncWebClient:
        # Made at the first call: a session belongs to the loop that uses it.
        if self._client is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
            self._client = web_client(self._config, self._session)
        return self._client

    def _channel(self, system: str) -> str:
        return self._config.channels.get(system, self._config.channel)

    def _failed(self, error: SlackApiError) -> DeliveryFailed:
        response = error.response
        # Where the answer was no JSON, slack_sdk hands over the bare HTTP response instead of its own.
        status = getattr(response, "status_code", None) or getattr(response, "status", 0)
        if status == 429:
            wait = float(retry_after(response.headers))
            self._not_before = asyncio.get_running_loop().time() + wait
            return DeliveryFailed("Slack says: ratelimited", retry_after=wait)
        return DeliveryFailed(f"Slack says: {error_code(error) or status}")
