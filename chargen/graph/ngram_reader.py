"""The n-gram features of streams: from token ids to the sum of some rows of a table.

`NGramTable` is what all streams share. An `NGramReader` reads the token ids of a stream one by one, or those of a batch
of streams, and writes their features to a buffer, from which the step of the network continues.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngram_features import (
    find_ngram_rows,
    get_hash_shift,
    make_hash_parameters,
    make_word_hashing,
)
from chargen.cells.ngram_index import BUCKET_ROWS, TAG_BITS, NgramIndex, find_indexed_rows
from chargen.config import ModelConfig
from chargen.config.model import NO_WORD, WORD, WORD_START
from chargen.storage.packed_rows import PackedRows

Float = NDArray[np.float32]
History = NDArray[np.int64]  #: the last token ids, the newest last, and the hashes of words, [B, N − 1 + W]


class NGramTable:
    """The table of the n-gram features, and the part of the head that reads them.

    Args:
        config: The config of a network with n-gram features.
        head: The head of the n-gram features, [V, D].
        rows: The table, [R, D], as an array or as a file stores it.
        tags: The tag of the n-gram that owns each row, uint16 [R]; None without an index.
        words: The kind of each token id, uint8 [V]; None without an index.
    """

    def __init__(
        self,
        config: ModelConfig,
        head: Float,
        rows: Float | PackedRows,
        tags: NDArray[np.uint16] | None = None,
        words: NDArray[np.uint8] | None = None,
    ) -> None:
        self.head, self.rows, self.config = head, rows, config
        self.num_rows, self.length = config.ngram_rows, config.num_history
        self.hashing = make_hash_parameters(config.ngrams, config.ngram_rows)
        self.index: NgramIndex | None = None
        if tags is not None and words is not None:
            self.index = NgramIndex(self.hashing[0], words.astype(np.int64), tags.reshape(-1, BUCKET_ROWS))

    @cached_property
    def table(self) -> Float:
        """The whole table as an array, [R, D]."""
        return self.rows.expand() if isinstance(self.rows, PackedRows) else self.rows

    def initial_history(self, batch_size: int) -> History:
        """Return the history before the first token id, [B, N − 1 + W]."""
        return np.zeros((batch_size, self.length), dtype=np.int64)

    def read(self, ids: NDArray[Any], history: History) -> tuple[Float, History]:
        """Read one token id per stream, [B], and return (the features [B, D], the history after it)."""
        ids = ids[None].astype(np.int64)
        if self.index is None:
            rows, history = find_ngram_rows(np, ids, history, self.hashing, self.num_rows)
            features: Float = self.rows[rows[0]].sum(1)
        else:
            rows, is_found, history = find_indexed_rows(np, ids, history, self.index)
            features = np.einsum("bkd,bk->bd", self.rows[rows[0]], is_found[0].astype(np.float32))
        return features, np.ascontiguousarray(history)

    def sum_reader(
        self, rows: NDArray[np.int64], out: Float, expands: bool, factors: Float | None = None
    ) -> Callable[[], object]:
        """Return a function that writes the sum of the rows with the numbers in a buffer, [K], to another one, [D].

        The function allocates no arrays. If it `expands` the table, which takes 7 ms for 300,000 rows, it has the same
        result, and each call takes 1.5 µs less: 5 % of a step.

        Args:
            rows: The buffer of the numbers.
            out: The buffer of the sum.
            expands: Whether the table is expanded.
            factors: A buffer with the factor of each row, [K]; None for 1.
        """
        factors = np.ones(len(rows), dtype=np.float32) if factors is None else factors
        if isinstance(self.rows, PackedRows) and not expands:
            return self.rows.sum_reader(rows, out, factors)
        embeddings, take = np.zeros((len(rows), len(out)), dtype=np.float32), self.table.take
        add_up = factors.dot

        def read() -> None:
            take(rows, 0, embeddings, "clip")
            add_up(embeddings, out)

        return read


class NGramReader:
    """Computes the n-gram features of a single stream or of a batch, token by token, and writes them to a buffer.

    Args:
        ngrams: The table of the n-gram features.
        history: The history before the first step, [B, N − 1 + W].
        out: The part of the buffer to which the features are written, [B, D], or [D] for a single stream.
    """

    def __init__(self, ngrams: NGramTable, history: History, out: Float) -> None:
        self._ngrams, self._out = ngrams, out
        self._history: History = history.copy()
        num_ids = ngrams.config.ngrams - 1
        self._last = np.append(history[0, num_ids - 1 :: -1], 0)  # for one stream: the newest first
        self._words = history[0, num_ids:].copy()
        self.read = self._single_reader(expands=False) if out.ndim == 1 else self._read_batch

    def expand_table(self) -> None:
        """Let a single stream read the expanded table: the same results, in less time if it reads many tokens."""
        if self._out.ndim == 1:
            self.read = self._single_reader(expands=True)

    def _single_reader(self, expands: bool) -> Callable[[int], None]:
        """Return a function that computes what `_read_batch` computes, with calls that allocate nothing."""
        ngrams, last = self._ngrams, self._last
        multipliers, first = ngrams.hashing
        hashes = np.zeros(ngrams.config.num_ngrams, dtype=np.int64)
        of_ids, dot, copyto = hashes[: len(first)], multipliers.dot, np.copyto
        older, newer = last[1:], last[:-1].copy()
        if ngrams.index is None:
            read_rows = self._plain_rows(hashes, expands)
            hash_words: Callable[[int], None] = _no_words
        else:
            read_rows = self._indexed_rows(ngrams.index, hashes, expands)
            hash_words = _word_hasher(ngrams.index.words, last, self._words, hashes[len(first) :])

        def read(token_id: int) -> None:
            hash_words(token_id)
            copyto(newer, last[:-1])
            copyto(older, newer)
            last[0] = token_id
            dot(last, of_ids)
            read_rows()

        return read

    def _plain_rows(self, hashes: NDArray[np.int64], expands: bool) -> Callable[[], None]:
        """Return a function that adds up the rows of the hashes in a buffer, for a table without an index."""
        first, num_rows = self._ngrams.hashing[1], self._ngrams.num_rows
        bits, mask = np.array(get_hash_shift(num_rows)), np.array(num_rows - 1)
        read_rows = self._ngrams.sum_reader(hashes, self._out, expands)

        def read() -> None:
            np.right_shift(hashes, bits, hashes)
            np.bitwise_and(hashes, mask, hashes)
            np.add(hashes, first, hashes)
            read_rows()

        return read

    def _indexed_rows(self, index: NgramIndex, hashes: NDArray[np.int64], expands: bool) -> Callable[[], None]:
        """Return a function that adds up the rows of the n-grams whose hashes are in a buffer, [K]."""
        K, num_buckets = len(hashes), len(index.tags)
        shift = get_hash_shift(num_buckets)
        bucket_bits, bucket_mask = np.array(shift), np.array(num_buckets - 1)
        tag_bits, tag_mask, one = np.array(shift - TAG_BITS), np.array((1 << TAG_BITS) - 1), np.array(1)
        buckets, tags, rows = np.zeros_like(hashes), np.zeros((K, 1), dtype=np.int64), np.zeros_like(hashes)
        found, matches = np.zeros((K, BUCKET_ROWS), dtype=index.tags.dtype), np.zeros((K, BUCKET_ROWS), dtype=np.bool_)
        is_found, factors = np.zeros(K, dtype=np.bool_), np.zeros(K, dtype=np.float32)
        bucket_rows, starts = np.array(BUCKET_ROWS), np.arange(0, K * BUCKET_ROWS, BUCKET_ROWS)
        places, flat_tags = np.zeros_like(hashes), tags[:, 0]
        take_tags, take_matches, find = index.tags.take, matches.ravel().take, matches.argmax
        read_rows, copyto = self._ngrams.sum_reader(rows, self._out, expands, factors), np.copyto

        def read() -> None:
            np.right_shift(hashes, bucket_bits, buckets)
            np.bitwise_and(buckets, bucket_mask, buckets)
            np.right_shift(hashes, tag_bits, flat_tags)
            np.bitwise_and(flat_tags, tag_mask, flat_tags)
            np.maximum(flat_tags, one, out=flat_tags)
            take_tags(buckets, 0, found, "clip")
            np.equal(found, tags, matches)
            find(1, places)
            np.multiply(buckets, bucket_rows, rows)
            np.add(rows, places, rows)
            np.add(places, starts, places)
            take_matches(places, 0, is_found, "clip")
            copyto(factors, is_found)
            read_rows()

        return read

    def _read_batch(self, ids: NDArray[Any]) -> None:
        self._out[:], self._history = self._ngrams.read(ids, self._history)

    def history(self) -> History:
        """Return the history after the last token id, [B, N − 1 + W]."""
        if self._out.ndim > 1:
            return self._history
        history: History = np.concatenate([self._last[-2::-1], self._words])
        return history[None]

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Reset the history of these streams, which are rows of a batch, to the initial one."""
        self._history[rows] = 0


