"""A long text → ids on disk, on all cores; what was encoded once is found again.

The cache is keyed by what the ids depend on: the content, the part of it, and the tokenizer. Two runs that start
together may both encode a text; each writes a file of its own, and the one that ends last names it.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.files import remove_stale_parts
from chargen.text.documents import MARK
from chargen.text.longtext import TASK, Span
from chargen.text.parallel import Arrays, in_order
from chargen.text.store import cached_store, make_room, smallest_dtype, write_store
from chargen.text.survey import ERRORS
from chargen.text.tokenizer import Tokenizer, tokenizer_from_json

CACHE = Path("corpora/.cache")
SUFFIX, INDEX_SUFFIX = ".ids", ".copies"  #: of encoded texts; of the hashes of what stands in them
LONGEST_LINE = 1 << 22  #: bytes; a longer line is cut anywhere


def stored_ids(tokenizer: Tokenizer, text: Span, note: Callable[[str], object] = lambda text: None) -> NDArray[Any]:
    """Return a text's ids, [N], memory-mapped from the cache.

    Args:
        tokenizer: how it becomes ids.
        text: what is encoded.
        note: is told if what the cache had was damaged.

    Raises:
        StorageError: they cannot be written.
    """
    key = ids_key(tokenizer, text.text.survey.sha256, text.begin, text.end)
    path = CACHE / f"{key[:32]}{SUFFIX}"
    if store := cached_store(path, key, tokenizer.vocab_size, note):
        return store.ids
    make_room(path)
    return write_store(path, encoded(tokenizer, text), tokenizer.vocab_size, {"sha256": key}).ids


def ids_key(tokenizer: Tokenizer, sha256: str, begin: int, end: int) -> str:
    """Return the key of the ids of a text with this hash, from one character to another; it names their file."""
    key = hashlib.sha256(json.dumps(tokenizer.to_json(), sort_keys=True).encode())
    key.update(f"{sha256} {begin} {end}".encode())
    return key.hexdigest()


def encoded(tokenizer: Tokenizer, text: Span) -> Iterator[NDArray[Any]]:
    """Yield a text's ids, some at a time, of the smallest type that holds them."""
    documents = text.text.documents
    end = MARK.encode("utf-8", ERRORS) if documents else b"\n"
    described = json.dumps(tokenizer.to_json(), sort_keys=True)
    blocks = _whole_lines(text.parts(), end)
    for (ids,) in in_order(_ids_of, blocks, text.text.num_bytes, described, "documents" if documents else ""):
        yield ids


def _ids_of(block: bytes, described: str, documents: str) -> Arrays:
    """Encode whole lines, or whole documents; it may be another process that does."""
    tokenizer, table = _tokenizer(described)
    dtype = smallest_dtype(tokenizer.vocab_size)
    if table and not documents and block.isascii():
        return [np.frombuffer(block.translate(table), dtype=dtype)]
    text = block.decode("utf-8", ERRORS)
    return [(tokenizer.encode_documents(text) if documents else tokenizer.encode(text)).astype(dtype)]


@lru_cache(maxsize=2)
def _tokenizer(described: str) -> tuple[Tokenizer, bytes | None]:
    """Return a tokenizer, and what makes ids of ASCII text fastest."""
    tokenizer = tokenizer_from_json(json.loads(described))
    return tokenizer, tokenizer.ascii_table()


def _whole_lines(parts: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Yield a text in blocks that end with a line or document, because a token may cross any other place."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        cut = part.rfind(end) + len(end) if end in part else 0
        if cut and size + cut >= TASK or size > LONGEST_LINE:
            yield b"".join([*held, part[:cut]])
            held, size, part = [], 0, part[cut:]
        held.append(part)
        size += len(part)
    if size:
        yield b"".join(held)


def clean_cache(folder: Path = CACHE) -> tuple[int, int]:
    """Delete every cached file that nobody is writing; return (how many, their bytes)."""
    count, size = remove_stale_parts(folder)
    for path in folder.glob("*") if folder.is_dir() else ():
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue  # none of ours
        if path.suffix in (SUFFIX, INDEX_SUFFIX):
            path.unlink(missing_ok=True)
            count, size = count + 1, size + status.st_size
    return count, size
