"""Read files, folders, standard input, URLs and built-in corpora as one clean text, with notes on what was changed.

arguments ─▶ texts (`readers.py`) ─▶ joined in one `LongText`, with a newline between two where it is missing
A long file whose content is already clean UTF-8 is read in place, without a copy. All cores check this in the same pass
that collects the statistics. If the file is not clean, it is read like all others (`cleaning.py`), which also reports
what is wrong with it.
"""

from __future__ import annotations

import codecs
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import ConfigError, CorpusError
from chargen.registry import did_you_mean_file
from chargen.schema import check_string, check_type, format_name, is_short_name
from chargen.text.builtin_corpora import BUILTIN_CORPORA, is_builtin, read_builtin
from chargen.text.cleaning import CleaningReport, check_unicode, clean_text, has_boundary_before
from chargen.text.decoding import BOM, binary_format, check_encoding
from chargen.text.documents import NONE, SeparatorSearch, separator_error, split_documents
from chargen.text.inputs import is_remote, local_path
from chargen.text.limits import DEFAULT_MAX_CORPUS_BYTES, CorpusSizeError, ReadLimit
from chargen.text.long_text import LongText, collect_statistics, count_characters
from chargen.text.readers import (
    FILES_WITH_FIELDS,
    MAX_NAMED_FILES,
    JsonLinesCheck,
    Text,
    corpus_name,
    describe_repeated,
    describe_skipped,
    display_name,
    is_plain,
    open_texts,
    read_texts,
)
from chargen.text.series.quantizer import Quantizer
from chargen.text.workers import MIN_PARALLEL_BYTES, Arrays

DEFAULTS = DataConfig()
BOM_BYTES = BOM.encode()
NON_ASCII = bytes(range(128, 256))


@dataclass(frozen=True)
class Corpus:
    """A text and its origin."""

    content: LongText = field(repr=False)
    name: str  #: a short name that a run can have: "tinyshakespeare"
    arguments: tuple[str, ...] = ()  #: what was read, as the user named it
    files: int = 0  #: number of files
    entropy_nats_per_char: float | None = None  #: entropy rate of a generated corpus; None if it is not known
    notes: tuple[str, ...] = field(default=())
    #: What was read, in order: a regular file with its size in bytes, anything else by its name with None.
    parts: tuple[tuple[str, int | None], ...] = field(default=(), repr=False)
    repeated_files: tuple[str, ...] = ()  #: a message for each file that was read more than once
    original: LongText | None = field(default=None, repr=False)  #: the text before it was split into documents, if kept
    config: DataConfig | None = None  #: how it was read; None if that is not known
    quantizer: Quantizer | None = None  #: how the characters become numbers; None for a text
    lacks_separator: bool = False  #: whether it is one document because it does not have the separator of documents

    @classmethod
    def from_text(cls, text: str, name: str = "text", config: DataConfig = DEFAULTS) -> Corpus:
        """Return a corpus of a string.

        Args:
            text: The text.
            name: A short name that a run can have.
            config: Newline, normalization and documents.

        Raises:
            CorpusError: If the text is empty, or contains a lone surrogate.
            TypeError: If `text` is not a string, or `config` not a DataConfig.
        """
        check_string(text, "text")
        check_type(config, "config", DataConfig)
        check_unicode(text, "the text")
        reader = _Reader(config, None, ReadLimit(DEFAULT_MAX_CORPUS_BYTES), keep_original=False)
        reader.add([clean_text([text], name, config, reader.report)])
        if not reader.content.num_bytes:
            raise CorpusError("the text is empty", "Give a text with at least two characters.")
        return cls(reader.content, name, notes=reader.notes(), config=config, lacks_separator=reader.lacks_separator)

    @property
    def text(self) -> str:
        """The whole text as one string."""
        return self.content.read()

    @property
    def num_chars(self) -> int:
        """Number of characters."""
        return self.content.statistics.num_chars

    @property
    def sha256(self) -> str:
        """Hash of the text's UTF-8 bytes."""
        return self.content.statistics.sha256

    def has_sha256(self, sha256: object) -> bool:
        """Return whether a hash from a file is of this text; of documents also a hash from an earlier version."""
        return self.content.has_sha256(sha256)


