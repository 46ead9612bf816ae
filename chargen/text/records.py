"""Read lines and records: many short texts from one input.

    auto      the form that the suffix of the file states; `lines` for plain text
    lines     a text ends at LF, CRLF or CR, even mixed; the last one need not end
    null      a text ends at a NUL byte, and may contain newlines
    whole     the whole input is one text, without the one newline at its end
    json      each line is a JSON object, and one of its fields is the text; blank lines are skipped
    array     a JSON array of such objects; or JSON lines, if it does not start with "["
    csv, tsv  a table with a header, and one of its columns is the text (RFC 4180; CSV with ";" is recognised);
              in a table with one column, a blank line is an empty text, except at the end
    parquet   a table, and one of its columns is the text

A JSON string in place of an object is the text itself. A text that is null is left out and counted. In the form
"lines" a NUL byte is an ordinary character. A byte order mark (BOM) at the start is removed.

Texts are yielded in batches: those that are complete after one read of the input, so that they can be answered before
the next read waits. Each text is held in memory, so its size has a limit, and what exceeds it is discarded while the
end of the text is searched for.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, AnyStr

from chargen.errors import CorpusError
from chargen.schema import format_count, is_unicode
from chargen.text.cleaning import CleaningReport, unify_newlines
from chargen.text.decoding import LONE_SURROGATE, decode_marked, remove_bom
from chargen.text.json_array import RecordParser, array_elements, how_to_correct, with_start
from chargen.text.limits import MAX_RECORD_BYTES, MAX_TEXT_BYTES, check_record, first_names

AUTO, LINES, NULL, WHOLE, JSON = "auto", "lines", "null", "whole", "json"
ARRAY, CSV, TSV, PARQUET = "array", "csv", "tsv", "parquet"
DEFAULT_FIELD = "text"
BATCH_SIZE = 1024  #: texts of a batch, where the form has no lines
HOW_TO_SKIP = "--errors skip skips such records."


@dataclass(frozen=True)
class RecordFormat:
    """How texts are stored in an input."""

    form: str = AUTO  #: one of the forms at the top of the file
    field: str = ""  #: field or column that contains the text; "" stands for DEFAULT_FIELD
    encoding: str = "utf-8"
    errors: str = "strict"  #: "strict", "replace" (invalid bytes and lone surrogates by U+FFFD) or "skip" (the record)
    keeps_cr: bool = False  #: whether the CR of a CRLF belongs to its line, for lines that are written again


def read_batches(
    blocks: Iterable[bytes], where: str, record_format: RecordFormat, report: CleaningReport
) -> Iterator[list[str]]:
    """Yield the texts of an input in batches; see the top of the file. The form is any but AUTO and PARQUET.

    Args:
        blocks: The decompressed bytes of the input, split anywhere.
        where: Name of the input, for error messages.
        record_format: How the texts are stored.
        report: Receives the records that were skipped or changed, and what was found out about the encoding.

    Raises:
        CorpusError: If a record has bytes that are invalid in the encoding, has no text, or is too long, and invalid
            records are not skipped; the message names its line. The texts before it are yielded first. Or if a JSON
            array has a syntax error.
    """
    form = record_format.form
    is_strict = record_format.errors == "strict"
    pieces = remove_bom(decode_marked(blocks, where, record_format.encoding, report, form == NULL, is_strict))
    check = RecordCheck(record_format, report)
    if form == WHOLE:
        text = _join_limited(pieces, MAX_TEXT_BYTES)
        yield check.texts([(where, text.removesuffix("\n").removesuffix("\r"))])
    elif form in (LINES, NULL, JSON):
        yield from _line_batches(pieces, where, record_format, check)
    elif form == ARRAY:
        pieces = with_start(pieces)
        first = next(pieces, "")
        pieces = chain([first], pieces)
        if first.lstrip().startswith("["):
            found = array_elements(pieces, where)
            elements = ((name, check.json_value(value, wrong, name)) for name, value, wrong in found)
            yield from _batched(elements, check)
        else:
            yield from _line_batches(pieces, where, RecordFormat(JSON), check)
    else:
        yield from _batched(_rows(pieces, where, record_format, check), check)
    check.finish(where)


class RecordCheck:
    """Checks records one by one, and counts those without a text."""

    def __init__(self, record_format: RecordFormat, report: CleaningReport) -> None:
        self._format = record_format
        self._report = report
        self._num_nulls = self._num_replaced = 0
        self._parser = RecordParser()
        self.error: CorpusError | None = None  #: the error that ends the input, after the texts before it
        self.field = record_format.field or DEFAULT_FIELD

    def texts(self, records: Iterable[tuple[str, Any]]) -> list[str]:
        """Return the texts of records, which are pairs of a name for error messages and a text, None or an error.

        They end before the first error, unless invalid records are skipped.
        """
        found = []
        for name, value in records:
            if value is None:
                self._num_nulls += 1
                continue
            try:
                if isinstance(value, CorpusError):
                    raise value
                found.append(self.checked(value, name))
            except CorpusError as error:
                if self._format.errors != "skip":
                    self.error = error
                    break
                self._report.add_skipped_record(error)
        return found

    def finish(self, where: str) -> None:
        """Report the counts, and raise the error that ended the input."""
        self._report.add_nulls(where, self._num_nulls)
        self._report.add_replaced(where, self._num_replaced)
        if self.error:
            raise self.error

    def json_value(self, value: Any, wrong: str, name: str) -> Any:
        """Return the text of a parsed JSON value, None for null, or the error that it has no text or is wrong."""
        if wrong:
            return CorpusError(f"{name} {wrong}", f"{how_to_correct(wrong)} {HOW_TO_SKIP}")
        text = value.get(self.field) if isinstance(value, dict) else value
        if isinstance(text, str) or value is None or (text is None and self.field in value):
            return text
        fields = (first_names(value) or "none") if isinstance(value, dict) else "no object"
        return CorpusError(
            f"{name} has no text in a field {self.field!r}",
            f"Name the field with --text-field NAME; there is: {fields}. {HOW_TO_SKIP}",
        )

    def parsed_line(self, line: str, name: str) -> Any:
        """Return the text of a line of JSON, None for null, or the error that it has none."""
        try:
            check_record(len(line), name)
        except CorpusError as error:
            return error
        return self.json_value(*self._parser.parse_line(line), name)

    def checked(self, text: str, name: str) -> str:
        """Return a text without lone surrogates.

        Raises:
            CorpusError: If it is too long; or if it has one, and they are not replaced.
        """
        max_size = MAX_RECORD_BYTES if self._format.form in (JSON, ARRAY) else MAX_TEXT_BYTES
        if len(text) > max_size:
            raise CorpusError(
                f"{name} is a text of more than {format_count(max_size, 'byte')}, which is the limit",
                "Split it into lines; `chargen eval` evaluates a long text as a whole.",
            )
        if text.isascii() or is_unicode(text):
            return text
        if self._format.errors == "replace":
            text, count = re.subn(LONE_SURROGATE, "\ufffd", text)
            self._num_replaced += count
            return text
        self._raise_invalid(text, name)
        return text

    def _raise_invalid(self, text: str, name: str) -> None:
        """Raise the error for a text with a lone surrogate: an invalid byte, or an escape like \\ud800 in JSON."""
        at = re.search(LONE_SURROGATE, text)
        assert at is not None
        byte = ord(at[0]) - 0xDC00
        is_json = self._format.form in (JSON, ARRAY)
        if not 0 <= byte <= 0xFF or (is_json and not self._report.has_invalid_bytes):
            source = f"the escape \\u{ord(at[0]):04x}" if is_json else "a lone surrogate"
            raise CorpusError(
                f"{name} has {source}, which is half of a character: U+{ord(at[0]):04X} is none alone",
                "Correct it, or use --errors replace (reads U+FFFD) or skip.",
            )
        encoding = codecs.lookup(self._format.encoding).name
        position = len(text[: at.start()].encode(f"{encoding}-le" if encoding in ("utf-16", "utf-32") else encoding))
        raise CorpusError(
            f"{name} is not {self._format.encoding.upper()} (byte {position + 1:,} of it is 0x{byte:02X})",
            f"{self._report.encoding_hint()} Or use --errors replace (reads U+FFFD) or skip.",
        )


def _line_batches(
    pieces: Iterable[str], where: str, record_format: RecordFormat, check: RecordCheck
) -> Iterator[list[str]]:
    """Yield the lines, NUL-separated records or JSON lines that are complete after each piece."""
    form = record_format.form
    max_size = MAX_RECORD_BYTES if form == JSON else MAX_TEXT_BYTES
    if form != NULL:
        pieces = _split_lone_cr(pieces) if record_format.keeps_cr else unify_newlines(pieces, "\r\n")
    what, separator = ("record", "\0") if form == NULL else ("line", "\n")
    number = 0
    for parts in split_batches(pieces, separator, max_size):
        if form != JSON and _are_valid(parts, max_size):
            yield parts
        else:
            names = (f"{where}, {what} {n:,}" for n in range(number + 1, number + len(parts) + 1))
            records: Iterable[tuple[str, Any]] = zip(names, parts, strict=True)
            if form == JSON:
                records = ((name, check.parsed_line(part, name)) for name, part in records if part.strip())
            yield check.texts(records)
            if check.error:
                return
        number += len(parts)


def _are_valid(texts: list[str], max_size: int) -> bool:
    """Return whether all texts are short enough and valid Unicode: much faster than to check each of them."""
    joined = "".join(texts)
    return len(joined) <= max_size and (joined.isascii() or is_unicode(joined))


def _split_lone_cr(pieces: Iterable[str]) -> Iterator[str]:
    """Yield a text with an LF for each CR that no LF follows, wherever the pieces were split."""
    pending = ""
    for piece in chain(pieces, [None]):
        text = pending + (piece or "")
        pending = "\r" if piece is not None and text.endswith("\r") else ""
        text = text.removesuffix(pending)
        yield re.sub("\r(?!\n)", "\n", text) if "\r" in text else text


def split_batches(pieces: Iterable[AnyStr], separator: AnyStr, max_size: int) -> Iterator[list[AnyStr]]:
    """Yield, for each piece, what ends in it: the parts before each separator; at the end what is after the last one.

    Args:
        pieces: Pieces of a text, or of its bytes, split anywhere.
        separator: One character, or one byte.
        max_size: Of a longer part, at least the first `max_size` + 1 characters are yielded, as soon as they are read.
            The rest may be discarded, so memory is bounded.
    """
    empty = separator[:0]
    pending: list[AnyStr] = []
    size, is_discarding = 0, False
    for piece in pieces:
        parts: list[AnyStr] = piece.split(separator)
        first, others = parts[0], parts[1:]
        complete: list[AnyStr] = []
        if not is_discarding:
            pending.append(first[: max_size + 1 - size])
            size += len(pending[-1])
            if size > max_size or others:
                complete = [empty.join(pending)]
                is_discarding = size > max_size
                pending, size = [], 0
        if others:
            complete += others[:-1]
            pending, size, is_discarding = [others[-1]], len(others[-1]), False
        if complete:
            yield complete
    if last := empty.join(pending):
        yield [last]


def split_pieces(pieces: Iterable[AnyStr], separator: AnyStr, max_size: int) -> Iterator[AnyStr]:
    """Yield the parts of `split_batches` one by one."""
    return chain.from_iterable(split_batches(pieces, separator, max_size))


def _join_limited(pieces: Iterable[str], max_size: int) -> str:
    """Return the whole text, or the first `max_size` + 1 characters of a longer one."""
    parts, size = [], 0
    for piece in pieces:
        parts.append(piece[: max_size + 1 - size])
        size += len(parts[-1])
        if size > max_size:
            break
    return "".join(parts)


def _batched(records: Iterator[tuple[str, Any]], check: RecordCheck) -> Iterator[list[str]]:
    while batch := list(islice(records, BATCH_SIZE)):
        yield check.texts(batch)
        if check.error:
            return


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(
    pieces: Iterable[str], where: str, record_format: RecordFormat, check: RecordCheck
) -> Iterator[tuple[str, Any]]:
    """Yield (name, text or error) of each row of a table with a header.

    Raises:
        CorpusError: If the header does not have the column, or has it twice.
    """
    header, rows = open_table(pieces, where, record_format.form)
    if check.field not in header:
        raise CorpusError(
            f"{where} has no column {check.field!r}",
            f"Name the column with --text-field NAME; there is: {first_names(header)}.",
        )
    if header.count(check.field) > 1:
        raise CorpusError(
            f"{where} has {header.count(check.field):,} columns {check.field!r}", "Rename all but one of them."
        )
    column = header.index(check.field)
    for name, row in rows:
        yield name, row if isinstance(row, CorpusError) else row[column]


def open_table(
    pieces: Iterable[str], where: str, form: str
) -> tuple[list[str], Iterator[tuple[str, list[str] | CorpusError]]]:
    """Return (the header of a CSV or TSV table, an iterator of (name, the cells or an error) of each row).

    Args:
        pieces: The decoded table, split anywhere.
        where: Name of the input, for error messages.
        form: CSV or TSV.

    Raises:
        CorpusError: If the first line is not of this form.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)  # a limit of the whole process; the csv module's default is 128 kB
    lines = (f"{line}\n" for line in split_pieces(_split_lone_cr(pieces), "\n", MAX_RECORD_BYTES))
    first = next(lines, "")
    comma = ";" if ";" in first and "," not in first else ","
    delimiter = "\t" if form == TSV else comma
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise CorpusError(f"{where}, line 1 is not {form.upper()}: {error}", "Correct that line.") from error
    return header, _table_rows(reader, header, where, form, delimiter)


def _table_rows(
    reader: Any, header: list[str], where: str, form: str, delimiter: str
) -> Iterator[tuple[str, list[str] | CorpusError]]:
    """Yield (name, the cells or an error) of each row.

    A blank line is no row. But in a table with one column it is an empty cell, as spreadsheets write it, unless only
    blank lines follow.
    """
    num_blank = 0  # blank lines before the next row of a table with one column
    while True:
        line = reader.line_num + 1
        name = f"{where}, line {line:,}"
        row: list[str] | CorpusError
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = CorpusError(f"{name} is not {form.upper()}: {error}", f"Correct that line. {HOW_TO_SKIP}")
        if not row:
            num_blank += len(header) == 1
            continue
        yield from ((f"{where}, line {number:,}", [""]) for number in range(line - num_blank, line))
        num_blank = 0
        if isinstance(row, list) and len(row) != len(header):
            hint = f"Put a text that contains {delimiter!r} in quotes, or correct that line. {HOW_TO_SKIP}"
            columns = format_count(len(row), "column")
            row = CorpusError(f"{name} has {columns}, but the header has {len(header):,}", hint)
        yield name, row
