"""The index of an n-gram table: which n-grams have a row, so that all others read none.

Without an index, every n-gram reads a row, also one that the training text does not contain: that of other n-grams with
the same hash. With an index, the n-grams that occur at least twice in the training text have rows of their own, the
most frequent ones first, and all others read nothing.

    hash of 64 bits ─▶ bucket (highest bits) of 8 rows      index[row] = tag of the n-gram that owns the row, 0: no one
                   └─▶ tag    (next 16 bits, not 0)         the n-gram has the row of its bucket with its tag, if any

An n-gram without a row seems to have one with a probability of 8 / 2¹⁶.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells.cell import Array
from chargen.cells.ngram_features import (
    get_hash_shift,
    hash_ngrams,
    hash_words,
    make_hash_parameters,
    make_word_hashing,
)
from chargen.config import ModelConfig
from chargen.config.model import NO_WORD, WORD, WORD_START

BUCKET_ROWS = 8
TAG_BITS = 16
BOUNDARY_ID = 0  #: the token id that starts a document
MAX_LOAD = 0.8  #: share of the rows that is given away at most: a full bucket leaves out frequent n-grams
MIN_COUNT = 2  #: occurrences of an n-gram in the training text from which on it has a row
MAX_COUNTED_IDS = 1 << 21  #: token ids of the training text whose n-grams are counted
NUM_EXCERPTS = 32  #: excerpts of a longer text that are counted

TagsAndWords = tuple[NDArray[np.uint16], NDArray[np.uint8]]  #: the tags of the rows [R], the kinds of the token ids [V]


class NgramIndex(NamedTuple):
    """The arrays that find the rows of n-grams."""

    multipliers: Array  #: the multipliers that `make_hash_parameters` returns, int64 [N − 1, N]
    words: Array  #: kind of each token id, [V]: `NO_WORD`, `WORD` or `WORD_START`
    tags: Array  #: tag of the n-gram that owns each row, [R / 8, 8]; 0 if it is free


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
    rows, is_found = _match_tags(xp, hashes, index.tags)
    return rows, is_found, history


def _match_tags(xp: Any, hashes: Array, tags: Array) -> tuple[Array, Array]:
    """Return (the row of each hash, whether it has one), given the tags of the rows, [R / 8, 8]."""
    buckets, wanted = find_bucket(hashes, tags.shape[0] * BUCKET_ROWS)
    matches = tags[buckets] == wanted[..., None]  # [..., 8]
    return buckets * BUCKET_ROWS + xp.argmax(matches + 0, -1), matches.any(-1)


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


def build_index(
    config: ModelConfig,
    ids: NDArray[Any],
    words: NDArray[np.uint8],
    owned: NDArray[np.uint16] | None = None,
) -> NDArray[np.uint16]:
    """Return the tags of the rows of an n-gram table, uint16 [R].

    Args:
        config: The settings of a network with an index.
        ids: Token ids of the training text, [N]. Of a long text, some excerpts are counted.
        words: Kind of each token id, uint8 [V].
        owned: Tags of rows that are owned already, uint16 [R]: the n-grams of the text get free rows only. None: all
            rows are free.
    """
    from concurrent.futures import ThreadPoolExecutor  # only here: generating a text does not need it

    excerpts = [_hash_kinds(config, excerpt, words) for excerpt in _cut_excerpts(ids)]
    find_keys = partial(_find_keys, num_rows=config.ngram_rows)
    with ThreadPoolExecutor(1) as pool:  # it counts a kind of n-grams while this thread hashes the next kind
        counted = list(pool.map(lambda parts: _count_keys(map(find_keys, parts)), zip(*excerpts, strict=True)))
    keys, counts = zip(*counted, strict=True)
    tags = np.zeros(config.ngram_rows, dtype=np.uint16) if owned is None else owned.copy()
    key, count = np.concatenate(keys), np.concatenate(counts)
    chosen = np.argsort(-count, kind="stable")[: int(MAX_LOAD * config.ngram_rows)]
    _give_rows(key[chosen], count[chosen], tags.reshape(-1, BUCKET_ROWS))
    return tags


def move_rows(
    config: ModelConfig,
    ids: NDArray[Any],
    old_ids: NDArray[np.int64],
    index: TagsAndWords | None,
    old_index: TagsAndWords | None,
    table: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return an n-gram table for a vocabulary in which token ids have other numbers, [R, D].

    The n-grams of a text keep their rows. All others get rows of zeros.

    Args:
        config: The settings of the network.
        ids: Token ids of the text, [N]. Of a long text, the n-grams of some excerpts keep their rows.
        old_ids: The number that each token id had before, [V].
        index: The tags of the rows, uint16 [R], and the kinds of the token ids, uint8 [V]; None without an index.
        old_index: The same with the numbers from before.
        table: The table with the numbers from before, [R, D].
    """
    moved = np.zeros_like(table)
    for excerpt in _cut_excerpts(ids):
        new, old = _find_rows(config, excerpt, index), _find_rows(config, old_ids[excerpt], old_index)
        for (rows, has_row), (old_rows, had_row) in zip(new, old, strict=True):
            is_kept = has_row & had_row
            moved[rows[is_kept]] = table[old_rows[is_kept]]
    return moved


