"""Read columns of numbers, times and short texts of a Parquet file, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from chargen.errors import CorpusError
from chargen.registry import import_extra
from chargen.schema import format_value
from chargen.tasks.forecasting.reading.table import CHUNK_ROWS, PREVIEW_ROWS, Cells, Chunk, Table
from chargen.text.limits import ReadLimit
from chargen.text.parquet import MAX_BATCH_BYTES, largest_page

MAX_REASON_CHARS = 200  #: a message of pyarrow can have many lines; an error shows at most this number of characters


class ParquetTable(Table):
    """A Parquet file. A column of another kind than numbers, times, texts and truth values is an error when it is used.

    Args:
        stream: The open file; it must be seekable.
        where: Name of the file, for messages.
        limit: Limits the compression ratio.

    Raises:
        ChargenError: If pyarrow is not installed.
        CorpusError: If the file is damaged, or has no rows.
    """

    def __init__(self, stream: BinaryIO, where: str, limit: ReadLimit) -> None:
        self.where, self.unit = where, "row"
        self._arrow = import_extra("pyarrow", "parquet", where)
        parquet = import_extra("pyarrow.parquet", "parquet", where)
        self._stream, self._limit = stream, limit
        try:
            self._size = stream.seek(0, 2)
            stream.seek(0)
            self._file = parquet.ParquetFile(stream)
            self.names = list(self._file.schema_arrow.names)
        except (self._arrow.lib.ArrowException, OSError, EOFError, LookupError) as error:
            raise self._damaged(error) from error

    def preview(self) -> dict[str, Cells]:
        """Return the cells of the first rows of all columns that can be used."""
        types = dict(zip(self.names, self._file.schema_arrow.types, strict=True))
        usable = [name for name in types if self.names.count(name) == 1 and self._kind(types[name])]
        first = next(self._read(usable, PREVIEW_ROWS), None)
        return first.columns if first else {name: [] for name in usable}

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """Yield all rows in order, with some of the columns.

        Raises:
            CorpusError: If a column cannot be used, or the file is damaged.
        """
        return self._read(names, CHUNK_ROWS)

    def has_zone(self, name: str) -> bool:
        """Return whether a column has a type with a time zone, so that its times are read as UTC."""
        schema, types = self._file.schema_arrow, self._arrow.types
        kind = schema.types[schema.names.index(name)]
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_timestamp(kind) and kind.tz is not None)

    def _read(self, names: Sequence[str], max_rows: int) -> Iterator[Chunk]:
        row = 1
        try:
            leaves = self._leaves(names)
            largest = largest_page(self._stream, self._size, leaves, self.where, self._limit)
            rows = max(1, min(max_rows, MAX_BATCH_BYTES // max(1, largest)))
            for batch in self._file.iter_batches(rows, columns=list(names), use_threads=False):
                columns = {name: self._cells(batch.column(batch.schema.names.index(name)), name) for name in names}
                yield Chunk(columns, np.arange(row, row + batch.num_rows))
                row += batch.num_rows
        except OSError as error:
            raise CorpusError(f"{self.where} cannot be read: {error.strerror or error}") from error
        except (
            self._arrow.lib.ArrowException, EOFError, LookupError, UnicodeDecodeError, TypeError, AttributeError
        ) as error:  # fmt: skip
            raise self._damaged(error) from error

    def _leaves(self, names: Sequence[str]) -> list[int]:
        """Return the indices of columns among the leaf columns of the file.

        Raises:
            CorpusError: If a column has a type that cannot be used.
        """
        schema = self._file.schema_arrow
        for name in names:
            kind = schema.types[schema.names.index(name)]
            if not self._kind(kind):
                raise CorpusError(
                    f"{self.where}: the column {format_value(name)} has the type {kind}, not numbers, times or text",
                    "Name a column of numbers.",
                )
        paths = [self._file.schema.column(k).path for k in range(len(self._file.schema))]
        return [k for k, path in enumerate(paths) if path in names]

    def _kind(self, kind: Any) -> str:
        """Return "number", "time" or "text"; "" for a type that is not read, such as a list."""
        types = self._arrow.types
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return "number"
        if types.is_timestamp(kind) or types.is_date(kind):
            return "time"
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        return "text" if is_text or types.is_null(kind) or types.is_boolean(kind) else ""

    def _cells(self, column: Any, name: str) -> Cells:
        """Return the cells of a part of a column; a null is NaN, NaT or an empty text."""
        arrow = self._arrow
        if arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = self._kind(column.type)
        if kind == "number":
            numbers: Cells = column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
            return numbers
        if kind == "time":
            zone = getattr(column.type, "tz", None)
            times: Cells = column.cast(arrow.timestamp("us", zone), safe=False).to_numpy(zero_copy_only=False)
            return times
        return ["" if value is None else str(value) for value in column.to_pylist()]

    def _damaged(self, error: BaseException) -> CorpusError:
        reason = " ".join(str(error).split())[:MAX_REASON_CHARS]
        return CorpusError(f"{self.where} is a damaged Parquet file ({reason})", "Download or write it again.")
