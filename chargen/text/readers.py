"""What an argument names, opened: → texts, each an iterator of clean pieces.

    a file               one text; gzip and Zstandard are seen by their first bytes
    *.jsonl, *.ndjson    a text for each line: the field that `--text-field` names
    *.parquet            a text for each row: the column of that name           (extra: chargen[parquet])
    file:///…            any of these
    scheme://…           any of these, read through fsspec (`remote.py`)        (extra: chargen[remote])

Nothing is read before a text is iterated over, and never more than a block or a record of it at a time.

What a file holds, unpacked: gzip and Zstandard are seen by their first bytes. Memory is bounded.

A block of Zstandard gives at most 128 KiB, so a frame is unpacked block by block (RFC 8878, section 3.1.1):

    frame   magic · header · block, block, … · checksum (4 bytes, if the header says so)
    block   3 bytes, little-endian: last (1 bit) · type (2 bits: raw, repeated byte, compressed) · size ; content
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any, BinaryIO

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.registry import import_extra
from chargen.text.cleaning import CleaningReport, check_unicode, clean, clean_text
from chargen.text.limits import ReadLimit, check_record, first_names, open_regular
from chargen.text.parquet import column_values
from chargen.text.remote import describe_failure, is_remote, local_path, open_remote

PACKED = (".gz", ".zst")  #: endings that say nothing of what is packed
JSON_LINES = (".jsonl", ".ndjson")

Text = Iterator[str]


def is_plain(argument: str) -> bool:
    """Tell whether a file's name says of no other form than text; what it holds may."""
    return not is_remote(argument) and _kind(argument) not in (*JSON_LINES, ".parquet")


def open_texts(
    argument: str, config: DataConfig, findings: CleaningReport, limit: ReadLimit
) -> Generator[Text, None, None]:
    """Yield the texts of a file, or of what a URL names; the file is open until this is closed or at its end.

    Raises:
        CorpusError: it cannot be read, is damaged or is no text, or is longer than the limit; or the package that reads
            it is not installed.
    """
    try:
        with _opened(argument, limit) as stream:
            if _kind(argument) == ".parquet":
                for value in column_values(stream, argument, config.text_field, limit):
                    yield clean_text([value], argument, config, findings)
            else:
                yield from stream_texts(stream, argument, config, findings, limit)
    except OSError as error:
        if isinstance(error, ChargenError):
            raise
        hint = "Look at its name, and whether you may read it."
        raise CorpusError(f"{argument} cannot be read: {describe_failure(error, argument)}", hint) from error


def stream_texts(
    stream: BinaryIO, where: str, config: DataConfig, findings: CleaningReport, limit: ReadLimit
) -> Iterator[Text]:
    """Yield the texts of an open file or of standard input, which `where` names."""
    blocks = unpacked(stream, where, limit)
    if _kind(where) in JSON_LINES:
        as_it_is = clean(blocks, where, replace(config, newline="keep", normalize="none"), CleaningReport())
        for number, line in enumerate(_lines(as_it_is, where), 1):
            if line.strip():
                yield clean_text([_field(line, f"{where}, line {number:,}", config)], where, config, findings)
    else:
        yield clean(blocks, where, config, findings)


def _opened(argument: str, limit: ReadLimit) -> BinaryIO:
    if limit.regular_only:
        return open_regular(argument)
    if os.path.exists(argument) or not is_remote(argument):
        return open(argument, "rb")
    path = local_path(argument)
    return open_remote(argument) if path is None else open(path, "rb")


def _kind(where: str) -> str:
    """Return the ending that says how a file is made, in small letters: ".jsonl" of "a.JSONL.gz"."""
    path = PurePath(where.lower())
    return PurePath(path.stem).suffix if path.suffix in PACKED else path.suffix


def _lines(pieces: Iterable[str], where: str) -> Iterator[str]:
    """Yield the lines of a text, cut at "\\n" alone: JSON may hold every other line end as it is."""
    held: list[str] = []
    size, number = 0, 1
    for piece in pieces:
        *whole, rest = piece.split("\n")
        for line in whole:
            yield "".join([*held, line])
            held, size, number = [], 0, number + 1
        held.append(rest)
        size += len(rest)
        check_record(size, f"{where}, line {number:,}")
    yield "".join(held)


