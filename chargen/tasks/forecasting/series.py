"""Read a series from a table: numbers at equal distances in time, checked, with what is missing stated or filled.

    table ─▶ rows of --where ─▶ numbers and times ─▶ sorted by group and time ─▶ regular? ─▶ filled ─▶ Series

A value that is missing is never replaced in silence: it is an error that proposes `--fill`, and what was filled is in
the notes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError
from chargen.registry import did_you_mean
from chargen.schema import format_count
from chargen.tasks.forecasting.reading.rows import RowChoice, Rows, duplicate_error, read_rows
from chargen.tasks.forecasting.reading.sampling import (
    FILLS,
    LINEAR,
    MIN_MONTH_US,
    MonthCalendar,
    distances,
    fill_missing,
    insert_rows,
    known_range,
    needs_later_value,
    usual_step,
)
from chargen.tasks.forecasting.reading.times import MEAN_MONTH_S, MICROSECONDS, TimeColumns
from chargen.text.limits import check_memory

HOW_TO_FILL = "Give --fill linear or --fill previous, or correct the file."
HOW_TO_IGNORE = "--time none takes the rows to be at equal distances, as trading days are."
NO_TIME_NOTE = "no column of times was found, so the rows are taken to be at equal distances"


@dataclass(frozen=True)
class Series:
    """One or several series of numbers at equal distances in time.

    Attributes:
        targets: Names of the columns that are forecast.
        inputs: Names of further columns, of which only the past is known.
        values: [N, C] the targets, then the inputs; float64, all finite.
        times: [N] the times in seconds (microseconds if they have fractions); None if they are no dates.
        is_utc: Whether the times were converted to UTC, as times with an offset are; others are as in the file.
        step_s: The distance of two times in seconds; of months, their mean. None without dates.
        step_months: The distance of two times in months; 0 if the distance in seconds is constant.
        starts: First row of each group, ascending; (0,) without groups.
        groups: The value of the group column, for each group; ("",) without groups.
        is_filled: [N] whether a target of the row was filled.
        is_interpolated: [N] whether a value of the row, of a target or an input, was computed from one in a later row.
        notes: What was found and changed, as phrases for the user.
        sha256: Hash of the names, the values, the times and the starts.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    values: NDArray[np.float64]
    times: NDArray[np.datetime64] | None
    is_utc: bool
    step_s: float | None
    step_months: int
    starts: tuple[int, ...]
    groups: tuple[str, ...]
    is_filled: NDArray[np.bool_]
    is_interpolated: NDArray[np.bool_]
    notes: tuple[str, ...]
    sha256: str

    @property
    def ends(self) -> tuple[int, ...]:
        """The row after the last one of each group."""
        return (*self.starts[1:], len(self.values))

    def times_after(self, row: int, count: int) -> NDArray[np.datetime64] | None:
        """Return the next times after that of a row, at the regular distance; [count], or None without times."""
        if self.times is None or self.step_s is None:
            return None
        last = self.times[row : row + 1]
        later: NDArray[np.datetime64]
        if self.step_months:
            ticks = self.times.astype("datetime64[us]").astype(np.int64)
            calendar = MonthCalendar.of(ticks)
            assert calendar is not None
            months = calendar.to_months(ticks[row : row + 1]) + self.step_months * np.arange(1, count + 1)
            later = calendar.to_ticks(months).astype("datetime64[us]")
            return later.astype(self.times.dtype)
        steps = np.arange(1, count + 1, dtype=np.int64) * round(self.step_s * MICROSECONDS)
        later = last.astype("datetime64[us]") + steps.astype("timedelta64[us]")
        return later.astype(self.times.dtype)


def read_series(
    path: str, columns: Sequence[str], *, inputs: Sequence[str] = (), time: str | None = None,
    group: str | None = None, where: Sequence[str] = (), fill: str | None = None, encoding: str = "utf-8",
) -> Series:  # fmt: skip
    """Read a series from CSV, TSV, JSON lines or Parquet (`reading/table.py`).

    Args:
        path: A path or a URL; "-" is standard input.
        columns: The columns that are forecast.
        inputs: Further columns.
        time: The column of times, or several (year, month, …) with commas between them; "none" for none; None to find
            it.
        group: A column; the rows of each of its values are a series.
        where: Filters "COLUMN=VALUE": only such rows are read. Of several values for a column, any is accepted.
        fill: How missing rows and values are filled: "linear" or "previous"; None refuses them.
        encoding: Text encoding of the file.

    Raises:
        ChargenError: If the package that reads this format is not installed.
        ConfigError: If an argument is out of range, or the series does not fit in memory.
        CorpusError: If the file cannot be read; there is no such column; a cell is no number; times are missing, equal
            or not regular; or values are missing and `fill` is None.
    """
    _check_choices(columns, inputs, fill)
    choice = RowChoice(tuple(columns), tuple(inputs), time, group, tuple(where))
    rows = read_rows(path, choice, encoding)
    notes = list(rows.notes)
    if rows.times is None:
        notes += [] if time is not None else [NO_TIME_NOTE]
    elif not rows.is_sorted:
        notes.append("the rows were not in the order of their times: they were sorted")
    regular = _regular(rows, path, encoding, choice, fill)
    return _filled(rows, regular, choice, fill, notes)