def _no_words(token_id: int) -> None:
    """Do nothing: there are no n-grams that start with a word."""


def _word_hasher(
    kinds: NDArray[np.int64], last: NDArray[np.int64], g: NDArray[np.int64], hashes: NDArray[np.int64]
) -> Callable[[int], None]:
    """Return a function that reads a token id, updates g, [W], and writes the hashes to a buffer, [W].

    Args:
        kinds: The kind of each token id, [V].
        last: A buffer whose first number is the token id before.
        g: The hashes g of `cells/ngram_features.py`, which the function changes.
        hashes: The buffer of the hashes.
    """
    if not len(g):
        return _no_words
    constants = make_word_hashing(len(g))
    kind_of = kinds.tolist()
    with np.errstate(over="ignore"):
        values = list(np.arange(len(kind_of)) * np.int64(constants.a) + np.int64(constants.b))
    m, final = np.array(constants.m), np.array(constants.final)
    shorter = g[:-1].copy()

    def read(token_id: int) -> None:
        kind = kind_of[token_id]
        if kind == WORD_START or (kind == WORD and kind_of[last[0]] == NO_WORD):
            np.copyto(shorter, g[:-1])
            np.copyto(g[1:], shorter)
            g[0] = 0
        np.multiply(g, m, g)
        np.add(g, values[token_id], g)
        np.multiply(g, final, hashes)

    return read
