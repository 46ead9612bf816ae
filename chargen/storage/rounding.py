"""Round the weights of a network to fewer bits, for model files (`stored_weights.py`) and pages (`export/weights.py`).

    int8      w ≈ scale · q, q from −127 to 127, with a float16 scale for each row of a matrix
    float16   rounded to 11 bits
    float32   exact

Vectors (biases and decays) are few and stay float32, and so does an array that would lose more than others: one with a
number that float16 cannot hold, or one whose largest number is so small that float16 has fewer bits for it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.config import FLOAT16, FLOAT32, INT8

Float = NDArray[np.float32]

MAX_INT8 = 127
MAX_FLOAT16 = float(np.finfo(np.float16).max)
MIN_FLOAT16 = float(np.finfo(np.float16).tiny)  #: smaller numbers have fewer than 11 bits
MIN_LARGEST = {INT8: MAX_INT8 * MIN_FLOAT16, FLOAT16: MIN_FLOAT16, FLOAT32: 0.0}  #: least largest weight of an array
MAX_NOISE_NATS = 0.03  #: standard deviation; measured on tinyshakespeare: a loss of 0.0002 bits per character
TINY, MAX_SCALE = 1e-30, 1e3


class Rounded(NamedTuple):
    """A matrix whose numbers are rounded."""

    kind: str  #: how it is stored: int8, float16 or float32
    scales: NDArray[Any]  #: float16, one for each group of rows; empty unless the kind is int8
    stored: NDArray[Any]  #: the numbers that are stored, [N, K]
    values: Float  #: the numbers that they stand for, [N, K]


def round_matrix(matrix: Float, kind: str, rows_per_scale: int = 1, min_scale: float = 0.0) -> Rounded:
    """Round a matrix [N, K].

    Args:
        matrix: The matrix.
        kind: How it is stored; float32 if `choose_kind` says so.
        rows_per_scale: Number of consecutive rows that share a scale in int8.
        min_scale: The smallest scale in int8. A larger one than necessary makes the stored numbers smaller.
    """
    kind = choose_kind(matrix, kind, min_scale)
    no_scales = np.zeros(0, dtype="<f2")
    if kind == FLOAT32:
        return Rounded(kind, no_scales, matrix, matrix)
    if kind == FLOAT16:
        rounded = matrix.astype("<f2")
        return Rounded(kind, no_scales, rounded, rounded.astype(np.float32))
    starts = np.arange(0, len(matrix), rows_per_scale)
    largest = np.maximum.reduceat(np.abs(matrix).max(axis=1, initial=0.0), starts)
    wanted = np.maximum(largest / MAX_INT8, min_scale).astype(np.float32)
    scales = wanted.astype("<f2")
    scales = np.where(scales < wanted, np.nextafter(scales, np.float16(np.inf)), scales).astype("<f2")
    of_row = scales.astype(np.float32).repeat(rows_per_scale)[: len(matrix), None]
    integers = np.rint(matrix / np.where(of_row == 0, np.float32(1), of_row)).astype(np.int8)
    return Rounded(kind, scales, integers, integers * of_row)


def choose_kind(array: Float, kind: str, min_scale: float = 0.0) -> str:
    """Return how an array is stored: as `kind`, or as float32 if it is a vector or would lose more than others.

    An array of zeros loses nothing. For other arrays, the largest number must be at most MAX_FLOAT16, and at least
    MIN_LARGEST: below that, float16 has steps of 2⁻²⁴ that are coarse beside it.
    """
    largest = float(np.abs(array).max(initial=0.0))
    if array.ndim == 1 or not array.size or not largest <= MAX_FLOAT16:  # true for NaN, too
        return FLOAT32
    is_large = largest == 0.0 or max(largest, MAX_INT8 * min_scale) >= MIN_LARGEST[kind]
    return kind if is_large else FLOAT32


def find_ngram_scale(head: Float, num_ngrams: int) -> float:
    """Return the scale of the n-gram table whose rounding adds noise of MAX_NOISE_NATS to the logits.

    A value is rounded by up to half a scale, with a standard deviation of scale / √12. A logit is the sum of the
    features, each the sum of `num_ngrams` rows, times a row of the head.

    Args:
        head: The head of the n-gram features, [V, D].
        num_ngrams: Number of rows that are added up.
    """
    row_norm = math.sqrt(float(np.square(head, dtype=np.float64).sum(axis=1).mean()))
    return min(MAX_NOISE_NATS * math.sqrt(12 / num_ngrams) / max(row_norm, TINY), MAX_SCALE)
