"""Read columns of a table in chunks of rows, so that only the columns that are used are held in memory.

    *.parquet            a Parquet table                                             (extra: chargen[parquet])
    *.jsonl, *.ndjson    one JSON object per line
    *.json               a JSON array of objects, or one object per line
    *.tsv                a table with tabs
    any other name       CSV: a comma separates the columns; or ";" or a tab, if the first line has no comma

All but Parquet may be compressed, and "-" is standard input. The first line of CSV and TSV has the names of the
columns. A blank line is no row; but in a table with one column it is an empty cell, except at the end of the file.
Cells are texts. Only the columns of a Parquet file have types: its numbers and times are arrays.
"""

from __future__ import annotations

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.registry import did_you_mean
from chargen.schema import format_count, format_value
from chargen.text.cleaning import CleaningReport, unify_newlines
from chargen.text.decoding import decode, remove_bom
from chargen.text.inputs import decompress, open_input
from chargen.text.json_array import RecordParser, array_elements, how_to_correct, with_start
from chargen.text.limits import MAX_RECORD_BYTES, ReadLimit, check_record, first_names
from chargen.text.readers import FORMS, FORMS_WITH_FIELD, display_name, format_suffix
from chargen.text.records import CSV, JSON, PARQUET, TSV, split_pieces

CHUNK_ROWS = 1 << 12  #: rows that are converted at a time
PREVIEW_ROWS = 100  #: rows from which the kinds of the columns are told
DELIMITERS = (",", ";", "\t")
TIME_START = re.compile(r"\d{1,4}[-/.:]\d{1,2}([-/.:T ]|$)")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

Cells = Sequence[str] | NDArray[Any]  #: texts; or an array of float64 or datetime64, of a typed column


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table.

    Attributes:
        columns: The cells of each column that was asked for, by name.
        places: [n] the number of the line, the element or the row in the file, for messages.
    """

    columns: dict[str, Cells]
    places: NDArray[np.int64]


class Table(ABC):
    """An open table, which is read once.

    Attributes:
        where: Name of the file, for messages.
        unit: What the places of a chunk count: "line", "element" or "row".
        names: The names of the columns.
    """

    where: str
    unit: str
    names: list[str]

    @abstractmethod
    def preview(self) -> dict[str, Cells]:
        """Return the cells of the first rows, at most PREVIEW_ROWS, of all columns that can be used."""

    @abstractmethod
    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield all rows in order, with some of the columns."""

    def place(self, number: int) -> str:
        """Return the place of a row, for a message."""
        return f"{self.where}, {self.unit} {number:,}"

    def has_zone(self, name: str) -> bool:
        """Return whether a column has a type with a time zone, so that its times are read as UTC."""
        return False

    def check_column(self, name: str, option: str) -> None:
        """Check that the table has a column of this name, once.

        Args:
            name: The name that was given.
            option: The option that it was given with, for the hint.

        Raises:
            CorpusError: If there is none, or more than one.
        """
        if name not in self.names:
            hint = f"{did_you_mean(name, self.names)} {option} names one of: {first_names(self.names)}.".strip()
            if len(self.names) == 1 and name in self.names[0]:
                hint = f"Its first line has one name, {format_value(self.names[0])}: separate columns by commas."
            elif any(_is_value(each) for each in self.names):
                hint += " If these are values, put a first line with a name for each column."
            raise CorpusError(f"{self.where} has no column {format_value(name)}", hint)
        if (count := self.names.count(name)) > 1:
            raise CorpusError(f"{self.where} has {count:,} columns {format_value(name)}", "Rename all but one of them.")


