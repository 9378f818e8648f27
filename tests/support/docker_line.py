"""A way to a Docker engine that lets through only what is allowed, or that loses the answer to one change."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.dockerd import DockerEngine
from tests.support.passage import Passage, When, hang_up

_HOP = ("host", "connection", "content-length", "transfer-encoding", "content-encoding")
_VERSION = re.compile(r"^/v1\.\d+(?=/)")


class DockerLine(Passage):
    """Passes calls on to an engine, as a socket proxy in front of it does, and keeps a list of them.

    `allow` are the only calls that are let through, as an action's `permissions` prints them; the others get 403.
    At the first call that `trigger` matches (such as `POST .*/stop`) it hangs up for good: before the engine got
    the call, or after it had answered. `at_cut` is called then.
    """

    def __init__(
        self,
        engine: DockerEngine,
        *,
        allow: Sequence[str] | None = None,
        trigger: str = "",
        when: When = "before",
        at_cut: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.refused: list[str] = []
        self.cut = False
        self._engine = engine
        self._allow = None if allow is None else {one: _pattern(one) for one in allow}
        self._trigger = re.compile(trigger) if trigger else None
        self._when, self._at_cut = when, at_cut
        # pytest's folders are longer than a Unix socket's path may be.
        self._folder = Path(tempfile.mkdtemp(prefix="rmd-line-"))

    @property
    def base_url(self) -> str:
        """Where it begins."""
        return f"unix://{self._folder}/docker.sock"

    @property
    def unused(self) -> list[str]:
        """What is allowed and nobody asked for."""
        allowed = self._allow or {}
        return [one for one, pattern in allowed.items() if not any(map(pattern.fullmatch, self.calls))]

    def _new_client(self) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(str(self._engine.socket), force_close=True)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120))

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        return web.UnixSite(runner, str(self._folder / "docker.sock"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        call = f"{request.method} {_VERSION.sub('', request.path)}"
        self.calls.append(call)
        if self.cut:
            return hang_up(request)
        if self._allow is not None and not any(one.fullmatch(call) for one in self._allow.values()):
            self.refused.append(call)
            return web.json_response({"message": f"{call} is not allowed"}, status=403)
        dies = self._trigger is not None and self._trigger.search(call) is not None
        if dies and self._when == "before":
            return self._break(request)
        answer = await self._asked(request)
        if dies:
            assert answer.status < 400, answer.body
            return self._break(request)
        return answer

    async def _asked(self, request: web.Request) -> web.Response:
        url = URL(f"http://docker{request.raw_path}", encoded=True)
        body = await request.read()
        async with self._client.request(
            request.method, url, headers=_passed_on(request.headers), data=body
        ) as answer:
            content = await answer.read()
            return web.Response(status=answer.status, body=content, headers=_passed_on(answer.headers))

    def _break(self, request: web.Request) -> web.StreamResponse:
        self.cut = True
        self._at_cut()
        return hang_up(request)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}


def _pattern(call: str) -> re.Pattern[str]:
    """`{id}` is the id of something that was looked up, `{name}` any name; they may have slashes."""
    text = re.escape(call).replace(r"\{id\}", "(sha256:)?[0-9a-f]{64}").replace(r"\{name\}", ".+")
    return re.compile(text)
