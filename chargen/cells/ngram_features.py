"""Which rows of a table the last characters stand for: hashed n-grams, which the head of a network may read.

    h_n(t) = Σ_{j<n} w_{n,j} · id_{t−j}  mod 2⁶⁴          row = the highest bits of h_n, in the part of the table for n

Each n from 2 to N has `rows` rows. Multilinear hashing with fixed random odd w (Dietzfelbinger 1996; Lemire & Kaser
2014, arXiv 1202.4961): two n-grams share a row with a probability of about 1 / rows. Before its beginning a text is
taken to hold zeros, the boundary's id.

That a recurrent network gains by n-grams which its output layer sees is Mikolov et al. 2011 (RNNME); theirs have a
weight for each word, here a row is a few numbers, as in hashed embeddings.

What was read is part of a network's state: the last N − 1 ids, the newest last. Written in the part of the array API
that NumPy and torch share.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import Array

BITS = 64
MASK = (1 << BITS) - 1


@lru_cache
def make_hash_parameters(longest: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return w, [N − 1, N], with a row for each n from 2 to N whose first n numbers are odd and the rest zero, and the
    first row of the table for each n, [N − 1].
    """
    multipliers = np.zeros((longest - 1, longest), dtype=np.uint64)
    for n in range(2, longest + 1):
        for j in range(n):
            multipliers[n - 2, j] = _mixed(n << 8 | j) | 1
    return multipliers.view(np.int64), np.arange(longest - 1) * rows


def find_ngram_rows(
    xp: Any, ids: Array, history: Array, hashed_by: tuple[Array, Array], rows: int
) -> tuple[Array, Array]:
    """Return which rows a window's characters stand for.

    Args:
        xp: numpy or torch.
        ids: [T, B], of 64 bits.
        history: what was read before, [B, N − 1], of 64 bits.
        hashed_by: what `make_hash_parameters` gives, as arrays of `xp`.
        rows: for each n; a power of two.

    Returns:
        (rows of the table [T, B, N − 1], the history after, [B, N − 1]).
    """
    (multipliers, first), T, N = hashed_by, ids.shape[0], history.shape[1] + 1
    text = xp.concatenate([history.T, ids])  # [N − 1 + T, B]
    last = xp.stack([text[N - 1 - j : N - 1 - j + T] for j in range(N)], -1)  # [T, B, N], the newest first
    hashed = (last[..., None, :] * multipliers).sum(-1)  # [T, B, N − 1]; wraps around
    return (hashed >> get_hash_shift(rows) & (rows - 1)) + first, text[T:].T


def get_hash_shift(rows: int) -> int:
    """Return by how many bits a hash is shifted to one of so many rows."""
    return BITS - rows.bit_length() + 1


def _mixed(x: int) -> int:
    """Return a number of 64 bits that has nothing to do with its neighbours' (splitmix64, Steele et al. 2014)."""
    x = (x + 1) * 0x9E3779B97F4A7C15 & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31
