"""A corpus whose place a file states, not a person: the training state of a run does, or a model by its name.

Whoever made that file may have named anything: a pipe, on which reading waits for ever; a device or a folder, which
fills the disk; an address on the network. Only regular files of a size that fits are read, and offline corpora by name.
Whether the text is the one that is meant, its hash says; the caller compares it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from chargen.config import DataConfig
from chargen.errors import ChargenError, CorpusError
from chargen.io import decode_file_name
from chargen.text.builtin_corpora import SOURCES
from chargen.text.corpus import Corpus, corpus_name, read_limited
from chargen.text.limits import DEFAULT_MAX_CORPUS_BYTES, ReadLimit
from chargen.text.readers import is_plain

HINT = "Name the corpus: chargen train CORPUS --resume RUN"
MIN_BYTES = 1 << 16  #: that a file may always have
# Bytes of a file for each character that was learned from: the half of a text at least is, and a character has 4 bytes
# at most; a record has other fields too.
BYTES_PER_CHAR, RECORD_BYTES_PER_CHAR = 8, 64
MAX_EXPANSION, SMALL_TEXT = 32, 1 << 28  #: of packed files: times their size, text packs 3 to 10 times smaller; bytes
MAX_BYTES_UNSTATED = 1 << 30  #: of all files, where nothing says how long the text is


def recorded_corpus(
    files: object, arguments: object, max_chars: int | None, config: DataConfig, hint: str = HINT
) -> Corpus:
    """Read a corpus from where a file says that it was.

    Args:
        files: what was read, as `Corpus.parts` has it: pairs of a path and its size in bytes, or of another name and
            None. None or empty where that is not known, as in files by earlier versions.
        arguments: what was named, as `Corpus.arguments` has it; read instead where `files` is None.
        max_chars: how many characters the model learned from, as far as that is known. It bounds what is read.
        config: how it is read.
        hint: what to do if this fails.

    Raises:
        CorpusError: what is recorded is not of this form, is not there, or must not be read without a person naming it.
    """
    names = _names(arguments, hint)
    parts = [(name, -1) for name in names] if files is None or files == [] else list(_parts(files, hint))
    if not parts:
        raise CorpusError("the saved state names no corpus", hint)
    total, seen = 0, set[object]()
    for name, size in parts:
        num_bytes = _check(name, size, max_chars, hint)
        total += num_bytes
        if (same := _identity(name) if num_bytes else name) in seen:  # a list of a million takes a megabyte
            raise CorpusError(f"the saved state names {name!r} twice", hint)
        seen.add(same)
    if max_chars is None and not files and total > MAX_BYTES_UNSTATED:
        raise CorpusError(f"the corpus that the saved state names has {total:,} bytes", hint)
    most = min(DEFAULT_MAX_CORPUS_BYTES, MAX_EXPANSION * total + SMALL_TEXT)
    if max_chars is not None:
        most = min(most, RECORD_BYTES_PER_CHAR * max_chars + MIN_BYTES)
    try:
        read = read_limited([name for name, _ in parts], config, None, ReadLimit(most, regular_only=True))
    except ChargenError as error:
        raise CorpusError(error.message, hint) from error
    return replace(read, name=corpus_name(names or [parts[0][0]]), arguments=tuple(names) or read.arguments)


def _identity(name: str) -> tuple[int, int]:
    """Return what tells a file from others, whatever its name."""
    status = os.stat(name)
    return status.st_dev, status.st_ino


def _names(arguments: object, hint: str) -> list[str]:
    names = arguments if isinstance(arguments, (list, tuple)) else []
    if not all(isinstance(name, str) for name in names):
        raise CorpusError("the saved state does not name its corpus by strings", hint)
    return [decode_file_name(name) for name in names]


def _parts(files: Any, hint: str) -> Iterator[tuple[str, int | None]]:
    wrong = CorpusError("what the saved state says of its corpus is not of the right form", hint)
    if not isinstance(files, (list, tuple)):
        raise wrong
    for part in files:
        if not (isinstance(part, (list, tuple)) and len(part) == 2 and isinstance(part[0], str)):
            raise wrong
        name, size = part
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise wrong
        yield decode_file_name(name), size


def _check(name: str, size: int | None, max_chars: int | None, hint: str) -> int:
    """Check that what is recorded may be read; return its size in bytes, 0 of a corpus by name.

    Args:
        name: a path, or the name of a corpus.
        size: the bytes that the file had; None if it was no file, -1 if that is not known.
    """
    if name == "-":
        raise CorpusError("the corpus was read from standard input", hint)
    source = SOURCES.get(name.partition(":")[0])
    if size is None or (size == -1 and source is not None and not os.path.lexists(name)):
        if source is None or not source.offline or os.path.lexists(name):
            raise CorpusError(f"the corpus was {name!r}, which is not read unless a person names it", hint)
        return 0
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(f"the corpus was {name!r}, which cannot be read: {reason}", hint) from error
    if not stat.S_ISREG(status.st_mode):
        raise CorpusError(f"the corpus was {name!r}, which is no regular file", hint)
    if not status.st_size:  # as files of /proc say, of which some give no end of bytes
        raise CorpusError(f"the corpus was {name!r}, which is empty", hint)
    if size >= 0 and status.st_size != size:
        raise CorpusError(f"{name!r} had {size:,} bytes when it was read, and now has {status.st_size:,}", hint)
    if size == -1 and max_chars is not None:
        factor = BYTES_PER_CHAR if is_plain(name) else RECORD_BYTES_PER_CHAR
        if status.st_size > factor * max_chars + MIN_BYTES:
            raise CorpusError(
                f"{name!r} has {status.st_size:,} bytes, which do not fit a text of which {max_chars:,} characters "
                "were learned from",
                hint,
            )
    return status.st_size