def read_corpus(
    arguments: str | Path | Sequence[str | Path],
    config: DataConfig = DEFAULTS,
    stdin: BinaryIO | None = None,
    max_bytes: int = DEFAULT_MAX_CORPUS_BYTES,
    keep_original: bool = False,
    quantizer: Quantizer | None = None,
) -> Corpus:
    """Read one or more texts, or series of numbers (`text/series/`), and join them.

    Args:
        arguments: One argument, or several. Each is a file, a folder (read recursively, in sorted order), a URL, "-"
            for `stdin`, or the name of a built-in corpus. A file or folder is preferred to a built-in corpus of the
            same name.
        config: Encoding, newline, normalisation, documents, and the field of a record that contains its text.
        stdin: The stream that "-" reads; `sys.stdin.buffer` by default.
        max_bytes: Size limit of the decompressed text in bytes, because a device or a pipe may have no end.
        keep_original: Keep the text as it was before it was split into documents, too: `Corpus.original`.
        quantizer: That of the model of a series that reads the corpus.

    Returns:
        The corpus. A text without a newline at its end gets one before the next text; with documents, each document
        ends with MARK instead.

    Raises:
        CorpusError: If an argument cannot be found, read or decoded, or there is no text, or too much.
        StorageError: If the temporary file for a long text cannot be written.
        TypeError: If an argument is neither a string nor a path, or `config` is not a DataConfig.
    """
    check_type(config, "config", DataConfig)
    several = [arguments] if isinstance(arguments, (str, Path)) else arguments
    for argument in several if isinstance(several, Sequence) else [several]:
        if not isinstance(argument, (str, Path)):
            raise TypeError(f"a corpus is named by a string or a path, not {type(argument).__name__}")
    return read_limited(list(map(str, several)), config, stdin, ReadLimit(max_bytes), keep_original, quantizer)


def check_text_field(text_field: str | None, *corpora: Corpus | None) -> None:
    """Check that a text field has an effect: that any file of the corpora has fields.

    Raises:
        ConfigError: If none has.
    """
    names = [name for corpus in corpora if corpus for name, _ in corpus.parts]
    has_json_lines = any(corpus.config and corpus.config.json_lines for corpus in corpora if corpus)
    if text_field and not has_json_lines and all(is_plain(name, DataConfig(text_field=text_field)) for name in names):
        shown = ", ".join(map(display_name, names[:MAX_NAMED_FILES]))
        raise ConfigError(f"--text-field {text_field} has no effect: {shown} has no fields", FILES_WITH_FIELDS)


def read_limited(
    arguments: Sequence[str],
    config: DataConfig,
    stdin: BinaryIO | None,
    limit: ReadLimit,
    keep_original: bool = False,
    quantizer: Quantizer | None = None,
) -> Corpus:
    """Read a corpus like `read_corpus`, with a limit that also says which kinds of files may be read."""
    check_encoding(config.encoding)
    check_unicode(config.documents, "the separator of documents")
    if arguments.count("-") > 1:
        raise ConfigError("standard input ('-') is named twice, but it can be read only once", "Name it once.")
    if quantizer or config.is_series:
        from chargen.text.series.corpus import read_series_corpus

        return read_series_corpus(arguments, config, stdin, limit, quantizer)
    if len(arguments) == 1:
        _check_size(arguments[0], config, limit)
        if content := open_in_place(arguments[0], config):
            report = CleaningReport()
            if JsonLinesCheck.check(content.pieces()):
                report.add_unread_records(arguments[0])
            return Corpus(
                content, corpus_name(arguments), tuple(arguments), files=1, notes=report.notes(),
                parts=((arguments[0], content.num_bytes),), config=config,
            )  # fmt: skip
    reader = _Reader(config, stdin, limit, keep_original)
    for argument in arguments:
        reader.read(argument)
    if not reader.content.num_bytes:
        raise CorpusError(
            f"no text in {', '.join(arguments) or 'nothing'}", "Give a file with at least two characters."
        )
    return Corpus(
        content=reader.content,
        name=corpus_name(arguments),
        arguments=tuple(arguments),
        files=reader.num_files,
        entropy_nats_per_char=reader.entropies[0] if reader.num_texts == 1 and reader.entropies else None,
        notes=reader.notes(),
        parts=tuple(reader.parts),
        repeated_files=describe_repeated(reader.parts),
        original=reader.original,
        config=config,
        lacks_separator=reader.lacks_separator,
    )