def _field(line: str, where: str, config: DataConfig) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON: {error}", "Each line is to be one JSON object.") from error
    if not isinstance(record, dict) or not isinstance(record.get(config.text_field), str):
        keys = first_names(record) if isinstance(record, dict) else "no object"
        raise CorpusError(
            f"{where} has no text in a field {config.text_field!r}", f"Name it with --text-field; there is: {keys}."
        )
    text: str = record[config.text_field]
    check_unicode(text, where)  # "\\ud800" is a half of a character
    return text


GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"  #: the last three bytes of the magic of a frame to be skipped; the first is 0x50 to 0x5F
REPEATED_BYTE = 1  #: the type of a block whose content is one byte
MAX_ZSTD_WINDOW = 1 << 27  #: bytes that a frame may ask to be remembered; `zstd --long=27`
MAX_ZSTD_HEADER = 18
BLOCK = 1 << 15  #: bytes that are read at a time: few enough for the cache, and for many blocks to be plain ASCII


class _Counted(io.RawIOBase):
    """A stream that counts the bytes that are read from it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.num_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.num_bytes += len(data)
        return data


def unpacked(stream: Any, where: str, limit: ReadLimit) -> Iterator[bytes]:
    """Yield what an open file holds.

    Raises:
        CorpusError: it is damaged, cannot be read, or holds more than it may.
    """
    buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    head = buffered.peek(4)[:4]
    counted = _Counted(buffered)
    damaged: tuple[type[BaseException], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    if head.startswith(GZIP_MAGIC):
        kind, blocks = "gzip", _read(gzip.GzipFile(fileobj=counted))
    elif head.startswith(ZSTD_MAGIC):
        zstandard = import_extra("zstandard", "zstd", where)
        kind, blocks = "zstd", _zstd(counted, zstandard)
        damaged += (zstandard.ZstdError,)
    else:
        kind, blocks = "", _read(buffered)
    num_bytes = 0
    try:
        for block in blocks:
            num_bytes += len(block)
            limit.add(len(block), where)
            if kind:
                limit.check_ratio(counted.num_bytes, num_bytes, where)
            yield block
    except damaged as error:
        raise CorpusError(f"{where} is a damaged {kind} file ({error})", "Fetch or compress it again.") from error
    except OSError as error:
        raise CorpusError(f"{where} cannot be read: {error.strerror or error}") from error


def _read(stream: Any) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _zstd(stream: Any, zstandard: Any) -> Iterator[bytes]:
    """Yield what Zstandard frames hold, block by block."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    while magic := stream.read(len(ZSTD_MAGIC)):
        if magic[1:] == SKIPPABLE and magic[0] >> 4 == 5:
            _skip(stream, int.from_bytes(_exactly(stream, 4), "little"))
            continue
        if magic != ZSTD_MAGIC:
            raise EOFError("something else follows a frame" if len(magic) == 4 else "it ends in the middle")
        frame = unpacker.decompressobj()
        header, has_checksum = _frame_header(magic, stream, zstandard)
        yield frame.decompress(header)
        last = False
        while not last:
            head = _exactly(stream, 3)
            number = int.from_bytes(head, "little")
            last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
            content = _exactly(stream, 1 if kind == REPEATED_BYTE else size)
            yield frame.decompress(head + content)
        if has_checksum:
            yield frame.decompress(_exactly(stream, 4))
        if not frame.eof:
            raise EOFError("a frame does not end where it says")


def _frame_header(magic: bytes, stream: Any, zstandard: Any) -> tuple[bytes, bool]:
    """Read the header of a frame; return it with its magic, and whether a checksum ends the frame."""
    header = magic + _exactly(stream, 1)
    sizes = (0, 1, 2, 4)  # of the dictionary's number; RFC 8878, 3.1.1.1.1
    single = header[4] >> 5 & 1
    content = (single, 2, 4, 8)[header[4] >> 6]
    header += _exactly(stream, (1 - single) + sizes[header[4] & 3] + content)
    return header, bool(zstandard.get_frame_parameters(header).has_checksum)


def _exactly(stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part: bytes = stream.read(size - len(data))
        if not part:
            raise EOFError("it ends in the middle")
        data += part
    return data


def _skip(stream: Any, size: int) -> None:
    while size:
        size -= len(_exactly(stream, min(size, BLOCK)))
