"""Cut a series into windows, each with the steps that follow it, and split them by time.

    rows      ├───────┬──┬───────┬──┬───────┬──┬──────────┤
               train   ch  train  ch  train  ch  held out        the last 20 % of the time measure the forecasts
    windows           [history│future]                           the future of a window belongs to one part

The last part is held out, as users forecast what follows all known values. In the time before it, a tenth of the rows
chooses the best weights and calibrates the interval: short periods that are spread evenly, so that they resemble the
whole and not only its last season (blocked validation, Bergmeir & Benítez 2012).

The future of a window belongs to one part, so no value is both learned and measured. A history may reach back into the
part before: at that time it is known. No window crosses from one group to the next. With MIN_GROUPS groups or more,
such as the paths of many balls, whole groups belong to a part; otherwise each group is split by time.

The length of the periods depends on the horizon. A recursive forecast is trained on futures of a single step, and
calibrated and measured on futures of the whole horizon: the windows of both have the periods of the whole horizon.

A value that was filled by a straight line was computed from the next known one. A window whose last row has such a
value, in any column, would contain what it is to forecast. It belongs to no part. For the same reason, the rows of a
gap at the end of a training period are not learned: the line through them ends at a value of the next part.

The values are standardized with the mean and the standard deviation of the training rows alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.training.supervised.objective import Indices

HELD_OUT_SHARE, CHOICE_SHARE = 0.2, 0.1  #: shares of the rows (or of the groups); the rest is for training
MAX_PERIODS = 10  #: periods of the rows that choose and calibrate
MIN_PERIOD_FUTURES = 4  #: length of such a period, at least, in horizons
MIN_GROUPS = 10  #: this number of groups or more are split as wholes
TRAINING, CHOICE, HELD_OUT = range(3)  #: the parts
Values = NDArray[np.float64]
F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True)
class Split:
    """The windows of each part, by the row of their first step, and the rows from which the scaling is computed."""

    training: Indices
    choice: Indices  #: choose the best weights and calibrate the interval
    held_out: Indices  #: measure the forecasts; nothing else uses their futures
    training_rows: NDArray[np.bool_]  #: [N]


@dataclass(frozen=True)
class Scaling:
    """The mean and the standard deviation of each column, [C]."""

    mean: Values
    std: Values

    @classmethod
    def of(cls, values: Values) -> Scaling:
        """Return the scaling of values [N, C]; a column that never changes has the standard deviation 1."""
        mean, std = values.mean(0), values.std(0)
        return cls(mean, np.where(std > 1e-9 * np.maximum(1.0, np.abs(mean)), std, 1.0))

    def apply(self, values: Values) -> NDArray[np.float32]:
        """Return standardized values, [N, C]."""
        return ((values - self.mean) / self.std).astype(np.float32)


def group_bounds(starts: Sequence[int], num_rows: int) -> list[tuple[int, int]]:
    """Return the first row of each group and the row after its last."""
    return list(zip(starts, [*starts[1:], num_rows], strict=True))


def split_windows(
    starts: Sequence[int], is_filled: NDArray[np.bool_], history: int, horizon: int, *,
    is_interpolated: NDArray[np.bool_] | None = None, period_horizon: int | None = None,
) -> Split:  # fmt: skip
    """Return the windows of a series, split by time or by whole groups.

    Args:
        starts: The first row of each group, ascending; (0,) for one series.
        is_filled: Whether a value of the row was missing in the file, [N]. Such rows may be learned, but not measured.
        history: Steps of a window.
        horizon: Steps after it that are forecast.
        is_interpolated: Whether a value of the row was computed from one in a later row, [N]. No window ends in such a
            row: its history would contain a value that is forecast. None stands for no such rows.
        period_horizon: Horizon that the periods are long enough for; None for `horizon`. Two splits of a series have
            the same periods only if it is the same.

    Raises:
        CorpusError: If a part has no window.
    """
    num_rows = len(is_filled)
    bounds = group_bounds(starts, num_rows)
    parts: tuple[list[Indices], ...] = ([], [], [])
    training_rows = np.zeros(num_rows, dtype=bool)
    is_late = np.zeros(num_rows, dtype=bool) if is_interpolated is None else is_interpolated
    for number, bound in enumerate(bounds):
        for kind, low, high in _segments(number, len(bounds), *bound, period_horizon or horizon):
            while kind == TRAINING and high > low and is_late[high - 1]:
                high -= 1  # the line through these rows ends at a value of the next part
            first = max(bound[0], low - history)  # the futures of the windows are within low … high
            parts[kind].append(np.arange(first, high - history - horizon + 1, dtype=np.int64))
            if kind == TRAINING:
                training_rows[low:high] = True
    training, choice, held_out = (np.concatenate(part) if part else np.zeros(0, dtype=np.int64) for part in parts)
    choice, held_out = (_without_filled(part, is_filled, history, horizon) for part in (choice, held_out))
    training, choice, held_out = (part[~is_late[part + history - 1]] for part in (training, choice, held_out))
    if not (len(training) and len(choice) and len(held_out)):
        longer = "a longer series with fewer gaps" if (is_filled | is_late).any() else "a longer series"
        previous = " --fill previous also uses windows that end in a filled row." if is_late.any() else ""
        raise CorpusError(
            f"the series is too short: {format_count(num_rows, 'row')} in {format_count(len(bounds), 'group')} have "
            f"{len(training):,}, {len(choice):,} and {len(held_out):,} windows of {history:,} + {horizon:,} steps to "
            "train, to choose and to measure, but each part needs one",
            f"Give {longer}, or a shorter --history or --horizon.{previous}",
        )
    return Split(training, choice, held_out, training_rows)


def _segments(number: int, num_groups: int, begin: int, end: int, horizon: int) -> Iterator[tuple[int, int, int]]:
    """Yield (the part, the first row, the row after the last) of each segment of a group."""
    if num_groups >= MIN_GROUPS:
        shares = (1.0 - HELD_OUT_SHARE - CHOICE_SHARE, 1.0 - HELD_OUT_SHARE)
        yield sum(number >= round(share * num_groups) for share in shares), begin, end
        return
    length = end - begin
    known = begin + round((1.0 - HELD_OUT_SHARE) * length)
    num_periods = max(1, min(MAX_PERIODS, int(CHOICE_SHARE * length) // (MIN_PERIOD_FUTURES * horizon)))
    edges = np.linspace(begin, known, num_periods + 1).round().astype(int).tolist()
    for low, high in zip(edges, edges[1:], strict=False):
        cut = high - round(CHOICE_SHARE / (1.0 - HELD_OUT_SHARE) * (high - low))
        yield TRAINING, low, cut
        yield CHOICE, cut, high
    yield HELD_OUT, known, end


def _without_filled(starts: Indices, is_filled: NDArray[np.bool_], history: int, horizon: int) -> Indices:
    """Return the windows whose futures have no filled row."""
    counts = np.concatenate([[0], np.cumsum(is_filled)])
    kept: Indices = starts[counts[starts + history] == counts[starts + history + horizon]]
    return kept


def thin_out(starts: Indices, max_windows: int) -> Indices:
    """Return at most this number of windows, spread evenly over the given ones."""
    return starts[:: max(1, -(-len(starts) // max(1, max_windows)))]


def take_windows(rows: NDArray[F], starts: Indices, length: int) -> NDArray[F]:
    """Return windows of rows [N, …] that start at the given rows: [M, length, …]."""
    windows: NDArray[F] = rows[starts[:, None] + np.arange(length)]
    return windows
