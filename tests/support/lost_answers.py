"""A way to an API server on which the answer to the first change is lost, because the server dies."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp import web

from tests.support.ports import free_port

WRITES = ("PATCH", "POST", "PUT", "DELETE")
_HOP = ("host", "connection", "content-length", "transfer-encoding", "content-encoding")

When = Literal["before", "after"]


class LostAnswers:
    """Passes calls on to a server. At the first that changes something the server is killed, and nothing is answered.

    `when` says whether the server had carried the call out before it died. Set `upstream` to the address of
    another one to let it take over.
    """

    def __init__(self, upstream: str, certificate: Path, *, when: When, kill: Callable[[], None]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lost: list[str] = []
        self.upstream = upstream
        self._tls = ssl.create_default_context(cafile=str(certificate))
        self._when = when
        self._kill = kill

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=True)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        dies = request.method in WRITES and not self.lost
        if dies and self._when == "before":
            return self._die(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._client.request(
            request.method,
            self.upstream + request.path_qs,
            headers=headers,
            data=await request.read(),
            ssl=self._tls,
        ) as answer:
            body, status = await answer.read(), answer.status
        if dies:
            assert 200 <= status < 300, body
            return self._die(request)
        return web.Response(status=status, body=body, content_type="application/json")

    def _die(self, request: web.Request) -> web.StreamResponse:
        self.lost.append(f"{request.method} {request.path}")
        self._kill()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
