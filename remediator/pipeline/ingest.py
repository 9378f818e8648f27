"""Ingest: a webhook post becomes committed episodes and remediations. The answer waits for the commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from remediator import telemetry
from remediator.domain.alerts import Alert, Status
from remediator.domain.events import Event
from remediator.domain.rules import Mode, RuleTable
from remediator.errors import BadPayload, WorldUnavailable
from remediator.pipeline.match import draft
from remediator.pipeline.payload import AlertModel, Fingerprints, WebhookModel, parse, to_alert, to_payload
from remediator.pipeline.ports import Accepted, Clock, Delivery, Dispatch, Ledger, Sighting, World

log = structlog.get_logger()

CANARY = "Watchdog"
"""The alert that always fires: while it comes, the whole path from Prometheus to the ledger works."""

_RECEIVED, _BEGUN, _SEEN = (
    telemetry.RECEIVED,
    telemetry.ALERTS.labels("begun"),
    telemetry.ALERTS.labels("seen"),
)


_Said = tuple[dict[str, str], str, str, float]
"""Labels, start and status of an alert, and until when (seconds since 1970) that is no news."""


class Settled:
    """Alerts that were committed a moment ago: the same words about the same alert again are no news.

    Alertmanager repeats itself: peers, retries, and groups in which one alert of fifty changed. What was settled is
    recognised without computing anything of it anew: the fingerprint that was sent is only where to look, and labels,
    start and status decide. The ledger is asked again after `LASTS`, which is how it learns what is still heard of.
    """

    LASTS = timedelta(seconds=60)
    """Far below any rule's freshness, which is counted in hours."""

    def __init__(self, size: int = 8192) -> None:
        self._size = size
        self._known: dict[object, _Said] = {}

    def news(self, alerts: Iterable[AlertModel], now: datetime) -> list[AlertModel]:
        """Those that were not committed, just so, within the last minute."""
        known, at = self._known.get, now.timestamp()
        found = []
        for alert in alerts:
            was = known(alert.fingerprint or hash(frozenset(alert.labels.items())))
            if (
                was is None
                or was[3] <= at
                or was[0] != alert.labels
                or was[1] != alert.startsAt
                or was[2] != alert.status
            ):
                found.append(alert)
        return found

    def add(self, alerts: Iterable[AlertModel], now: datetime) -> None:
        """They are committed."""
        until, known = (now + self.LASTS).timestamp(), self._known
        for alert in alerts:
            key = alert.fingerprint or hash(frozenset(alert.labels.items()))
            known.pop(key, None)
            # What else an alert says (annotations, links) is neither compared nor kept.
            known[key] = (alert.labels, alert.startsAt, alert.status, until)
        while len(known) > self._size:
            del known[next(iter(known))]

    def forget(self) -> None:
        """Look at everything anew: the rules have changed."""
        self._known.clear()


class _Read(NamedTuple):
    """What was read of a post: how many alerts, which of them are news, and by which table they were matched."""

    alerts: int
    news: list[AlertModel]
    sightings: list[Sighting]
    table: RuleTable
    truncated: WebhookModel | None


class Ingest:
    """Takes posts in. `table` is replaced by a reload; `spawn` runs what may come after the answer."""

    def __init__(
        self,
        ledger: Ledger,
        dispatch: Dispatch,
        world: World,
        clock: Clock,
        table: RuleTable,
        cap: Mode,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._ledger, self._dispatch, self._world, self._clock = ledger, dispatch, world, clock
        self._cap, self._spawn = cap, spawn
        self._fingerprints = Fingerprints()
        self._settled = Settled()
        self.table = table

    def use(self, table: RuleTable) -> None:
        """Match by this table from now on; an episode that still fires may start what the new rules ask for."""
        self.table = table
        self._settled.forget()

    async def receive(self, body: bytes, source: str) -> Accepted:
        """Take one post in.

        Raises:
            BadPayload: when it can never work; it is kept for inspection.
            LedgerUnavailable: when it could not be committed; the sender has to try again.
        """
        now = self._clock.now()
        try:
            read = self._read(parse(body), now)
        except BadPayload as error:
            await self._ledger.accept(Delivery(body, now, source, rejected=str(error)))
            raise
        accepted = await self._accept(body, read, source, now)
        if read.truncated is not None:
            telemetry.TRUNCATED.inc(read.truncated.truncatedAlerts)
            self._spawn(self._fetch_the_rest(read.truncated, source))
        return accepted

    def _read(self, payload: WebhookModel, now: datetime) -> _Read:
        """What a post says that is news. The rest is let go now: thousands of alerts may wait for one commit."""
        news = self._settled.news(payload.alerts, now)
        sightings = [self._sight(to_alert(alert, self._fingerprints), now) for alert in news]
        truncated = payload if payload.truncatedAlerts else None
        return _Read(len(payload.alerts), news, sightings, self.table, truncated)

    async def _accept(self, body: bytes, read: _Read, source: str, now: datetime) -> Accepted:
        accepted = await self._ledger.accept(Delivery(body, now, source), read.sightings)
        _RECEIVED.inc()
        _SEEN.inc(read.alerts)
        if read.news:
            if read.table is self.table:
                self._settled.add(read.news, now)
            if any(alert.labels.get("alertname") == CANARY for alert in read.news):
                telemetry.CANARY.set(now.timestamp())
            _BEGUN.inc(len(accepted.started))
            for id_ in (*accepted.started, *accepted.resolved):
                self._dispatch.wake(id_)
        return accepted

    def _sight(self, alert: Alert, now: datetime) -> Sighting:
        if alert.status is Status.RESOLVED:
            return Sighting(alert)
        return Sighting(
            alert, tuple(draft(rule, alert, self._cap, now) for rule in self.table.match(alert.labels))
        )

    async def _fetch_the_rest(self, payload: WebhookModel, source: str) -> None:
        """Alertmanager cut the list; ask it for the whole group, or say that we could not."""
        now = self._clock.now()
        try:
            alerts = await self._world.alerts(payload.groupLabels)
        except WorldUnavailable as error:
            told = {"group": payload.groupKey, "cut": payload.truncatedAlerts, "error": str(error)}
            await self._ledger.note(Event("truncated_unknown", told), now)
            log.warning("truncated notification, and the rest could not be fetched", **told)
            return
        if alerts:
            whole, body = to_payload(alerts, payload.receiver, payload.groupKey)
            await self._accept(body, self._read(whole, now), f"{source} (fetched)", now)
