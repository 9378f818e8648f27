"""A way to an HTTP server that lets through only what is allowed, as a proxy with a token in front of it does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.ports import free_port

_HOP = ("host", "connection", "content-length", "transfer-encoding", "content-encoding", "authorization")


class HttpLine:
    """Passes calls on to `upstream`. Calls that are none of `allow` (`METHOD URL`, as an action's `permissions` prints
    them; None lets all through) or that do not bring the token get 403.
    """

    def __init__(self, upstream: str, *, allow: Sequence[str] | None = None, token: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.allow = allow
        self.refused: list[str] = []
        self._upstream, self._token = upstream, token

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession()
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

    def _lets(self, request: web.Request) -> bool:
        if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
            return False
        if self.allow is None:
            return True
        called = f"{request.method} {self.url}{request.path}"
        return any(
            re.fullmatch(re.escape(one).replace(r"\{id\}", "[^/]+"), called) is not None for one in self.allow
        )

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        if not self._lets(request):
            self.refused.append(f"{request.method} {request.path}")
            return web.json_response({"error": "forbidden"}, status=403)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._client.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )
