"""A line to a D-Bus socket that breaks at one call: before the bus got it, or once it was answered and nobody heard."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.support.cutline import Line, Streams, When


class BusLine(Line):
    """A line to a Unix socket. The bus sees our user, as it would without it."""

    def __init__(
        self, upstream: Path, *, trigger: bytes, when: When, at_cut: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(trigger=trigger, when=when, at_cut=at_cut)
        self._upstream = upstream
        # pytest's folders are longer than a Unix socket's path may be.
        self._folder = Path(tempfile.mkdtemp(prefix="rmd-busline-"))

    @property
    def bus_address(self) -> str:
        """Where it begins."""
        return f"unix:path={self._folder}/bus"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, self._folder / "bus")

    async def _dial(self) -> Streams:
        return await asyncio.open_unix_connection(self._upstream)
