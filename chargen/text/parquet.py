"""Read the texts or the numbers in a column of a Parquet file, in bounded memory.

pyarrow decompresses a page as a whole, even if its header states a huge size. So the headers of the column's pages are
read here first: pyarrow does not expose them, and its own reader of the footer ends the process on a damaged one
(`std::terminate`). Footer and headers are in Thrift's compact protocol (parquet.thrift):

    the file       "PAR1" · pages … · footer · size of the footer (4 bytes) · "PAR1"
    the footer     4: row groups [ 1: columns [ 3: 7: compressed size · 9: first page · 11: dictionary ] ]
    a page header  1: type · 2: uncompressed size · 3: compressed size · …
    a field        (id − last id) in 4 bits · type in 4 bits ; value          (a 0 byte ends the struct)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.registry import import_extra
from chargen.text.limits import ReadLimit, check_record, first_names

MAX_ROWS = 1_000  #: number of rows that are read at a time
MAX_BATCH_BYTES = 1 << 28  #: size limit of those rows, if each of them fills a page
MAX_PAGE_BYTES = 1 << 29  #: size limit of a decompressed page; pages are usually 1 MB, or a thousand long values
HEADER_BYTES, MAX_HEADER_BYTES = 1 << 8, 1 << 24  #: bytes that are read for a page header, at first and at most
MAX_DEPTH = 16  #: nesting limit of structs in a header
MAX_FOOTER_BYTES = 1 << 26
#: Thrift's types. The value of a boolean field is its type (1 or 2); in a list, a boolean is one byte.
BOOLEAN, INTEGERS, BINARY, LISTS, STRUCT = 2, (4, 5, 6), 8, (9, 10), 12
SIZES = {1: 1, 2: 1, 3: 1, 7: 8}  #: sizes in bytes of booleans, bytes and floating-point numbers


class _PageHeader(NamedTuple):
    """The sizes that the header of a page states, in bytes."""

    header_bytes: int
    uncompressed_bytes: int
    compressed_bytes: int


def column_names(stream: BinaryIO, where: str) -> list[str]:
    """Return the names of the columns of a file.

    Args:
        stream: The open file; it must be seekable.
        where: Name of the file, for error messages.

    Raises:
        ChargenError: If pyarrow is not installed.
        CorpusError: If the file is damaged.
    """
    parquet = import_extra("pyarrow.parquet", "parquet", where)
    with errors_of_file(where, import_extra("pyarrow", "parquet", where)):
        names: list[str] = parquet.ParquetFile(stream).schema_arrow.names
    return names


def column_values(
    stream: BinaryIO, where: str, column: str, limit: ReadLimit, as_names: bool = False
) -> Iterator[str | None]:
    """Yield the texts of a column; None for null.

    Args:
        stream: The open file; it must be seekable.
        where: Name of the file, for error messages.
        column: Name of the column.
        limit: Counts the bytes of the texts.
        as_names: Whether whole numbers, and true and false, are also accepted, and become text: 1 becomes "1".

    Raises:
        ChargenError: If pyarrow is not installed.
        CorpusError: If there is no such column, it is not a column of text, or the file is damaged or exceeds the
            limit.
    """
    arrow = import_extra("pyarrow", "parquet", where)
    num_bytes = 0
    with errors_of_file(where, arrow):
        size = stream.seek(0, 2)
        for batch in _batches(stream, where, column, limit, _is_name if as_names else is_text):
            for value in batch:
                text = value.as_py()
                if as_names and isinstance(text, int):  # also true and false
                    text = str(text).lower()
                if not isinstance(text, str | None):
                    raise CorpusError(f"{where}: the column {column!r} does not contain text")
                if text is None:
                    yield None
                else:
                    length = len(text) if text.isascii() else len(text.encode("utf-8"))
                    num_bytes += length
                    check_record(length, f"{where}: a value of the column {column!r}")
                    limit.add(length, where)
                    limit.check_ratio(size, num_bytes, where)
                    yield text


def column_numbers(stream: BinaryIO, where: str, column: str, limit: ReadLimit) -> Iterator[NDArray[np.float64]]:
    """Yield the numbers of a column in batches, float64; NaN for null. The arguments and errors are as above.

    Raises:
        CorpusError: If it is not a column of numbers.
    """
    arrow = import_extra("pyarrow", "parquet", where)
    with errors_of_file(where, arrow):
        for batch in _batches(stream, where, column, limit, _is_number):
            values = np.asarray(batch.cast("float64", safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
            limit.add(values.nbytes, where)
            yield values


@contextmanager
def errors_of_file(where: str, arrow: Any) -> Iterator[None]:
    """Raise a CorpusError in place of what pyarrow raises for a file that cannot be read or is damaged."""
    try:
        yield
    except OSError as error:
        raise CorpusError(f"{where} cannot be read: {error.strerror or error}") from error
    except (arrow.lib.ArrowException, EOFError, LookupError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise CorpusError(f"{where} is a damaged Parquet file ({error})", "Download or write it again.") from error


def _batches(
    stream: BinaryIO, where: str, column: str, limit: ReadLimit, is_kind: Callable[[Any, Any], bool]
) -> Iterator[Any]:
    """Yield the values of a column as arrays of pyarrow with at most MAX_ROWS values each."""
    parquet = import_extra("pyarrow.parquet", "parquet", where)
    arrow = import_extra("pyarrow", "parquet", where)
    size = stream.seek(0, 2)
    stream.seek(0)
    file = parquet.ParquetFile(stream)
    leaves = _leaves(file, column, where, arrow, is_kind)
    largest = largest_page(stream, size, leaves, where, limit)
    rows = max(1, min(MAX_ROWS, MAX_BATCH_BYTES // max(1, largest)))
    for batch in file.iter_batches(rows, columns=[column], use_threads=False):
        yield batch.column(0)


def is_text(types: Any, kind: Any) -> bool:
    """Return whether a type of pyarrow is that of texts."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    )


