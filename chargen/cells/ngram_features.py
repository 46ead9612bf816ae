"""Hashed n-grams of the last tokens: the rows of an embedding table that the head of a network also reads.

    h_n(t) = Σ_{j<n} w_{n,j} · id_{t−j}  mod 2⁶⁴          row = (highest bits of h_n) + (first row of the part for n)

The table has `num_rows` rows for each n from 2 to N. This is multilinear hashing with fixed random odd multipliers w
(Dietzfelbinger 1996; Lemire & Kaser 2014, arXiv:1202.4961): two different n-grams share a row with a probability of
about 1 / num_rows. Before the start of a text, the history consists of zeros, the id of the document boundary.

Other n-grams have no fixed length: they start with a word, the last one, the one before, and so on. Their hash starts
again with each word, and otherwise continues that of the token before:

    g_k(t) = g_{k−1}(t − 1) · m + v_t  if a word starts at t, with g_0 = 0        v_t = a · id_t + b
    g_k(t) = g_k(t − 1) · m + v_t      if not

With an index (`ngram_index.py`), the table has rows only for n-grams that occur often enough in the training text.

Mikolov et al. (2011, RNNME) show that a recurrent network gains from n-grams that feed its output layer directly. They
use one weight for each n-gram and word; here, each row is a small embedding.

The history is part of the network's state: the last N − 1 token ids, the newest last, and the W hashes g. The code uses
the part of the array API that NumPy and PyTorch share.

    T time steps, B batch size, N length of the longest n-gram of a fixed length, W number of n-grams that start with a
    word, K = N − 1 + W
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import Array
from chargen.config.model import NO_WORD, WORD, WORD_START

BITS = 64
MASK = (1 << BITS) - 1
_WORD_SEED = 1 << 16  # the multipliers of the words are other pseudorandom numbers than those of fixed lengths


@lru_cache
def make_hash_parameters(max_n: int, num_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the constants of the hash functions of n-grams of a fixed length.

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


class WordHashing(NamedTuple):
    """The constants of the hash functions of n-grams that start with a word, as signed numbers of 64 bits."""

    m: int  #: the multiplier from token to token
    a: int  #: the multiplier of a token id
    b: int  #: what is added to it
    final: tuple[int, ...]  #: the multiplier of each g_k, so that its highest bits depend on all of its bits


@lru_cache
def make_word_hashing(num_words: int) -> WordHashing:
    """Return the constants for W = `num_words`."""
    m, a, b, *final = [
        int(np.uint64(_splitmix64(_WORD_SEED + number) | 1).astype(np.int64)) for number in range(3 + num_words)
    ]
    return WordHashing(m, a, b, tuple(final))


def find_ngram_rows(
    xp: Any, ids: Array, history: Array, hash_parameters: tuple[Array, Array], num_rows: int
) -> tuple[Array, Array]:
    """Return the table rows of the n-grams that end at each position of a window, for a table without an index.

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
    hashes, history = hash_ngrams(xp, ids, history, multipliers)
    return (hashes >> get_hash_shift(num_rows) & (num_rows - 1)) + first_rows, history


def hash_ngrams(xp: Any, ids: Array, history: Array, multipliers: Array) -> tuple[Array, Array]:
    """Return the hashes of the n-grams of fixed lengths that end at each position of a window.

    Args:
        xp: numpy or torch.
        ids: Token ids, int64 [T, B].
        history: The token ids before the window, int64 [B, N − 1], the newest last.
        multipliers: The multipliers of `make_hash_parameters`, as an array of `xp`.

    Returns:
        (hashes, int64 [T, B, N − 1]; the history after the window, int64 [B, N − 1]).
    """
    T, N = ids.shape[0], history.shape[1] + 1
    text = xp.concatenate([history.T, ids])  # [N − 1 + T, B]
    last_ids = xp.stack([text[N - 1 - j : N - 1 - j + T] for j in range(N)], -1)  # [T, B, N], the newest first
    return (last_ids[..., None, :] * multipliers).sum(-1), text[T:].T  # integer overflow computes mod 2⁶⁴


def hash_words(xp: Any, ids: Array, kinds: Array, kind_before: Array, before: Array) -> tuple[Array, Array]:
    """Return the hashes of the n-grams that start with a word and end at each position of a window.

    Args:
        xp: numpy or torch.
        ids: Token ids, int64 [T, B].
        kinds: The kind of each of them, int64 [T, B]: NO_WORD, WORD or WORD_START.
        kind_before: The kind of the token id before the window, int64 [B].
        before: The hashes g before the window, int64 [B, W].

    Returns:
        (hashes, int64 [T, B, W]; the hashes g after the window, int64 [B, W]).
    """
    constants = make_word_hashing(before.shape[1])
    earlier = xp.concatenate([kind_before[None], kinds[:-1]])
    is_start = (kinds == WORD_START) | ((kinds == WORD) & (earlier == NO_WORD))  # [T, B]
    factors = xp.where(is_start, 0 * ids, 0 * ids + constants.m)
    values = ids * constants.a + constants.b
    hashes, after = [], []
    shorter = None  # g_{k−1} at the token before
    for k, final in enumerate(constants.final):
        added = values if shorter is None else values + xp.where(is_start, shorter * constants.m, 0 * shorter)
        g = _scan(xp, factors, added, before[:, k])
        shorter = xp.concatenate([before[None, :, k], g[:-1]])
        hashes.append(g * final)
        after.append(g[-1])
    return xp.stack(hashes, -1), xp.stack(after, -1)


def _scan(xp: Any, factors: Array, added: Array, before: Array) -> Array:
    """Return g_t = factors_t · g_{t−1} + added_t for all steps, [T, B], in ⌈log₂ T⌉ passes."""
    distance = 1
    while distance < len(added):
        added = xp.concatenate([added[:distance], added[distance:] + factors[distance:] * added[:-distance]])
        factors = xp.concatenate([factors[:distance], factors[distance:] * factors[:-distance]])
        distance *= 2
    return added + factors * before


def get_hash_shift(num_rows: int) -> int:
    """Return the number of bits to shift a hash to the right, so that its highest bits are a row of `num_rows` rows."""
    return BITS - num_rows.bit_length() + 1


def _splitmix64(x: int) -> int:
    """Return a pseudorandom number of 64 bits for each x (splitmix64, Steele et al. 2014)."""
    x = (x + 1) * 0x9E3779B97F4A7C15 & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31
