"""Read lines and records: many short texts from one stream of bytes.

`read_records` has four forms:

    lines   a text ends at LF, CRLF or CR, even mixed; the last one need not end
    null    a text ends at a NUL byte, and may contain newlines
    json    each line is a JSON object, and one of its fields is the text; blank lines are skipped
    whole   the whole stream is one text, without the one newline at its end

`read_lines` is for files whose lines are written again: only LF ends a line, and a CR is part of it.

In the form "lines" a NUL byte is an ordinary character. A byte order mark (BOM) at the start is removed. The stream is
read in blocks. Each text is held in memory, so its size has a limit, and what exceeds it is discarded while the end of
the text is searched for.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import AnyStr, BinaryIO

from chargen.errors import CorpusError
from chargen.schema import format_count
from chargen.text.cleaning import BOM, check_encoding, check_unicode, remove_bom, unify_newlines
from chargen.text.limits import MAX_RECORD_BYTES, MAX_TEXT_BYTES, check_record, first_names

LINES, NULL, JSON, WHOLE = "lines", "null", "json", "whole"
BLOCK_BYTES = 1 << 20
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
HOW_TO_SKIP = "--errors skip skips such lines."


@dataclass(frozen=True)
class RecordFormat:
    """How texts are stored in a stream."""

    form: str = LINES  #: LINES, NULL, JSON or WHOLE
    field: str = "text"  #: field of a JSON object that contains the text
    encoding: str = "utf-8"
    errors: str = "strict"  #: "strict", or "replace" to read invalid bytes as U+FFFD


DEFAULT_FORMAT = RecordFormat()


def read_records(
    stream: BinaryIO,
    where: str,
    record_format: RecordFormat = DEFAULT_FORMAT,
    on_error: Callable[[CorpusError], object] | None = None,
) -> Iterator[str]:
    """Yield the texts of a stream.

    Args:
        stream: The open file.
        where: Name of the stream, for error messages.
        record_format: How the texts are stored.
        on_error: Called with the error of a record that cannot be read; the record is skipped. Without it the error is
            raised. Errors of UTF-16 and UTF-32 are always raised, because they have no lines before they are decoded.

    Raises:
        CorpusError: If a record has bytes that are invalid in the encoding, has no text, or is too long; the message
            names its line.
    """
    encoding, errors = record_format.encoding, record_format.errors
    check_encoding(encoding)
    blocks = remove_bom(_read_blocks(stream), codecs.BOM_UTF8)
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):  # a newline is more than one byte there
        blocks = _transcode(blocks, where, encoding, errors)
        encoding = "utf-8"
    max_bytes = MAX_RECORD_BYTES if record_format.form == JSON else MAX_TEXT_BYTES
    for record_name, record in _split_records(blocks, where, record_format.form, max_bytes):
        try:
            if len(record) > max_bytes:
                raise _too_long(record_name, max_bytes)
            text = _decode(record, record_name, encoding, errors)
            if record_format.form == WHOLE:
                text = text.removesuffix("\n").removesuffix("\r")
            elif record_format.form == JSON:
                if not text.strip():
                    continue
                text = parse_json_text(text, record_name, record_format.field, "--field NAME", HOW_TO_SKIP)
                text = _replace_surrogates(text, record_name, errors)
        except CorpusError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield text


def read_lines(stream: BinaryIO, where: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without the LF at their end.

    Raises:
        CorpusError: If a line is not UTF-8, or longer than MAX_RECORD_BYTES.
    """
    blocks = remove_bom(_read_blocks(stream), codecs.BOM_UTF8)
    for number, line in enumerate(split_pieces(blocks, b"\n", MAX_RECORD_BYTES), start=1):
        check_record(len(line), f"{where}, line {number:,}")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{where}, line {number:,} is not UTF-8 (byte {error.start + 1} of the line)",
                "Convert the file to UTF-8.",
            ) from error


