"""Periods of time as partitions hold them: pure arithmetic in UTC, and the reading of a partition's bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Every = Literal["month", "day"]

_BOUNDS = re.compile(r"FOR VALUES FROM \((?P<lower>[^()]+)\) TO \((?P<upper>[^()]+)\)")
_QUOTED = re.compile(r"'([^']+)'")


@dataclass(frozen=True, slots=True)
class Period:
    """From `lower` to before `upper`, both UTC."""

    lower: datetime
    upper: datetime

    def overlaps(self, bounds: Bounds) -> bool:
        """Whether a partition with these bounds holds any moment of it."""
        begins = bounds.lower is None or bounds.lower < self.upper
        return begins and (bounds.upper is None or self.lower < bounds.upper)

    def within(self, bounds: Bounds) -> bool:
        """Whether a partition with these bounds holds all of it."""
        begun = bounds.lower is None or bounds.lower <= self.lower
        return begun and (bounds.upper is None or self.upper <= bounds.upper)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A partition's bounds; None where it is unbounded to that side."""

    lower: datetime | None
    upper: datetime | None


def periods(now: datetime, every: Every, ahead: int) -> tuple[Period, ...]:
    """The period that `now` is in, and so many after it."""
    begin = _begin(now.astimezone(UTC), every)
    found = []
    for _ in range(ahead + 1):
        end = _next(begin, every)
        found.append(Period(begin, end))
        begin = end
    return tuple(found)


def name(table: str, period: Period, every: Every) -> str:
    """`events_2025_11` for a month, `events_2025_11_30` for a day; the table is without its schema."""
    return f"{table}_{period.lower:%Y_%m}" if every == "month" else f"{table}_{period.lower:%Y_%m_%d}"


def literal(moment: datetime, type_: str) -> str:
    """The moment as the partition key's type writes it, in a session whose time zone is UTC."""
    if type_ == "date":
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M:%S}" + ("+00" if type_ == "timestamp with time zone" else "")


def sides(expression: str) -> tuple[str | None, str | None]:
    """The two values inside the bounds, as text; None for MINVALUE and MAXVALUE.

    Raises:
        ValueError: for bounds of another shape, such as a list's or those of two columns.
    """
    found = _BOUNDS.fullmatch(expression)
    if found is None:
        raise ValueError(f"these are no bounds of one range: {expression}")
    return _value(found["lower"], "MINVALUE"), _value(found["upper"], "MAXVALUE")


def parse(expression: str) -> Bounds:
    """What pg_get_expr says of a range partition by time, in a session whose time zone is UTC.

    Raises:
        ValueError: for bounds of another shape, such as a list's or those of two columns.
    """
    lower, upper = sides(expression)
    return Bounds(_moment(lower), _moment(upper))


def _value(text: str, unbounded: str) -> str | None:
    if text == unbounded:
        return None
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        raise ValueError(f"this is no moment: {text}")
    return quoted[1]


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _begin(now: datetime, every: Every) -> datetime:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return day.replace(day=1) if every == "month" else day


def _next(begin: datetime, every: Every) -> datetime:
    if every == "day":
        return begin + timedelta(days=1)
    # Every month has a day that is 31 days after its first, in the next month.
    return (begin + timedelta(days=31)).replace(day=1)
