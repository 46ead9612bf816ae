"""The compiled reader of n-gram features: one call hashes a token id, finds the rows, and adds them up.

It computes what `NGramReader` computes with 15 calls of NumPy or more, up to rounding. Its arguments are few, because
numba inspects each array at each call. The constants of the hash functions are one vector:

    [N, W, shift, multipliers of the n-grams of fixed lengths (N − 1)·N, m, a, b, final multipliers W]

This module needs numba: pip install 'chargen[fast]'
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngram_features import get_hash_shift, make_hash_parameters, make_word_hashing
from chargen.cells.ngram_index import BUCKET_ROWS, TAG_BITS
from chargen.config import ModelConfig
from chargen.config.model import NO_WORD, WORD, WORD_START
from chargen.jit import float32, int64, njit, uint8, uint16

TAG_MASK = (1 << TAG_BITS) - 1
FIRST_MULTIPLIER = 3  #: position of the multipliers in the constants


def make_constants(config: ModelConfig) -> NDArray[np.int64]:
    """Return the constants of the hash functions of a network, as one vector."""
    multipliers, _ = make_hash_parameters(config.ngrams, config.ngram_rows)
    words = make_word_hashing(config.ngram_words)
    num_parts = config.ngram_rows // BUCKET_ROWS if config.ngram_index else config.ngram_rows
    sizes = [config.ngrams, config.ngram_words, get_hash_shift(num_parts)]
    return np.array([*sizes, *multipliers.ravel().tolist(), words.m, words.a, words.b, *words.final], dtype=np.int64)


@lru_cache(maxsize=2)
def compile_reader(batched: bool) -> Callable[..., None]:
    """Return the compiled reader of a stream or of a batch of streams, or load it from numba's cache on disk.

    Its arguments are (token id, history [N − 1 + W], constants, kinds of the token ids [V], tags of the rows
    [R / 8, 8], table [R, D], features [D]). Without an index there are no kinds and no tags. Of a batch of B streams,
    the first two and the last one are [B], [B, N − 1 + W] and [B, D]. The history and the features are changed.
    """
    shared = (int64[::1], uint8[::1], uint16[:, ::1], float32[:, ::1])
    if batched:
        reader: Callable[..., None] = njit((int64[::1], int64[:, ::1], *shared, float32[:, :]), cache=True)(_read_batch)
    else:
        reader = njit((int64, int64[::1], *shared, float32[::1]), cache=True)(_read_one)
    return reader


def _read_one(token_id: int, history: Any, constants: Any, kinds: Any, tags: Any, table: Any, out: Any) -> None:
    """Read the token id of a single stream."""
    _read(token_id, history, constants, kinds, tags, table, out)


def _read_batch(ids: Any, history: Any, constants: Any, kinds: Any, tags: Any, table: Any, out: Any) -> None:
    """Read a token id for each stream of a batch."""
    for b in range(len(ids)):
        _read(ids[b], history[b], constants, kinds, tags, table, out[b])


@njit
def _read(token_id: int, history: Any, constants: Any, kinds: Any, tags: Any, table: Any, out: Any) -> None:
    """Write the features of a token id to `out`, and change the history to that after it."""
    N, num_words, shift = constants[0], constants[1], constants[2]
    num_ids, num_rows = N - 1, len(table) // (N - 1)  # of each n, without an index
    words = FIRST_MULTIPLIER + num_ids * N  # position of the constants of the words
    is_start = False
    if num_words:
        kind = kinds[token_id]
        is_start = kind == WORD_START or (kind == WORD and kinds[history[num_ids - 1]] == NO_WORD)
    for d in range(len(out)):
        out[d] = 0
    for n in range(num_ids):
        first = FIRST_MULTIPLIER + n * N
        hashed = constants[first] * token_id
        for lag in range(1, n + 2):
            hashed += constants[first + lag] * history[num_ids - lag]
        row = _find_row(hashed, shift, tags) if len(tags) else (hashed >> shift & (num_rows - 1)) + n * num_rows
        _add_row(row, table, out)
    for k in range(num_words - 1, -1, -1):
        g = history[num_ids + k]
        if is_start:
            g = history[num_ids + k - 1] if k else 0
        g = g * constants[words] + (constants[words + 1] * token_id + constants[words + 2])
        history[num_ids + k] = g
        _add_row(_find_row(g * constants[words + 3 + k], shift, tags), table, out)
    for j in range(num_ids - 1):
        history[j] = history[j + 1]
    history[num_ids - 1] = token_id


@njit
def _find_row(hashed: int, shift: int, tags: Any) -> int:
    """Return the row of an n-gram, or −1 if it has none."""
    bucket = hashed >> shift & (len(tags) - 1)
    tag = max(hashed >> (shift - TAG_BITS) & TAG_MASK, 1)
    for place in range(BUCKET_ROWS):
        if tags[bucket, place] == tag:
            return bucket * BUCKET_ROWS + place
    return -1


@njit
def _add_row(row: int, table: Any, out: Any) -> None:
    """Add a row of the table to `out`, unless its number is −1."""
    if row >= 0:
        for d in range(len(out)):
            out[d] += table[row, d]
