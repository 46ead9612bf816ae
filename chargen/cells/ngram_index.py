"""The index of an n-gram table: which n-grams have a row, so that all others read none.

Without an index, every n-gram reads a row, also one that the training text does not contain: that of other n-grams with
the same hash. With an index, the n-grams that occur at least twice in the training text have rows of their own, the
most frequent ones first, and all others read nothing.

    hash of 64 bits ─▶ bucket (highest bits) of 8 rows      index[row] = tag of the n-gram that owns the row, 0: no one
                   └─▶ tag    (next 16 bits, not 0)         the n-gram has the row of its bucket with its tag, if any

An n-gram without a row seems to have one with a probability of 8 / 2¹⁶.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import Array
from chargen.cells.ngram_features import (
    NO_WORD,
    WORD,
    WORD_START,
    get_hash_shift,
    hash_ngrams,
    hash_words,
    make_hash_parameters,
    make_word_hashing,
)
from chargen.config import ModelConfig

BUCKET_ROWS = 8
TAG_BITS = 16
MIN_COUNT = 2  #: occurrences of an n-gram in the training text from which on it has a row
MAX_COUNTED_IDS = 1 << 21  #: token ids of the training text whose n-grams are counted
NUM_EXCERPTS = 32  #: excerpts of a longer text that are counted


class NgramIndex(NamedTuple):
    """The arrays that find the rows of n-grams."""

    multipliers: Array  #: of `make_hash_parameters`, int64 [N − 1, N]
    words: Array  #: kind of each token id, [V]: `NO_WORD`, `WORD` or `WORD_START`
    tags: Array  #: tag of the n-gram that owns each row, [R / 8, 8]; 0 if it is free

    @property
    def num_rows(self) -> int:
        """The number of rows of the table, R."""
        return int(self.tags.shape[0]) * BUCKET_ROWS


def find_indexed_rows(xp: Any, ids: Array, history: Array, index: NgramIndex) -> tuple[Array, Array, Array]:
    """Return the rows of the n-grams that end at each position of a window.

    Args:
        xp: numpy or torch.
        ids: Token ids, int64 [T, B].
        history: The history before the window, int64 [B, N − 1 + W]: the last token ids, the newest last, and the
            hashes of the n-grams that start with a word.
        index: The index, as arrays of `xp`.

    Returns:
        (rows, int64 [T, B, K]; whether each n-gram has a row, bool [T, B, K]; the history after the window). The row of
        an n-gram that has none is the first one of its bucket.
    """
    hashes, history = hash_all(xp, ids, history, index.multipliers, index.words)
    buckets, tags = find_bucket(hashes, index.num_rows)
    matches = index.tags[buckets] == tags[..., None]  # [T, B, K, 8]
    places = xp.argmax(matches + 0, -1)
    return buckets * BUCKET_ROWS + places, matches.any(-1), history


def hash_all(xp: Any, ids: Array, history: Array, multipliers: Array, words: Array) -> tuple[Array, Array]:
    """Return (the hashes of all n-grams that end at each position of a window [T, B, K], the history after it)."""
    num_ids = multipliers.shape[1] - 1
    hashes, last_ids = hash_ngrams(xp, ids, history[:, :num_ids], multipliers)
    if history.shape[1] == num_ids:
        return hashes, last_ids
    kind_before = words[history[:, num_ids - 1]]
    of_words, after = hash_words(xp, ids, words[ids], kind_before, history[:, num_ids:])
    return xp.concatenate([hashes, of_words], -1), xp.concatenate([last_ids, after], -1)


def find_bucket(hashes: Array, num_rows: int) -> tuple[Array, Array]:
    """Return (the bucket of each hash, its tag), for a table with `num_rows` rows."""
    num_buckets = num_rows // BUCKET_ROWS
    shift = get_hash_shift(num_buckets)
    tags = hashes >> (shift - TAG_BITS) & ((1 << TAG_BITS) - 1)
    return hashes >> shift & (num_buckets - 1), tags + (tags == 0)


def build_index(config: ModelConfig, ids: NDArray[Any], words: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the tags of the rows of an n-gram table, uint16 [R].

    Args:
        config: The settings of a network with an index.
        ids: Token ids of the training text, [N]. Of a long text, some excerpts are counted.
        words: Kind of each token id, uint8 [V].
    """
    excerpts = _excerpts(ids)
    keys, counts = [], []
    for kind in range(config.num_ngrams):
        hashed = np.concatenate([_hash_kind(config, excerpt, words, kind) for excerpt in excerpts])
        buckets, tags = find_bucket(hashed, config.ngram_rows)
        ordered = np.sort((buckets << TAG_BITS | tags).astype(np.uint32))
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        count = np.diff(np.append(starts, len(ordered)))
        is_frequent = count >= MIN_COUNT
        keys.append(ordered[starts[is_frequent]])
        counts.append(count[is_frequent])
    return _give_rows(np.concatenate(keys), np.concatenate(counts), config.ngram_rows)


