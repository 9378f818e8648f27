"""`python -m tests.chaos.crashing POINT --config FILE`: the service, killed by its own hand at one exact point.

after_commit       an alert is committed, and not yet answered
after_intent       a step's intent is written, and nothing is done yet
before_outcome     a step is done, and its outcome is not yet written
after_outcome      an outcome is written, and the next step is not yet looked at
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from remediator.adapters.ledger import SqlLedger
from remediator.bootstrap import load_book, serve
from remediator.domain.remediations import Do, Remediation, Transition
from remediator.pipeline.ports import Accepted, Delivery, Message, Sighting
from remediator.settings import load_settings

POINT = sys.argv[1] if len(sys.argv) > 1 else ""


def die() -> None:
    """As suddenly as a power cut does to a process."""
    os.kill(os.getpid(), signal.SIGKILL)


class CrashingLedger(SqlLedger):
    """The real ledger, and a kill -9 at the point."""

    async def accept(self, delivery: Delivery, sightings: Sequence[Sighting] = ()) -> Accepted:
        """Commit, and perhaps die."""
        accepted = await super().accept(delivery, sightings)
        if POINT == "after_commit":
            die()
        return accepted

    async def write(
        self, transition: Transition, now: datetime, messages: Sequence[Message] = ()
    ) -> Remediation:
        """Write, and perhaps die before or after."""
        kinds = [event.kind for event in transition.events]
        pending = transition.after.pending
        if POINT == "before_outcome" and "outcome" in kinds:
            die()
        written = await super().write(transition, now, messages)
        if POINT == "after_intent" and pending is not None and pending.do is Do.APPLY:
            die()
        if POINT == "after_outcome" and "outcome" in kinds:
            die()
        return written


if __name__ == "__main__":
    settings = load_settings(Path(sys.argv[3]))
    asyncio.run(serve(settings, load_book(settings), ledger_class=CrashingLedger))
