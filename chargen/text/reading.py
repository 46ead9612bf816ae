"""What an argument names, opened: → texts, each an iterator of clean pieces.

    a file               one text; gzip and Zstandard are seen by their first bytes
    *.jsonl, *.ndjson    a text for each line: the field that `--text-field` names
    *.parquet            a text for each row: the column of that name           (extra: chargen[parquet])
    scheme://…           any of these, read through fsspec                      (extra: chargen[remote])

Nothing is read before a text is iterated over, and never more than a block of it at a time.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath
from types import ModuleType
from typing import Any, BinaryIO

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.text.decode import clean, clean_text
from chargen.text.findings import Findings

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PACKED = (".gz", ".zst")  #: endings that say nothing of what is packed
BLOCK = 1 << 15  #: bytes that are read at a time: few enough for the cache, and for many blocks to be plain ASCII
JSON_LINES = (".jsonl", ".ndjson")
ROWS = 1_000  #: of a Parquet file that are read at a time

Text = Iterator[str]


def is_remote(argument: str) -> bool:
    """Tell whether an argument is a URL rather than a path."""
    return "://" in argument


def is_plain(argument: str) -> bool:
    """Tell whether a file's name says of no other form than text; what it holds may."""
    return not is_remote(argument) and _kind(argument) not in (*JSON_LINES, ".parquet")


def open_texts(argument: str, config: DataConfig, findings: Findings) -> Generator[Text, None, None]:
    """Yield the texts of a file, or of what a URL names; the file is open until this is closed or at its end.

    Raises:
        CorpusError: it cannot be read, is damaged or is no text; or the package that reads it is not installed.
    """
    try:
        with _opened(argument) as stream:
            if _kind(argument) == ".parquet":
                yield from _rows(stream, argument, config, findings)
            else:
                yield from stream_texts(stream, argument, config, findings)
    except OSError as error:
        raise CorpusError(f"{argument} cannot be read: {error.strerror or error}") from error


def stream_texts(stream: BinaryIO, where: str, config: DataConfig, findings: Findings) -> Iterator[Text]:
    """Yield the texts of an open file or of standard input, which `where` names."""
    blocks = _blocks(stream, where)
    if _kind(where) in JSON_LINES:
        as_it_is = clean(blocks, where, replace(config, newline="keep", normalize="none"), Findings())
        for number, line in enumerate(_lines(as_it_is), 1):
            if line.strip():
                yield clean_text([_field(line, f"{where}, line {number:,}", config)], where, config, findings)
    else:
        yield clean(blocks, where, config, findings)


def _opened(argument: str) -> BinaryIO:
    if not is_remote(argument):
        return open(argument, "rb")
    fsspec = _extra("fsspec", "remote", argument)
    try:
        return fsspec.open(argument, "rb").open()  # type: ignore[no-any-return]
    except OSError:
        raise
    except Exception as error:  # each of its back ends has errors of its own
        raise CorpusError(
            f"{argument} cannot be read: {error}", "Look at the address, and whether it is open."
        ) from error


def _kind(where: str) -> str:
    """Return the ending that says how a file is made, in small letters: ".jsonl" of "a.JSONL.gz"."""
    path = PurePath(where.lower())
    return PurePath(path.stem).suffix if path.suffix in PACKED else path.suffix


def _blocks(stream: BinaryIO, where: str) -> Iterator[bytes]:
    """Yield what a file holds, unpacked."""
    buffered: Any = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    head = buffered.peek(4)[:4]
    damaged: tuple[type[BaseException], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    if head.startswith(GZIP_MAGIC):
        kind, blocks = "gzip", _read(gzip.GzipFile(fileobj=buffered))
    elif head.startswith(ZSTD_MAGIC):
        zstandard = _extra("zstandard", "zstd", where)
        kind, blocks = "zstd", _unpacked(buffered, zstandard)
        damaged += (zstandard.ZstdError,)
    else:
        kind, blocks = "", _read(buffered)
    try:
        yield from blocks
    except damaged as error:
        raise CorpusError(f"{where} is a damaged {kind} file ({error})", "Fetch or compress it again.") from error
    except OSError as error:
        raise CorpusError(f"{where} cannot be read: {error.strerror or error}") from error


def _read(stream: Any) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _unpacked(stream: Any, zstandard: Any) -> Iterator[bytes]:
    """Yield what Zstandard frames hold; a little is read at a time, because it may become much."""
    frame = None
    while data := stream.read(BLOCK):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("it ends in the middle")


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text, cut at "\\n" alone: JSON may hold every other line end as it is."""
    held: list[str] = []
    for piece in pieces:
        *whole, rest = piece.split("\n")
        for line in whole:
            yield "".join([*held, line])
            held = []
        held.append(rest)
    yield "".join(held)


def _field(line: str, where: str, config: DataConfig) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON: {error}", "Each line is to be one JSON object.") from error
    if not isinstance(record, dict) or not isinstance(record.get(config.text_field), str):
        keys = ", ".join(map(repr, record)) if isinstance(record, dict) else "no object"
        raise CorpusError(
            f"{where} has no text in a field {config.text_field!r}", f"Name it with --text-field; there is: {keys}."
        )
    text: str = record[config.text_field]
    return text


def _rows(stream: BinaryIO, where: str, config: DataConfig, findings: Findings) -> Iterator[Text]:
    parquet = _extra("pyarrow.parquet", "parquet", where)
    arrow = _extra("pyarrow", "parquet", where)
    try:
        file = parquet.ParquetFile(stream)
        if config.text_field not in file.schema_arrow.names:
            raise CorpusError(
                f"{where} has no column {config.text_field!r}",
                f"Name it with --text-field; there is: {', '.join(map(repr, file.schema_arrow.names))}.",
            )
        for batch in file.iter_batches(ROWS, columns=[config.text_field]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str | None):
                    raise CorpusError(f"{where}: the column {config.text_field!r} holds no text")
                if value:
                    yield clean_text([value], where, config, findings)
    except arrow.lib.ArrowException as error:
        raise CorpusError(f"{where} is a damaged Parquet file ({error})", "Fetch it again.") from error


def _extra(module: str, extra: str, what: str) -> ModuleType:
    """Import what reads a kind of file.

    Raises:
        ChargenError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ChargenError(f"{what} needs a package that is not here", f"pip install 'chargen[{extra}]'") from error
