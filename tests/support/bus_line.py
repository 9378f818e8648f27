"""A line to a D-Bus socket that breaks at one call: before the bus got it, or once it was answered and nobody heard."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

When = Literal["before", "after"]


class BusLine:
    """Passes bytes on to a Unix socket until `trigger` is seen in what the client sends; then hangs up for good.

    The bus sees our user, as it would without it. `at_cut` is called when the line breaks.
    """

    def __init__(
        self, upstream: Path, *, trigger: bytes, when: When, at_cut: Callable[[], None] = lambda: None
    ) -> None:
        self.cut = False
        self._upstream, self._trigger, self._when, self._at_cut = upstream, trigger, when, at_cut
        self._folder = Path(tempfile.mkdtemp(prefix="rmd-busline-"))
        self._lines: set[asyncio.Task[None]] = set()

    @property
    def bus_address(self) -> str:
        """Where it begins."""
        return f"unix:path={self._folder}/bus"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._folder / "bus")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

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
        bus, forth = await asyncio.open_unix_connection(self._upstream)
        asked = asyncio.Event()
        ways = {
            asyncio.create_task(self._to_bus(client, forth, asked)),
            asyncio.create_task(self._to_client(bus, back, asked)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            forth.close()

    async def _to_bus(
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
        self, bus: asyncio.StreamReader, back: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while chunk := await bus.read(65_536):
            if asked.is_set():
                self._break()
                return
            back.write(chunk)
            await back.drain()

    def _break(self) -> None:
        self.cut = True
        self._at_cut()
