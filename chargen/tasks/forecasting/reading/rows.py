"""Read the rows of a table that belong to a series, and sort them by group and time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.registry import did_you_mean
from chargen.schema import format_value
from chargen.tasks.forecasting.reading.numbers import MISSING, parse_numbers
from chargen.tasks.forecasting.reading.table import NUMBER, Cells, Chunk, Table, open_table
from chargen.tasks.forecasting.reading.times import (
    TimeColumns,
    find_times,
    format_time,
    mixed_zones_error,
    parse_times,
)
from chargen.text.cleaning import CleaningReport
from chargen.text.limits import check_memory, first_names

MAX_SEEN = 1000  #: values of a column that are kept for a proposal
MAX_GROUP_VALUES = 50  #: a column with more values in the file does not tell series apart


@dataclass(frozen=True)
class RowChoice:
    """Which columns and rows of a table are a series; see `series.read_series`."""

    columns: tuple[str, ...]
    inputs: tuple[str, ...]
    time: str | None
    group: str | None
    where: tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the columns of numbers."""
        return (*self.columns, *self.inputs)


@dataclass(frozen=True)
class Rows:
    """Rows sorted by group and time.

    Attributes:
        where: Name of the file.
        unit: What places count.
        values: [N, C] the numbers; NaN where none is known.
        ticks: [N] the times in microseconds, ascending in each group; None without times.
        times: The columns of times; None without times.
        is_utc: Whether the times were converted to UTC.
        starts: First row of each group.
        groups: Name of each group.
        places: [N] the places of the rows in the file.
        is_sorted: Whether the rows of each group were in the order of their times.
        notes: What was found out about the file.
    """

    where: str
    unit: str
    values: NDArray[np.float64]
    ticks: NDArray[np.int64] | None
    times: TimeColumns | None
    is_utc: bool
    starts: tuple[int, ...]
    groups: tuple[str, ...]
    places: NDArray[np.int64]
    is_sorted: bool
    notes: tuple[str, ...]

    def place(self, row: int) -> str:
        """Return the place of a row in the file, for a message."""
        return f"{self.where}, {self.unit} {self.places[row]:,}"


@dataclass
class _Parts:
    """The arrays of the chunks that were read."""

    values: list[NDArray[np.float64]] = field(default_factory=list)
    ticks: list[NDArray[np.int64]] = field(default_factory=list)
    codes: list[NDArray[np.int64]] = field(default_factory=list)
    places: list[NDArray[np.int64]] = field(default_factory=list)
    is_utc: set[bool] = field(default_factory=set)  # what `parse_times` returned: one value for a correct file


def read_rows(path: str, choice: RowChoice, encoding: str) -> Rows:
    """Read the rows of a series, sorted by group and time; groups are in the order of their first rows.

    Args:
        path: A path or a URL; "-" is standard input.
        choice: Which columns and rows.
        encoding: Text encoding of the file.

    Raises:
        ChargenError: If the package that reads this format is not installed.
        ConfigError: If the rows do not fit in memory.
        CorpusError: If the file, a column or a cell cannot be read, or no row is left.
    """
    report = CleaningReport()
    parts, codes = _Parts(), dict[str, int]()
    with open_table(path, encoding, report) as table:
        for option, names in (("--column", choice.columns), ("--with", choice.inputs)):
            for name in names:
                table.check_column(name, option)
        if choice.group is not None:
            table.check_column(choice.group, "--group")
        filters = _Filters(choice.where, table)
        times = find_times(table, table.preview(), choice.time)
        time_names = times.names if times else ()
        wanted = dict.fromkeys([*choice.values, *time_names, *filters.names, *([choice.group] if choice.group else [])])
        num_rows = 0
        for whole in table.chunks(list(wanted)):
            chunk = filters.apply(whole)
            if not len(chunk.places):
                continue
            num_rows += len(chunk.places)
            check_memory(3 * 8 * num_rows * (len(choice.values) + 3), table.where, "Give a part of the file.")
            columns = [parse_numbers(chunk.columns[name], chunk, name, table) for name in choice.values]
            parts.values.append(np.stack(columns, axis=1))
            parts.places.append(chunk.places)
            if times:
                ticks, is_utc = parse_times(chunk, times, table)
                parts.ticks.append(ticks)
                parts.is_utc.add(is_utc)
            if choice.group is not None:
                parts.codes.append(_group_codes(chunk.columns[choice.group], codes))
        if not num_rows:
            raise filters.no_rows_error()
    if times and len(parts.is_utc) > 1:
        raise mixed_zones_error(table, ",".join(times.names))
    notes = [*report.notes(), *_time_notes(table, times, choice, True in parts.is_utc)]
    return _sorted(parts, table, times, tuple(codes) or ("",), tuple(notes))