def _check_choices(columns: Sequence[str], inputs: Sequence[str], fill: str | None) -> None:
    names = [*columns, *inputs]
    if not columns:
        raise ConfigError("no column is named", "Name the column that is forecast: --column NAME.")
    if repeated := next((name for name in names if names.count(name) > 1), None):
        where = "with both --column and --with" if repeated in inputs and repeated in columns else "twice"
        raise ConfigError(f"the column {repeated!r} is named {where}", "Name each column once.")
    if fill is not None and fill not in FILLS:
        hint = f"{did_you_mean(fill, FILLS)} Known: {', '.join(FILLS)}.".strip()
        raise ConfigError(f"no method of filling named {fill!r}", hint)


@dataclass(frozen=True)
class _Regular:
    """The times of rows as whole numbers with a constant distance."""

    index: NDArray[np.int64]  # microseconds, months, or row numbers
    step: int
    calendar: MonthCalendar | None  # set if the index counts months
    num_missing: int  # times that are missing


def _regular(rows: Rows, path: str, encoding: str, choice: RowChoice, fill: str | None) -> _Regular:
    """Check that the times are regular.

    Raises:
        CorpusError: If they are not; if two are equal; or if some are missing, and they are not filled.
    """
    if rows.ticks is None or rows.times is None:
        return _Regular(np.arange(len(rows.values)), 1, None, 0)
    starts = np.array(rows.starts)
    followers, steps = distances(rows.ticks, starts)
    if not len(steps):
        what = "one row" if len(rows.values) == 1 else "one row in each group"
        raise CorpusError(f"{rows.where} has {what}, so its times have no distance", "Give a longer series.")
    if (steps == 0).any():
        raise duplicate_error(rows, path, encoding, choice, int(followers[(steps == 0).argmax()]))
    index, calendar = rows.ticks, None
    if rows.times.is_date and steps.min() >= MIN_MONTH_US and (calendar := MonthCalendar.of(rows.ticks)):
        index = calendar.to_months(rows.ticks)
        followers, steps = distances(index, starts)
    step = usual_step(steps)
    irregular = steps % step != 0
    if irregular.any():
        raise _irregular_error(rows, rows.times, calendar, step, int(followers[irregular.argmax()]))
    num_missing = int((steps // step - 1).sum())
    if num_missing and (fill is None or num_missing > len(rows.values)):
        row = int(followers[(steps > step).argmax()])
        raise _gap_error(rows, rows.times, _describe_step(rows.times, step, calendar), row, num_missing, fill)
    return _Regular(index, step, calendar, num_missing)


def _describe_step(times: TimeColumns, step: int, calendar: MonthCalendar | None) -> str:
    return format_count(step, "month") if calendar else times.describe_step(step)


def _irregular_error(
    rows: Rows, times: TimeColumns, calendar: MonthCalendar | None, step: int, row: int
) -> CorpusError:
    assert rows.ticks is not None
    distance = times.describe_step(int(rows.ticks[row] - rows.ticks[row - 1]))
    usual = _describe_step(times, step, calendar)
    return CorpusError(
        f"{rows.place(row)}: the times are not regular: {times.describe(rows.ticks[row])} is {distance} after "
        f"{times.describe(rows.ticks[row - 1])}, but most are {usual} apart",
        f"Bring the series to equal distances first. --time none takes the rows to be {usual} apart.",
    )


def _gap_error(rows: Rows, times: TimeColumns, step: str, row: int, count: int, fill: str | None) -> CorpusError:
    assert rows.ticks is not None
    before = f"{times.describe(rows.ticks[row - 1])} is followed by {times.describe(rows.ticks[row])}"
    message = f"{rows.place(row)}: {before}, at a step of {step}: {format_count(count, 'time is', 'times are')} missing"
    if fill is None:
        return CorpusError(message, f"{HOW_TO_FILL} {HOW_TO_IGNORE}")
    return CorpusError(message, f"--fill fills at most as many rows as there are ({len(rows.values):,}). Cut the file.")


def _filled(rows: Rows, regular: _Regular, choice: RowChoice, fill: str | None, notes: list[str]) -> Series:
    """Return the series of checked rows, without missing values.

    Raises:
        CorpusError: If values are missing, and they are not filled or cannot be.
    """
    is_missing = np.isnan(rows.values)
    if fill is None and is_missing.any():
        raise _missing_error(rows, choice, is_missing)
    values, index, starts = rows.values, regular.index, np.array(rows.starts)
    names = choice.values
    if fill is not None and (regular.num_missing or is_missing.any()):
        check_memory(
            2 * (len(values) + regular.num_missing) * 8 * (len(names) + 2), "the filled series", "Cut the file."
        )
        values, index, starts = insert_rows(values, index, starts, regular.step)
        notes.append(_describe_filling(rows, regular, choice, is_missing, fill))
    is_filled: NDArray[np.bool_] = np.any(np.isnan(values[:, : len(choice.columns)]), axis=1)
    is_interpolated = _interpolated_rows(values, starts, fill)
    if fill is not None and np.isnan(values).any():
        values, kept, num_cut = _fill_groups(values, starts, choice, rows, fill)
        index, is_filled, is_interpolated = index[kept], is_filled[kept], is_interpolated[kept]
        starts = np.searchsorted(kept, starts)
        if num_cut:
            rows_text = format_count(num_cut, "row without known values", "rows without known values")
            notes.append(f"left out {rows_text} at the start or end of the series")
    times, step_s = _times_of(rows, regular, index)
    starts_tuple = tuple(int(start) for start in starts)
    step_months = regular.step if regular.calendar else 0
    digest = _hash(names, values, times, starts_tuple)
    return Series(
        choice.columns, choice.inputs, values, times, rows.is_utc, step_s, step_months, starts_tuple, rows.groups,
        is_filled, is_interpolated, tuple(notes), digest,
    )  # fmt: skip


def _missing_error(rows: Rows, choice: RowChoice, is_missing: NDArray[np.bool_]) -> CorpusError:
    row, column = (int(k) for k in np.unravel_index(int(is_missing.argmax()), is_missing.shape))
    count = int(is_missing[:, column].sum())
    rest = "" if count == 1 else f", and so {format_count(count - 1, 'other row', 'other rows')}"
    return CorpusError(f"{rows.place(row)}: the column {choice.values[column]!r} has no value{rest}", HOW_TO_FILL)


def _describe_filling(
    rows: Rows, regular: _Regular, choice: RowChoice, is_missing: NDArray[np.bool_], fill: str
) -> str:
    parts = []
    if regular.num_missing and rows.ticks is not None and rows.times is not None:
        followers, steps = distances(regular.index, np.array(rows.starts))
        is_gap = steps > regular.step
        first = rows.times.describe(rows.ticks[followers[is_gap.argmax()] - 1])
        longest = int(steps.max() // regular.step - 1)
        rows_text = format_count(regular.num_missing, "missing time")
        parts.append(f"{rows_text} (the first after {first}; at most {longest:,} in a row)")
    counts = zip(choice.values, is_missing.sum(axis=0), strict=True)
    parts += [f"{format_count(int(count), 'missing value')} of {name}" for name, count in counts if count]
    method = "a straight line between their neighbours" if fill == LINEAR else "the value before"
    return f"filled {', '.join(parts)}: by {method}"


def _fill_groups(
    values: NDArray[np.float64], starts: NDArray[np.int64], choice: RowChoice, rows: Rows, fill: str
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Return the filled values of the rows that can be filled, these rows, and the number of the others.

    Raises:
        CorpusError: If a column of a group has no value.
    """
    filled = values.copy()
    kept = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(values)], strict=True)):
        part = values[start:end]
        first, last = known_range(part, len(choice.columns))
        if first >= last:
            column = int(np.isnan(part).all(axis=0).argmax())
            group = f" of the group {rows.groups[number]!r}" if choice.group else ""
            what = f"the column {choice.values[column]!r}{group} has no values that can be filled"
            raise CorpusError(f"{rows.where}: {what}", "Name another column, or leave the group out with --where.")
        if np.isnan(part).any():
            filled[start:end] = fill_missing(part, fill)
        kept.append(np.arange(start + first, start + last))
    indices = np.concatenate(kept)
    return filled[indices], indices, len(values) - len(indices)


def _interpolated_rows(values: NDArray[np.float64], starts: NDArray[np.int64], fill: str | None) -> NDArray[np.bool_]:
    """Return the rows of which a missing value will be computed from one in a later row, [N]."""
    is_interpolated = np.zeros(len(values), np.bool_)
    if fill == LINEAR:
        for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
            is_interpolated[start:end] = needs_later_value(values[start:end])
    return is_interpolated


def _times_of(
    rows: Rows, regular: _Regular, index: NDArray[np.int64]
) -> tuple[NDArray[np.datetime64] | None, float | None]:
    """Return the times of an index and their distance in seconds; None for both if they are no dates."""
    if rows.times is None or not rows.times.is_date:
        return None, None
    ticks = regular.calendar.to_ticks(index) if regular.calendar else index
    times: NDArray[np.datetime64] = ticks.astype("datetime64[us]")
    if not (ticks % MICROSECONDS).any():
        times = times.astype("datetime64[s]")
    return times, regular.step * (MEAN_MONTH_S if regular.calendar else 1 / MICROSECONDS)


def _hash(
    names: Sequence[str], values: NDArray[np.float64], times: NDArray[np.datetime64] | None, starts: Sequence[int]
) -> str:
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(values, "<f8").tobytes())
    if times is not None:
        digest.update(times.astype("datetime64[us]").astype("<i8").tobytes())
    digest.update(np.array(starts, "<i8").tobytes())
    return digest.hexdigest()
