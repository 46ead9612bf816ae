"""An axis of times: ticks at round times of the calendar, with labels that are as short as they can be.

span               labels            what all ticks have in common stands beside the label of the axis
within a day       06:00             2013-01-05
several days       01-05 06:00       2013
months             01-05             2013
over New Year      2013-01-05
years              2013-01, 2013
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
MONTH_S, YEAR_S = 30.4 * DAY_S, 365.25 * DAY_S
STEPS_S = (
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(minutes * MINUTE_S for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * HOUR_S for hours in (1, 2, 3, 6, 12)),
    *(days * DAY_S for days in (1, 2, 4, 7, 14)),
)
MONTH_STEPS = (1, 2, 3, 6)
MIN_TIME_S, MAX_TIME_S = -62_000_000_000.0, 253_000_000_000.0  #: the years 5 to 9987


class Tick(NamedTuple):
    """A marked value of an axis."""

    value: float
    label: str


@dataclass(frozen=True)
class TimeAxis:
    """A range of times, in seconds since 1970 in UTC."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> TimeAxis:
        """Return the axis from the smallest to the largest value, widened to one second where they are closer."""
        times = [min(max(value, MIN_TIME_S), MAX_TIME_S) for value in values] or [0.0]
        low, high = min(times), max(times)
        missing = max(0.0, 1.0 - (high - low))
        return cls(low - missing / 2, high + missing / 2)

    @property
    def context(self) -> str:
        """The year or the day that all times of the axis have in common; "" if they have none."""
        first, last = _date(self.low), _date(self.high)
        if first.year != last.year:
            return ""
        return f"{first:%Y-%m-%d}" if first.date() == last.date() else f"{first:%Y}"

    def fraction(self, value: float) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        return (min(max(value, MIN_TIME_S), MAX_TIME_S) - self.low) / (self.high - self.low)

    def ticks(self, max_ticks: int) -> list[Tick]:
        """Return at most `max_ticks` ticks, at round times."""
        rough = (self.high - self.low) / max(1, max_ticks)
        step = next((step for step in STEPS_S if step >= rough), None)
        if step is not None:
            first = math.ceil((self.low + _since_monday(step)) / step) * step - _since_monday(step)
            values = [first + k * step for k in range(max_ticks + 1) if first + k * step <= self.high]
            return [Tick(value, self._label(_date(value), step)) for value in values[:max_ticks]]
        months = next((months for months in MONTH_STEPS if months * MONTH_S >= rough), None) or 12 * _years(rough)
        days = _first_days(_date(self.low), _date(self.high), months)
        dates = [date for date in days if date.timestamp() >= self.low]
        form = "%Y" if months >= 12 else "%Y-%m"
        return [Tick(date.timestamp(), date.strftime(form)) for date in dates][:max_ticks]

    def _label(self, date: datetime, step: float) -> str:
        day = f"{date:%m-%d}" if self.context else f"{date:%Y-%m-%d}"
        time = f"{date:%H:%M}" if step >= MINUTE_S else f"{date:%H:%M:%S}"
        if step >= DAY_S:
            return day
        return time if len(self.context) > 4 else f"{day} {time}"


def _date(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)


def _since_monday(step: float) -> float:
    """Return the shift with which weeks start on Mondays: 1 January 1970 was a Thursday."""
    return 3 * DAY_S if step >= 7 * DAY_S else 0.0


def _years(rough: float) -> int:
    """Return the smallest of 1, 2 and 5 times a power of ten that is at least a duration, in years."""
    years = rough / YEAR_S
    power: int = 10 ** max(0, math.floor(math.log10(max(1.0, years))))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= years)


def _first_days(start: datetime, end: datetime, months: int) -> Iterator[datetime]:
    """Yield the first day of each period of some months, from that of `start` to the last one before `end`."""
    number = start.year * 12 // months * months if months < 12 else start.year // (months // 12) * months
    while number < end.year * 12 + end.month:
        if number >= 12:
            yield datetime(number // 12, number % 12 + 1, 1, tzinfo=timezone.utc)
        number += months