@contextmanager
def open_table(path: str, encoding: str, report: CleaningReport) -> Iterator[Table]:
    """Open a table; see the top of the file.

    Args:
        path: A path or a URL; "-" is standard input.
        encoding: Text encoding of the file.
        report: Receives what was found out about the encoding.

    Raises:
        ChargenError: If a package that reads this format is not installed.
        CorpusError: If the file cannot be read, is damaged or empty, or has no names of columns.
    """
    suffix, where = format_suffix(path), display_name(path)
    form = FORMS.get(suffix) or FORMS_WITH_FIELD.get(suffix, CSV)
    limit = ReadLimit()
    with open_input(path, limit) as stream:
        if form == PARQUET:
            from chargen.tasks.forecasting.reading.parquet_table import ParquetTable

            yield ParquetTable(stream, where, limit)
            return
        hint = "Or convert it to UTF-8."
        pieces = remove_bom(decode(decompress(stream, where, limit), where, encoding, report, hint))
        if form in (CSV, TSV):
            yield _open_csv(pieces, where, form)
        else:
            yield _open_json(pieces, where, form)


class TextTable(Table):
    """A table whose cells are texts.

    Args:
        where: Name of the file.
        unit: What the places of rows count.
        names: The names of the columns; of JSON, all keys of the first rows.
        rows: Chunks of rows, with their places.
        cells: Function (rows, name of a column) → its cells.
    """

    def __init__(
        self, where: str, unit: str, names: list[str], rows: Iterator[tuple[list[Any], NDArray[np.int64]]],
        cells: Callable[[list[Any], str], list[str]],
    ) -> None:  # fmt: skip
        self.where, self.unit, self.names = where, unit, names
        self._cells = cells
        self._first = next(rows, ([], np.zeros(0, np.int64)))
        self._rows = rows

    def preview(self) -> dict[str, Cells]:
        """Return the cells of the first rows of all columns."""
        return {name: self._cells(self._first[0][:PREVIEW_ROWS], name) for name in self.names}

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield all rows in order, with some of the columns."""
        for rows, places in chain([self._first], self._rows):
            if rows:
                yield Chunk({name: self._cells(rows, name) for name in names}, places)


# ── CSV and TSV ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _open_csv(pieces: Iterable[str], where: str, form: str) -> TextTable:
    csv.field_size_limit(MAX_RECORD_BYTES)  # a limit of the whole process; the csv module's default is 128 kB
    lines = (f"{line}\n" for line in split_pieces(unify_newlines(pieces, "\r\n"), "\n", MAX_RECORD_BYTES))
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise CorpusError(f"{where} is empty", "Give a table with the names of the columns in its first line.")
    delimiter = "\t" if form == TSV else next((d for d in DELIMITERS if d in first), ",")
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise CorpusError(f"{where}, line 1 is not CSV: {error}", "Correct that line.") from error
    if all(map(_is_value, filter(None, names))):
        raise CorpusError(
            f"{where} has no names of columns: its first line starts with {format_value(names[0])}",
            "Put a first line with a name for each column, as in: time,temp",
        )
    position = {name: k for k, name in enumerate(names)}

    def cells(rows: list[list[str]], name: str) -> list[str]:
        k = position[name]
        return [row[k] for row in rows]

    return TextTable(where, "line", names, _csv_rows(reader, where, len(names), delimiter), cells)


def _is_value(name: str) -> bool:
    """Return whether a name of a column is rather a number or a time: "12.5", "2013-01-31"."""
    return bool(NUMBER.fullmatch(name) or TIME_START.match(name))


def _csv_rows(reader: Any, where: str, width: int, delimiter: str) -> Iterator[tuple[list[Any], NDArray[np.int64]]]:
    """Yield chunks of rows, and the number of the first line of each row.

    A blank line is no row. But in a table with one column it is an empty cell, as spreadsheets write it, unless only
    blank lines follow.

    Raises:
        CorpusError: If a row is not CSV, or has another number of columns than the header.
    """
    num_blank = 0  # blank lines before the next chunk of a table with one column
    while True:
        begin = reader.line_num
        try:
            rows = list(islice(reader, CHUNK_ROWS))
        except csv.Error as error:
            raise CorpusError(f"{where}, line {reader.line_num:,} is not CSV: {error}", "Correct that line.") from error
        if not rows:
            return
        places = np.arange(begin + 1, begin + 1 + len(rows))
        if reader.line_num != begin + len(rows):  # cells in quotes contain newlines
            lengths = np.array([1 + sum(cell.count("\n") for cell in row) for row in rows])
            places = begin + 1 + np.cumsum(lengths) - lengths
        if width == 1:
            rows, places, num_blank = _with_empty_cells(rows, places, num_blank)
        if set(map(len, rows)) != {width}:
            kept = [k for k, row in enumerate(rows) if row]
            rows, places = [rows[k] for k in kept], places[kept]
            for row, place in zip(rows, places, strict=True):
                if len(row) != width:
                    raise _width_error(f"{where}, line {place:,}", row, width, delimiter)
        if rows:
            yield rows, places


def _with_empty_cells(
    rows: list[list[str]], places: NDArray[np.int64], num_blank: int
) -> tuple[list[list[str]], NDArray[np.int64], int]:
    """Return a chunk of a table with one column, with an empty cell for each blank line that a row follows.

    Args:
        rows: The rows; a blank line is an empty list.
        places: Their lines.
        num_blank: Blank lines just before them that were not returned yet.

    Returns:
        The rows, their lines, and the number of blank lines at the end that are not returned yet.
    """
    end = max((k for k, row in enumerate(rows, 1) if row), default=0)
    if not end:
        return [], places[:0], num_blank + len(rows)
    before = np.arange(places[0] - num_blank, places[0])
    cells = [[""]] * num_blank + [row or [""] for row in rows[:end]]
    return cells, np.concatenate([before, places[:end]]), len(rows) - end


def _width_error(name: str, row: list[str], width: int, delimiter: str) -> CorpusError:
    hint = "Correct that line."
    if len(row) > width and delimiter == ",":
        hint = "If its numbers have decimal commas, write points, or put such numbers in quotes and correct them."
    return CorpusError(f"{name} has {format_count(len(row), 'column')}, but the first line has {width:,}", hint)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _open_json(pieces: Iterator[str], where: str, form: str) -> TextTable:
    unit = "line"
    if form != JSON:
        pieces = with_start(pieces)
        first = next(pieces, "")
        pieces = chain([first], pieces)
        unit = "element" if first.lstrip().startswith("[") else "line"
    objects = _array_objects(pieces, where) if unit == "element" else _line_objects(pieces, where)
    chunks = _in_chunks(objects)
    head = next(chunks, None)
    if head is None:
        raise CorpusError(f"{where} is empty", 'Give one JSON object per line, as in {"time": "2013-01-01", "temp": 3}')
    names = list(dict.fromkeys(key for row in head[0][:PREVIEW_ROWS] for key in row))
    return TextTable(where, unit, names, chain([head], chunks), _json_cells)


def _line_objects(pieces: Iterable[str], where: str) -> Iterator[tuple[dict[str, Any], int]]:
    parser = RecordParser()
    for number, line in enumerate(split_pieces(unify_newlines(pieces, "\r\n"), "\n", MAX_RECORD_BYTES), 1):
        if line.strip():
            name = f"{where}, line {number:,}"
            check_record(len(line), name)
            yield _checked_object(*parser.parse_line(line), name), number


def _array_objects(pieces: Iterator[str], where: str) -> Iterator[tuple[dict[str, Any], int]]:
    for number, (name, value, wrong) in enumerate(array_elements(pieces, where), 1):
        yield _checked_object(value, wrong, name), number


def _checked_object(value: Any, wrong: str, name: str) -> dict[str, Any]:
    if wrong:
        raise CorpusError(f"{name} {wrong}", how_to_correct(wrong))
    if not isinstance(value, dict):
        hint = 'Write each row as an object, as in {"time": "2013-01-01", "temp": 3}'
        raise CorpusError(f"{name} is not a JSON object, but {format_value(value)}", hint)
    return value


def _in_chunks(
    objects: Iterator[tuple[dict[str, Any], int]],
) -> Iterator[tuple[list[Any], NDArray[np.int64]]]:
    while part := list(islice(objects, CHUNK_ROWS)):
        yield [row for row, _ in part], np.array([number for _, number in part], np.int64)


def _json_cells(rows: list[dict[str, Any]], name: str) -> list[str]:
    return [_json_text(row.get(name)) for row in rows]


def _json_text(value: Any) -> str:
    """Return a JSON value as it would be in a cell of CSV; a missing one is empty."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
