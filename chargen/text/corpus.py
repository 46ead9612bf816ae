"""Files, folders, standard input, URLs and named sources → one clean text, with a word on what was found.

arguments ─▶ texts (`reading.py`) ─▶ put end to end in one `LongText`, a newline between two where it lacks

A long file that is its own clean text: it is read where it stands, and no copy of it is kept.

Whether it is, all cores find out in the same reading that surveys it. A file that is not goes the way of all others
(`decode.py`), which also says what is wrong with it.
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
from pathlib import Path, PurePath
from typing import BinaryIO

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.registry import did_you_mean
from chargen.text import builtin_corpora as sources
from chargen.text.cleaning import CleaningReport, check_encoding, check_unicode, has_boundary_before
from chargen.text.documents import NONE, split_documents
from chargen.text.limits import DEFAULT_MAX_CORPUS_BYTES, CorpusSizeError, ReadLimit
from chargen.text.long_text import LongText, collect_statistics, count_characters
from chargen.text.readers import COMPRESSED_SUFFIXES, Text, is_plain, open_texts, read_texts
from chargen.text.remote import is_remote, local_path
from chargen.text.workers import MIN_PARALLEL_BYTES, Arrays

DEFAULTS = DataConfig()
MAX_NAME_BYTES = 150  #: of a run's name, which gets a number and suffixes; file systems take 255


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from."""

    content: LongText
    name: str  #: short, fit for a run's name: "tinyshakespeare"
    arguments: tuple[str, ...] = ()  #: what was read, as it was named
    files: int = 0
    entropy_nats_per_char: float | None = None  #: for made sources, where it is known exactly
    notes: tuple[str, ...] = field(default=())
    #: What was read, in its order: a regular file with its size in bytes, anything else by its name with None.
    parts: tuple[tuple[str, int | None], ...] = field(default=())

    @property
    def text(self) -> str:
        """The whole text in memory."""
        return self.content.read()

    @property
    def num_chars(self) -> int:
        return self.content.statistics.num_chars

    @property
    def sha256(self) -> str:
        """The hash of the text's UTF-8 bytes."""
        return self.content.statistics.sha256

    def has_sha256(self, sha256: object) -> bool:
        """Tell whether a hash that a file states is of this text; of documents also one by an earlier version."""
        return self.content.has_sha256(sha256)


def read_corpus(
    arguments: Sequence[str],
    config: DataConfig = DEFAULTS,
    stdin: BinaryIO | None = None,
    max_bytes: int = DEFAULT_MAX_CORPUS_BYTES,
) -> Corpus:
    """Read one or several texts and put them end to end.

    Args:
        arguments: each a file, a folder (read recursively, in sorted order), a URL, "-" for `stdin`, or a corpus's
            name. A file or folder of that name goes before a named corpus.
        config: encoding, newline, normalisation, and the field of a record that is its text.
        stdin: where "-" reads; `sys.stdin.buffer` unless given.
        max_bytes: how much text there may be, decompress; a device or a pipe may have no end.

    Returns:
        The corpus. A text that does not end with a newline gets one before the next text begins; with documents, every
        one of them ends with a mark instead.

    Raises:
        CorpusError: an argument cannot be found, read or decoded, or there is no text in any of them, or too much.
        StorageError: a long text finds no room on the disk.
    """
    return read_limited(arguments, config, stdin, ReadLimit(max_bytes))


def read_limited(arguments: Sequence[str], config: DataConfig, stdin: BinaryIO | None, limit: ReadLimit) -> Corpus:
    """Do what `read_corpus` does, with a limit that also says which kinds of files are read."""
    check_encoding(config.encoding)
    check_unicode(config.documents, "the separator of documents")
    if len(arguments) == 1:
        _check_size(arguments[0], limit)
    if len(arguments) == 1 and (content := open_in_place(arguments[0], config)):
        part = (arguments[0], content.num_bytes)
        return Corpus(content, corpus_name(arguments), tuple(arguments), files=1, parts=(part,))
    reader = _Reader(config, stdin, limit)
    for argument in arguments:
        reader.read(argument)
    if not reader.content.num_bytes:
        raise CorpusError(
            f"no text in {', '.join(arguments) or 'nothing'}", "Give a file with at least two characters."
        )
    entropy = reader.entropies[0] if reader.texts == 1 and reader.entropies else None
    notes = reader.findings.notes()
    parts = tuple(reader.parts)
    return Corpus(reader.content, corpus_name(arguments), tuple(arguments), reader.files, entropy, notes, parts)


