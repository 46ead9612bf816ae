"""The readers that all commands share: whole texts for a corpus, and many short texts for scoring and classifying.

    open_texts     a corpus: each text is an iterator of clean pieces. A plain file is one text, a record is one text
    open_batches   lines and records (`records.py`), in batches: what can be read without waiting

Both open any input (`inputs.py`), decode it by the same rules (`decoding.py`), and tell the format by the suffix:

    *.jsonl, *.ndjson     one JSON object per line: the field that `--text-field` names is the text
    *.parquet             one row per text: the column with that name            (extra: chargen[parquet])
    *.json, *.csv, *.tsv  the same, if a field is named; otherwise they are plain text, and a note says so
    all others            plain text

Nothing is read before a text is iterated over, and then at most one block or record at a time, so memory is bounded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.schema import format_count
from chargen.text.cleaning import CleaningReport, clean, clean_text
from chargen.text.decoding import BinaryFileError
from chargen.text.inputs import decompress, has_input, is_remote, open_input
from chargen.text.limits import ReadLimit
from chargen.text.records import (
    ARRAY,
    AUTO,
    BATCH_SIZE,
    CSV,
    DEFAULT_FIELD,
    JSON,
    LINES,
    PARQUET,
    TSV,
    RecordFormat,
    read_batches,
)

MAX_NAMED_FILES = 3  #: a note about files names at most this many
MAX_NAME_BYTES = 150  #: limit of a run name; it gets a number and suffixes, and file systems allow 255 bytes
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")  #: the format of such a file is in the suffix before this one
#: Forms by suffix. The second table holds only where a field is named: such files may be learned as they are, too.
FORMS = {".jsonl": JSON, ".ndjson": JSON, ".parquet": PARQUET}
FORMS_WITH_FIELD = {".json": ARRAY, ".csv": CSV, ".tsv": TSV}
FILES_WITH_FIELDS = (
    "Leave it out, or give --json-lines if each line is a JSON object; other files with fields end in .jsonl, .json, "
    ".csv, .tsv or .parquet."
)
MAX_LINE_START_CHARS = 1000  #: characters of a line that are examined
MAX_BATCH_TEXTS, MAX_BATCH_CHARS = 8192, 1 << 21  #: limits of a batch, whichever comes first

Text = Iterator[str]


def form_of(name: str, field: str = "", json_lines: bool = False) -> str:
    """Return the form that the suffix of a file's name states; LINES for plain text.

    Args:
        name: Name of the file or URL: "a.JSONL.gz" has the suffix ".jsonl".
        field: The field that was named, or "".
        json_lines: Whether all inputs are JSON lines, with any names.
    """
    if json_lines:
        return JSON
    suffix = format_suffix(name)
    return FORMS.get(suffix) or (FORMS_WITH_FIELD.get(suffix, LINES) if field else LINES)


def has_unread_fields(name: str, field: str = "") -> bool:
    """Return whether a file has fields by its name, but is read as plain text because no field is named."""
    return not field and format_suffix(name) in FORMS_WITH_FIELD


def format_suffix(name: str) -> str:
    """Return the suffix that states the format of a file, in lower case."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED_SUFFIXES else path.suffix


def is_plain(argument: str, config: DataConfig) -> bool:
    """Return whether a file is read as plain text, by its name; the content may still be compressed."""
    is_text = not is_remote(argument) and not config.is_series
    return is_text and form_of(argument, config.text_field, config.json_lines) == LINES


def display_name(argument: str) -> str:
    """Return the name of an input in messages."""
    return "standard input" if argument == "-" else argument