def _time_notes(table: Table, times: TimeColumns | None, choice: RowChoice, is_utc: bool) -> list[str]:
    notes = []
    if times and choice.time is None:
        notes.append(f"the times are those of {', '.join(map(repr, times.names))}; --time names another column")
    if is_utc:
        notes.append("the times are in UTC")
    return notes


def _group_codes(cells: Cells, codes: dict[str, int]) -> NDArray[np.int64]:
    """Return the number of the group of each cell; new groups are added to `codes`."""
    texts = _as_texts(cells)
    for text in dict.fromkeys(texts):
        codes.setdefault(text, len(codes))
    return np.fromiter(map(codes.__getitem__, texts), np.int64, len(texts))


def _as_texts(cells: Cells) -> Sequence[str]:
    if not isinstance(cells, np.ndarray):
        return cells
    if cells.dtype.kind == "M":
        return [format_time(cell) for cell in cells]
    return [f"{cell:.15g}" for cell in cells]


def _select(cells: Cells, rows: NDArray[np.int64]) -> Cells:
    return cells[rows] if isinstance(cells, np.ndarray) else [cells[k] for k in rows.tolist()]


def _sorted(
    parts: _Parts, table: Table, times: TimeColumns | None, groups: tuple[str, ...], notes: tuple[str, ...]
) -> Rows:
    values, places = np.concatenate(parts.values), np.concatenate(parts.places)
    ticks = np.concatenate(parts.ticks) if times else np.arange(len(values))
    codes = np.concatenate(parts.codes) if parts.codes else np.zeros(len(values), np.int64)
    order = np.lexsort((ticks, codes))
    by_group = np.argsort(codes, kind="stable")
    is_sorted = bool(np.array_equal(order, by_group))
    starts = np.searchsorted(codes[order], np.arange(len(groups)))
    return Rows(
        table.where, table.unit, values[order], ticks[order] if times else None, times, True in parts.is_utc,
        tuple(int(start) for start in starts), groups, places[order], is_sorted, notes,
    )  # fmt: skip


# ── filters ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Filters:
    """The filters COLUMN=VALUE: a row is used if each column has one of its values.

    Raises:
        CorpusError: If a filter is none, or the table has no such column.
    """

    def __init__(self, where: Sequence[str], table: Table) -> None:
        self._table = table
        self._values: dict[str, list[str]] = {}
        for text in where:
            name = max((n for n in table.names if text.startswith(f"{n}=")), key=len, default=text.partition("=")[0])
            if "=" not in text:
                raise CorpusError(f"--where {text} is no filter", "Write it as --where COLUMN=VALUE.")
            table.check_column(name, "--where")
            self._values.setdefault(name, []).append(text[len(name) + 1 :].strip())
        self._found: set[str] = set()
        self._seen: dict[str, dict[str, None]] = {name: {} for name in self._values}

    @property
    def names(self) -> list[str]:
        """The columns that are compared."""
        return list(self._values)

    def apply(self, chunk: Chunk) -> Chunk:
        """Return the rows of a chunk that are used."""
        if not self._values:
            return chunk
        kept = np.ones(len(chunk.places), np.bool_)
        for name, values in self._values.items():
            texts = _as_texts(chunk.columns[name])
            is_wanted = {text: text.strip() in values for text in dict.fromkeys(texts)}
            has_value = np.fromiter(map(is_wanted.__getitem__, texts), np.bool_, len(texts))
            kept &= has_value
            if has_value.any():
                self._found.add(name)
            elif len(seen := self._seen[name]) < MAX_SEEN:
                seen |= dict.fromkeys(text.strip() for text in is_wanted)
        rows = np.flatnonzero(kept)
        if len(rows) == len(kept):
            return chunk
        columns = {name: _select(cells, rows) for name, cells in chunk.columns.items()}
        return Chunk(columns, chunk.places[rows])

    def no_rows_error(self) -> CorpusError:
        """Return the error for a table of which no row is used."""
        where = self._table.where
        for name, values in self._values.items():
            if name not in self._found:
                seen = self._seen[name]
                shown = " or ".join(map(format_value, values))
                hint = f"{did_you_mean(values[0], seen)} The column has: {first_names(seen)}.".strip()
                return CorpusError(f"{where}: no row has {shown} in the column {name!r}", hint)
        if self._values:
            return CorpusError(f"{where}: no row has all of the values of --where", "Leave one of them out.")
        return CorpusError(f"{where} has names of columns, but no rows", "Give a longer series.")


