"""Read times, and find the regular distance between them.

    "2013-01-31", "2013/1/31 06:00", "2013-01-31T06:00:00.5Z", "20130131T0600"   ISO 8601, with "/" or " " allowed, too
    "2013-01-31" | "06:00"                                                       the same in two columns
    1357020000, 1357020000000                                                    seconds or milliseconds since 1970
    year, month, day, hour, minute                                               a column for each
    0, 1, 2, …                                                                   any number that counts the rows

A time with an offset ("+01:00", "Z") is converted to UTC, and so is a column of Parquet with a time zone. All times are
whole numbers inside this package: microseconds since 1970, or for `COUNTER` the number itself in millionths.

Times that are months or years apart are not at equal distances in seconds. So they are compared as months: the same
day of each month, or the last one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.schema import format_count, format_significant, format_value
from chargen.tasks.forecasting.reading.numbers import MISSING, parse_numbers
from chargen.tasks.forecasting.reading.table import NUMBER, Cells, Chunk, Table

ISO, EPOCH, PARTS, COUNTER = "times", "seconds since 1970", "columns of a date", "numbers"  #: kinds of times
MICROSECONDS = 1_000_000
PART_NAMES = ("year", "month", "day", "hour", "minute", "second")
#: names of a column of times, the first ones first
TIME_NAMES = ("time", "timestamp", "datetime", "date", "time_hour", "date_time", "ds", "utc")
EPOCH_UNITS = {10: 1.0, 13: 1e-3, 16: 1e-6}  #: number of digits of a time since 1970 → its unit in seconds
MAX_CHECKED = 20  #: cells of a column from which it is told whether it has times
NO_TIMES = "none"  #: given in place of a name: the rows are at equal distances
MAX_COUNT = 9e12  #: limit of numbers that count the rows
MIN_MONTH_S = 28 * 86_400
MEAN_MONTH_S = 365.2425 / 12 * 86_400  #: mean length of a month in the Gregorian calendar
UNITS_S = {"day": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}

_TO_ZEROS = {ord(digit): "0" for digit in "123456789"}
_SHAPE = re.compile(
    r"(?P<year>0000)(?P<dash>[-/]?)(?P<month>00?)((?P=dash)(?P<day>00?))?"
    r"(([T ] *)(?P<hour>00?):?(?P<minute>00)(:?(?P<second>00)(?P<fraction>[.,]0+)?)?"
    r" ?(?P<zone>Z|UTC|(?P<sign>[-+])(?P<zone_hour>00)(:?(?P<zone_minute>00))?)?)?"
)
_TIME_OF_DAY = re.compile(r" *00?:00(:00([.,]0+)?)? *")
_DAY_FIRST = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{4}.*")
_HOW_TO_WRITE = "Write times as 2013-01-31 or 2013-01-31 06:00 (ISO 8601)."


@dataclass(frozen=True)
class TimeColumns:
    """The columns of a table that have its times.

    Attributes:
        names: The columns: one; a date and a time of day; or those of the parts of a date.
        kind: ISO, EPOCH, PARTS or COUNTER.
    """

    names: tuple[str, ...]
    kind: str

    @property
    def is_date(self) -> bool:
        """Whether the times are points of a calendar."""
        return self.kind != COUNTER

    def describe(self, ticks: int) -> str:
        """Return a time as people write it."""
        if not self.is_date:
            return format_significant(ticks / MICROSECONDS, 6, separator="")
        return format_time(np.datetime64(int(ticks), "us"))

    def describe_step(self, step: int) -> str:
        """Return a distance of times with its unit: "1 h"."""
        return describe_seconds(step / MICROSECONDS) if self.is_date else f"{step / MICROSECONDS:g}"


def format_time(time: np.datetime64) -> str:
    """Return a time as text, without seconds if they are zero.

    >>> format_time(np.datetime64("2013-01-31T06:00:00"))
    '2013-01-31 06:00'
    """
    text = str(time.astype("datetime64[us]")).replace("T", " ")
    for end in (".000000", ":00", " 00:00"):
        text = text.removesuffix(end) if end != " 00:00" or len(text) == 16 else text
    return text


def describe_seconds(seconds: float) -> str:
    """Return a duration in the largest unit that divides it.

    >>> describe_seconds(3600), describe_seconds(90), describe_seconds(86400 * 2)
    ('1 h', '90 s', '2 days')
    """
    name = next((name for name, size in UNITS_S.items() if seconds and seconds % size == 0), "s")
    value = seconds / UNITS_S[name]
    return format_count(int(value), "day") if name == "day" else f"{value:g} {name}"


# ── which columns ─────────────────────────────────────────────────────────────────────────────────────────────────────


def find_times(table: Table, preview: Mapping[str, Cells], given: str | None) -> TimeColumns | None:
    """Return the columns of times; None if the table has none.

    Args:
        table: The table, for messages.
        preview: The cells of the first rows of all columns.
        given: The name of the column, or of several (year, month, …) with commas between them; None to find it, and
            NO_TIMES to use none.

    Raises:
        CorpusError: If there is no such column, or more than one column may be meant.
    """
    if given == NO_TIMES and given not in table.names:
        return None
    if given is not None:
        return _given_times(table, preview, given)
    candidates = [name for name, cells in preview.items() if _has_times(cells)]
    folded = {name: name.casefold() for name in preview}
    named = [name for wanted in TIME_NAMES for name in preview if folded[name] == wanted]
    unclear = [name for name in named if not isinstance(preview[name], np.ndarray) and not _has_numbers(preview[name])]
    if found := [name for name in named if name in candidates] or candidates or unclear[:1]:
        if len(found) > 1 and found[0] not in named:
            names = ", ".join(map(repr, found[:4]))
            raise CorpusError(f"{table.where} has more than one column of times: {names}", "Name one with --time.")
        return TimeColumns((found[0], *_time_of_day(preview, found[0])), ISO)
    if found := [name for name in named if _epoch_digits(preview[name])]:
        return TimeColumns((found[0],), EPOCH)
    if named:
        return TimeColumns((named[0],), COUNTER)
    parts = [next((name for name in preview if folded[name] == part), None) for part in PART_NAMES]
    known = [name for name in parts if name is not None]
    is_date = parts[0] is not None and None not in parts[: len(known)]
    if is_date and all(_has_numbers(preview[name]) for name in known):
        return TimeColumns(tuple(known), PARTS)
    return None


def _given_times(table: Table, preview: Mapping[str, Cells], given: str) -> TimeColumns:
    names = [given] if given in table.names else [name.strip() for name in given.split(",")]
    for name in names:
        table.check_column(name, "--time")
    cells = preview.get(names[0], [])
    if len(names) > 1:
        return TimeColumns(tuple(names), ISO if _has_times(cells) else PARTS)
    if _has_times(cells) or not _has_numbers(cells):
        return TimeColumns((given,), ISO)
    shapes = {str(cell).translate(_TO_ZEROS) for cell in cells if not isinstance(cells, np.ndarray)}
    if shapes == {"00000000"} or (shapes == {"0000"} and given.casefold() == "year"):
        return TimeColumns((given,), ISO if shapes == {"00000000"} else PARTS)
    return TimeColumns((given,), EPOCH if _epoch_digits(cells) else COUNTER)


def _time_of_day(preview: Mapping[str, Cells], date: str) -> list[str]:
    """Return the name of a column with the times of day that belong to a column of dates, in a list."""
    if isinstance(preview[date], np.ndarray) or any(":" in cell for cell in preview[date]):
        return []
    texts = {name: cells for name, cells in preview.items() if not isinstance(cells, np.ndarray) and name != date}
    return [n for n, cells in texts.items() if all(_TIME_OF_DAY.fullmatch(c.translate(_TO_ZEROS)) for c in cells)][:1]


def _has_times(cells: Cells) -> bool:
    """Return whether most cells are times with separators, as "2013-01-31"; not numbers such as 20130131."""
    if isinstance(cells, np.ndarray):
        return cells.dtype.kind == "M"
    known = _known(cells)[:MAX_CHECKED]
    matches = [(cell, _SHAPE.fullmatch(cell.translate(_TO_ZEROS))) for cell in known if not cell.isdigit()]
    are_valid = [match is not None and bool(_parse_shape([cell], match)[1].all()) for cell, match in matches]
    return 2 * sum(are_valid) > len(known)


def _known(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells if cell.strip().casefold() not in MISSING]


def _has_numbers(cells: Cells) -> bool:
    if isinstance(cells, np.ndarray):
        return cells.dtype.kind == "f"
    known = _known(cells)
    return all(NUMBER.fullmatch(cell) for cell in known)


def _epoch_digits(cells: Cells) -> int:
    """Return the number of digits of whole numbers that can be times since 1970; 0 for other cells."""
    texts = [f"{cell:.0f}" if isinstance(cells, np.ndarray) else cell.strip() for cell in cells]
    if isinstance(cells, np.ndarray) and (cells.dtype.kind != "f" or not np.all(cells == np.floor(cells))):
        return 0
    lengths = {len(text) for text in texts if text}
    is_epoch = len(lengths) == 1 and lengths <= set(EPOCH_UNITS) and all(text.isdigit() for text in texts if text)
    return lengths.pop() if is_epoch else 0


# ── parsing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_times(chunk: Chunk, source: TimeColumns, table: Table) -> tuple[NDArray[np.int64], bool]:
    """Return the times of a chunk of rows in microseconds, and whether they were converted to UTC.

    Raises:
        CorpusError: If a time is missing, or is none; the message has its place.
    """
    if source.kind == PARTS:
        return _parse_parts(chunk, source.names, table), False
    name = ",".join(source.names)
    cells = chunk.columns[source.names[0]]
    if len(source.names) > 1:
        cells = [" ".join(parts) for parts in zip(*(map(str, chunk.columns[n]) for n in source.names), strict=True)]
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        _refuse_missing(np.isnat(cells), chunk, name, table)
        return cells.astype("datetime64[us]").astype(np.int64), table.has_zone(name)
    if source.kind == ISO:
        return _parse_iso([str(cell) for cell in cells], chunk, name, table)
    numbers = _whole_parts(cells, chunk, name, table)
    if np.abs(numbers).max(initial=0.0) > MAX_COUNT and source.kind == COUNTER:
        raise CorpusError(f"{table.where}: the column {name!r} has numbers above {MAX_COUNT:g}", "Count from 0.")
    scale = EPOCH_UNITS[_epoch_digits([f"{abs(numbers[0]):.0f}"]) or 10] if source.kind == EPOCH else 1.0
    return np.round(numbers * (scale * MICROSECONDS)).astype(np.int64), source.kind == EPOCH


def _refuse_missing(is_missing: NDArray[np.bool_], chunk: Chunk, name: str, table: Table) -> None:
    if is_missing.any():
        place = table.place(chunk.places[int(is_missing.argmax())])
        raise CorpusError(f"{place}: the column {name!r} has no time", "Write the time of this row, or remove the row.")


def _whole_parts(cells: Cells, chunk: Chunk, name: str, table: Table) -> NDArray[np.float64]:
    """Return cells as numbers; each must be one."""
    numbers = parse_numbers(cells, chunk, name, table)
    _refuse_missing(np.isnan(numbers), chunk, name, table)
    return numbers


def _parse_parts(chunk: Chunk, names: Sequence[str], table: Table) -> NDArray[np.int64]:
    """Return the times of columns of years, months, days, hours, minutes and seconds."""
    parts = [_whole_parts(chunk.columns[name], chunk, name, table) for name in names]
    starts = (1970, 1, 1, 0, 0, 0)
    filled = [*parts, *(np.full(len(parts[0]), float(start)) for start in starts[len(parts) :])]
    ticks, is_valid = _to_ticks(*filled)
    is_valid &= np.all([part == np.floor(part) for part in parts[:5]], axis=0)
    if not is_valid.all():
        k = int(is_valid.argmin())
        value = ", ".join(f"{name} {part[k]:g}" for name, part in zip(names, parts, strict=True))
        raise CorpusError(f"{table.place(chunk.places[k])}: {value} is no time", "Correct that row.")
    return ticks


def _parse_iso(cells: list[str], chunk: Chunk, name: str, table: Table) -> tuple[NDArray[np.int64], bool]:
    """Return the times of texts. Texts of equal shape, such as "0000-00-00 00:00", are parsed together."""
    shapes = "\n".join(cells).translate(_TO_ZEROS).split("\n")
    if len(shapes) != len(cells):
        shapes = [cell.translate(_TO_ZEROS) for cell in cells]
    ticks = np.zeros(len(cells), np.int64)
    distinct = dict.fromkeys(shapes)
    zoned = []
    for shape in distinct:
        rows = np.arange(len(cells)) if len(distinct) == 1 else np.flatnonzero(np.array(shapes, dtype=object) == shape)
        match = _SHAPE.fullmatch(shape.strip())
        if match is None:
            raise _no_time(cells[rows[0]], table.place(chunk.places[rows[0]]), name)
        same = [cells[k].strip() for k in rows] if shape != shape.strip() else [cells[k] for k in rows]
        ticks[rows], is_valid = _parse_shape(same, match)
        if not is_valid.all():
            k = rows[int(is_valid.argmin())]
            raise _no_time(cells[k], table.place(chunk.places[k]), name)
        zoned.append(match["zone"] is not None)
    if any(zoned) and not all(zoned):
        raise mixed_zones_error(table, name)
    return ticks, any(zoned)


def mixed_zones_error(table: Table, name: str) -> CorpusError:
    """Return the error for a column of times of which some can be converted to UTC and some cannot."""
    return CorpusError(
        f"{table.where}: some times of the column {name!r} have a UTC offset and some have none",
        "Write all of them with an offset (2013-01-31T06:00+01:00), or none.",
    )


def _parse_shape(cells: list[str], match: re.Match[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the times of texts that all have the shape of a match, and which of them exist in the calendar."""
    digits = np.frombuffer("".join(cells).encode("ascii"), np.uint8).reshape(len(cells), -1).astype(np.int64) - 48

    def part(group: str, default: float) -> NDArray[np.float64]:
        begin, end = match.span(group)
        if begin < 0:
            return np.full(len(cells), default)
        return digits[:, begin:end] @ (10.0 ** np.arange(end - begin - 1, -1, -1))

    seconds = part("second", 0)
    if match["fraction"]:
        begin, end = match.span("fraction")
        seconds = seconds + digits[:, begin + 1 : end] @ (0.1 ** np.arange(1, end - begin))
    ticks, is_valid = _to_ticks(
        part("year", 1970), part("month", 1), part("day", 1), part("hour", 0), part("minute", 0), seconds
    )
    if match["sign"]:
        offset_s = part("zone_hour", 0) * 3600 + part("zone_minute", 0) * 60
        is_west = digits[:, match.start("sign")] == ord("-") - 48
        ticks -= (np.where(is_west, -offset_s, offset_s) * MICROSECONDS).astype(np.int64)
        is_valid &= offset_s < 24 * 3600
    return ticks, is_valid


