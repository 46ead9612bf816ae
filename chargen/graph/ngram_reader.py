"""The n-gram features of streams: from token ids to the sum of some rows of a table.

`NGramTable` is what all streams share. An `NGramReader` reads the token ids of a stream one by one, or those of a batch
of streams, and writes their features to a buffer, from which the step of the network continues. Long streams continue
with a compiled function (`ngram_kernel.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngram_features import (
    MASK,
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

    def sum_reader(self, rows: NDArray[np.int64], out: Float) -> Callable[[], object]:
        """Return a function that writes the sum of the rows with the numbers in a buffer, [K], to another one, [D].

        With an index, there is a row of zeros after each bucket, for an n-gram without a row: the numbers count it.
        The function allocates no arrays.

        Args:
            rows: The buffer of the numbers.
            out: The buffer of the sum.
        """
        if self.index is not None:
            return self._with_zero_rows.sum_reader(rows, out)
        if isinstance(self.rows, PackedRows):
            return self.rows.sum_reader(rows, out)
        embeddings, take = np.zeros((len(rows), len(out)), dtype=np.float32), self.rows.take
        add_up = np.ones(len(rows), dtype=np.float32).dot

        def read() -> None:
            take(rows, 0, embeddings, "clip")
            add_up(embeddings, out)

        return read

    @cached_property
    def _with_zero_rows(self) -> PackedRows:
        """The table with a row of zeros after each bucket."""
        rows = self.rows
        if not isinstance(rows, PackedRows):
            rows = PackedRows(rows, None, np.packbits(np.ones(len(rows), dtype=np.bool_)), len(rows))
        return rows.with_zero_rows(BUCKET_ROWS)

    @cached_property
    def compiled_arguments(self) -> tuple[NDArray[Any], ...]:
        """The arguments of the compiled readers that all streams share: constants, kinds, tags and table."""
        from chargen.graph.ngram_kernel import make_constants

        kinds, tags = np.zeros(0, dtype=np.uint8), np.zeros((0, BUCKET_ROWS), dtype=np.uint16)
        if self.index is not None:
            kinds, tags = self.index.words.astype(np.uint8), np.require(self.index.tags, requirements=["C", "W"])
        table = np.require(self.table, requirements=["C", "W"])  # numba takes no read-only arrays for this type
        return make_constants(self.config), kinds, tags, table


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
        self._is_compiled = False
        num_ids = ngrams.config.ngrams - 1
        self._last = np.append(history[0, num_ids - 1 :: -1], 0)  # for one stream: the newest first
        self._words = history[0, num_ids:].copy()
        self.read = self._single_reader() if out.ndim == 1 else self._read_batch

    def compile(self) -> None:
        """Continue with a compiled function: the same results up to rounding, in less time. It needs numba."""
        from chargen.graph.ngram_kernel import compile_reader

        self._history, self._is_compiled = np.ascontiguousarray(self.history()), True
        kernel, arguments, out = compile_reader(self._out.ndim > 1), self._ngrams.compiled_arguments, self._out
        history = self._history if out.ndim > 1 else self._history[0]

        def read(token_ids: Any) -> None:
            kernel(token_ids, history, *arguments, out)

        self.read = read

    def _single_reader(self) -> Callable[[int], None]:
        """Return a function that computes what `_read_batch` computes, with calls that allocate nothing."""
        ngrams, last = self._ngrams, self._last
        multipliers, first = ngrams.hashing
        hashes = np.zeros(ngrams.config.num_ngrams, dtype=np.uint64)
        of_ids, dot, copyto = hashes[: len(first)].view(np.int64), multipliers.dot, np.copyto
        older, newer = last[1:], last[:-1]  # NumPy copies overlapping arrays as if they did not overlap
        if ngrams.index is None:
            read_rows = self._plain_rows(of_ids)
            hash_words: Callable[[int], None] = _no_words
        else:
            read_rows = self._indexed_rows(ngrams.index, hashes)
            hash_words = _word_hasher(ngrams.index.words, last, self._words, hashes[len(first) :])

        def read(token_id: int) -> None:
            hash_words(token_id)
            copyto(older, newer)
            last[0] = token_id
            dot(last, of_ids)
            read_rows()

        return read

    def _plain_rows(self, hashes: NDArray[np.int64]) -> Callable[[], None]:
        """Return a function that adds up the rows of the hashes in a buffer, for a table without an index."""
        first, num_rows = self._ngrams.hashing[1], self._ngrams.num_rows
        bits, mask = np.array(get_hash_shift(num_rows)), np.array(num_rows - 1)
        read_rows = self._ngrams.sum_reader(hashes, self._out)

        def read() -> None:
            np.right_shift(hashes, bits, hashes)
            np.bitwise_and(hashes, mask, hashes)
            np.add(hashes, first, hashes)
            read_rows()

        return read

    def _indexed_rows(self, index: NgramIndex, hashes: NDArray[np.uint64]) -> Callable[[], None]:
        """Return a function that adds up the rows of the n-grams whose hashes are in a buffer, [K]."""
        K = len(hashes)
        keys, buckets, places, rows = (np.zeros(K, dtype=np.int64) for _ in range(4))
        unsigned = keys.view(np.uint64)
        parts = keys.view(np.uint16).reshape(K, -1)
        tags = parts[:, :1] if sys.byteorder == "little" else parts[:, -1:]  # the lowest 16 bits of the keys
        below, tag_bits = np.array(get_hash_shift(len(index.tags)) - TAG_BITS, dtype=np.uint64), np.array(TAG_BITS)
        one, counted_rows = np.array(1, dtype=np.uint16), np.array(BUCKET_ROWS + 1)
        found = np.zeros((K, BUCKET_ROWS), dtype=index.tags.dtype)
        matches = np.ones((K, BUCKET_ROWS + 1), dtype=np.bool_)  # the last one is the row of zeros
        of_bucket, find, take_tags = matches[:, :BUCKET_ROWS], matches.argmax, index.tags.take
        read_rows = self._ngrams.sum_reader(rows, self._out)

        def read() -> None:
            np.right_shift(hashes, below, unsigned)  # the bucket, and then the tag
            np.right_shift(keys, tag_bits, buckets)
            np.maximum(tags, one, out=tags)
            take_tags(buckets, 0, found, "clip")
            np.equal(found, tags, of_bucket)
            find(1, places)
            np.multiply(buckets, counted_rows, rows)
            np.add(rows, places, rows)
            read_rows()

        return read

    def _read_batch(self, ids: NDArray[Any]) -> None:
        self._out[:], self._history = self._ngrams.read(ids, self._history)

    def history(self) -> History:
        """Return the history after the last token id, [B, N − 1 + W]."""
        if self._out.ndim > 1 or self._is_compiled:
            history: History = self._history.copy()
        else:
            history = np.concatenate([self._last[-2::-1], self._words])[None]
        return history

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Reset the history of these streams, which are rows of a batch, to the initial one."""
        self._history[rows] = 0


def _no_words(token_id: int) -> None:
    """Do nothing: there are no n-grams that start with a word."""


def _word_hasher(
    kinds: NDArray[np.int64], last: NDArray[np.int64], g: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> Callable[[int], None]:
    """Return a function that reads a token id, updates g, [W], and writes the hashes to a buffer, [W].

    For a few numbers, Python's integers are faster than NumPy.

    Args:
        kinds: The kind of each token id, [V].
        last: A buffer whose first number is the token id before.
        g: The hashes g of `cells/ngram_features.py`, which the function changes.
        hashes: The buffer of the hashes.
    """
    if not len(g):
        return _no_words
    m, a, b, final = make_word_hashing(len(g))
    kind_of, unsigned = kinds.tolist(), g.view(np.uint64)
    words = list(enumerate(final))

    def read(token_id: int) -> None:
        before = unsigned.tolist()
        kind = kind_of[token_id]
        if kind == WORD_START or (kind == WORD and kind_of[last[0]] == NO_WORD):
            before = [0, *before]
        value = token_id * a + b
        for k, multiplier in words:
            unsigned[k] = now = (before[k] * m + value) & MASK
            hashes[k] = now * multiplier & MASK

    return read
