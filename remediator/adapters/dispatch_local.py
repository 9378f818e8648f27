"""Dispatch in one process: wakes remediations at their time. Rebuilt from the ledger at start."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from remediator.errors import LedgerUnavailable
from remediator.pipeline.ports import Clock

log = structlog.get_logger()

_RETRY_SECONDS = 1.0


class LocalDispatch:
    """A heap of who is to be woken when. Being woken twice is harmless: the ledger decides."""

    def __init__(self, clock: Clock, concurrency: int = 32) -> None:
        self._clock = clock
        self._heap: list[tuple[datetime, str]] = []
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()

    def wake(self, id_: str, at: datetime | None = None) -> None:
        """Have it advanced then, or now."""
        heapq.heappush(self._heap, (at or self._clock.now(), id_))
        self._changed.set()

    def next_at(self) -> datetime | None:
        """When the next one is due."""
        return self._heap[0][0] if self._heap else None

    def due(self) -> list[str]:
        """Take those whose time has come, each once."""
        now = self._clock.now()
        ids: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now:
            ids[heapq.heappop(self._heap)[1]] = None
        return list(ids)

    async def run(self, advance: Callable[[str], Awaitable[None]]) -> None:
        """Wake whoever is due, until cancelled."""
        try:
            while True:
                for id_ in self.due():
                    task = asyncio.create_task(self._one(advance, id_), name=f"advance {id_}")
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                await self._wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _wait(self) -> None:
        self._changed.clear()
        next_at = self.next_at()
        if next_at is None:
            await self._changed.wait()
            return
        seconds = (next_at - self._clock.now()).total_seconds()
        if seconds > 0:
            try:
                await asyncio.wait_for(self._changed.wait(), seconds)
            except TimeoutError:
                return

    async def _one(self, advance: Callable[[str], Awaitable[None]], id_: str) -> None:
        async with self._slots:
            try:
                await advance(id_)
            except LedgerUnavailable as error:
                # Nothing was written, so nothing has moved: the same step is tried again.
                log.warning("the ledger could not be written", remediation=id_, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self.wake(id_)
            except Exception:
                log.exception("advancing failed", remediation=id_)
