"""A long text → ids on disk, on all cores; what was encoded once is found again.

The cache is keyed by what the ids depend on: the content, the part of it, and the tokenizer. Two runs that start
together may both encode a text; each writes a file of its own, and the one that ends last names it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.files import PARTIAL
from chargen.text.documents import MARK
from chargen.text.longtext import Span
from chargen.text.parallel import in_order
from chargen.text.store import open_store, smallest_dtype, write_store
from chargen.text.tokenizer import Tokenizer

CACHE = Path("corpora/.cache")
SUFFIX, INDEX_SUFFIX = ".ids", ".copies"  #: of encoded texts; of the hashes of what stands in them
LONGEST_LINE = 1 << 20  #: characters; in a longer line pieces are cut anywhere
ABANDONED_S = 24 * 3600  #: after which a file that is still being written belongs to a run that was killed


def stored_ids(tokenizer: Tokenizer, text: Span) -> NDArray[Any]:
    """Return a text's ids, [N], memory-mapped from the cache.

    Raises:
        StorageError: they cannot be written.
    """
    key = ids_key(tokenizer, text.text.survey.sha256, text.begin, text.end)
    path = CACHE / f"{key[:32]}{SUFFIX}"
    if path.exists():
        try:
            return open_store(path).ids
        except CorpusError:
            path.unlink(missing_ok=True)  # a damaged cache is made again
    return write_store(path, encoded(tokenizer, text), tokenizer.vocab_size, {"sha256": key}).ids


def ids_key(tokenizer: Tokenizer, sha256: str, begin: int, end: int) -> str:
    """Return the key of the ids of a text with this hash, from one character to another; it names their file."""
    key = hashlib.sha256(json.dumps(tokenizer.to_json(), sort_keys=True).encode())
    key.update(f"{sha256} {begin} {end}".encode())
    return key.hexdigest()


def encoded(tokenizer: Tokenizer, text: Span) -> Iterator[NDArray[Any]]:
    """Yield a text's ids, some at a time, of the smallest type that holds them."""
    dtype = smallest_dtype(tokenizer.vocab_size)
    encode = tokenizer.encode_documents if text.text.documents else tokenizer.encode
    # Letters of a byte each, as bytes: the fastest there is.
    table = tokenizer.ascii_table() if not text.text.documents and dtype.itemsize == 1 else None

    def ids_of(piece: str) -> NDArray[Any]:
        if table and piece.isascii():
            return np.frombuffer(piece.encode("ascii").translate(table), dtype=dtype)
        return encode(piece).astype(dtype)

    return in_order(ids_of, _whole_lines(text))


def _whole_lines(text: Span) -> Iterator[str]:
    """Yield a text in pieces that end with a line or document, because a token may cross any other place."""
    held, end = "", MARK if text.text.documents else "\n"
    for piece in text.pieces():
        cut = piece.rfind(end) + 1
        if cut or len(held) > LONGEST_LINE:
            yield held + piece[:cut]
            held = ""
        held += piece[cut:]
    if held:
        yield held


def clean_cache(folder: Path = CACHE) -> tuple[int, int]:
    """Delete every cached file that nobody is writing; return (how many, their bytes)."""
    count = size = 0
    for path in folder.glob("*") if folder.is_dir() else ():
        status = path.stat()
        stale = path.name.endswith(PARTIAL) and time.time() - status.st_mtime > ABANDONED_S
        if path.suffix in (SUFFIX, INDEX_SUFFIX) or stale:
            path.unlink(missing_ok=True)
            count, size = count + 1, size + status.st_size
    return count, size
