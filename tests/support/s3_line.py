"""A way to an S3 server on which an answer is lost: at the first change, or after so many objects were read."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.support.passage import Passage, When, hang_up

WRITES = ("POST", "PUT", "DELETE")
_HOP = ("connection", "content-length", "transfer-encoding", "expect", "keep-alive")


class S3Line(Passage):
    """Passes calls on, signatures and all. When its time has come, `kill` is called and nothing is answered.

    `when` says whether the server had carried the first change out by then; with `reads` it is that GET which is lost.
    """

    def __init__(
        self, upstream: str, *, kill: Callable[[], None], when: When = "before", reads: int | None = None
    ) -> None:
        super().__init__()
        self.lost: list[str] = []
        self._upstream, self._kill = upstream, kill
        self._when, self._reads = when, reads

    def _new_client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(auto_decompress=False)

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
        return hang_up(request)