def _is_name(types: Any, kind: Any) -> bool:
    """Return whether a type of pyarrow is that of texts, whole numbers, or true and false."""
    return is_text(types, kind) or bool(types.is_integer(kind) or types.is_boolean(kind))


def _is_number(types: Any, kind: Any) -> bool:
    """Return whether a type of pyarrow is that of numbers."""
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _leaves(file: Any, column: str, where: str, arrow: Any, is_kind: Callable[[Any, Any], bool]) -> list[int]:
    """Return the index of a column among the file's leaf columns, in a list.

    Other types are refused before a row is read. A row of lists can repeat the value of a page a million times, and
    pyarrow builds it at once: a file of 50 kB became 20 GB.

    Raises:
        CorpusError: If there is no such column, or `is_kind` is false for its type.
    """
    schema, types = file.schema_arrow, arrow.types
    if column not in schema.names:
        raise CorpusError(
            f"{where} has no column {column!r}",
            f"Name the column with --text-field; there is: {first_names(schema.names)}.",
        )
    if (num_columns := schema.names.count(column)) > 1:
        raise CorpusError(f"{where} has {num_columns:,} columns {column!r}", "Rename all but one of them.")
    paths = [file.schema.column(k).path for k in range(len(file.schema))]
    leaves = [k for k, path in enumerate(paths) if path == column or path.startswith(f"{column}.")]
    kind = schema.types[schema.names.index(column)]
    if len(leaves) != 1 or not is_kind(types, kind):
        content, wanted = ("numbers", "numbers") if is_kind is _is_number else ("text", "strings")
        raise CorpusError(
            f"{where}: the column {column!r} does not contain {content}",
            f"Name a column of {wanted} with --text-field.",
        )
    return leaves


