"""Housekeeping: what is looked at now and then. The gauges, the journal's head, and whoever was not woken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

import structlog

from remediator import telemetry
from remediator.domain.remediations import FINAL, Phase
from remediator.errors import LedgerError
from remediator.offload import offload
from remediator.pipeline.ports import Clock, Dispatch, Ledger

log = structlog.get_logger()

EVERY_SECONDS = 15.0
"""How often it is done. Half of a usual scrape interval, so that no scrape sees figures older than that."""

Anchor = Callable[[int, str, datetime], None]
"""Writes a head of the journal down elsewhere."""


class Housekeeping:
    """Runs until cancelled. `anchor` is called with the head at least once per round in which it moved."""

    def __init__(
        self, ledger: Ledger, dispatch: Dispatch, clock: Clock, anchor: Anchor | None = None
    ) -> None:
        self._ledger, self._dispatch, self._clock, self._anchor = ledger, dispatch, clock, anchor
        self._anchored = 0

    async def run(self) -> None:
        """Round after round."""
        while True:
            try:
                await self.round()
            except LedgerError as error:
                telemetry.LEDGER_ERRORS.inc()
                log.warning("housekeeping could not read the ledger", error=str(error))
            await self._clock.sleep(EVERY_SECONDS)

    async def round(self) -> None:
        """Once: a wake may have been lost, so everything unfinished is woken; waking early is harmless."""
        now = self._clock.now()
        unfinished = await self._ledger.unfinished()
        for remediation in unfinished:
            self._dispatch.wake(remediation.id)
        phases = Counter(remediation.phase for remediation in unfinished)
        for phase in Phase:
            if phase not in FINAL:
                telemetry.ACTIVE.labels(phase.value).set(phases[phase])
        waiting = [r for r in unfinished if r.phase is Phase.AWAITING_APPROVAL]
        telemetry.WAITING.set(len(waiting))
        asked = [r.plan.made_at for r in waiting if r.plan is not None]
        telemetry.OLDEST_WAITING.set((now - min(asked)).total_seconds() if asked else 0)
        telemetry.FIRING_SINCE.update(await self._ledger.firing())
        await self._keep_head(now)

    async def _keep_head(self, now: datetime) -> None:
        seq, hash_ = await self._ledger.head()
        telemetry.JOURNAL_SEQ.set(seq)
        if self._anchor is not None and seq > self._anchored:
            try:
                await offload(self._anchor, seq, hash_, now)
            except OSError as error:
                # The journal goes on without it; what is added meanwhile can be cut off unseen, so it is said aloud.
                log.warning("the journal's head could not be anchored", error=str(error))
            else:
                self._anchored = seq
