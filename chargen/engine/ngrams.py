"""The n-grams that a head reads beside its layers, in NumPy: of many streams at once, or of one with little work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.cells.ngrams import hashing, rows_read, shift
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
        self.rows, self.length = config.ngram_rows, config.ngrams - 1
        self.hashed_by = hashing(config.ngrams, config.ngram_rows)

    def history(self, batch_size: int) -> History:
        """Return what there was before the first id."""
        return np.zeros((batch_size, self.length), dtype=np.int64)

    def read(self, ids: NDArray[Any], history: History) -> tuple[Float, History]:
        """Read an id of each stream, [B]: → (the sum of the rows that its n-grams stand for [B, D], the history)."""
        rows, history = rows_read(np, ids[None].astype(np.int64), history, self.hashed_by, self.rows)
        found: Float = self.table[rows[0]].sum(1)
        return found, np.ascontiguousarray(history)


class Reader:
    """Streams whose n-grams are read, id by id, and put where a step looks for them.

    Args:
        ngrams: the table.
        history: the ids before, [B, N − 1].
        out: where the sums of the rows go, [B, D], or [D] of one stream.
    """

    def __init__(self, ngrams: NGrams, history: History, out: Float) -> None:
        self._ngrams, self._out, self._history = ngrams, out, history.copy()
        self._last = np.append(history[0, ::-1], 0)  # of one stream: the newest first
        self.read = self._one() if out.ndim == 1 else self._read_many

    def _one(self) -> Callable[[int], None]:
        """Return what does as `rows_read` and a sum, in calls that allocate nothing."""
        ngrams, last, out = self._ngrams, self._last, self._out
        (multipliers, first), take = ngrams.hashed_by, ngrams.table.take
        bits, mask = np.array(shift(ngrams.rows)), np.array(ngrams.rows - 1)
        places, found = np.zeros_like(first), np.zeros((len(first), len(out)), dtype=np.float32)
        older, newer, dot, moved = last[1:], last[:-1].copy(), multipliers.dot, np.copyto
        add_up = np.ones(len(first), dtype=np.float32).dot

        def read(token_id: int) -> None:
            moved(newer, last[:-1])
            moved(older, newer)
            last[0] = token_id
            dot(last, places)
            np.right_shift(places, bits, places)
            np.bitwise_and(places, mask, places)
            np.add(places, first, places)
            take(places, 0, found, "clip")
            add_up(found, out)

        return read

    def _read_many(self, ids: NDArray[Any]) -> None:
        self._out[:], self._history = self._ngrams.read(ids, self._history)

    def history(self) -> History:
        """Return the ids read last, [B, N − 1]."""
        last: History = self._last[None, -2::-1].copy() if self._out.ndim == 1 else self._history
        return last

    def restart(self, rows: NDArray[np.intp]) -> None:
        """Put these of many streams back to the beginning."""
        self._history[rows] = 0
