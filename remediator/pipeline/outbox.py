"""Outbox: send what transitions wrote, at least once, in order, and honour the receiver's "not so fast"."""

from __future__ import annotations

from datetime import timedelta

import structlog

from remediator import telemetry
from remediator.errors import DeliveryFailed
from remediator.pipeline.ports import Clock, Ledger, Messenger

log = structlog.get_logger()

_LONGEST = 300.0
POLL_SECONDS = 0.25
"""How often the outbox is looked at. A choice of ours."""


class Outbox:
    """Carries messages from the ledger to people."""

    def __init__(self, ledger: Ledger, messenger: Messenger, clock: Clock) -> None:
        self._ledger, self._messenger, self._clock = ledger, messenger, clock

    async def run(self) -> None:
        """Send whatever is due, until cancelled."""
        while True:
            if not await self.flush():
                await self._clock.sleep(POLL_SECONDS)

    async def flush(self) -> int:
        """Send what is due now. Returns how many were delivered."""
        delivered = 0
        for outgoing in await self._ledger.outbox(self._clock.now()):
            try:
                ref = await self._messenger.deliver(outgoing)
            except DeliveryFailed as error:
                wait = error.retry_after or min(2.0**outgoing.attempts, _LONGEST)
                telemetry.MESSAGES.labels("failed").inc()
                log.warning(
                    "a message was not delivered", kind=outgoing.message.kind, error=str(error), wait=wait
                )
                await self._ledger.unsent(
                    outgoing.id, self._clock.now() + timedelta(seconds=wait), str(error)
                )
            else:
                telemetry.MESSAGES.labels("delivered").inc()
                await self._ledger.sent(outgoing.id, ref)
                delivered += 1
        return delivered
