"""A memory-mapped array of ids with a JSON header: what training reads.

    bytes 0–7    "chargen1"
    bytes 8–15   length of the header, little-endian
    the header   JSON, padded with spaces so that the ids begin at a multiple of 64
    the ids      little-endian uint8, int16, int32 or uint64: the smallest that holds the vocabulary

Only the pages that are looked at take memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.files import atomic_file

MAGIC = b"chargen1"
ALIGNMENT = 64
MOST_IDS = 1 << 63
DTYPES = (np.dtype("u1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<u8"))


@dataclass(frozen=True)
class Store:
    """Ids on disk, shape [N], and what the header says of them."""

    ids: NDArray[Any]
    about: Mapping[str, Any]


def smallest_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest type of whole number that holds every id below `vocab_size`.

    Those of a vocabulary are such that torch knows them; hashes have the last.
    """
    for dtype in DTYPES[:-1]:
        if vocab_size - 1 <= np.iinfo(dtype).max:
            return dtype
    return DTYPES[-1]


def write_store(path: Path, parts: Iterable[NDArray[Any]], vocab_size: int, about: Mapping[str, Any]) -> Store:
    """Write ids and what there is to say of them, and open the result.

    Args:
        path: of the store.
        parts: the ids, some at a time.
        vocab_size: they are below it.
        about: anything that `json` can write.

    Raises:
        StorageError: the file cannot be written.
    """
    dtype = smallest_dtype(vocab_size)
    length = 0
    with atomic_file(path) as file:
        begin = file.write(_header(dtype, MOST_IDS, about, 0))  # as long as it can become
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype=dtype).data)
            length += len(part)
        file.seek(0)
        file.write(_header(dtype, length, about, begin))
    return open_store(path)


def _header(dtype: np.dtype[Any], length: int, about: Mapping[str, Any], at_least: int) -> bytes:
    """Return all that stands before the ids, padded to a multiple of ALIGNMENT of at least so many bytes."""
    header = json.dumps({"dtype": dtype.str, "length": length, "about": dict(about)}).encode()
    size = max(at_least, -(-(len(MAGIC) + 8 + len(header)) // ALIGNMENT) * ALIGNMENT)
    header = header.ljust(size - len(MAGIC) - 8)
    return MAGIC + len(header).to_bytes(8, "little") + header


def open_store(path: Path) -> Store:
    """Map a store into memory.

    Raises:
        CorpusError: the file is missing, or is not a whole store.
    """
    damaged = CorpusError(f"{path} is not a whole chargen store", "Delete it; it is made again from the corpus.")
    try:
        with open(path, "rb") as file:
            magic, size = file.read(8), int.from_bytes(file.read(8), "little")
            if magic != MAGIC or size > path.stat().st_size:
                raise damaged
            header = json.loads(file.read(size))
        shape, dtype = (int(header["length"]),), np.dtype(str(header["dtype"]))
        about = header["about"]
        if dtype not in DTYPES:
            raise damaged
        if path.stat().st_size != 16 + size + shape[0] * dtype.itemsize:
            raise damaged
        # An empty file cannot be mapped.
        ids = np.memmap(path, dtype, "r", 16 + size, shape) if shape[0] else np.empty(0, dtype)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise damaged from error
    return Store(ids, about)