def split_pieces(pieces: Iterable[AnyStr], separator: AnyStr, max_size: int) -> Iterator[AnyStr]:
    """Yield what is before each separator, and what is after the last one if it is not empty.

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
        if not is_discarding:
            pending.append(first[: max_size + 1 - size])
            size += len(pending[-1])
            if size > max_size or others:
                yield empty.join(pending)
                is_discarding = size > max_size
                pending, size = [], 0
        if others:
            yield from others[:-1]
            pending, size, is_discarding = [others[-1]], len(others[-1]), False
    if last := empty.join(pending):
        yield last


def parse_json_text(line: str, where: str, field: str, option: str, hint: str = "") -> str:
    """Return the text in a field of a JSON object. It may contain lone surrogates.

    Args:
        line: The JSON object.
        where: Name of the line, for error messages.
        field: Name of the field.
        option: The command-line option that names the field, for the hint.
        hint: What else can be done about an error.

    Raises:
        CorpusError: If the line is not a JSON object, or the field is missing or is not a string.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{where} is not JSON: {error}", f"Each line must be one JSON object. {hint}".strip()
        ) from error
    text = record.get(field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        fields = first_names(record) if isinstance(record, dict) else "no object"
        raise CorpusError(
            f"{where} has no text in a field {field!r}",
            f"Name the field with {option}; there is: {fields}. {hint}".strip(),
        )
    return text


def _too_long(record_name: str, max_bytes: int) -> CorpusError:
    return CorpusError(
        f"{record_name} is a text of more than {format_count(max_bytes, 'byte')}, which is the limit",
        "Split it into lines; `chargen eval` evaluates a long text as a whole.",
    )


def _split_records(blocks: Iterator[bytes], where: str, form: str, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name for error messages, bytes) of each record; a record that is too long is cut after `max_bytes` + 1."""
    if form == WHOLE:
        yield where, _join_limited(blocks, max_bytes)
        return
    what, separator = ("record", b"\0") if form == NULL else ("line", b"\n")
    blocks = unify_newlines(blocks, b"\r\n") if form == LINES else blocks
    for number, record in enumerate(split_pieces(blocks, separator, max_bytes), start=1):
        yield f"{where}, {what} {number:,}", record


def _read_blocks(stream: BinaryIO) -> Iterator[bytes]:
    read = getattr(stream, "read1", stream.read)  # read1 does not wait until a block is full
    while block := read(BLOCK_BYTES):
        yield block


def _transcode(blocks: Iterator[bytes], where: str, encoding: str, errors: str) -> Iterator[bytes]:
    """Yield the stream in UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    num_newlines = 0

    def decode() -> Iterator[str]:
        for block in blocks:
            yield decoder.decode(block)
        yield decoder.decode(b"", True)

    try:
        for text in remove_bom(decode(), BOM):
            num_newlines += text.count("\n")
            yield text.encode("utf-8")
    except UnicodeError as error:
        raise _not_encoded(f"{where}, line {num_newlines + 1:,} or after it", encoding, "") from error


def _join_limited(blocks: Iterator[bytes], max_bytes: int) -> bytes:
    """Return the whole stream, or the first `max_bytes` + 1 bytes of a longer one."""
    parts, size = [], 0
    for block in blocks:
        parts.append(block[: max_bytes + 1 - size])
        size += len(parts[-1])
        if size > max_bytes:
            break
    return b"".join(parts)


def _decode(data: bytes, record_name: str, encoding: str, errors: str) -> str:
    try:
        return _replace_surrogates(data.decode(encoding, errors), record_name, errors)
    except UnicodeDecodeError as error:
        details = f" (byte {error.start + 1:,} of it is 0x{data[error.start]:02X})"
        raise _not_encoded(record_name, encoding, details) from error
    except UnicodeError as error:
        raise _not_encoded(record_name, encoding, f" ({error})") from error


def _replace_surrogates(text: str, record_name: str, errors: str) -> str:
    """Return a text with U+FFFD for each lone surrogate if `errors` is "replace".

    Raises:
        CorpusError: If there is a lone surrogate, and `errors` is "strict".
    """
    if errors == "replace":
        return text if text.isascii() else LONE_SURROGATE.sub("\ufffd", text)
    check_unicode(text, record_name)
    return text


def _not_encoded(record_name: str, encoding: str, details: str) -> CorpusError:
    return CorpusError(
        f"{record_name} is not {encoding.upper()}{details}",
        "Name the encoding, as in --encoding cp1258, or use --errors replace (reads U+FFFD) or skip.",
    )