class _Reader:
    """Joins the texts that arguments name."""

    def __init__(self, config: DataConfig, stdin: BinaryIO | None, limit: ReadLimit, keep_original: bool) -> None:
        self._config = config
        self._stdin = stdin
        self._limit = limit
        self._has_documents = config.documents != NONE
        self.content = LongText(self._has_documents)
        self.original = LongText() if keep_original and self._has_documents else None
        self.report = CleaningReport()
        self._separator = SeparatorSearch(config.documents)
        self.entropies: list[float | None] = []
        self.num_texts = 0
        self.num_files = 0
        self.parts: list[tuple[str, int | None]] = []

    @property
    def lacks_separator(self) -> bool:
        """Whether the texts are a single document, because the separator does not occur in them."""
        return not self._separator.has_found and self.num_texts == 1

    def notes(self) -> tuple[str, ...]:
        """Return messages for the user about what was read."""
        if self._separator.has_found:
            return self.report.notes()
        error = separator_error(self._config.documents)
        return (*self.report.notes(), f"{error.message}. {error.hint}")

    def read(self, argument: str) -> None:
        """Add the texts that an argument names."""
        # os.path returns False for a string that cannot be a file name, where Path raises an error.
        path = argument if os.path.exists(argument) else local_path(argument) or argument
        if argument == "-":
            stream = self._stdin or sys.stdin.buffer
            self.add(read_texts(stream, "standard input", self._config, self.report, self._limit))
            self.parts.append((argument, None))
        elif argument and os.path.isdir(path) and not self._limit.regular_only:
            self._add_folder(Path(path))
        elif argument and (os.path.exists(argument) or is_remote(argument)):
            size = _check_size(path, self._config, self._limit)
            with closing(open_texts(argument, self._config, self.report, self._limit)) as texts:
                has_text = self.add(texts)
            if not has_text:
                raise CorpusError(f"{argument} is empty", "Give a file with at least two characters.")
            self.num_files += 1
            self.parts.append((argument if size is None else path, size))
        elif is_builtin(argument):
            builtin = read_builtin(argument)
            self._limit.add(len(builtin.text), argument)
            self.add(iter([text]) for text in (builtin.documents if self._has_documents else (builtin.text,)))
            self.entropies.append(builtin.entropy_nats_per_char)
            self.parts.append((argument, None))
        else:
            raise CorpusError(f"no file, folder or corpus named {format_name(argument)}", _hint_for(argument))

    def add(self, texts: Iterable[Text]) -> bool:
        """Add texts, and return whether they contain a character."""
        num_texts = self.num_texts
        for text in texts:
            is_empty = True
            watched = self._separator.watch(self._keep(text)) if self._has_documents else text
            for piece in split_documents(watched, self._config.documents) if self._has_documents else text:
                if is_empty and piece:
                    is_empty = False
                    self.num_texts += 1
                    if self.content.num_bytes and not self._has_documents and not self.content.ends_with_newline():
                        self.content.write("\n")
                self.content.write(piece)
        return self.num_texts > num_texts

    def _keep(self, text: Text) -> Text:
        """Yield a text, and add it to the original text if that is kept."""
        if self.original and self.original.num_bytes and not self.original.ends_with_newline():
            self.original.write("\n")
        for piece in text:
            if self.original is not None:
                self.original.write(piece)
            yield piece

    def _add_folder(self, folder: Path) -> None:
        """Add every text in a folder, in sorted order. Hidden files are ignored; a note names other skipped files."""
        skipped: dict[str, CorpusError] = {}
        num_files = self.num_files
        # The user did not name these files: a link may lead to a device without an end.
        limit = replace(self._limit, regular_only=True)
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if any(part.startswith(".") for part in relative.parts) or not path.is_file():
                continue
            num_bytes, num_texts = self.content.num_bytes, self.num_texts
            num_original_bytes = self.original.num_bytes if self.original else 0
            report, size = CleaningReport(), _check_size(str(path), self._config, limit)
            try:
                with closing(open_texts(str(path), self._config, report, limit)) as texts:
                    has_text = self.add(texts)
            except CorpusSizeError:
                raise
            except CorpusError as error:
                skipped[str(relative)] = error
                self.content.truncate(num_bytes)
                if self.original:
                    self.original.truncate(num_original_bytes)
                self.num_texts = num_texts
            else:
                self.report.merge(report)
                if has_text:
                    self.num_files += 1
                    self.parts.append((str(path), size))
        self._limit.num_bytes = limit.num_bytes
        note = describe_skipped(skipped, folder, self._config.encoding)
        if self.num_files == num_files:
            hint = "It is read recursively; hidden files are ignored."
            raise CorpusError(f"no text in the folder {folder}", f"{hint} {note}".strip())
        if note:
            self.report.add_note(note)