def _give_rows(keys: NDArray[np.uint32], counts: NDArray[np.int64], num_rows: int) -> NDArray[np.uint16]:
    """Return the tags of the rows, uint16 [R]: in each bucket, the most frequent n-grams have one.

    Args:
        keys: The bucket and the tag of n-grams, as one number.
        counts: How often each of them occurs.
        num_rows: Number of rows, R.
    """
    keys = keys[np.argsort(-counts, kind="stable")]
    _, first = np.unique(keys, return_index=True)  # n-grams with the same bucket and tag share a row
    keys = keys[np.sort(first)]
    keys = keys[np.argsort(keys >> TAG_BITS, kind="stable")]  # by bucket, in it the most frequent ones first
    buckets = keys >> TAG_BITS
    places = np.arange(len(keys)) - np.searchsorted(buckets, buckets)
    fits = places < BUCKET_ROWS
    tags = np.zeros(num_rows, dtype=np.uint16)
    tags[buckets[fits].astype(np.int64) * BUCKET_ROWS + places[fits]] = keys[fits] & ((1 << TAG_BITS) - 1)
    return tags


def _excerpts(ids: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the whole text, or excerpts at equal distances of a long one."""
    if len(ids) <= MAX_COUNTED_IDS:
        return [np.asarray(ids, dtype=np.int64)]
    size = MAX_COUNTED_IDS // NUM_EXCERPTS
    starts = np.linspace(0, len(ids) - size, NUM_EXCERPTS).astype(np.int64)
    return [np.asarray(ids[start : start + size], dtype=np.int64) for start in starts.tolist()]


def _hash_kind(config: ModelConfig, ids: NDArray[np.int64], words: NDArray[np.uint8], kind: int) -> NDArray[np.int64]:
    """Return the hashes of the n-grams of one kind that end at each position of a text, [N].

    They are those of `hash_all`, in an order of operations that is fast for long texts.
    """
    multipliers, _ = make_hash_parameters(config.ngrams, config.ngram_rows)
    if kind < len(multipliers):
        hashes: NDArray[np.int64] = ids * multipliers[kind, 0]
        for lag in range(1, kind + 2):
            hashes[lag:] += ids[:-lag] * multipliers[kind, lag]
        return hashes
    return _hash_from_word(ids, words, config.ngram_words, kind - len(multipliers))


def _hash_from_word(ids: NDArray[np.int64], words: NDArray[np.uint8], num_words: int, word: int) -> NDArray[np.int64]:
    """Return the hashes of the n-grams that start with a word and end at each position of a text, [N].

    With the sums P_t = Σ_{i ≤ t} v_i m^{−i}, the hash of the tokens from s to t is (P_t − P_{s−1}) m^t: an odd m has an
    inverse modulo 2⁶⁴.

    Args:
        ids: Token ids, [N].
        words: Kind of each token id, [V].
        num_words: The number of such n-grams, W.
        word: 0 for those that start with the last word, 1 for the word before, …
    """
    constants = make_word_hashing(num_words)
    kinds = words[ids]
    earlier = np.concatenate([[NO_WORD], kinds[:-1]])
    starts = np.flatnonzero((kinds == WORD_START) | ((kinds == WORD) & (earlier == NO_WORD)))
    powers, inverses = np.full(len(ids), constants.m), np.full(len(ids), pow(constants.m, -1, 1 << 64)).view(np.int64)
    powers[:1] = inverses[:1] = 1
    np.multiply.accumulate(powers, out=powers)
    np.multiply.accumulate(inverses, out=inverses)
    sums = np.concatenate([[0], np.add.accumulate((ids * constants.a + constants.b) * inverses)])  # [N + 1]
    number = np.searchsorted(starts, np.arange(len(ids)), side="right") - 1 - word  # of the word, −1 before the first
    before = np.where(number >= 0, sums[starts[number]] if len(starts) else 0, 0)
    hashes: NDArray[np.int64] = (sums[1:] - before) * powers * constants.final[word]
    return hashes