def _count_keys(parts: Iterable[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the n-grams of a kind that occur at least MIN_COUNT times, and how often each of them occurs.

    An n-gram is its bucket and its tag as one number.

    Args:
        parts: The n-gram at each position of the excerpts of a text.
    """
    keys = np.concatenate(list(parts))
    keys.sort()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(np.append(starts, len(keys)))
    is_frequent = counts >= MIN_COUNT
    return keys[starts[is_frequent]], counts[is_frequent]


def _find_rows(
    config: ModelConfig, ids: NDArray[np.int64], index: TagsAndWords | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield (the rows of the n-grams that end at each position of a text [N], which of them have one), kind by kind."""
    if index is not None:
        tags, words = index
        for hashes in _hash_kinds(config, ids, words):
            yield _match_tags(np, hashes, tags.reshape(-1, BUCKET_ROWS))
        return
    for kind, hashes in enumerate(_hash_kinds(config, ids, np.zeros(0, dtype=np.uint8))):
        rows = hashes >> get_hash_shift(config.ngram_rows) & (config.ngram_rows - 1)
        yield rows + kind * config.ngram_rows, np.ones(len(ids), dtype=np.bool_)


def _find_keys(hashes: NDArray[np.int64], num_rows: int) -> NDArray[Any]:
    """Return `_join_keys(*find_bucket(hashes, num_rows))`, with fewer operations: the two are adjacent bits."""
    num_buckets = num_rows // BUCKET_ROWS
    keys: NDArray[Any] = hashes >> (get_hash_shift(num_buckets) - TAG_BITS)
    mask = (num_buckets << TAG_BITS) - 1
    keys = keys.astype(np.uint32) & np.uint32(mask) if mask < 1 << 32 else keys & mask
    keys += (keys & ((1 << TAG_BITS) - 1)) == 0  # a tag is not 0
    return keys


def _join_keys(buckets: NDArray[np.int64], tags: NDArray[np.int64]) -> NDArray[Any]:
    """Return a bucket and a tag as one number: of 32 bits if they fit, because they are sorted in half the time."""
    keys = buckets << TAG_BITS | tags
    return keys.astype(np.uint32) if not keys.size or keys.max() < 1 << 32 else keys


def _give_rows(keys: NDArray[Any], counts: NDArray[np.int64], tags: NDArray[np.uint16]) -> None:
    """Give free rows to n-grams, in each bucket to the most frequent ones.

    Args:
        keys: The bucket and the tag of n-grams, as one number.
        counts: How often each of them occurs.
        tags: The tags of the rows of each bucket, [R / 8, 8], which the function changes; 0 for a free row.
    """
    buckets, rows = np.nonzero(tags)
    is_new = ~np.isin(keys, _join_keys(buckets, tags[buckets, rows].astype(np.int64)))
    keys = keys[is_new][np.argsort(-counts[is_new], kind="stable")]
    _, first = np.unique(keys, return_index=True)  # n-grams with the same bucket and tag share a row
    keys = keys[np.sort(first)]
    keys = keys[np.argsort(keys >> TAG_BITS, kind="stable")]  # by bucket, in it the most frequent ones first
    buckets = (keys >> TAG_BITS).astype(np.int64)
    order = np.arange(len(keys)) - np.searchsorted(buckets, buckets)  # of the n-grams in their bucket
    num_free = (tags == 0).sum(1)
    free_first = np.argsort(tags != 0, axis=1, kind="stable")  # [R / 8, 8]: the places of each bucket
    fits = order < num_free[buckets]
    buckets, order = buckets[fits], order[fits]
    tags[buckets, free_first[buckets, order]] = keys[fits] & ((1 << TAG_BITS) - 1)


def _cut_excerpts(ids: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the whole text, or excerpts at equal distances of a long one."""
    if len(ids) <= MAX_COUNTED_IDS:
        return [np.asarray(ids, dtype=np.int64)]
    size = MAX_COUNTED_IDS // NUM_EXCERPTS
    starts = np.linspace(0, len(ids) - size, NUM_EXCERPTS).astype(np.int64)
    return [np.asarray(ids[start : start + size], dtype=np.int64) for start in starts.tolist()]


def _hash_kinds(config: ModelConfig, ids: NDArray[np.int64], words: NDArray[np.uint8]) -> Iterator[NDArray[np.int64]]:
    """Yield the hashes of the n-grams that end at each position of a text, [N], for each of the K kinds.

    They are those of `hash_all`, in an order of operations that is fast for long texts. As in training, each document
    starts at its boundary with a history of zeros.

    Args:
        config: The settings of a network.
        ids: Token ids, [N].
        words: Kind of each token id, uint8 [V]; not used without n-grams that start with a word.
    """
    positions = np.arange(len(ids))
    is_boundary = ids == BOUNDARY_ID
    firsts = np.maximum.accumulate(np.where(is_boundary, positions, 0)) if is_boundary.any() else None
    for lags, multipliers in enumerate(make_hash_parameters(config.ngrams, config.ngram_rows)[0], start=1):
        if firsts is None:
            yield np.convolve(ids, multipliers[: lags + 1])[: len(ids)] if len(ids) else ids
            continue
        hashes = ids * multipliers[0]
        for lag in range(1, lags + 1):
            hashes[lag:] += np.where(positions[:-lag] >= firsts[lag:], ids[:-lag] * multipliers[lag], 0)
        yield hashes
    if config.ngram_words:
        yield from _hash_from_words(ids, words, config.ngram_words, firsts)


def _hash_from_words(
    ids: NDArray[np.int64], words: NDArray[np.uint8], num_words: int, firsts: NDArray[np.int64] | None
) -> Iterator[NDArray[np.int64]]:
    """Yield the hashes of the n-grams that start with a word and end at each position of a text, [N].

    The first ones start with the last word, the second ones with the word before, …

    With the sums P_t = Σ_{i ≤ t} v_i m^{−i}, the hash of the tokens from s to t is (P_t − P_{s−1}) m^t: an odd m has an
    inverse modulo 2⁶⁴.

    Args:
        ids: Token ids, [N].
        words: Kind of each token id, [V].
        num_words: The number of such n-grams, W.
        firsts: Position of the first token of the document at each position, [N]; None for 0.
    """
    constants = make_word_hashing(num_words)
    kinds = words[ids]
    earlier = np.concatenate([[NO_WORD], kinds[:-1]])
    is_start = (kinds == WORD_START) | ((kinds == WORD) & (earlier == NO_WORD))
    starts = np.flatnonzero(is_start)
    num_starts = np.cumsum(is_start)  # number of words up to each position
    powers = _find_powers(constants.m, len(ids))
    sums = np.zeros(len(ids) + 1, dtype=np.int64)
    terms = sums[1:]  # changed in place: to allocate a new array takes as long as an operation
    np.multiply(ids, constants.a, out=terms)
    terms += constants.b
    terms *= _find_powers(pow(constants.m, -1, 1 << 64), len(ids))
    np.add.accumulate(terms, out=terms)
    for word, final in enumerate(constants.final):
        first = np.concatenate([np.zeros(word + 1, dtype=np.int64), starts])[num_starts]
        if firsts is not None:
            np.maximum(first, firsts, out=first)
        hashes = terms - sums[first]
        hashes *= powers
        hashes *= final
        yield hashes


def _find_powers(base: int, num: int) -> NDArray[np.int64]:
    """Return base⁰, base¹, … modulo 2⁶⁴, as signed numbers, [N]."""
    powers = np.full(num, np.uint64(base & ((1 << 64) - 1)).astype(np.int64))
    powers[:1] = 1
    return np.multiply.accumulate(powers, out=powers)