def _check_size(path: str, config: DataConfig, limit: ReadLimit) -> int | None:
    """Return the size of a regular file in bytes; None for anything else.

    Raises:
        CorpusSizeError: If the file is larger than the limit. This is known before reading, except for formats other
            than plain text.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    if is_plain(path, config):
        replace(limit).add(status.st_size, path)
    return status.st_size


def _hint_for(argument: str) -> str:
    """Return a hint with the most similar name of a file in the same folder or of a built-in corpus."""
    if not is_short_name(argument):
        return "A corpus is named by a file. In Python, give a text as chargen.Corpus.from_text(text)."
    hint = did_you_mean_file(argument, BUILTIN_CORPORA)
    return f"{hint} (`chargen corpora` lists the built-in corpora)".strip()


def open_in_place(argument: str, config: DataConfig) -> LongText | None:
    """Return the content of a long file as a text that is read in place.

    Returns:
        The text with its statistics; None if the file is short, is not plain UTF-8, or would be changed by cleaning.

    Raises:
        CorpusError: If the file was changed while it was read.
    """
    is_utf8 = codecs.lookup(config.encoding).name == "utf-8"
    if config.documents != NONE or not is_utf8 or not is_plain(argument, config):
        return None
    if not os.path.isfile(argument) or os.path.getsize(argument) < MIN_PARALLEL_BYTES:
        return None
    try:
        text = LongText.from_file(Path(argument))
    except OSError:
        return None  # the file is then read like all others, which gives the error message
    statistics = collect_statistics(
        text.utf8_blocks(_cut_before_ascii), text.num_bytes, _count_if_clean, config.newline, config.normalize
    )
    if statistics is None:
        return None
    text.statistics = statistics
    return text


def _cut_before_ascii(block: bytes) -> int:
    """Return where to cut a block: before an ASCII character, which is never composed with the one before it."""
    return max(len(block.rstrip(NON_ASCII)) - 1, 0) or len(block)


def _count_if_clean(block: bytes, newline: str, normalize: str) -> Arrays:
    """Count the characters of a block; return nothing if cleaning would change it, or it was cut within a character."""
    if b"\0" in block or block.startswith(BOM_BYTES) or binary_format(block) or (newline == "lf" and b"\r" in block):
        return []
    if not block.isascii():
        try:
            text = block.decode()
        except UnicodeDecodeError:
            return []
        if normalize == "nfc" and not (has_boundary_before(text[0]) and unicodedata.is_normalized("NFC", text)):
            return []
    return count_characters(block)