class _Reader:
    """Puts what arguments name end to end."""

    def __init__(self, config: DataConfig, stdin: BinaryIO | None, limit: ReadLimit) -> None:
        self._parted = config.documents != NONE
        self.content = LongText(self._parted)
        self.findings = CleaningReport()
        self.entropies: list[float | None] = []
        self.texts = self.files = 0
        self.parts: list[tuple[str, int | None]] = []
        self._config, self._stdin, self._limit = config, stdin, limit

    def read(self, argument: str) -> None:
        # os.path says no of what cannot be a file's name, where Path raises.
        path = argument if os.path.exists(argument) else local_path(argument) or argument
        if argument == "-":
            stream = self._stdin or sys.stdin.buffer
            self._add(read_texts(stream, "standard input", self._config, self.findings, self._limit))
            self.parts.append((argument, None))
        elif argument and os.path.isdir(path) and not self._limit.regular_only:
            self._add_folder(Path(path))
        elif argument and (os.path.exists(argument) or is_remote(argument)):
            size = _check_size(path, self._limit)
            with closing(open_texts(argument, self._config, self.findings, self._limit)) as texts:
                some = self._add(texts)
            if not some:
                raise CorpusError(f"{argument} is empty", "Give a file with at least two characters.")
            self.files += 1
            self.parts.append((argument if size is None else path, size))
        elif sources.is_builtin(argument):
            made = sources.read_builtin(argument)
            self._limit.add(len(made.text), argument)
            self._add([iter([made.text])])
            self.entropies.append(made.entropy_nats_per_char)
            self.parts.append((argument, None))
        else:
            raise CorpusError(f"no file, folder or corpus named {argument!r}", _hint_for(Path(argument)))

    def _add(self, texts: Iterable[Text]) -> bool:
        """Add texts and say whether there was a character in them."""
        before = self.texts
        for text in texts:
            empty = True
            for piece in split_documents(text, self._config.documents) if self._parted else text:
                if empty and piece:
                    empty = False
                    self.texts += 1
                    if self.content.num_bytes and not self._parted and not self.content.ends_with_newline():
                        self.content.write("\n")
                self.content.write(piece)
        return self.texts > before

    def _add_folder(self, folder: Path) -> None:
        """Add every text below a folder, in sorted order; hidden files are passed over, others named if left out."""
        left_out: list[str] = []
        before = self.files
        limit = replace(self._limit, regular_only=True)  # nobody named these: a link may lead to what has no end
        for path in sorted(folder.rglob("*")):
            if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
                continue
            mark, texts = self.content.num_bytes, self.texts
            found, size = CleaningReport(), _check_size(str(path), limit)
            try:
                with closing(open_texts(str(path), self._config, found, limit)) as opened:
                    some = self._add(opened)
            except CorpusSizeError:
                raise
            except CorpusError:
                left_out.append(str(path.relative_to(folder)))
                self.content.cut(mark)
                self.texts = texts
            else:
                self.findings.merge(found)
                self.files += some
                self.parts += [(str(path), size)] if some else []
        self._limit.num_bytes = limit.num_bytes
        if left_out:
            shown = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
            files = "1 file that is" if len(left_out) == 1 else f"{len(left_out):,} files that are"
            self.findings.add_skipped(f"{folder}: left out {files} not {self._config.encoding} text ({shown})")
        if self.files == before:
            raise CorpusError(
                f"no text in the folder {folder}", "It is read recursively; hidden files are passed over."
            )


def _check_size(path: str, limit: ReadLimit) -> int | None:
    """Return the size of a regular file in bytes, None of anything else.

    Raises:
        CorpusSizeError: what the file holds is beyond the limit. That is known before it is read, but not of a table.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    if is_plain(path):
        replace(limit).add(status.st_size, path)
    return status.st_size


def _hint_for(path: Path) -> str:
    folder = str(path.parent)
    beside = sorted(path.parent.iterdir()) if os.path.isdir(folder) and os.access(folder, os.R_OK) else []
    paths = {p.name: str(p) for p in beside} | {name: name for name in sources.names()}
    near = did_you_mean(path.name, paths)
    for name, whole in paths.items():
        near = near.replace(repr(name), repr(whole))
    return f"{near} (`chargen corpora` lists the corpora that have a name)".strip()


def corpus_name(arguments: Sequence[str]) -> str:
    """A run's name for these arguments: the first one's stem, of letters, digits, '-' and '_'."""
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


BOM = "\ufeff".encode()
BEYOND_ASCII = bytes(range(128, 256))


def open_in_place(argument: str, config: DataConfig) -> LongText | None:
    """Return a long file as the text that it is, or None: it is short, no plain UTF-8, or its clean form is another.

    Raises:
        CorpusError: it was changed while it was read.
    """
    plain = config.documents == NONE and codecs.lookup(config.encoding).name == "utf-8" and is_plain(argument)
    if not plain or not os.path.isfile(argument) or os.path.getsize(argument) < MIN_PARALLEL_BYTES:
        return None
    try:
        text = LongText.from_file(Path(argument))
    except OSError:
        return None  # whoever reads it next says why
    survey = collect_statistics(
        text.blocks(_before_ascii), text.num_bytes, _looked_at, config.newline, config.normalize
    )
    if survey is None:
        return None
    text.statistics = survey
    return text


def _before_ascii(block: bytes) -> int:
    """Return where to cut a block: before an ASCII character, which is never part of what stands before it."""
    return max(len(block.rstrip(BEYOND_ASCII)) - 1, 0) or len(block)


def _looked_at(block: bytes, newline: str, normalize: str) -> Arrays:
    """Count a block that cleaning leaves as it is; of another return nothing, nor of one that is cut amiss."""
    if b"\0" in block or block.startswith(BOM) or (newline == "lf" and b"\r" in block):
        return []
    if not block.isascii():
        try:
            text = block.decode()
        except UnicodeDecodeError:
            return []
        if normalize == "nfc" and not (has_boundary_before(text[0]) and unicodedata.is_normalized("NFC", text)):
            return []
    return count_characters(block)
