"""A way to an S3 server on which an answer is lost: at the first change, or after so many objects were read."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.support.ports import free_port

WRITES = ("POST", "PUT", "DELETE")
_HOP = ("connection", "content-length", "transfer-encoding", "expect", "keep-alive")

When = Literal["before", "after"]


class S3Line:
    """Passes calls on, signatures and all. When its time has come, `kill` is called and nothing is answered.

    `when` says whether the server had carried the first change out by then; with `reads` it is that GET which is lost.
    """

    def __init__(
        self, upstream: str, *, kill: Callable[[], None], when: When = "before", reads: int | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lost: list[str] = []
        self._upstream, self._kill = upstream, kill
        self._when, self._reads = when, reads

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=2**26)
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
        dies = not self.lost and self._is_the_one(request)
        if dies and self._when == "before":
            return self._die(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._client.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=await request.read(),
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:
            body = await answer.read()
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
            status, sizes = answer.status, list(answer.headers.items())
        if dies:
            assert 200 <= status < 300, body
            return self._die(request)
        if request.method == "HEAD":
            # The length of what a GET would bring; there is no body.
            kept += [(name, value) for name, value in sizes if name.lower() == "content-length"]
            return web.Response(status=status, headers=CIMultiDict(kept))
        return web.Response(status=status, body=body, headers=CIMultiDict(kept))

    def _is_the_one(self, request: web.Request) -> bool:
        if self._reads is None:
            return request.method in WRITES
        if request.method == "GET" and "list-type" not in request.query:
            self._reads -= 1
        return self._reads < 0

    def _die(self, request: web.Request) -> web.StreamResponse:
        self.lost.append(f"{request.method} {request.path}")
        self._kill()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