def largest_page(stream: BinaryIO, size: int, columns: list[int], where: str, limit: ReadLimit) -> int:
    """Return the uncompressed size in bytes of the largest page of some columns of a file of `size` bytes.

    Raises:
        CorpusError: If a page is larger than MAX_PAGE_BYTES, or its compression ratio is too high.
    """
    largest = 0
    for begin, end in _column_chunks(stream, size, columns):
        position = begin
        while position < end:
            header = _read_page_header(stream, position)
            if (
                header.uncompressed_bytes > MAX_PAGE_BYTES
                or min(header.uncompressed_bytes, header.compressed_bytes) < 0
            ):
                raise CorpusError(
                    f"{where} has a page of {header.uncompressed_bytes:,} bytes, but {MAX_PAGE_BYTES:,} is the limit",
                    "Write it with smaller pages, or give its text as a plain file.",
                )
            limit.check_ratio(header.compressed_bytes, header.uncompressed_bytes, f"{where}: a page")
            largest = max(largest, header.uncompressed_bytes)
            position += header.header_bytes + header.compressed_bytes
    return largest


def _column_chunks(stream: BinaryIO, size: int, columns: list[int]) -> Iterator[tuple[int, int]]:
    """Yield where the pages of each of some columns begin and end, for each row group."""
    stream.seek(size - 8)
    footer_size = int.from_bytes(stream.read(4), "little")
    if not 0 < footer_size <= min(size - 8, MAX_FOOTER_BYTES):
        raise EOFError(f"a footer of {footer_size:,} bytes")
    stream.seek(size - 8 - footer_size)
    footer, _ = _read_struct(stream.read(footer_size), 0, 0)
    for group in footer[4]:
        for column in columns:
            metadata = group[1][column][3]
            offsets = [
                offset for offset in (metadata[9], metadata.get(11, 0)) if offset > 0
            ]  # 0: there is no such page
            begin = min(offsets, default=0)
            yield begin, begin + metadata[7]


def _read_page_header(stream: BinaryIO, position: int) -> _PageHeader:
    size = HEADER_BYTES
    while True:
        stream.seek(position)
        data = stream.read(size)
        try:
            fields, end = _read_struct(data, 0, 0)
        except IndexError:
            if len(data) < size or size >= MAX_HEADER_BYTES:
                raise EOFError("a page has no header") from None
            size *= 16
        else:
            return _PageHeader(end, fields[2], fields[3])


def _read_struct(data: bytes, position: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the values of a struct by field id, and the position after it.

    Raises:
        IndexError: If the struct is incomplete.
        EOFError: If it does not follow the protocol.
    """
    values: dict[int, Any] = {}
    field = 0
    while head := data[position]:
        position += 1
        if head >> 4:
            field += head >> 4
        else:
            field, position = _read_integer(data, position)
        kind = head & 15
        if kind > BOOLEAN:
            values[field], position = _read_value(data, position, kind, depth)
    return values, position + 1


def _read_value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a value of a type, and the position after it."""
    if depth > MAX_DEPTH:
        raise EOFError("structs are nested too deeply")
    if kind in INTEGERS:
        return _read_integer(data, position)
    if kind == STRUCT:
        return _read_struct(data, position, depth + 1)
    if kind in LISTS:
        head = data[position]
        position += 1
        count = head >> 4
        if count == 15:
            count, position = read_varint(data, position)
        items = []
        for _ in range(min(count, len(data))):  # an item has at least one byte, so a larger count is an IndexError
            item, position = _read_value(data, position, head & 15, depth + 1)
            items.append(item)
        return items, position
    size = SIZES.get(kind)
    if kind == BINARY:
        size, position = read_varint(data, position)
    if size is None:
        raise EOFError("a value has an unknown type")
    if position + size > len(data):
        raise IndexError
    return data[position : position + size], position + size


def _read_integer(data: bytes, position: int) -> tuple[int, int]:
    """Return a signed integer (zigzag encoding), and the position after it."""
    value, position = read_varint(data, position)
    return value >> 1 ^ -(value & 1), position


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a variable-length integer, and the position after it.

    The encoding (LEB128) has 7 bits per byte, the lowest first; the high bit says that another byte follows. Thrift and
    Protocol Buffers use it.

    Raises:
        IndexError: If the data ends within the number.
        EOFError: If the number has more than 10 bytes, so more than 64 bits.
    """
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise EOFError("a number does not end")
