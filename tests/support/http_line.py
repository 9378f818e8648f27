"""A way to an HTTP server that lets through only what is allowed, as a proxy with a token in front of it does."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web
from yarl import URL

from tests.support.passage import Passage

_HOP = ("host", "connection", "content-length", "transfer-encoding", "content-encoding", "authorization")


class HttpLine(Passage):
    """Passes calls on to `upstream`. Calls that are none of `allow` (`METHOD URL`, as an action's `permissions` prints
    them; None lets all through) or that do not bring the token get 403.
    """

    def __init__(self, upstream: str, *, allow: Sequence[str] | None = None, token: str = "") -> None:
        super().__init__()
        self.allow = allow
        self.refused: list[str] = []
        self._upstream, self._token = upstream, token

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
