"""Ingest: a webhook post becomes committed episodes and remediations. The answer waits for the commit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from remediator import telemetry
from remediator.domain.alerts import Alert, Notification, Status
from remediator.domain.events import Event
from remediator.domain.rules import Mode, RuleTable
from remediator.errors import BadPayload, WorldUnavailable
from remediator.pipeline.match import draft
from remediator.pipeline.payload import Fingerprints, parse, to_notification, to_payload
from remediator.pipeline.ports import Accepted, Clock, Delivery, Dispatch, Ledger, Sighting, World

log = structlog.get_logger()

CANARY = "Watchdog"
"""The alert that always fires: while it comes, the whole path from Prometheus to the ledger works."""


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
        self._drafted: OrderedDict[str, None] = OrderedDict()
        self.table = table

    def use(self, table: RuleTable) -> None:
        """Match by this table from now on; an episode that still fires may start what the new rules ask for."""
        self.table = table
        self._drafted.clear()

    async def receive(self, body: bytes, source: str) -> Accepted:
        """Take one post in.

        Raises:
            BadPayload: when it can never work; it is kept for inspection.
            LedgerUnavailable: when it could not be committed; the sender has to try again.
        """
        try:
            notification = to_notification(parse(body), self._fingerprints)
        except BadPayload as error:
            await self._ledger.accept(Delivery(body, self._clock.now(), source, rejected=str(error)))
            raise
        accepted = await self._accept(body, notification, source)
        if notification.truncated:
            telemetry.TRUNCATED.inc(notification.truncated)
            self._spawn(self._fetch_the_rest(notification, source))
        return accepted

    async def _accept(self, body: bytes, notification: Notification, source: str) -> Accepted:
        now = self._clock.now()
        fresh: list[str] = []
        sightings = [self._sight(alert, fresh) for alert in notification.alerts]
        accepted = await self._ledger.accept(Delivery(body, now, source), sightings)
        for episode in fresh:
            self._drafted[episode] = None
        while len(self._drafted) > 16_384:
            self._drafted.popitem(last=False)
        telemetry.RECEIVED.inc()
        if any(alert.name == CANARY for alert in notification.alerts):
            telemetry.CANARY.set(now.timestamp())
        telemetry.ALERTS.labels("begun").inc(len(accepted.started))
        telemetry.ALERTS.labels("seen").inc(len(sightings))
        for id_ in (*accepted.started, *accepted.resolved):
            self._dispatch.wake(id_)
        return accepted

    def _sight(self, alert: Alert, fresh: list[str]) -> Sighting:
        if alert.status is Status.RESOLVED:
            return Sighting(alert)
        episode = alert.episode
        if episode in self._drafted:
            return Sighting(alert)
        fresh.append(episode)
        now = self._clock.now()
        return Sighting(
            alert, tuple(draft(rule, alert, self._cap, now) for rule in self.table.match(alert.labels))
        )

    async def _fetch_the_rest(self, notification: Notification, source: str) -> None:
        """Alertmanager cut the list; ask it for the whole group, or say that we could not."""
        now = self._clock.now()
        try:
            alerts = await self._world.alerts(notification.group_labels)
        except WorldUnavailable as error:
            told = {"group": notification.group_key, "cut": notification.truncated, "error": str(error)}
            await self._ledger.note(Event("truncated_unknown", told), now)
            log.warning("truncated notification, and the rest could not be fetched", **told)
            return
        if alerts:
            body = to_payload(alerts, notification.receiver, notification.group_key, now)
            whole = Notification(notification.group_key, notification.receiver, alerts)
            await self._accept(body, whole, f"{source} (fetched)")
