"""The rows of a Parquet file, with all columns, also nested ones. A slice is a run of rows in a row group."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from chargen.bulk.reading.slices import (
    MAX_SLICE_BYTES,
    MAX_SLICE_ROW_BYTES,
    MAX_SLICE_ROWS,
    Failure,
    FilePlan,
    Rows,
    Slice,
    check_columns,
    check_row_text,
    take_rows,
)
from chargen.errors import CorpusError
from chargen.registry import import_extra
from chargen.text.inputs import is_remote, open_input
from chargen.text.limits import ReadLimit, first_names
from chargen.text.parquet import MAX_BATCH_BYTES, MAX_ROWS, errors_of_file, is_text, largest_page


class ParquetRows:
    """The rows of a Parquet file.

    Args:
        path: A path or a URL.
        text_column: Name of the column of the text.
        added: Names of the columns that the job adds.
    """

    def __init__(self, path: str, text_column: str, added: tuple[str, ...]) -> None:
        self._path, self._text_column, self._added = path, text_column, added
        self._stack = ExitStack()
        self._file: Any = None
        self._batch_rows = MAX_ROWS
        self._arrow = import_extra("pyarrow", "parquet", path)

    def plan(self) -> FilePlan:
        """Divide the row groups into slices, by what the footer says about their sizes."""
        slices = []
        with errors_of_file(self._path, self._arrow):
            file = self._open()
            first_row = 0
            paths = [file.schema.column(k).path for k in range(len(file.schema))]
            text_leaf = paths.index(self._text_column)  # a column of text is a leaf
            for index in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(index)
                text_bytes = group.column(text_leaf).total_uncompressed_size
                max_rows = min(
                    MAX_SLICE_ROWS,
                    group.num_rows * MAX_SLICE_BYTES // max(1, text_bytes),
                    group.num_rows * MAX_SLICE_ROW_BYTES // max(1, group.total_byte_size),
                )
                step = max(1, max_rows)
                for start in range(0, group.num_rows, step):
                    num_rows = min(step, group.num_rows - start)
                    slices.append(Slice(first_row + start, num_rows, index, start))
                first_row += group.num_rows
        self.close()
        return FilePlan(tuple(slices))

    def read(self, part: Slice) -> Rows:
        """Read the rows of a slice; `part.end` is its first row in the row group."""
        with errors_of_file(self._path, self._arrow):
            file = self._file or self._open()
            table = self._arrow.Table.from_batches(list(self._batches(file, part)), file.schema_arrow)
        if table.num_rows != part.num_rows:
            raise CorpusError(f"{self._path} has fewer rows than when the job was started", "Use a new folder.")
        texts: list[str | None] = []
        kept: list[int] = []
        failures: list[Failure] = []
        for k, value in enumerate(self._values(table.column(self._text_column))):
            try:
                texts.append(check_row_text(value, self._text_column))
                kept.append(k)
            except CorpusError as error:
                failures.append(Failure.of(f"{self._path}, row {part.first_row + k + 1:,}", error.message))
        if failures:
            table = take_rows(table, kept)
        return Rows(table, texts, [part.first_row + k for k in kept], failures)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()
        self._file = None

    def _values(self, column: Any) -> list[Any]:
        """Return the texts of a column; invalid bytes become lone surrogates, which no text has."""
        try:
            values: list[Any] = column.to_pylist()
        except UnicodeDecodeError:
            binary = column.cast(self._arrow.large_string()).cast(self._arrow.large_binary())
            data = binary.to_pylist()
            return [None if value is None else value.decode("utf-8", "surrogateescape") for value in data]
        return values

    def _batches(self, file: Any, part: Slice) -> Iterator[Any]:
        """Yield the batches of a slice, without the rows of the row group that are before and after it."""
        position, begin, end = 0, part.end, part.end + part.num_rows
        for batch in file.iter_batches(self._batch_rows, row_groups=[part.start], use_threads=False):
            low, high = max(begin - position, 0), min(end - position, batch.num_rows)
            if low < high:
                yield batch.slice(low, high - low)
            position += batch.num_rows
            if position >= end:
                return

    def _open(self) -> Any:
        """Open the file, and check its columns and the sizes of its pages."""
        parquet = import_extra("pyarrow.parquet", "parquet", self._path)
        limit = ReadLimit(sys.maxsize, regular_only=not is_remote(self._path))
        stream = self._stack.enter_context(open_input(self._path, limit))
        size = stream.seek(0, 2)
        stream.seek(0)
        file = parquet.ParquetFile(stream)
        schema = file.schema_arrow
        check_columns(schema.names, self._text_column, self._added, self._path)
        if not is_text(self._arrow.types, schema.field(self._text_column).type):
            names = [field.name for field in schema if is_text(self._arrow.types, field.type)]
            raise CorpusError(
                f"{self._path}: the column {self._text_column!r} does not contain text",
                f"Name a column of strings with --text-column; there is: {first_names(names) or 'none'}.",
            )
        largest = largest_page(stream, size, list(range(len(file.schema))), self._path, limit)
        self._batch_rows = max(1, min(MAX_ROWS, MAX_BATCH_BYTES // max(1, largest)))
        self._file = file
        return file
