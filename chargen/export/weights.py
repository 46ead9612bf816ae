"""Store the weights of a network in a page: as int8, float16 or float32, decoded by `assets/engine.js`.

    int8      w ≈ scale · q, q from −127 to 127, with a float16 scale for each row of a matrix
    float16   rounded to 11 bits
    float32   exact

Vectors (biases and decays) are few and are always float32, and so is a matrix with a number that float16 cannot hold.
The values of int8 are entropy-coded where that makes them fewer: most weights are small.

The n-gram table is stored as one sparse array for each n. A row is 0 if training never met an n-gram with its hash.
Such rows are left out, and a bitmap says which rows are stored. Rows that become 0 in int8 are left out, too. All rows
of an array share a scale, which is as large as the logits allow (`find_ngram_scale`): most values then are small
integers, which the entropy coding makes short.

    the bytes of an array: [bitmap of the rows] [scales, float16] [frequencies, uint16] [values, row by row]
                           all little-endian; the frequencies are there if the values are entropy-coded
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.export.entropy_coding import encode, find_frequencies

Float = NDArray[np.float32]

KINDS = ("int8", "float16", "float32")  #: how the weights of a page can be stored
MAX_INT8 = 127
MAX_NOISE_NATS = 0.03  #: standard deviation; measured on tinyshakespeare: a loss of 0.0002 bits per character
TINY, MAX_SCALE = 1e-30, 1e3
MAX_FLOAT16 = float(np.finfo(np.float16).max)


class StoredArray(NamedTuple):
    """An array as it is stored."""

    description: dict[str, Any]  #: what the page needs to decode it: name, rows, columns, kind, …
    data: bytes
    values: Float  #: what the page decodes, in the shape of the array
    num_rows: int  #: number of rows that are stored


def store_array(
    name: str, array: Float, kind: str, rows_per_scale: int = 1, is_sparse: bool = False, min_scale: float = 0.0
) -> StoredArray:
    """Store one array.

    Args:
        name: Name of the array.
        array: A matrix [N, K] or a vector [N].
        kind: One of KINDS, for a matrix.
        rows_per_scale: Number of consecutive rows that share a scale in int8.
        is_sparse: Whether rows of zeros are left out.
        min_scale: The smallest scale in int8. A larger one than necessary needs fewer bits.
    """
    matrix = np.ascontiguousarray(array, dtype="<f4").reshape(len(array), -1)
    if array.ndim == 1 or (kind != "float32" and float(np.abs(matrix).max(initial=0.0)) > MAX_FLOAT16):
        kind = "float32"
    scales, stored, values = _round(matrix, kind, rows_per_scale, min_scale)
    is_kept = stored.any(axis=1) if is_sparse else np.ones(len(matrix), dtype=np.bool_)
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
    return StoredArray(description, data, values.reshape(array.shape), int(is_kept.sum()))


def _code(stored: NDArray[Any]) -> tuple[bytes, bool]:
    """Return (numbers as bytes, whether they are entropy-coded)."""
    plain = stored.tobytes()
    if stored.dtype != np.int8 or not stored.size:
        return plain, False
    values = np.frombuffer(plain, dtype=np.uint8)
    frequencies = find_frequencies(values)
    coded = frequencies.astype("<u2").tobytes() + encode(values, frequencies)
    return (coded, True) if len(coded) < len(plain) else (plain, False)


def find_ngram_scale(head: Float, num_ngrams: int) -> float:
    """Return the scale of the n-gram table whose rounding adds noise of MAX_NOISE_NATS to the logits.

    A value is rounded by up to half a scale, with a standard deviation of scale / √12. A logit is the sum of the
    features, each the sum of `num_ngrams` rows, times a row of the head.

    Args:
        head: The head of the n-gram features, [V, D].
        num_ngrams: Number of rows that are added up, N − 1.
    """
    row_norm = math.sqrt(float(np.square(head, dtype=np.float64).sum(axis=1).mean()))
    return min(MAX_NOISE_NATS * math.sqrt(12 / num_ngrams) / max(row_norm, TINY), MAX_SCALE)


def join_arrays(arrays: Iterable[StoredArray]) -> tuple[list[dict[str, Any]], bytes]:
    """Return (the descriptions of some arrays, their bytes one after the other)."""
    stored = list(arrays)
    return [array.description for array in stored], b"".join(array.data for array in stored)


def _round(matrix: Float, kind: str, rows_per_scale: int, min_scale: float) -> tuple[NDArray[Any], NDArray[Any], Float]:
    """Return (the scales, the numbers that are stored, the float32 numbers that they stand for)."""
    no_scales = np.zeros(0, dtype="<f2")
    if kind == "float32":
        return no_scales, matrix, matrix
    if kind == "float16":
        rounded = matrix.astype("<f2")
        return no_scales, rounded, rounded.astype(np.float32)
    starts = np.arange(0, len(matrix), rows_per_scale)
    largest = np.maximum.reduceat(np.abs(matrix).max(axis=1, initial=0.0), starts)
    wanted = np.maximum(largest / MAX_INT8, min_scale).astype(np.float32)
    scales = wanted.astype("<f2")
    scales = np.where(scales < wanted, np.nextafter(scales, np.float16(np.inf)), scales).astype("<f2")
    of_row = scales.astype(np.float32).repeat(rows_per_scale)[: len(matrix), None]
    integers = np.rint(matrix / np.where(of_row == 0, np.float32(1), of_row)).astype(np.int8)
    return scales, integers, integers * of_row
