"""The n-grams that a head reads beside its layers, in NumPy: of many streams at once, or of one with little work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngrams import BITS, MASK, hashing, rows_read
from chargen.config import ModelConfig

Float = NDArray[np.float32]
History = NDArray[np.int64]  #: the last ids, [B, N − 1], the newest last


class NGrams:
    """The table and its head.

    Args:
        config: of a network that has them.
        weights: its weights in float32.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Float]) -> None:
        self.head, self.table = weights["ngrams.head"], weights["ngrams.weight"]  # [V, D], [(N − 1)·R, D]
        self._rows, self._length = config.ngram_rows, config.ngrams - 1
        self._hashed_by = hashing(config.ngrams, config.ngram_rows)

    def history(self, batch_size: int) -> History:
        """Return what there was before the first id."""
        return np.zeros((batch_size, self._length), dtype=np.int64)

    def read(self, ids: NDArray[Any], history: History) -> tuple[Float, History]:
        """Read an id of each stream, [B]: → (the sum of the rows that its n-grams stand for [B, D], the history)."""
        rows, history = rows_read(np, ids[None].astype(np.int64), history, self._hashed_by, self._rows)
        found: Float = self.table[rows[0]].sum(1)
        return found, np.ascontiguousarray(history)

    def reader(self, history: History, out: Float) -> Reader:
        """Return what reads one stream, or many: of one with `out` [D] by Python's numbers, of many with [B, D]."""
        return Reader(self, history, out)


class Reader:
    """Streams whose n-grams are read, id by id, and put where a step looks for them.

    Args:
        ngrams: the table.
        history: the ids before, [B, N − 1].
        out: where the sums of the rows go, [B, D], or [D] of one stream.
    """

    def __init__(self, ngrams: NGrams, history: History, out: Float) -> None:
        self._ngrams, self._out = ngrams, out
        self._history = history.copy()
        multipliers, first = ngrams._hashed_by
        self._last = history[0, ::-1].tolist()  # of one stream: the newest first
        self._w = [[w & MASK for w in row if w] for row in multipliers.tolist()]
        self._first, self._shift = first.tolist(), BITS - ngrams._rows.bit_length() + 1
        self.read = self._read_one if out.ndim == 1 else self._read_many

    def _read_one(self, token_id: int) -> None:
        last, table, out = [token_id, *self._last], self._ngrams.table, self._out
        add, before = np.add, None
        for row, first in zip(self._w, self._first, strict=True):
            place = first + ((sum(map(int.__mul__, row, last)) & MASK) >> self._shift)
            if before is None:
                before = table[place]
            else:
                add(before, table[place], out)
                before = out
        if before is not out:
            out[:] = before
        self._last = last[:-1]

    def _read_many(self, ids: NDArray[Any]) -> None:
        self._out[:], self._history = self._ngrams.read(ids, self._history)

    def history(self) -> History:
        """Return the ids read last, [B, N − 1]."""
        return np.array([self._last[::-1]]) if self._out.ndim == 1 else self._history
