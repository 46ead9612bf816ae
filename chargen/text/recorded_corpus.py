"""Read a corpus that a file names and not the user: the training state of a run, or a model by its corpus name.

Such a file may come from a stranger and name anything: a pipe, for which reading waits forever; a device or a folder,
which fills the disk; an address on the network. So only regular files of a plausible size are read, and built-in
corpora that need no network. The caller compares the hash to check that it is the same text.
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
from chargen.schema import format_count
from chargen.text.builtin_corpora import BUILTIN_CORPORA
from chargen.text.corpus import Corpus, read_limited
from chargen.text.limits import DEFAULT_MAX_CORPUS_BYTES, ReadLimit
from chargen.text.readers import corpus_name, is_plain
from chargen.text.series.quantizer import Quantizer

HINT = "Name the corpus: chargen train CORPUS --resume RUN"
ALLOWED_BYTES = 1 << 16  #: a file up to this size is always allowed
# Limits of a file's bytes per character of the training text. At least half of a text is used for training, and a
# character has at most 4 bytes; records have other fields, too.
BYTES_PER_CHAR, RECORD_BYTES_PER_CHAR = 8, 64
# A compressed file may contain ALLOWED_TEXT_BYTES, and MAX_EXPANSION times its size; text compresses 3 to 10 times.
MAX_EXPANSION, ALLOWED_TEXT_BYTES = 32, 1 << 28
UNKNOWN_SIZE = -1
MAX_TOTAL_BYTES = 1 << 30  #: limit of all files together if the length of the text is not known


def read_recorded_corpus(
    files: object,
    arguments: object,
    max_chars: int | None,
    config: DataConfig,
    hint: str = HINT,
    quantizer: Quantizer | None = None,
) -> Corpus:
    """Read a corpus from the files that a training state or a model records.

    Args:
        files: The value of `Corpus.parts`: pairs of a path and its size in bytes, or of another name and None. None or
            empty if it is not known, as in files of earlier versions.
        arguments: The value of `Corpus.arguments`; read instead if `files` is None or empty.
        max_chars: Number of characters that the model was trained on, if it is known. It limits what is read.
        config: How the text is decoded and cleaned.
        hint: What the user can do if this fails.
        quantizer: That of the model, if it is of a series.

    Raises:
        CorpusError: If the values do not have this form, a file is missing or was changed, or it may only be read if
            the user names it.
    """
    names = _names(arguments, hint)
    has_files = files is not None and files != []
    parts = list(_parts(files, hint)) if has_files else [(name, UNKNOWN_SIZE) for name in names]
    if not parts:
        raise CorpusError("the saved state names no corpus", hint)
    total_bytes = 0
    seen: set[object] = set()
    for name, size in parts:
        num_bytes = _check_part(name, size, max_chars, config, hint)
        total_bytes += num_bytes
        identity = _file_identity(name) if num_bytes else name
        if identity in seen:  # otherwise a list of a megabyte could name one file a million times
            raise CorpusError(f"the saved state names {name!r} twice", hint)
        seen.add(identity)
    if max_chars is None and not files and total_bytes > MAX_TOTAL_BYTES:
        raise CorpusError(f"the corpus that the saved state names has {format_count(total_bytes, 'byte')}", hint)
    max_bytes = min(DEFAULT_MAX_CORPUS_BYTES, MAX_EXPANSION * total_bytes + ALLOWED_TEXT_BYTES)
    if max_chars is not None:
        max_bytes = min(max_bytes, RECORD_BYTES_PER_CHAR * max_chars + ALLOWED_BYTES)
    try:
        limit = ReadLimit(max_bytes, regular_only=True)
        corpus = read_limited([name for name, _ in parts], config, None, limit, quantizer=quantizer)
    except ChargenError as error:
        raise CorpusError(error.message, hint) from error
    return replace(corpus, name=corpus_name(names or [parts[0][0]]), arguments=tuple(names) or corpus.arguments)


def _file_identity(name: str) -> tuple[int, int]:
    """Return the device and inode of a file, which are the same for all of its names."""
    status = os.stat(name)
    return status.st_dev, status.st_ino


def _names(arguments: object, hint: str) -> list[str]:
    names = arguments if isinstance(arguments, (list, tuple)) else []
    if not all(isinstance(name, str) for name in names):
        raise CorpusError("the saved state does not name its corpus by strings", hint)
    return [decode_file_name(name) for name in names]


def _parts(files: Any, hint: str) -> Iterator[tuple[str, int | None]]:
    error = CorpusError("the saved state does not describe its corpus in the right form", hint)
    if not isinstance(files, (list, tuple)):
        raise error
    for part in files:
        if not (isinstance(part, (list, tuple)) and len(part) == 2 and isinstance(part[0], str)):
            raise error
        name, size = part
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise error
        yield decode_file_name(name), size


def _check_part(name: str, size: int | None, max_chars: int | None, config: DataConfig, hint: str) -> int:
    """Check that a part of the corpus may be read; return its size in bytes, 0 for a built-in corpus.

    Args:
        name: A path, or the name of a built-in corpus.
        size: Size of the file in bytes when it was read; None if it was not a file, UNKNOWN_SIZE if it is not known.
        max_chars: Number of characters that the model was trained on, if it is known.
        config: How the text is decoded and cleaned.
        hint: What the user can do if this fails.
    """
    if name == "-":
        raise CorpusError("the corpus was read from standard input", hint)
    builtin = BUILTIN_CORPORA.get(name.partition(":")[0])
    if size is None or (size == UNKNOWN_SIZE and builtin is not None and not os.path.lexists(name)):
        if builtin is not None and os.path.lexists(name):
            raise CorpusError(
                f"the corpus was the built-in corpus {name!r}, but there is a file or folder of that name here",
                "Rename it, or call chargen in another folder.",
            )
        if builtin is None or not builtin.offline:
            raise CorpusError(f"the corpus was {name!r}, which is not read unless the user names it", hint)
        return 0
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(f"the corpus was {name!r}, which cannot be read: {reason}", hint) from error
    if not stat.S_ISREG(status.st_mode):
        raise CorpusError(f"the corpus was {name!r}, which is not a regular file", hint)
    if not status.st_size:  # files in /proc have size 0, and some of them have no end
        raise CorpusError(f"the corpus was {name!r}, which is empty", hint)
    if size >= 0 and status.st_size != size:
        raise CorpusError(
            f"{name!r} had {format_count(size, 'byte')} when it was read, and now has {status.st_size:,}", hint
        )
    if size == UNKNOWN_SIZE and max_chars is not None:
        factor = BYTES_PER_CHAR if is_plain(name, config) else RECORD_BYTES_PER_CHAR
        if status.st_size > factor * max_chars + ALLOWED_BYTES:
            raise CorpusError(
                f"{name!r} has {status.st_size:,} bytes, which do not fit a text with {max_chars:,} characters "
                "of training text",
                hint,
            )
    return status.st_size
