"""A way to a Docker engine that lets through only what is allowed, or that loses the answer to one change."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.dockerd import DockerEngine

When = Literal["before", "after"]
_HOP = ("host", "connection", "content-length", "transfer-encoding", "content-encoding")
_VERSION = re.compile(r"^/v1\.\d+(?=/)")


class DockerLine:
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

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(str(self._engine.socket), force_close=True)
        self._client = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120))
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._folder / "docker.sock")).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        call = f"{request.method} {_VERSION.sub('', request.path)}"
        self.calls.append(call)
        if self.cut:
            return self._hang_up(request)
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
        return self._hang_up(request)

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP}


def _pattern(call: str) -> re.Pattern[str]:
    """`{id}` is the id of something that was looked up, `{name}` any name; they may have slashes."""
    text = re.escape(call).replace(r"\{id\}", "(sha256:)?[0-9a-f]{64}").replace(r"\{name\}", ".+")
    return re.compile(text)


def crash(engine: DockerEngine) -> None:
    """End the engine and all its containers, as a power cut does, so that it can be started again."""
    engine.kill()
    # A pid of the namespace that is gone. In the next one another process may have it, and dockerd would take
    # that one for a containerd that still runs, and wait for it in vain.
    (engine.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
