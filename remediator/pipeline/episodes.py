"""Episodes that no alert opens: one begins with its remediation, and ends with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from remediator import telemetry
from remediator.domain.alerts import Alert, Status
from remediator.domain.remediations import Remediation
from remediator.pipeline.payload import to_payload
from remediator.pipeline.ports import Delivery, Dispatch, Ledger, Sighting

LOOKED_BACK = 1000
"""Remediations that are looked at after a start, for episodes that were open when we ended."""


class OwnEpisodes:
    """Opens and ends them. The ledger begins each once, whoever asks and how often."""

    def __init__(self, ledger: Ledger, dispatch: Dispatch) -> None:
        self._ledger, self._dispatch = ledger, dispatch
        self._open: dict[str, Alert] | None = None

    async def is_there(self, id_: str) -> bool:
        """Whether it was begun already. Raises LedgerError."""
        try:
            await self._ledger.load(id_)
        except KeyError:
            return False
        return True

    async def begin(self, draft: Remediation, alert: Alert, source: str, now: datetime) -> bool:
        """Begin it; False where it was begun already. Raises LedgerError."""
        begun = await self._accept(f"{draft.id} begun", alert, source, now, (draft,))
        if self._open is not None:
            self._open[draft.id] = alert
        telemetry.ALERTS.labels("begun").inc(len(begun))
        for id_ in begun:
            self._dispatch.wake(id_)
        return bool(begun)

    async def end_finished(self, now: datetime) -> None:
        """An episode that nobody resolves would count as firing for ever: it ends with its remediation.

        Raises:
            LedgerError: when the ledger could not be used; the next call tries again.
        """
        if self._open is None:
            # What ended just before we did was not seen to end.
            listed = await self._ledger.list(limit=LOOKED_BACK)
            self._open = {one.id: _alert(one) for one in listed if one.alertless}
        for id_, alert in list(self._open.items()):
            loaded = await self._ledger.load(id_)
            if not loaded.remediation.final:
                continue
            if not loaded.resolved:
                ended = replace(alert, status=Status.RESOLVED)
                await self._accept(f"{id_} ended", ended, _source(loaded.remediation), now)
            self._open.pop(id_, None)

    async def _accept(
        self, key: str, alert: Alert, source: str, now: datetime, drafts: tuple[Remediation, ...] = ()
    ) -> tuple[str, ...]:
        body = to_payload((alert,), source, key)[1]
        accepted = await self._ledger.accept(Delivery(body, now, source), [Sighting(alert, drafts)])
        return accepted.started


def _alert(remediation: Remediation) -> Alert:
    return Alert(remediation.labels, remediation.starts_at, annotations=remediation.annotations)


def _source(remediation: Remediation) -> str:
    return "schedule" if remediation.scheduled else "on demand"
