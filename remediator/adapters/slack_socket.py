"""Slack's Socket Mode: interactions through a connection that we open, so that no port of ours has to be reachable.

slack_sdk renews connections by itself. What it does not survive is a URL that expired while Slack could not be
reached: it tries the same one for ever. So somebody watches, and begins afresh.
"""

from __future__ import annotations

import asyncio

import aiohttp
import structlog
from slack_sdk.errors import SlackClientError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from remediator.adapters.slack_client import SlackConfig, slack_logger, web_client
from remediator.adapters.slack_inbound import SlackInbound

log = structlog.get_logger()


class SlackSocket:
    """Keeps one connection open. Times are in seconds, choices of ours: `ping` is how often the line is tried,
    `connect` how long one attempt may take, `lost` how long slack_sdk may try to mend a broken line.
    """

    def __init__(
        self,
        config: SlackConfig,
        inbound: SlackInbound,
        *,
        ping: float = 5.0,
        connect: float = 20.0,
        lost: float = 30.0,
    ) -> None:
        self._config, self._inbound = config, inbound
        self._ping, self._connect, self._lost = ping, connect, lost
        self.connected = False

    async def run(self) -> None:
        """Be connected, until cancelled. That Slack cannot be reached stops nothing else."""
        while True:
            client = self._client()
            try:
                await self._stay(client)
            except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("Socket Mode is not connected", error=type(error).__name__)
            finally:
                self.connected = False
                await _close(client)
            await asyncio.sleep(self._ping)

    async def _stay(self, client: SocketModeClient) -> None:
        async with asyncio.timeout(self._connect):
            await client.connect()  # type: ignore[no-untyped-call]
        log.info("Socket Mode is connected")
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while loop.time() - seen < self._lost:
            self.connected = await client.is_connected()
            if self.connected:
                seen = loop.time()
            await asyncio.sleep(min(self._ping, 1.0))
        log.warning("Socket Mode lost its connection, beginning afresh")

    def _client(self) -> SocketModeClient:
        client = SocketModeClient(
            self._config.app_token,
            logger=slack_logger(self._config.redact),
            web_client=web_client(self._config),
            ping_interval=self._ping,
        )
        client.socket_mode_request_listeners.append(self._listen)
        return client

    async def _listen(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        """Acknowledge first; the work is done in a task of its own."""
        await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        if request.type == "interactive":
            self._inbound.receive_once(request.envelope_id, request.payload)


async def _close(client: SocketModeClient) -> None:
    """Close it, and wait for the tasks that it leaves behind."""
    await client.close()  # type: ignore[no-untyped-call]
    left = [client.message_processor, client.current_session_monitor, client.message_receiver]
    await asyncio.gather(*(task for task in left if task is not None), return_exceptions=True)
