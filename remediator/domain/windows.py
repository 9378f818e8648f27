"""Maintenance windows: the hours of the week in which a documented change may begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WEEK = len(DAYS)
_DAY = 24 * 60
_TIME = r"([01]\d|2[0-3]):([0-5]\d)"
_WHEN = re.compile(rf"(?:(?P<days>[A-Za-z][A-Za-z,-]*) )?{_TIME}-(?:{_TIME}|24:00)")


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """So many minutes from one minute of the day on, on these days of the week (0 is Monday), by a zone's own clock."""

    name: str
    days: tuple[int, ...]
    start_minute: int
    minutes: int
    timezone: str = "UTC"

    def opens_at(self, now: datetime) -> datetime:
        """When it is open next, in UTC: `now` where it is open already. Its last minute is not in it."""
        zone: tzinfo = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)
        today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        # From yesterday on, as one that began before midnight may still be open.
        for days in range(-1, _WEEK + 2):
            begins = today + timedelta(days=days, minutes=self.start_minute)
            if begins.weekday() not in self.days:
                continue
            opens = begins.replace(tzinfo=zone).astimezone(UTC)
            closes = (begins + timedelta(minutes=self.minutes)).replace(tzinfo=zone).astimezone(UTC)
            if now < closes:
                return max(opens, now.astimezone(UTC))
        raise AssertionError("a window that has a day opens within a week")

    @property
    def longest_wait(self) -> timedelta:
        """The longest time for which it stays closed."""
        gaps = [
            (later - day - 1) % _WEEK + 1 for day, later in zip(self.days, self._next_days(), strict=True)
        ]
        return max(timedelta(0), timedelta(days=max(gaps)) - timedelta(minutes=self.minutes))

    def _next_days(self) -> tuple[int, ...]:
        return (*self.days[1:], self.days[0])


def parse_window(name: str, when: str, timezone: str = "UTC") -> MaintenanceWindow | None:
    """A window as it is written: `Sun 02:00-06:00`, `Mon-Fri 22:00-02:00`, `Tue,Thu 12:00-13:00`, `03:00-24:00`.

    None where it is written in words, which no gate can be made of.
    """
    found = _WHEN.fullmatch(when)
    if found is None:
        return None
    days = _days(found["days"])
    if days is None:
        return None
    start = int(found[2]) * 60 + int(found[3])
    end = _DAY if found[4] is None else int(found[4]) * 60 + int(found[5])
    # An end that is not after the start is of the next day.
    return MaintenanceWindow(name, days, start, (end - start - 1) % _DAY + 1, timezone)


def _days(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return tuple(range(_WEEK))
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            return None
        begin, end = DAYS.index(first), DAYS.index(last or first)
        chosen |= {day % _WEEK for day in range(begin, end + 1 if end >= begin else end + 1 + _WEEK)}
    return tuple(sorted(chosen))
