"""The texts in a column of a Parquet file, in bounded memory.

pyarrow unpacks a page as a whole, of whatever size its header states. So the headers of the column's pages are read
first, here: pyarrow does not show them, and its own view of a damaged footer ends the process (`std::terminate`). Both
are in thrift's compact protocol (parquet.thrift):

    the file       "PAR1" · pages … · footer · its bytes (4) · "PAR1"
    the footer     4: row groups [ 1: columns [ 3: 7: packed bytes · 9: first page · 11: dictionary ] ]
    a page header  1: type · 2: unpacked size · 3: packed size · …
    a field        (id − last id) in 4 bits · type in 4 bits ; value          (0: the struct ends)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from chargen.errors import CorpusError
from chargen.registry import import_extra
from chargen.text.limits import ReadLimit, check_record, first_names

MAX_ROWS = 1_000  #: that are read at a time
MAX_BATCH_BYTES = 1 << 28  #: of those rows, if each fills a page
MAX_PAGE_BYTES = 1 << 29  #: of a page, unpacked; writers make pages of a megabyte, or of a thousand long values
HEADER_BYTES, MAX_HEADER_BYTES = 1 << 8, 1 << 24  #: of a page, read at first and at most
MAX_DEPTH = 16  #: of structs in a header
MAX_FOOTER_BYTES = 1 << 26
#: Thrift's types. As a field, a truth value is in its type (1 or 2); in a list it is a byte.
BOOLEAN, INTEGERS, BINARY, LISTS, STRUCT = 2, (4, 5, 6), 8, (9, 10), 12
SIZES = {1: 1, 2: 1, 3: 1, 7: 8}  #: of truth values, bytes and floating-point numbers


def column_values(stream: BinaryIO, where: str, column: str, limit: ReadLimit) -> Iterator[str]:
    """Yield the texts of a column that are not empty.

    Raises:
        CorpusError: there is no such column, it holds no text, or the file is damaged or longer than the limit.
    """
    parquet = import_extra("pyarrow.parquet", "parquet", where)
    arrow = import_extra("pyarrow", "parquet", where)
    try:
        size = stream.seek(0, 2)
        stream.seek(0)
        file = parquet.ParquetFile(stream)
        leaves = _text_leaves(file, column, where, arrow)
        largest = _largest_page(stream, size, leaves, where, limit)
        rows = max(1, min(MAX_ROWS, MAX_BATCH_BYTES // max(1, largest)))
        num_bytes = 0
        for batch in file.iter_batches(rows, columns=[column], use_threads=False):
            for value in batch.column(0):
                text = value.as_py()
                if not isinstance(text, str | None):
                    raise CorpusError(f"{where}: the column {column!r} holds no text")
                if text:
                    length = len(text) if text.isascii() else len(text.encode("utf-8"))
                    num_bytes += length
                    check_record(length, f"{where}: a value of the column {column!r}")
                    limit.add(length, where)
                    limit.check_ratio(size, num_bytes, where)
                    yield text
    except (arrow.lib.ArrowException, EOFError, LookupError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise CorpusError(f"{where} is a damaged Parquet file ({error})", "Fetch it again.") from error


def _text_leaves(file: Any, column: str, where: str, arrow: Any) -> list[int]:
    """Return the place of a column of strings, in a list.

    Anything else is refused before a row is read. A row of lists can hold a page's value a million times, which pyarrow
    makes at once: 50 kB became 20 GB.

    Raises:
        CorpusError: there is no such column, or it holds no text.
    """
    schema, types = file.schema_arrow, arrow.types
    if column not in schema.names:
        raise CorpusError(
            f"{where} has no column {column!r}", f"Name it with --text-field; there is: {first_names(schema.names)}."
        )
    paths = [file.schema.column(k).path for k in range(len(file.schema))]
    leaves = [k for k, path in enumerate(paths) if path == column or path.startswith(f"{column}.")]
    kind = schema.types[schema.names.index(column)]
    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    if len(leaves) != 1 or not is_text:
        raise CorpusError(f"{where}: the column {column!r} holds no text", "Name one of strings with --text-field.")
    return leaves


def _largest_page(stream: BinaryIO, size: int, columns: list[int], where: str, limit: ReadLimit) -> int:
    """Return the unpacked bytes of the largest page of some columns of a file of `size` bytes.

    Raises:
        CorpusError: a page is larger than it may be.
    """
    largest = 0
    for begin, end in _chunks(stream, size, columns):
        while begin < end:
            header_size, unpacked, packed = _page_header(stream, begin)
            if unpacked > MAX_PAGE_BYTES or min(unpacked, packed) < 0:
                raise CorpusError(
                    f"{where} has a page of {unpacked:,} bytes, but {MAX_PAGE_BYTES:,} is the limit",
                    "Write it with smaller pages, or give its text as a plain file.",
                )
            limit.check_ratio(packed, unpacked, f"{where}: a page")
            largest = max(largest, unpacked)
            begin += header_size + packed
    return largest


def _chunks(stream: BinaryIO, size: int, columns: list[int]) -> Iterator[tuple[int, int]]:
    """Yield from where to where the pages of some columns stand, for each row group."""
    stream.seek(size - 8)
    footer_size = int.from_bytes(stream.read(4), "little")
    if not 0 < footer_size <= min(size - 8, MAX_FOOTER_BYTES):
        raise EOFError(f"a footer of {footer_size:,} bytes")
    stream.seek(size - 8 - footer_size)
    footer, _ = _struct(stream.read(footer_size), 0, 0)
    for group in footer[4]:
        for column in columns:
            about = group[1][column][3]
            begin = min(about[9], about[11]) if about.get(11, 0) > 0 else about[9]
            yield begin, begin + about[7]


def _page_header(stream: BinaryIO, place: int) -> tuple[int, int, int]:
    """Return (its own bytes, the unpacked bytes of the page, its packed bytes) of the header of a page."""
    size = HEADER_BYTES
    while True:
        stream.seek(place)
        data = stream.read(size)
        try:
            numbers, end = _struct(data, 0, 0)
        except IndexError:
            if len(data) < size or size >= MAX_HEADER_BYTES:
                raise EOFError("a page has no header") from None
            size *= 16
        else:
            return end, numbers[2], numbers[3]


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Read a struct; return its values by field, and the place after it.

    Raises:
        IndexError: it is not all there.
        EOFError: it is of no known form.
    """
    values: dict[int, Any] = {}
    field = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _number(data, at)
        kind = head & 15
        if kind > BOOLEAN:
            values[field], at = _value(data, at, kind, depth)
    return values, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Read a value of a type; return it, and the place after it."""
    if depth > MAX_DEPTH:
        raise EOFError("structs in structs")
    if kind in INTEGERS:
        return _number(data, at)
    if kind == STRUCT:
        return _struct(data, at, depth + 1)
    if kind in LISTS:
        head, at = data[at], at + 1
        count, at = _varint(data, at) if head >> 4 == 15 else (head >> 4, at)
        items = []
        for _ in range(min(count, len(data))):  # each takes a byte at least: of more, the end of the data is met
            item, at = _value(data, at, head & 15, depth + 1)
            items.append(item)
        return items, at
    size = SIZES.get(kind)
    if kind == BINARY:
        size, at = _varint(data, at)
    if size is None:
        raise EOFError("a value of no known type")
    if at + size > len(data):
        raise IndexError
    return data[at : at + size], at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise EOFError("a number has no end")