def _to_ticks(
    year: NDArray[np.float64], month: NDArray[np.float64], day: NDArray[np.float64], hour: NDArray[np.float64],
    minute: NDArray[np.float64], second: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:  # fmt: skip
    """Return times in microseconds since 1970, and which of them exist in the calendar; hour 24 is the next day."""
    is_valid = (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    is_valid &= (minute >= 0) & (minute < 60) & (second >= 0) & (second < 60) & (hour >= 0)
    is_valid &= (hour < 24) | ((hour == 24) & (minute == 0) & (second == 0))
    safe = [np.where(is_valid, values, 1) for values in (year, month, day, hour, minute, second)]
    months = ((safe[0] - 1970) * 12 + safe[1] - 1).astype(np.int64).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (safe[2] - 1).astype(np.int64)
    is_valid &= days.astype("datetime64[M]") == months
    seconds = days.astype(np.int64) * 86_400.0 + safe[3] * 3600 + safe[4] * 60
    return (seconds * MICROSECONDS).astype(np.int64) + np.round(safe[5] * MICROSECONDS).astype(np.int64), is_valid


def _no_time(cell: str, place: str, name: str) -> CorpusError:
    if not cell.strip():
        return CorpusError(
            f"{place}: the column {name!r} has no time", "Write the time of this row, or remove the row."
        )
    hint = _HOW_TO_WRITE
    if _DAY_FIRST.fullmatch(cell.strip()):
        hint += " Otherwise it is not known which number is the day and which is the month."
    hint += f" --time {NO_TIMES} reads no times."
    return CorpusError(f"{place}: {format_value(cell)} in the column {name!r} is no time", hint)
