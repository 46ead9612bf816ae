"""The hashes of all stretches of W characters of a text, sorted, on disk: what is asked whether a stretch stands in it.

Eight bytes a character, in a store (`text/store.py`), which has checksums.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from chargen.text.documents import MARK
from chargen.text.fingerprints import PRIME, Hashes, fingerprints, overlapping, wide_codes
from chargen.text.longtext import Span, no_room
from chargen.text.parallel import Arrays, in_order
from chargen.text.store import cached_store, make_room, write_store
from chargen.text.survey import ERRORS

AT_ONCE = 1 << 24  #: hashes that are sorted at a time: 128 MiB
CODES = 0x110000  #: how many code points there are: by so much do stretches differ that share a beginning


def write_hashes(path: Path, parts: Iterator[Hashes], about: Mapping[str, Any]) -> Hashes:
    """Write sorted hashes, and map them into memory.

    Raises:
        StorageError: the file cannot be written.
    """
    make_room(path)
    return np.asarray(write_store(path, parts, 1 << 64, about).ids)


def open_hashes(path: Path, key: str, note: Callable[[str], object]) -> Hashes | None:
    """Map the hashes in a file; None where there is none, or a damaged one, of which `note` is told."""
    store = cached_store(path, key, 1 << 64, note)
    if store is None or store.ids.dtype != np.uint64:
        return None
    return np.asarray(store.ids)


def stretch_hashes(text: Span, width: int) -> Iterator[Hashes]:
    """Yield the hashes of all stretches of a text, sorted from the first to the last, each once.

    Those across the end of a document are left out. The text is read once; of a long one, the hashes wait on the disk
    to be sorted, in a file for each of as many equal ranges as it takes.
    """

    pieces = (piece.encode("utf-8", ERRORS) for _, piece in overlapping(text, lambda: width - 1))
    count = max(1, -(-text.num_chars // AT_ONCE))
    edges = np.array([PRIME * k // count for k in range(1, count)], dtype=np.uint64)
    with ExitStack() as stack:
        most_bytes = 1 if count > 1 else 8 * AT_ONCE  # that are kept in memory
        ranges = [stack.enter_context(tempfile.SpooledTemporaryFile(most_bytes)) for _ in range(count)]
        for (found,) in in_order(_hashed, pieces, text.text.num_bytes, str(width)):
            for file, part in zip(ranges, np.split(found, np.searchsorted(found, edges)), strict=True):
                try:
                    file.write(part.tobytes())
                except OSError as error:
                    raise no_room(f"the hashes of a text of {text.num_chars:,} characters", error) from error
        small = np.zeros(0, dtype=np.uint64)
        for file in ranges:
            file.seek(0)
            found = _distinct(np.frombuffer(file.read(), dtype=np.uint64))
            small = np.concatenate([small, found[found < np.uint64(CODES)]])
            yield found
    yield small + np.uint64(PRIME)  # so that a range that ends beyond p finds what is next after 0


def _hashed(piece: bytes, width: str) -> Arrays:
    """Hash a piece, which may be done by another process."""
    return [_distinct(hashes_within(piece.decode("utf-8", ERRORS), int(width)))]


def hashes_within(piece: str, width: int) -> Hashes:
    """Return the hashes of a piece's stretches that hold no end of a document."""
    codes = wide_codes(piece)
    hashes = fingerprints(codes, [width])[0]
    if MARK in piece and len(hashes):
        ends = np.concatenate([[0], np.cumsum(codes == ord(MARK))])
        hashes = hashes[ends[width:] == ends[:-width]]
    return hashes


def _distinct(hashes: Hashes) -> Hashes:
    ordered = np.sort(hashes)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
