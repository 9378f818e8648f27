"""A line to a server that breaks at one command: before the server got it, or after it answered and nobody heard."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from tests.support.ports import free_port

When = Literal["before", "after"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Line(ABC):
    """Passes bytes on to a server until `trigger` is seen in what the client sends; then calls `at_cut` and hangs up.

    `when` says whether the server had done what was asked by then. After the cut nobody gets through any more.
    """

    def __init__(self, *, trigger: bytes, when: When, at_cut: Callable[[], None]) -> None:
        self.cut = False
        self._trigger, self._when, self._at_cut = trigger, when, at_cut
        self._lines: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def _listen(self) -> asyncio.Server:
        """Take clients in and `_serve` them."""

    @abstractmethod
    async def _dial(self) -> Streams:
        """Reach the server."""

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._lines.add(me)
        try:
            if not self.cut:
                await self._pass(client, back)
        except OSError:
            pass  # one of the two ends is gone; so is the line
        finally:
            back.close()
            self._lines.discard(me)

    async def _pass(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        server, forth = await self._dial()
        asked = asyncio.Event()
        ways = {
            asyncio.create_task(self._to_server(client, forth, asked)),
            asyncio.create_task(self._to_client(server, back, asked)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            forth.close()

    async def _to_server(
        self, client: asyncio.StreamReader, forth: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while chunk := await client.read(65_536):
            if self._trigger in chunk and not self.cut:
                if self._when == "before":
                    self._break()
                    return
                asked.set()
            forth.write(chunk)
            await forth.drain()

    async def _to_client(
        self, server: asyncio.StreamReader, back: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while chunk := await server.read(65_536):
            if asked.is_set():
                self._break()
                return
            back.write(chunk)
            await back.drain()

    def _break(self) -> None:
        self.cut = True
        self._at_cut()


class CutLine(Line):
    """A line to a TCP port of this machine."""

    def __init__(
        self, upstream: int, *, trigger: bytes, when: When, at_cut: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(trigger=trigger, when=when, at_cut=at_cut)
        self.port = free_port()
        self._upstream = upstream

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _dial(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self._upstream)
