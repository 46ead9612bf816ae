"""Store the weights of a network in a page: as int8, float16 or float32, decoded by `assets/engine.js`.

The numbers are rounded as in a model file (`storage/rounding.py`). The values of int8 are entropy-coded where that
makes them fewer: most weights are small.

The n-gram table is stored as one sparse array for each n. A row is 0 if training never met an n-gram with its hash.
Such rows are left out, and a bitmap says which rows are stored. Rows that become 0 in int8 are left out, too. All rows
of an array share a scale, which is as large as the logits allow (`find_ngram_scale`): most values then are small
integers, which the entropy coding makes short. A table with an index is one such array, and the index is stored for the
rows that are stored.

    the bytes of an array: [bitmap of the rows] [scales, float16] [frequencies, uint16] [values, row by row]
                           all little-endian; the frequencies are there if the values are entropy-coded
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.config import FLOAT32
from chargen.export.entropy_coding import encode, find_frequencies
from chargen.storage.rounding import Float, round_matrix


class StoredArray(NamedTuple):
    """An array as it is stored."""

    description: dict[str, Any]  #: what the page needs to decode it: name, rows, columns, kind, …
    data: bytes
    values: NDArray[Any]  #: what the page decodes, in the shape of the array
    is_stored: NDArray[np.bool_]  #: which rows are stored, [N]

    @property
    def num_rows(self) -> int:
        """The number of rows that are stored."""
        return int(np.count_nonzero(self.is_stored))


def store_array(
    name: str, array: Float, kind: str, rows_per_scale: int = 1, is_sparse: bool = False, min_scale: float = 0.0
) -> StoredArray:
    """Store one array.

    Args:
        name: Name of the array.
        array: A matrix [N, K] or a vector [N].
        kind: One of WEIGHT_STORAGES, for a matrix.
        rows_per_scale: Number of consecutive rows that share a scale in int8.
        is_sparse: Whether rows of zeros are left out.
        min_scale: The smallest scale in int8. A larger one than necessary needs fewer bits.
    """
    matrix = np.ascontiguousarray(array, dtype="<f4").reshape(len(array), -1)
    kind, scales, stored, values = round_matrix(matrix, FLOAT32 if array.ndim == 1 else kind, rows_per_scale, min_scale)
    is_kept: NDArray[np.bool_] = np.ones(len(matrix), dtype=np.bool_)
    if is_sparse:
        is_kept = np.asarray(stored.any(axis=1))
    bitmap = np.packbits(is_kept, bitorder="little").tobytes() if is_sparse else b""
    values_data, is_coded = _code(stored[is_kept])
    description = {
        "name": name,
        "rows": len(matrix),
        "columns": matrix.shape[1],
        "kind": kind,
        "rows_per_scale": rows_per_scale,
        "is_sparse": is_sparse,
        "is_coded": is_coded,
    }
    data = bitmap + scales.tobytes() + values_data
    return StoredArray(description, data, values.reshape(array.shape), is_kept)


def store_integers(name: str, array: NDArray[Any]) -> StoredArray:
    """Store a vector of type uint8 or uint16 as it is."""
    description = {"name": name, "rows": len(array), "columns": 1, "kind": array.dtype.name, "is_sparse": False}
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return StoredArray(description, data, array, np.ones(len(array), dtype=np.bool_))


def _code(stored: NDArray[Any]) -> tuple[bytes, bool]:
    """Return (numbers as bytes, whether they are entropy-coded)."""
    plain = stored.tobytes()
    if stored.dtype != np.int8 or not stored.size:
        return plain, False
    values = np.frombuffer(plain, dtype=np.uint8)
    frequencies = find_frequencies(values)
    coded = frequencies.astype("<u2").tobytes() + encode(values, frequencies)
    return (coded, True) if len(coded) < len(plain) else (plain, False)


def join_arrays(arrays: Iterable[StoredArray]) -> tuple[list[dict[str, Any]], bytes]:
    """Return (the descriptions of some arrays, their bytes one after the other)."""
    stored = list(arrays)
    return [array.description for array in stored], b"".join(array.data for array in stored)
