"""A way to an API server on which the answer to the first change is lost, because the server dies."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tests.support.passage import Passage, When, hang_up

WRITES = ("PATCH", "POST", "PUT", "DELETE")
_HOP = ("host", "connection", "content-length", "transfer-encoding", "content-encoding")


class LostAnswers(Passage):
    """Passes calls on to a server. At the first that changes something the server is killed, and nothing is answered.

    `when` says whether the server had carried the call out before it died. Set `upstream` to the address of
    another one to let it take over.
    """

    def __init__(self, upstream: str, certificate: Path, *, when: When, kill: Callable[[], None]) -> None:
        super().__init__()
        self.lost: list[str] = []
        self.upstream = upstream
        self._tls = ssl.create_default_context(cafile=str(certificate))
        self._when = when
        self._kill = kill

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
        return hang_up(request)
