"""Schedules: a rule that the clock starts, as if an alert had fired at the scheduled minute.

What follows is what follows of any alert: a dry run by default, the same guards but the one that asks Prometheus
whether the alert fires, the same approvals, verification and journal. The episode is the scheduled minute, so a
restart or a second replica does not start it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from cronsim import CronSim, CronSimError

from remediator import telemetry
from remediator.domain.alerts import Alert, Labels
from remediator.domain.events import Event
from remediator.domain.remediations import Remediation
from remediator.domain.rules import Mode, Rule
from remediator.errors import LedgerError
from remediator.pipeline.episodes import OwnEpisodes
from remediator.pipeline.match import draft
from remediator.pipeline.ports import Clock, Ledger

log = structlog.get_logger()

CATCH_UP = timedelta(hours=1)
"""How late a run may still begin after a downtime. A choice of ours."""

FIELDS = 5
MINUTE = timedelta(minutes=1)


def check_cron(cron: str) -> str:
    """The expression, as it is.

    Raises:
        ValueError: when it is none that we take: five fields, as in a crontab.
    """
    if len(cron.split()) != FIELDS:
        raise ValueError(f"found {cron!r}, expected five fields: minute hour day-of-month month day-of-week")
    try:
        next(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"found {cron!r}: {error or 'it never comes'}") from error
    return cron


def check_timezone(name: str) -> str:
    """The name of a time zone, as it is.

    Raises:
        ValueError: when there is no such zone.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(
            f"there is no time zone {name!r}; expected one such as UTC or Europe/Berlin"
        ) from error
    return name


def alertname(rule: str) -> str:
    """The name that a scheduled run has in place of an alert's: `weekly-scan` gives `ScheduledWeeklyScan`."""
    return "Scheduled" + "".join(part[:1].upper() + part[1:] for part in rule.split("-"))


@lru_cache(1024)
def latest(cron: str, timezone: str, minute: datetime) -> datetime:
    """The last scheduled minute that is not after `minute`, in UTC."""
    # Asked backwards, the library names what is before: one minute more, so that this one counts.
    zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    return next(CronSim(cron, (minute + MINUTE).astimezone(zone), reverse=True)).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the clock starts a rule, with the labels that stand in for an alert's."""

    rule: Rule
    cron: str
    timezone: str = "UTC"
    labels: Labels = field(default_factory=dict)
    catch_up: timedelta = CATCH_UP

    @property
    def key(self) -> str:
        """Under which the journal remembers since when it is known; another time is another schedule."""
        return f"schedule {self.rule.name} {self.cron} {self.timezone}"

    def latest(self, now: datetime) -> datetime:
        """When it was last due."""
        return latest(self.cron, self.timezone, now.astimezone(UTC).replace(second=0, microsecond=0))

    def alert(self, at: datetime) -> Alert:
        """What stands in for the alert of the run that is due at this minute."""
        own = {"alertname": alertname(self.rule.name), "system": self.rule.system, "rule": self.rule.name}
        task = self.labels.get("task", self.rule.name)
        summary = f"{task} is due by its schedule: {self.cron} ({self.timezone})"
        return Alert({**self.labels, **own}, at, annotations={"summary": summary})


class Scheduler:
    """Starts what is due. `schedules` is asked anew each time, so that a reload counts at once."""

    def __init__(
        self,
        ledger: Ledger,
        episodes: OwnEpisodes,
        clock: Clock,
        cap: Mode,
        schedules: Callable[[], Sequence[Schedule]],
    ) -> None:
        self._ledger, self._episodes, self._clock, self._cap = ledger, episodes, clock, cap
        self._schedules = schedules
        self._since: dict[str, datetime] = {}
        self._done: dict[str, datetime] = {}

    async def run(self) -> None:
        """Minute after minute, until cancelled."""
        while True:
            try:
                await self.round()
            except LedgerError as error:
                telemetry.LEDGER_ERRORS.inc()
                log.warning(
                    "the scheduler could not use the ledger; what is due is tried again", error=str(error)
                )
            await self._clock.sleep(60 - self._clock.now().timestamp() % 60)

    async def round(self) -> None:
        """Once: begin what is due, and end the episodes of what has finished, also of what people started.

        Raises:
            LedgerError: when the ledger could not be used; the next round tries again.
        """
        now = self._clock.now()
        for schedule in self._schedules():
            at = schedule.latest(now)
            if self._done.get(schedule.key) != at:
                if at >= await self._known_since(schedule, now):
                    await self._due(schedule, at, now)
                self._done[schedule.key] = at
        await self._episodes.end_finished(now)

    async def _known_since(self, schedule: Schedule, now: datetime) -> datetime:
        """When this schedule was first seen: what was due before is not missed."""
        since = self._since.get(schedule.key)
        if since is None:
            first = await self._ledger.journal(remediation=schedule.key, limit=1)
            if not first:
                told = {"rule": schedule.rule.name, "cron": schedule.cron, "timezone": schedule.timezone}
                await self._ledger.note(Event("schedule_known", told), now, schedule.key)
            since = self._since[schedule.key] = first[0].at if first else now
        return since

    async def _due(self, schedule: Schedule, at: datetime, now: datetime) -> None:
        alert = schedule.alert(at)
        begun = replace(draft(schedule.rule, alert, self._cap, now), scheduled=True)
        if await self._episodes.is_there(begun.id):
            return
        if now - at > schedule.catch_up:
            await self._missed(schedule, begun, now)
            return
        if await self._episodes.begin(begun, alert, "schedule", now):
            log.info(
                "started by its schedule", remediation=begun.id, rule=schedule.rule.name, due=at.isoformat()
            )

    async def _missed(self, schedule: Schedule, begun: Remediation, now: datetime) -> None:
        """Say once that a run was not begun, as it would be too late."""
        if await self._ledger.journal(remediation=begun.id, limit=1):
            return
        told = {"rule": schedule.rule.name, "due": begun.starts_at.isoformat(), "cron": schedule.cron}
        why = f"it was due at {begun.starts_at.isoformat()}, longer ago than catch_up allows"
        await self._ledger.note(Event("schedule_missed", {**told, "reason": why}), now, begun.id)
        log.warning("a scheduled run was missed", **told)
