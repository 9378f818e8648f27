"""A way to an HTTP server that a test stands in: each call comes by, and is passed on, refused or lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp import web

from tests.support.ports import free_port

When = Literal["before", "after"]
"""Whether a server had carried a call out by the time that it, or the line to it, died."""


class Passage(ABC):
    """Listens on a port of its own, and hands every call to `_pass`; `_client` reaches the server."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @abstractmethod
    async def _pass(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""

    def _new_client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        return web.TCPSite(runner, "127.0.0.1", self.port)

    async def __aenter__(self) -> Self:
        self._client = self._new_client()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._site(self._runner).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()


def hang_up(request: web.Request) -> web.Response:
    """Answer nothing: the client sees its connection end."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
