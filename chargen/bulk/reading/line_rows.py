"""The rows of plain text and of JSON lines: each line is a row. Lines end with LF, CRLF or CR, and are UTF-8.

A slice is a range of bytes that starts and ends at a line. So a worker reads its slices of an uncompressed file from
where they start. A compressed file is decompressed up to there; slices that follow one another go on where the last
one ended.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from chargen.bulk.reading.json_fields import kind_of, make_table, merge_kinds
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
from chargen.schema import format_count, is_unicode
from chargen.text.decoding import WIDE_BOMS, BinaryFileError, binary_format
from chargen.text.inputs import MAGIC_BYTES, MAGICS, decompress, is_remote, open_input
from chargen.text.json_array import RecordParser
from chargen.text.limits import MAX_TEXT_BYTES, ReadLimit

SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
READ_BYTES = 1 << 16  #: size of a block; lines are counted in whole blocks
MAX_BINARY_CHECK_BYTES = 1 << 12


class Content:
    """The decompressed content of a file, read by ranges of bytes.

    Args:
        path: A path or a URL.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_compressed = False  #: known after the file was opened
        self._stack = ExitStack()
        self._stream: Any = None
        self._blocks: Iterator[bytes] | None = None  # of a compressed file
        self._position = 0  # of the next byte of `_blocks` that is not in `_rest`
        self._rest = b""  # bytes that were read, but belong after the last range

    def blocks(self) -> Iterator[bytes]:
        """Yield the whole content, and then close the file.

        Raises:
            CorpusError: If it cannot be read or is damaged.
        """
        self._open()
        for block in self._blocks or self._plain_blocks():
            for start in range(0, len(block), READ_BYTES):
                yield block[start : start + READ_BYTES]
        self.close()

    def read(self, start: int, end: int) -> bytes:
        """Return a range of bytes.

        Raises:
            CorpusError: If the file cannot be read, or is shorter than it was.
        """
        if self._stream is None or (self._blocks and start < self._position - len(self._rest)):
            self.close()
            self._open()
        data = self._read_compressed(start, end) if self._blocks else self._read_plain(start, end)
        if len(data) < end - start:
            raise CorpusError(f"{self._path} is shorter than when the job was started", "Start a job in a new folder.")
        return data

    def close(self) -> None:
        """Close the file."""
        self._stack.close()
        self._stream, self._blocks, self._rest, self._position = None, None, b"", 0

    def _open(self) -> None:
        """Open the file, and find out whether it is compressed."""
        limit = ReadLimit(sys.maxsize, regular_only=not is_remote(self._path))
        self._stream = self._stack.enter_context(open_input(self._path, limit))
        try:
            start = self._stream.read(MAGIC_BYTES)
            self._stream.seek(0)
        except OSError as error:
            raise CorpusError(f"{self._path} cannot be read: {error.strerror or error}") from error
        self.is_compressed = any(start.startswith(magic) for magic in MAGICS)
        if self.is_compressed:
            self._blocks = decompress(self._stream, self._path, limit)

    def _plain_blocks(self) -> Iterator[bytes]:
        try:
            while block := self._stream.read(READ_BYTES):
                yield block
        except OSError as error:
            if isinstance(error, CorpusError):
                raise
            raise CorpusError(f"{self._path} cannot be read: {error.strerror or error}") from error

    def _read_plain(self, start: int, end: int) -> bytes:
        try:
            self._stream.seek(start)
            data: bytes = self._stream.read(end - start)
        except OSError as error:
            raise CorpusError(f"{self._path} cannot be read: {error.strerror or error}") from error
        return data

    def _read_compressed(self, start: int, end: int) -> bytes:
        assert self._blocks is not None
        parts = []
        block, position = self._rest, self._position - len(self._rest)
        while True:
            if position + len(block) > start:
                parts.append(block[max(0, start - position) : end - position])
            position += len(block)
            if position >= end:
                break
            following = next(self._blocks, None)
            if following is None:
                block = b""
                break
            block = following
        self._position, self._rest = position, block[len(block) - max(0, position - end) :]
        return b"".join(parts)