class JsonLinesCheck:
    """Finds out whether all lines of a text that is read as plain text have the form of JSON records."""

    def __init__(self) -> None:
        self.is_possible = True  #: whether no line was found that is no record
        self._start = ""  # of a line whose end has not been read yet
        self._has_line = False

    @property
    def has_only_records(self) -> bool:
        """Whether there is a line, and each starts with a brace and a quotation mark; blank lines do not count."""
        is_last_allowed = self._is_record(self._start) if self._start.strip() else self._has_line
        return self.is_possible and is_last_allowed

    def watch(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the pieces of a text, unchanged; they are examined up to the first line that is no record."""
        for piece in pieces:
            if self.is_possible:
                *lines, rest = (self._start + piece).split("\n")
                self.add(lines)
                self._start = rest[:MAX_LINE_START_CHARS]
            yield piece

    def add(self, lines: Iterable[str]) -> None:
        """Examine whole lines."""
        for line in lines:
            if self.is_possible and line.strip():
                self._has_line = True
                self.is_possible = self._is_record(line)

    @classmethod
    def check(cls, pieces: Iterable[str]) -> bool:
        """Return whether all lines of a text have the form of records; it is read up to the first one that does not."""
        found = cls()
        for _ in found.watch(pieces):
            if not found.is_possible:
                return False
        return found.has_only_records

    def _is_record(self, line: str) -> bool:
        return line.startswith("{") and line[1:].lstrip().startswith('"')


def open_texts(
    argument: str, config: DataConfig, report: CleaningReport, limit: ReadLimit
) -> Generator[Text, None, None]:
    """Yield the texts of a file or URL, which stays open until the generator ends or is closed.

    Raises:
        ChargenError: If the package that reads this format is not installed.
        CorpusError: If the input cannot be read, is damaged, is not text, or exceeds the limit.
    """
    with open_input(argument, limit) as stream:
        yield from read_texts(stream, argument, config, report, limit)


def read_texts(
    stream: BinaryIO, where: str, config: DataConfig, report: CleaningReport, limit: ReadLimit
) -> Iterator[Text]:
    """Yield the texts of an open file or of standard input.

    Args:
        stream: The open file.
        where: Its name, which states the format, and is used in error messages.
        config: How the text is decoded and cleaned.
        report: Receives what cleaning changed.
        limit: Counts the decompressed bytes.
    """
    form = form_of(where, config.text_field, config.json_lines)
    if form == LINES:
        check = JsonLinesCheck()
        if has_unread_fields(where, config.text_field):
            report.add_plain(where)
        yield check.watch(clean(decompress(stream, where, limit), where, config, report))
        if not has_unread_fields(where, config.text_field) and check.has_only_records:
            report.add_unread_records(where)
        return
    record_format = RecordFormat(form, config.text_field, config.encoding, config.errors)
    num_empty = 0
    for batch in _batches(stream, where, record_format, report, limit):
        num_empty += batch.count("")
        for text in batch:
            yield clean_text([text], where, config, report)
    report.add_empty(where, num_empty)


def open_batches(
    name: str, record_format: RecordFormat, report: CleaningReport, regular_only: bool = False
) -> Iterator[list[str]]:
    """Yield the lines or records of an input in batches: as many as can be read without waiting, up to a limit.

    Args:
        name: A path or a URL; "-" is standard input.
        record_format: How the texts are stored.
        report: Receives the records that were skipped or changed, and other notes.
        regular_only: Whether devices and pipes are refused, for file names that the user did not give.

    Raises:
        ChargenError: If the package that reads this format is not installed.
        CorpusError: If the input or a record cannot be read, or a field is named and the input has none.
    """
    where = display_name(name)
    check = None
    if record_format.form == AUTO:
        record_format = replace(record_format, form=form_of(name, record_format.field))
        if has_unread_fields(name, record_format.field):
            report.add_plain(where)
        if record_format.field and record_format.form == LINES:
            raise CorpusError(
                f"{where} has no fields, so --text-field {record_format.field} has no effect",
                FILES_WITH_FIELDS,
            )
        if record_format.form == LINES and not has_unread_fields(name):
            check = JsonLinesCheck()
    limit = ReadLimit(sys.maxsize, regular_only)  # a stream of lines may have no end
    with open_input(name, limit) as stream:
        for batch in _merge_ready(_batches(stream, where, record_format, report, limit), stream):
            if check:
                check.add(batch)
            yield batch
    if check and check.has_only_records:
        report.add_unread_records(where)


def open_lines(
    name: str, record_format: RecordFormat, report: CleaningReport, regular_only: bool = False
) -> Iterator[str]:
    """Yield the lines or records of `open_batches` one by one."""
    for batch in open_batches(name, record_format, report, regular_only):
        yield from batch


def _merge_ready(batches: Iterator[list[str]], stream: BinaryIO) -> Iterator[list[str]]:
    """Yield larger batches without an empty one, but never wait for input while there are texts to yield."""
    texts: list[str] = []
    num_chars = 0
    try:
        for batch in batches:
            texts += batch
            num_chars += sum(map(len, batch))
            is_full = len(texts) >= MAX_BATCH_TEXTS or num_chars >= MAX_BATCH_CHARS
            if texts and (is_full or not has_input(stream)):
                yield texts
                texts, num_chars = [], 0
    except ChargenError:  # a record that cannot be read; those before it are still used
        if texts:
            yield texts
        raise
    if texts:
        yield texts


def _batches(
    stream: BinaryIO,
    where: str,
    record_format: RecordFormat,
    report: CleaningReport,
    limit: ReadLimit,
) -> Iterator[list[str]]:
    """Yield the records of an open input in batches."""
    if record_format.form == PARQUET:
        from chargen.text.parquet import column_values

        column = record_format.field or DEFAULT_FIELD
        yield from _column_batches(column_values(stream, where, column, limit), where, report)
    else:
        yield from read_batches(decompress(stream, where, limit), where, record_format, report)


def _column_batches(values: Iterable[str | None], where: str, report: CleaningReport) -> Iterator[list[str]]:
    """Yield the texts of a column in batches, without nulls, which are counted."""
    num_nulls = 0
    iterator = iter(values)
    while batch := list(islice(iterator, BATCH_SIZE)):
        texts = [text for text in batch if text is not None]
        num_nulls += len(batch) - len(texts)
        yield texts
    report.add_nulls(where, num_nulls)


def describe_repeated(parts: Sequence[tuple[str, int | None]]) -> tuple[str, ...]:
    """Return a message for each file or built-in corpus that was read more than once, at most MAX_NAMED_FILES + 1."""
    names: dict[object, list[tuple[str, int | None]]] = {}
    for name, size in parts:
        try:
            status = os.stat(name)
            names.setdefault((status.st_dev, status.st_ino), []).append((name, size))
        except (OSError, ValueError):  # a built-in corpus, an address, or a file that was removed
            names.setdefault(name, []).append((name, size))
    repeated = [found for found in names.values() if len(found) > 1]
    notes = []
    for found in repeated[:MAX_NAMED_FILES]:
        name, size = found[0]
        also = dict.fromkeys(other for other, _ in found if other != name)
        shown = f"{name} (also named {', '.join(list(also)[:MAX_NAMED_FILES])})" if also else name
        size_text = "" if size is None else f" with {size:,} bytes"
        notes.append(f"{shown}{size_text} is read {len(found)} times, so its copies are a part of the text")
    if len(repeated) > MAX_NAMED_FILES:
        notes.append(f"{len(repeated) - MAX_NAMED_FILES:,} more files are read more than once")
    return tuple(notes)


def describe_skipped(skipped: Mapping[str, CorpusError], folder: Path, encoding: str) -> str:
    """Return which files of a folder were left out, with the reasons for those that are not binary; "" for none."""
    if not skipped:
        return ""
    shown = ", ".join(islice(skipped, MAX_NAMED_FILES)) + (", …" if len(skipped) > MAX_NAMED_FILES else "")
    files = format_count(len(skipped), "file that is", "files that are")
    reasons = [error.message for error in skipped.values() if not isinstance(error, BinaryFileError)]
    more = [f"{len(reasons) - MAX_NAMED_FILES:,} more"] if len(reasons) > MAX_NAMED_FILES else []
    reason = "; ".join(reasons[:MAX_NAMED_FILES] + more)
    return f"{folder}: left out {files} not {encoding} text ({shown})" + (f": {reason}" if reason else "")


def corpus_name(arguments: Sequence[str]) -> str:
    """Return a run name for these arguments: the stem of the first one, with letters, digits, '-' and '_' only."""
    first = arguments[0] if arguments else "run"
    if first == "-":
        return "stdin"
    stem = first.rstrip("/").rpartition("/")[2] if is_remote(first) else first
    stem = Path(first).resolve().name if os.path.exists(first) else stem
    if PurePath(stem).suffix in COMPRESSED_SUFFIXES:
        stem = PurePath(stem).stem
    stem = stem.rpartition(".")[0] or stem
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-")
    return name.encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "run"