# ── equal times ───────────────────────────────────────────────────────────────────────────────────────────────────────


def duplicate_error(rows: Rows, path: str, encoding: str, choice: RowChoice, row: int) -> CorpusError:
    """Return the error for a row that has the time of the row before it; it proposes what tells the two apart."""
    assert rows.ticks is not None and rows.times is not None
    time = rows.times.describe(rows.ticks[row])
    group = ""
    if choice.group is not None:
        number = int(np.searchsorted(rows.starts, row, side="right")) - 1
        group = f" in the group {rows.groups[number]!r}"
    first, second = sorted((int(rows.places[row - 1]), int(rows.places[row])))
    message = f"{rows.where}, {rows.unit}s {first:,} and {second:,} have the same time, {time}{group}"
    hint = _telling_hint(path, encoding, choice, rows.times, (first, second)) if os.path.isfile(path) else ""
    if not hint:
        hint = "Remove one; or name another column with --time (or none), or what tells series apart with --group."
        if rows.times.is_date and np.diff(rows.ticks[row - 1 : row + 2]).any():
            hint += " Local times with daylight saving need their UTC offset, as in 2013-10-27T02:00+01:00."
    return CorpusError(message, hint)


def _telling_hint(path: str, encoding: str, choice: RowChoice, times: TimeColumns, places: tuple[int, int]) -> str:
    """Return which filter or group tells two rows apart; "" if no column of few texts does. The file is read again."""
    with open_table(path, encoding, CleaningReport()) as table:
        texts = [n for n, cells in table.preview().items() if _has_texts(cells) and table.names.count(n) == 1]
        names = [n for n in texts if n not in (*choice.values, *times.names, choice.group)]
        seen: dict[str, dict[str, None]] = {name: {} for name in names}
        found: dict[int, dict[str, str]] = {}
        for chunk in table.chunks(names) if names else ():
            for name in names:
                if len(seen[name]) <= MAX_GROUP_VALUES:
                    seen[name] |= dict.fromkeys(_as_texts(chunk.columns[name]))
            for place in set(places) & set(chunk.places.tolist()):
                k = int(np.searchsorted(chunk.places, place))
                found[place] = {name: _as_texts(chunk.columns[name])[k] for name in names}
    if len(found) < 2:
        return ""
    a, b = (found[place] for place in places)
    name = next((n for n in names if a[n] != b[n] and 1 < len(seen[n]) <= MAX_GROUP_VALUES), "")
    if not name:
        return ""
    return f"The column {name!r} tells them apart: --where {name}={a[name]} reads one series, --group {name} all."


def _has_texts(cells: Cells) -> bool:
    if isinstance(cells, np.ndarray):
        return False
    known = [cell.strip() for cell in cells if cell.strip().casefold() not in MISSING]
    return bool(known) and not all(NUMBER.fullmatch(cell) for cell in known)