def line_chunks(blocks: Iterable[bytes], where: str) -> Iterator[bytes]:
    """Yield the content of a file in chunks that end where a line ends; the last one ends where the file does.

    Raises:
        CorpusError: If a line is longer than MAX_TEXT_BYTES.
    """
    pending: list[bytes] = []
    size = num_lines = 0
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            chunk = b"".join([*pending, block[:cut]])
            yield chunk
            num_lines += count_lines(chunk)
            pending, size = [], 0
        pending.append(block[cut:])
        size += len(pending[-1])
        if size > MAX_TEXT_BYTES:
            raise CorpusError(
                f"{where}, line {num_lines + 1:,} is longer than {format_count(MAX_TEXT_BYTES, 'byte')}",
                "Split it into lines.",
            )
    if rest := b"".join(pending):
        yield rest


def count_lines(chunk: bytes) -> int:
    r"""Return the number of lines of a chunk, as `bytes.splitlines` finds them.

    >>> count_lines(b"a\nb\r\nc\rd"), len(b"a\nb\r\nc\rd".splitlines())
    (4, 4)
    """
    num_ends = chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
    return num_ends + (not chunk.endswith((b"\n", b"\r")) and bool(chunk))


class LineRows:
    """The rows of a file of lines.

    Args:
        path: A path or a URL.
        text_column: Name of the column of the text; of JSON lines, the field.
        added: Names of the columns that the job adds.
        is_json: Whether each line is a JSON object. Blank lines are then no rows, but are counted as such.
        fields: The fields of all files of the job, to read slices of JSON lines.
    """

    def __init__(
        self, path: str, text_column: str, added: tuple[str, ...], is_json: bool, fields: dict[str, str] | None = None
    ) -> None:
        self._path, self._text_column, self._added = path, text_column, added
        self._is_json, self._fields = is_json, fields or {}
        self._content = Content(path)
        self._parser = RecordParser(parse_int=_parse_int)

    def plan(self) -> FilePlan:
        """Find the slices of the file, and the fields of its JSON lines."""
        slices: list[Slice] = []
        kinds: dict[str, str] = {}
        rows = position = first_row = start = num_records = 0
        for chunk in line_chunks(self._content.blocks(), self._path):
            if not position:
                self._check_start(chunk)
            position += len(chunk)
            rows += count_lines(chunk)
            if self._is_json:
                text = chunk if position > len(chunk) else chunk.removeprefix(codecs.BOM_UTF8)
                num_records += self._add_kinds(kinds, text)
            if rows - first_row >= MAX_SLICE_ROWS or position - start >= MAX_SLICE_BYTES:
                slices.append(Slice(first_row, rows - first_row, start, position))
                first_row, start = rows, position
        if rows > first_row:
            slices.append(Slice(first_row, rows - first_row, start, position))
        if self._is_json and num_records:
            check_columns(list(kinds), self._text_column, self._added, self._path)
        elif self._is_json and rows:
            raise CorpusError(
                f"{self._path} has no line that is a JSON object", "Its name says that it has JSON lines."
            )
        return FilePlan(tuple(slices), self._content.is_compressed, kinds)

    def read(self, part: Slice) -> Rows:
        """Read the lines of a slice."""
        data = self._content.read(part.start, part.end)
        if not part.start:
            data = data.removeprefix(codecs.BOM_UTF8)
        lines = _decode_lines(data)
        texts: list[str | None] = []
        records: list[dict[str, Any]] = []
        numbers: list[int] = []
        failures: list[Failure] = []
        for number, line in enumerate(lines, part.first_row):
            if self._is_json and not line.strip():
                continue
            try:
                record = self._parse(line) if self._is_json else {self._text_column: line}
                texts.append(self._text_of(record))
            except CorpusError as error:
                failures.append(Failure.of(f"{self._path}, line {number + 1:,}", error.message))
                continue
            records.append(record)
            numbers.append(number)
        arrow = import_extra("pyarrow", "parquet", "bulk work")
        if self._is_json:
            table = make_table(arrow, records, self._fields)
        else:
            table = arrow.table({self._text_column: arrow.array(texts, arrow.string())})
        return Rows(table, texts, numbers, failures)

    def close(self) -> None:
        """Close the file."""
        self._content.close()

    def _parse(self, line: str) -> dict[str, Any]:
        """Return the object of a line. A string in place of an object is the text itself.

        Raises:
            CorpusError: If the line is something else, or has a name or a string that is no Unicode.
        """
        value, wrong = self._parser.parse_line(line)
        if wrong:
            raise CorpusError(wrong)
        record = {self._text_column: value} if isinstance(value, str) else value
        if not isinstance(record, dict):
            raise CorpusError("is not a JSON object")
        if not is_unicode(line):
            raise CorpusError("the text has invalid UTF-8")
        if SURROGATE_ESCAPE.search(line):
            for name, item in record.items():
                if not is_unicode(name) or (isinstance(item, str) and not is_unicode(item)):
                    raise CorpusError(f"the field {name!r} has half of a surrogate pair")
        return record

    def _text_of(self, record: dict[str, Any]) -> str | None:
        """Return the text of a record.

        Raises:
            CorpusError: If there is no field with this name, or it is not a valid text; the record is then no row.
        """
        if self._text_column not in record:
            raise CorpusError(f"has no field {self._text_column!r}")
        return check_row_text(record[self._text_column], self._text_column)

    def _is_row(self, record: dict[str, Any]) -> bool:
        """Return whether `read` returns a record as a row."""
        try:
            self._text_of(record)
        except CorpusError:  # `read` names it
            return False
        return True

    def _add_kinds(self, kinds: dict[str, str], chunk: bytes) -> int:
        """Add the kinds of the fields in a chunk, and return how many records it has.

        The values of a record that cannot be a row count as null: they are not written, so no column needs to fit them.
        """
        num_records = 0
        for line in _decode_lines(chunk):
            if not line.strip():
                continue
            try:
                record = self._parse(line)
            except CorpusError:  # `read` names it
                continue
            num_records += 1
            is_row = self._is_row(record)
            for name, item in record.items():
                kinds[name] = merge_kinds(kinds.get(name, ""), kind_of(item) if is_row else "")
            if len(kinds) > 2 * len(record) and len(kinds) > 10_000:
                raise CorpusError(f"{self._path} has more than 10,000 different fields", "Keep the data in values.")
        return num_records

    def _check_start(self, chunk: bytes) -> None:
        """Check that a file starts as a text in UTF-8 does.

        Raises:
            CorpusError: If it does not.
        """
        wide = next((name for bom, name in WIDE_BOMS.items() if chunk.startswith(bom)), "")
        if wide:
            raise CorpusError(f"{self._path} is {wide.upper()}", f"Convert it: iconv -f {wide} -t utf-8 FILE > NEW")
        hint = binary_format(chunk)
        if hint or b"\0" in chunk[:MAX_BINARY_CHECK_BYTES]:
            raise BinaryFileError(f"{self._path} is a binary file, not a text", hint or "Extract its text first.")
        if self._is_json and chunk.lstrip().startswith(b"["):
            raise CorpusError(
                f"{self._path} is a JSON array, not JSON lines", "Convert it: jq -c '.[]' FILE > NEW.jsonl"
            )


def _parse_int(digits: str) -> int | float:
    """Return a whole number; one of thousands of digits as a float, because Python refuses to read it."""
    return int(digits) if len(digits) < 1000 else float(digits)


def _decode_lines(data: bytes) -> list[str]:
    """Return the lines of some data; invalid bytes become lone surrogates, which no text has."""
    return [line.decode("utf-8", "surrogateescape") for line in data.splitlines()]
