"""The fake Slack's Socket Mode: a WebSocket per ticket, envelopes, and acknowledgements within 3 seconds."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from tests.support.slack_state import APP_ID, SlackState

MOST_CONNECTIONS = 10


class NoConnectionError(AssertionError):
    """Nobody is connected by Socket Mode, so that Slack can deliver nothing."""


@dataclass
class Connection:
    """One open WebSocket with the envelopes that it has yet to acknowledge."""

    socket: web.WebSocketResponse
    waiting: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)


class SlackSockets:
    """Accepts connections at `/link`, and sends envelopes to one of those that are open."""

    def __init__(self, state: SlackState) -> None:
        self._state = state
        self.connections: list[Connection] = []
        self.opened = 0
        self._turn = 0

    def routes(self) -> list[web.RouteDef]:
        """Return the route, for an aiohttp application."""
        return [web.get("/link/", self.accept)]

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until either side closes it."""
        if not self._state.spend_ticket(request.query.get("ticket", "")):
            return web.Response(status=403, text="the ticket is unknown, used or older than 30 s")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if len(self.connections) >= MOST_CONNECTIONS:
            await socket.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return socket
        connection = Connection(socket)
        self.connections.append(connection)
        self.opened += 1
        try:
            await socket.send_json(
                {
                    "type": "hello",
                    "num_connections": len(self.connections),
                    "connection_info": {"app_id": APP_ID},
                    "debug_info": {"host": "fake", "build_number": 1, "approximate_connection_time": 18060},
                }
            )
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    self._acknowledge(connection, message.data)
        finally:
            self.connections.remove(connection)
            for future in connection.waiting.values():
                future.cancel()
        return socket

    async def send(
        self, kind: str, payload: Mapping[str, Any], *, answerable: bool = False
    ) -> asyncio.Future[Any]:
        """Send an envelope to one connection, in turn, and return the future of its acknowledgement.

        A future that is cancelled means that the connection was closed before it acknowledged.
        """
        if not self.connections:
            raise NoConnectionError("no Socket Mode connection is open")
        self._turn += 1
        connection = self.connections[self._turn % len(self.connections)]
        envelope_id = str(uuid.uuid4())
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        connection.waiting[envelope_id] = future
        await connection.socket.send_json(
            {
                "envelope_id": envelope_id,
                "type": kind,
                "payload": payload,
                "accepts_response_payload": answerable,
            }
        )
        return future

    async def disconnect(self, reason: str = "refresh_requested", *, close: bool = True) -> None:
        """Ask every connection to be renewed, as Slack does every few hours, and (unless told not to) close it."""
        for connection in list(self.connections):
            await connection.socket.send_json(
                {"type": "disconnect", "reason": reason, "debug_info": {"host": "fake"}}
            )
            if close:
                await connection.socket.close()

    async def cut(self) -> None:
        """Close every connection without a word, as a network fault does."""
        for connection in list(self.connections):
            await connection.socket.close(code=1011)

    async def close(self) -> None:
        """Close all at the end of a test."""
        for connection in list(self.connections):
            await connection.socket.close()

    def _acknowledge(self, connection: Connection, text: str) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        envelope_id = answer.get("envelope_id") if isinstance(answer, dict) else None
        future = connection.waiting.pop(str(envelope_id), None)
        if future is None:
            self._state.violations.append(
                f"acknowledged an envelope that it was not sent or twice: {text[:200]}"
            )
        elif not future.done():
            future.set_result(answer)
