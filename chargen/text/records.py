"""Many short texts out of one stream of bytes: lines, NUL-separated pieces, records of JSON, or the stream as one.

    lines   a text ends at LF, CRLF or CR, whichever comes; the last one need not
    null    a text ends at a NUL byte, and may hold newlines
    json    a line is a JSON object, and one of its fields the text; blank lines are passed over
    whole   all of it is one text, without the one newline at its end

A NUL byte in a line is a character like another. A mark at the beginning (BOM) is none. The stream is read in blocks.
A text is held as a whole, so it has a limit; what is beyond that is not kept while its end is looked for.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from chargen.errors import CorpusError
from chargen.text.cleaning import check_encoding, check_unicode
from chargen.text.limits import MAX_RECORD_BYTES, MAX_TEXT_BYTES, first_names

LINES, NULL, JSON, WHOLE = "lines", "null", "json", "whole"
BLOCK_BYTES = 1 << 20
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read_records(
    stream: BinaryIO,
    where: str,
    form: str = LINES,
    field: str = "text",
    encoding: str = "utf-8",
    errors: str = "strict",
    passed_over: Callable[[CorpusError], object] | None = None,
) -> Iterator[str]:
    """Yield the texts of a stream.

    Args:
        stream: bytes.
        where: what to call it.
        form: one of LINES, NULL, JSON, WHOLE.
        field: of a JSON object: which of its values is the text.
        encoding: of the bytes.
        errors: "strict", or "replace" to read what is not of the encoding as U+FFFD.
        passed_over: takes the error of a line that cannot be read, which is no text then. Without it such an error is
            raised. UTF-16 and UTF-32 have no lines before they are decoded, and raise theirs.

    Raises:
        CorpusError: bytes outside the encoding, or a line that is not such a record; it names the line.
    """
    check_encoding(encoding)
    blocks = _without_mark(_blocks(stream))
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):  # a newline is not one byte there
        blocks, encoding = _transcoded(blocks, where, encoding, errors), "utf-8"
    most = MAX_RECORD_BYTES if form == JSON else MAX_TEXT_BYTES
    for place, piece in _pieces(blocks, where, form, most):
        try:
            if len(piece) > most:
                raise _too_long(place, most)
            text = _decoded(piece, place, encoding, errors)
            if form == WHOLE:
                text = text.removesuffix("\n").removesuffix("\r")
            elif form == JSON and not text.strip():
                continue
            elif form == JSON:
                text = _field(text, field, place, errors)
        except CorpusError as error:
            if passed_over is None:
                raise
            passed_over(error)
            continue
        yield text


def _too_long(place: str, most: int) -> CorpusError:
    return CorpusError(
        f"{place} is a text of more than {most:,} bytes, which is the limit",
        "Part it into lines; `chargen eval` measures a long text as a whole.",
    )


def _pieces(blocks: Iterator[bytes], where: str, form: str, most: int) -> Iterator[tuple[str, bytes]]:
    """Yield (what to call it, its bytes) for each text; of one with more than `most` bytes the first `most` + 1."""
    if form == WHOLE:
        yield where, _joined(blocks, most)
        return
    blocks = _with_lf(blocks) if form == LINES else blocks
    what = "record" if form == NULL else "line"
    for number, piece in enumerate(_split(blocks, b"\0" if form == NULL else b"\n", most), start=1):
        yield f"{where}, {what} {number:,}", piece


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


def _without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(codecs.BOM_UTF8):
            break
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _transcoded(blocks: Iterator[bytes], where: str, encoding: str, errors: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    lines, first = 1, True
    try:
        for block in blocks:
            text = decoder.decode(block)
            yield (text.removeprefix("\ufeff") if first else text).encode("utf-8")
            lines, first = lines + text.count("\n"), first and not text
        yield decoder.decode(b"", True).encode("utf-8")
    except UnicodeError as error:
        raise _not_encoded(f"{where}, line {lines:,} or after it", encoding, "") from error


def _with_lf(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Make each CRLF and CR one LF, wherever the blocks were cut."""
    held = b""
    for block in blocks:
        block = held + block
        held = b"\r" if block.endswith(b"\r") else b""  # an LF may follow
        block = block.removesuffix(b"\r")
        yield block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block
    if held:
        yield b"\n"


def _joined(blocks: Iterator[bytes], most: int) -> bytes:
    """Return the whole stream, but not more than `most` + 1 bytes of it."""
    held, size = [], 0
    for block in blocks:
        held.append(block[: most + 1 - size])
        size += len(held[-1])
        if size > most:
            break
    return b"".join(held)


def _split(blocks: Iterator[bytes], end: bytes, most: int) -> Iterator[bytes]:
    """Yield what stands before each `end`, and what is left after the last if that is anything.

    Of a piece with more than `most` bytes the first `most` + 1 are yielded, as soon as they are there.
    """
    held: list[bytes] = []
    size, dropping = 0, False
    for block in blocks:
        first, *others = block.split(end)
        if not dropping:
            held.append(first[: most + 1 - size])
            size += len(held[-1])
            if size > most or others:
                yield b"".join(held)
                held, size, dropping = [], 0, size > most
        if others:
            yield from others[:-1]
            held, size, dropping = [others[-1]], len(others[-1]), False
    if last := b"".join(held):
        yield last


def _decoded(data: bytes, place: str, encoding: str, errors: str) -> str:
    try:
        return _without_surrogates(data.decode(encoding, errors), place, errors)
    except UnicodeDecodeError as error:
        raise _not_encoded(
            place, encoding, f" (byte {error.start + 1:,} of it is 0x{data[error.start]:02X})"
        ) from error
    except UnicodeError as error:
        raise _not_encoded(place, encoding, f" ({error})") from error


def _without_surrogates(text: str, place: str, errors: str) -> str:
    """Return a text, with U+FFFD for each lone surrogate if errors are replaced.

    Raises:
        CorpusError: there is one, and errors are not replaced.
    """
    if errors == "replace":
        return text if text.isascii() else LONE_SURROGATE.sub("\ufffd", text)
    check_unicode(text, place)
    return text


def _not_encoded(place: str, encoding: str, which: str) -> CorpusError:
    return CorpusError(
        f"{place} is not {encoding.upper()}{which}",
        "Name the encoding, as in --encoding cp1258, or say --errors replace (read U+FFFD) or skip (go on without it).",
    )


def _field(line: str, field: str, place: str, errors: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{place} is not JSON: {error}",
            "Each line is to be an object on its own; --errors skip goes on without it.",
        ) from error
    text = record.get(field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        found = f"; it has {first_names(record)}" if isinstance(record, dict) and record else ""
        raise CorpusError(
            f"{place} has no text under {field!r}{found}",
            "Name the field with --field NAME; --errors skip goes on without it.",
        )
    return _without_surrogates(text, place, errors)
