"""What an argument names, opened: → texts, each an iterator of clean pieces.

    a file               one text; gzip and Zstandard are seen by their first bytes
    *.jsonl, *.ndjson    a text for each line: the field that `--text-field` names
    *.parquet            a text for each row: the column of that name           (extra: chargen[parquet])
    file:///…            any of these
    scheme://…           any of these, read through fsspec (`remote.py`)        (extra: chargen[remote])

Nothing is read before a text is iterated over, and never more than a block or a record of it at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.text.decode import check_unicode, clean, clean_text
from chargen.text.findings import Findings
from chargen.text.limits import ReadLimit, check_record, open_regular, some_names
from chargen.text.parquet import column_values
from chargen.text.remote import is_remote, local_path, open_remote, what_failed
from chargen.text.unpack import unpacked

PACKED = (".gz", ".zst")  #: endings that say nothing of what is packed
JSON_LINES = (".jsonl", ".ndjson")

Text = Iterator[str]


def is_plain(argument: str) -> bool:
    """Tell whether a file's name says of no other form than text; what it holds may."""
    return not is_remote(argument) and _kind(argument) not in (*JSON_LINES, ".parquet")


def open_texts(argument: str, config: DataConfig, findings: Findings, limit: ReadLimit) -> Generator[Text, None, None]:
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
        raise CorpusError(f"{argument} cannot be read: {what_failed(error, argument)}", hint) from error


def stream_texts(
    stream: BinaryIO, where: str, config: DataConfig, findings: Findings, limit: ReadLimit
) -> Iterator[Text]:
    """Yield the texts of an open file or of standard input, which `where` names."""
    blocks = unpacked(stream, where, limit)
    if _kind(where) in JSON_LINES:
        as_it_is = clean(blocks, where, replace(config, newline="keep", normalize="none"), Findings())
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
        keys = some_names(record) if isinstance(record, dict) else "no object"
        raise CorpusError(
            f"{where} has no text in a field {config.text_field!r}", f"Name it with --text-field; there is: {keys}."
        )
    text: str = record[config.text_field]
    check_unicode(text, where)  # "\\ud800" is a half of a character
    return text
