"""The rows of a table with a header, CSV or TSV. All values stay text, as they are written; a cell may have newlines.

Where a row starts is known only after the rows before it were read, because a quoted newline ends no row. So a slice is
found by reading from the start of the file, or from where the last slice ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chargen.bulk.reading.line_rows import Content
from chargen.bulk.reading.slices import (
    MAX_SLICE_BYTES,
    MAX_SLICE_ROWS,
    Failure,
    FilePlan,
    Rows,
    Slice,
    check_columns,
    check_row_text,
)
from chargen.errors import CorpusError
from chargen.registry import import_extra
from chargen.schema import is_unicode
from chargen.text.cleaning import CleaningReport
from chargen.text.decoding import decode_marked, remove_bom
from chargen.text.records import open_table

NamedRow = tuple[str, "list[str] | CorpusError"]


class TableRows:
    """The rows of a CSV or TSV file.

    Args:
        path: A path or a URL.
        text_column: Name of the column of the text.
        added: Names of the columns that the job adds.
        form: "csv" or "tsv".
    """

    def __init__(self, path: str, text_column: str, added: tuple[str, ...], form: str) -> None:
        self._path, self._text_column, self._added, self._form = path, text_column, added, form
        self._content = Content(path)
        self._header: list[str] = []
        self._rows: Iterator[NamedRow] | None = None
        self._next_row = 0

    def plan(self) -> FilePlan:
        """Find the slices of the file."""
        slices: list[Slice] = []
        first_row = size = number = 0
        for number, (_, row) in enumerate(self._open(), 1):
            size += 0 if isinstance(row, CorpusError) else sum(map(len, row))
            if number - first_row >= MAX_SLICE_ROWS or size >= MAX_SLICE_BYTES:
                slices.append(Slice(first_row, number - first_row))
                first_row, size = number, 0
        if number > first_row:
            slices.append(Slice(first_row, number - first_row))
        self.close()
        return FilePlan(tuple(slices), is_sequential=True)

    def read(self, part: Slice) -> Rows:
        """Read the rows of a slice."""
        if self._rows is None or self._next_row > part.first_row:
            self.close()
            self._rows, self._next_row = self._open(), 0
        texts: list[str | None] = []
        cells: list[list[str]] = []
        numbers: list[int] = []
        failures: list[Failure] = []
        while self._next_row < part.first_row + part.num_rows:
            found = next(self._rows, None)
            if found is None:
                raise CorpusError(f"{self._path} has fewer rows than when the job was started", "Use a new folder.")
            name, row = found
            number, self._next_row = self._next_row, self._next_row + 1
            if number < part.first_row:
                continue
            try:
                texts.append(self._check(row))
            except CorpusError as error:
                failures.append(Failure.of(name, error.message))
                continue
            cells.append(row)  # type: ignore[arg-type]
            numbers.append(number)
        arrow = import_extra("pyarrow", "parquet", "bulk work")
        columns = zip(*cells, strict=True) if cells else [()] * len(self._header)
        arrays = {name: arrow.array(values, arrow.string()) for name, values in zip(self._header, columns, strict=True)}
        return Rows(arrow.table(arrays), texts, numbers, failures)

    def close(self) -> None:
        """Close the file."""
        self._content.close()
        self._rows = None

    def _check(self, row: list[str] | CorpusError) -> str | None:
        """Return the text of a row.

        Raises:
            CorpusError: If the row cannot be read, or a cell has invalid bytes.
        """
        if isinstance(row, CorpusError):
            raise row
        for cell, name in zip(row, self._header, strict=True):
            check_row_text(cell, name)
        return row[self._header.index(self._text_column)]

    def _open(self) -> Iterator[NamedRow]:
        """Open the file, check its header, and return its rows with their names."""
        report = CleaningReport()
        pieces: Any = remove_bom(decode_marked(self._content.blocks(), self._path, "utf-8", report))
        self._header, rows = open_table(pieces, self._path, self._form)
        if not all(map(is_unicode, self._header)):
            raise CorpusError(f"{self._path}, line 1 has invalid UTF-8", "Convert it: iconv -t utf-8 FILE > NEW")
        check_columns(self._header, self._text_column, self._added, self._path)
        return rows
