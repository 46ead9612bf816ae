"""Check that times are at equal distances, and fill what is missing.

The rows are sorted by group and time. A group is a series of its own: nothing is compared or filled across groups.

    times      00:00  01:00  02:00         05:00  06:00         the step is the most frequent distance: 1 h
                                  └ a gap ┘                     3 h is a multiple of it: two rows are missing
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MONTHS, MICROSECONDS = "months", "microseconds"  #: units of an index
MIN_MONTH_US = 28 * 86_400 * 1_000_000
PREVIOUS, LINEAR = "previous", "linear"
FILLS = (LINEAR, PREVIOUS)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MonthCalendar:
    """Times that are on one day of the month; on the last day of months that are shorter.

    Attributes:
        day: The day of the month, from 1.
        time_us: The time of the day, in microseconds.
    """

    day: int
    time_us: int

    @classmethod
    def of(cls, ticks: Ints) -> MonthCalendar | None:
        """Return the calendar of times in microseconds since 1970; None if there is none."""
        months, days, times_us = _split(ticks)
        calendar = cls(int(days.max()), int(times_us[0]))
        return calendar if np.array_equal(calendar.to_ticks(months), ticks) else None

    def to_ticks(self, months: Ints) -> Ints:
        """Return the times of months since January 1970, in microseconds since 1970."""
        first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        end = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        return (np.minimum(first + self.day - 1, end - 1) * 86_400_000_000 + self.time_us).astype(np.int64)

    def to_months(self, ticks: Ints) -> Ints:
        """Return the months since January 1970 of times in microseconds since 1970."""
        return _split(ticks)[0]


def _split(ticks: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the month since January 1970, the day from 1, and the time of the day in microseconds."""
    times = ticks.astype("datetime64[us]")
    days, months = times.astype("datetime64[D]"), times.astype("datetime64[M]")
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    return months.astype(np.int64), day, (times - days).astype(np.int64)


def distances(index: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """Return the rows that follow another row of their group, and their distances to it."""
    follows = np.ones(len(index), np.bool_)
    follows[starts] = False
    rows: Ints = np.flatnonzero(follows)
    return rows, index[rows] - index[rows - 1]


def usual_step(steps: Ints) -> int:
    """Return the most frequent distance; the smallest one if several are equally frequent."""
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def insert_rows(values: Floats, index: Ints, starts: Ints, step: int) -> tuple[Floats, Ints, Ints]:
    """Insert the rows that are missing at a step, with NaN as their values.

    Args:
        values: [N, C] the values.
        index: [N] the times, as multiples of `step` from the first one of each group.
        starts: First row of each group.
        step: The regular distance.

    Returns:
        The values, the index and the starts with the new rows.
    """
    ends = np.append(starts[1:], len(index))
    sizes = (index[ends - 1] - index[starts]) // step + 1
    new_starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    group = np.repeat(np.arange(len(starts)), ends - starts)
    rows = new_starts[group] + (index - index[starts][group]) // step
    filled = np.full((int(sizes.sum()), values.shape[1]), np.nan)
    filled[rows] = values
    new_index = np.repeat(index[starts] - new_starts * step, sizes) + np.arange(len(filled), dtype=np.int64) * step
    return filled, new_index, new_starts


def known_range(values: Floats, num_targets: int) -> tuple[int, int]:
    """Return the rows of a group that can be filled: from where all columns are known to the last known targets.

    Returns:
        (begin, end); begin >= end if there are none.
    """
    is_known = ~np.isnan(values)
    if not is_known.any(axis=0).all():
        return 0, 0
    begin = int(is_known.argmax(axis=0).max())
    end = len(values) - int(is_known[::-1, :num_targets].argmax(axis=0).max())
    return begin, end


def fill_missing(values: Floats, method: str) -> Floats:
    """Return the values of a group without NaN. Before the first and after the last known value, it is repeated.

    Args:
        values: [N, C] the values; each column has a known one.
        method: LINEAR (a straight line between the known values before and after) or PREVIOUS (the known value before).
    """
    filled: Floats = values.copy()
    rows = np.arange(len(values))
    for column in np.flatnonzero(np.isnan(values).any(axis=0)):
        known = np.flatnonzero(~np.isnan(values[:, column]))
        if method == LINEAR:
            filled[:, column] = np.interp(rows, known, values[known, column])
        else:
            before = np.maximum(np.searchsorted(known, rows, side="right") - 1, 0)
            filled[:, column] = values[known[before], column]
    return filled


def needs_later_value(values: Floats) -> NDArray[np.bool_]:
    """Return the rows of a group, [N], of which LINEAR fills a value from a known one in a later row.

    At the time of such a row, that value was not known yet. Values that are missing up to the end of a column are
    filled with the last known one, so they need no later value.

    Args:
        values: [N, C] the values, with NaN where none is known.
    """
    is_known = ~np.isnan(values)
    is_known_later = np.logical_or.accumulate(is_known[::-1], axis=0)[::-1]
    needs_later: NDArray[np.bool_] = np.any(is_known_later & ~is_known, axis=1)
    return needs_later
