"""Hashed n-grams of the last tokens: the rows of an embedding table that the head of a network also reads.

    h_n(t) = Σ_{j<n} w_{n,j} · id_{t−j}  mod 2⁶⁴          row = (highest bits of h_n) + (first row of the part for n)

The table has `num_rows` rows for each n from 2 to N. This is multilinear hashing with fixed random odd multipliers w
(Dietzfelbinger 1996; Lemire & Kaser 2014, arXiv:1202.4961): two different n-grams share a row with a probability of
about 1 / num_rows. Before the start of a text, the history consists of zeros, the id of the document boundary.

Mikolov et al. (2011, RNNME) show that a recurrent network gains from n-grams that feed its output layer directly. They
use one weight for each n-gram and word; here, each row is a small embedding.

The history is part of the network's state: the last N − 1 token ids, the newest last. The code uses the part of the
array API that NumPy and PyTorch share.

    T time steps, B batch size, N length of the longest n-gram
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
def make_hash_parameters(max_n: int, num_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the constants of the hash functions.

    Args:
        max_n: Length N of the longest n-gram.
        num_rows: Rows of the table for each n.

    Returns:
        The multipliers w, int64 [N − 1, N], one row for each n from 2 to N, whose first n numbers are odd and whose
        other numbers are 0; and the first row of the table for each n, int64 [N − 1].
    """
    multipliers = np.zeros((max_n - 1, max_n), dtype=np.uint64)
    for n in range(2, max_n + 1):
        for j in range(n):
            multipliers[n - 2, j] = _splitmix64(n << 8 | j) | 1
    return multipliers.view(np.int64), np.arange(max_n - 1) * num_rows


def find_ngram_rows(
    xp: Any, ids: Array, history: Array, hash_parameters: tuple[Array, Array], num_rows: int
) -> tuple[Array, Array]:
    """Return the table rows of the n-grams that end at each position of a window.

    Args:
        xp: numpy or torch.
        ids: Token ids, int64 [T, B].
        history: The token ids before the window, int64 [B, N − 1], the newest last.
        hash_parameters: The result of `make_hash_parameters`, as arrays of `xp`.
        num_rows: Rows of the table for each n; a power of two.

    Returns:
        (rows of the table, int64 [T, B, N − 1]; the history after the window, int64 [B, N − 1]).
    """
    multipliers, first_rows = hash_parameters
    T, N = ids.shape[0], history.shape[1] + 1
    text = xp.concatenate([history.T, ids])  # [N − 1 + T, B]
    last_ids = xp.stack([text[N - 1 - j : N - 1 - j + T] for j in range(N)], -1)  # [T, B, N], the newest first
    hashes = (last_ids[..., None, :] * multipliers).sum(-1)  # [T, B, N − 1]; integer overflow computes mod 2⁶⁴
    return (hashes >> get_hash_shift(num_rows) & (num_rows - 1)) + first_rows, text[T:].T


def get_hash_shift(num_rows: int) -> int:
    """Return the number of bits to shift a hash to the right, so that its highest bits are a row of `num_rows` rows."""
    return BITS - num_rows.bit_length() + 1


def _splitmix64(x: int) -> int:
    """Return a pseudorandom number of 64 bits for each x (splitmix64, Steele et al. 2014)."""
    x = (x + 1) * 0x9E3779B97F4A7C15 & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31
