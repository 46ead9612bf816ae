"""Cut token ids into batches for truncated back-propagation through time (BPTT).

`TextBatches` reads one continuous text. The N tokens are cut into B rows of equal length; a batch is one window of at
most T tokens from every row:

    tokens     │ row 0 ──────────▶│ row 1 ──────────▶│ … │ row B−1 ────────▶│ r    r = N mod B tokens, not used
    window k       [═══]              [═══]                  [═══]
    inputs         start id, x₀, x₁, …  (the token id before each target)          targets   x₀, x₁, x₂, …

At the end of its part, a batch row continues with the next row's part and carries its state over, so after B epochs
every row has read the whole text in order. Only the row that returns to the start of the text is reset.

The L = N // B tokens of a part are cut into windows of nearly equal length, at most T. So no window is so short that
its gradient is mostly noise, and no tokens are left over.

`DocumentBatches` reads documents, in a new random order in each epoch:

    row 0   [doc 7 ···│··· end ‒‒‒][doc 2 ···│··· end ‒][…
    row 1   [doc 0 ·· end ‒‒‒‒‒‒‒‒][doc 5 ···│·········│·· end ‒‒]         ‒ is padding: no target, no loss

A document starts at the start of a window, from the initial state and the boundary id, and ends with the boundary id.
The rest of its last window is padding. Rows that end early are filled up with empty windows.

All rows should have nearly the same number of windows: where only some rows have a window, a step takes as long but
learns from fewer tokens. So long documents are divided into pieces. A piece is read like a document, from the initial
state, but the first input of a later piece is the token id before it. Long documents and pieces are assigned first, the
longest first, each to the row with the fewest windows so far. Then the small documents fill up the rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.tokenizers.tokenizer import BOUNDARY_ID


@dataclass(frozen=True)
class Batch:
    """One window of every batch row. The first axis is time, as everywhere inside the networks."""

    inputs: NDArray[np.int64]  #: [T, B]
    targets: NDArray[np.int64]  #: [T, B]: the id that follows each input, or NO_TARGET
    reset: NDArray[np.bool_]  #: [B]: whether a row starts from the initial state here


@dataclass(frozen=True)
class Position:
    """The position of a batch in the training run. A resumed run needs nothing else to find its next batch."""

    epoch: int = 0
    window: int = 0  #: index of the window in its epoch


class BatchSource(ABC):
    """An endless sequence of batches with random access: any batch can be computed from its position alone."""

    batch_size: int
    seq_len: int  #: length of the longest window
    num_ids: int  #: number of tokens in the source
    ids_per_epoch: int  #: number of targets in an epoch
    windows_per_epoch: int

    @abstractmethod
    def num_ids_before(self, position: Position) -> int:
        """Return the number of targets in the windows of this epoch that precede a position."""

    @abstractmethod
    def get_batch(self, position: Position) -> Batch:
        """Return the batch at a position. It does not depend on the batches that were read before."""

    def has_window(self, position: Position) -> bool:
        """Return whether the epoch of a position has a window with this index."""
        return position.window < self.windows_per_epoch

    def next_position(self, position: Position) -> Position:
        """Return the position of the batch that follows: the next window, or the first one of the next epoch."""
        if position.window + 1 < self.windows_per_epoch:
            return Position(position.epoch, position.window + 1)
        return Position(position.epoch + 1, 0)


class TextBatches(BatchSource):
    """Batches of a continuous text.

    Args:
        ids: Token ids, [N], in memory or memory-mapped.
        start_id: The input token id before the first token id of the text.
        batch_size: Requested number of batch rows. It is reduced for a short text, so that every row has at least
            `seq_len` tokens.
        seq_len: T, the maximum window length. Windows are shorter if a single row already has fewer tokens.

    Raises:
        CorpusError: If there are no tokens.
    """

    def __init__(self, ids: NDArray[Any], start_id: int, batch_size: int, seq_len: int) -> None:
        if not len(ids):
            raise CorpusError("there is nothing to train on", "Give a text with at least two characters.")
        self.batch_size = max(1, min(batch_size, len(ids) // seq_len))
        self.row_len = len(ids) // self.batch_size
        self.windows_per_epoch = -(-self.row_len // seq_len)
        self._ids = np.asarray(ids)  # a memory map stays one; a plain array is faster to index
        self._start_id = start_id
        self._bounds = [k * self.row_len // self.windows_per_epoch for k in range(self.windows_per_epoch + 1)]
        self.seq_len = -(-self.row_len // self.windows_per_epoch)
        self.num_ids = len(ids)
        self.ids_per_epoch = self.row_len * self.batch_size  # without the last N mod B tokens

    def num_ids_before(self, position: Position) -> int:
        """Return the number of targets in the windows of this epoch that precede a position."""
        return self._bounds[position.window] * self.batch_size

    def ids_with_start(self) -> NDArray[np.int32]:
        """Return a new array, [N + 1]: the start id, then all token ids. `window_offsets` are offsets into it."""
        ids = np.empty(len(self._ids) + 1, dtype=np.int32)
        ids[0] = self._start_id
        ids[1:] = self._ids
        return ids

    def window_offsets(self, position: Position) -> tuple[NDArray[np.int64], int]:
        """Return the offset of each row's first input in `ids_with_start()`, [B], and the length of the window."""
        start = self._bounds[position.window]
        end = self._bounds[position.window + 1]
        rows = np.arange(self.batch_size, dtype=np.int64)
        parts = (rows + position.epoch) % self.batch_size  # the part of the text that each row reads
        return parts * self.row_len + start, end - start

    def reset_mask(self, position: Position) -> NDArray[np.bool_]:
        """Return which rows start from the initial state at a position, [B]."""
        offsets, _ = self.window_offsets(position)
        return np.asarray((offsets == 0) | (position == Position()))

    def get_batch(self, position: Position) -> Batch:
        """Return the batch at a position. It does not depend on the batches that were read before."""
        starts, length = self.window_offsets(position)
        offsets = starts + np.arange(-1, length)[:, None]  # [T + 1, B]; −1 is the start id
        window = self._ids[np.maximum(offsets, 0)].astype(np.int64)
        window[offsets < 0] = self._start_id
        return Batch(window[:-1], window[1:], self.reset_mask(position))


NO_TARGET = -100  #: target id that the cross-entropy ignores
LENGTH_QUANTILE = 0.95  #: windows are shortened to the length below which this share of the documents is
MIN_ROW_WINDOWS = 32  #: minimum length of a row in windows if documents are divided; shorter documents are not divided
SMALL_SHARE = 64  #: a document with at most 1/64 of the windows of a mean row is small; small ones fill up the rows
MAX_PIECE_SHARE = 1.1  #: size of the longest pieces that are tried, as a multiple of the mean row length in windows
NUM_PIECE_SIZES = 60  #: number of piece sizes that are tried
PIECE_SIZE_FACTOR = 0.96  #: ratio of a piece size to the one tried before it; the last size is a tenth of the mean row
MIN_PIECE_GAIN = 0.02  #: share by which shorter pieces must shorten the longest row, so that they are used instead


@dataclass(frozen=True)
class EpochLayout:
    """The order of an epoch's pieces and their division into rows.

    The windows of all pieces, in order, are numbered 0, 1, 2, …; these numbers are called slots. Window k of row b is
    slot `row_starts[b] + k`.
    """

    order: NDArray[np.int64]  #: [pieces]: numbers of pieces, row by row, shuffled within each row
    slots: NDArray[np.int64]  #: [pieces + 1]: the first slot of each piece in `order`, and the number of slots
    row_starts: NDArray[np.int64]  #: [B + 1]: the first slot of each row, and the number of slots


class DocumentBatches(BatchSource):
    """Batches of documents, in a new random order in each epoch.

    Args:
        ids: Token ids, [N]; the boundary id follows each document.
        batch_size: Requested number of batch rows. It is reduced if there are fewer documents, unless these are so long
            that each row has MIN_ROW_WINDOWS windows.
        seq_len: T, the maximum window length. It is reduced if nearly all documents are shorter.
        seed: Seed of the shuffling.

    Raises:
        CorpusError: If there is no complete document.
    """

    def __init__(self, ids: NDArray[Any], batch_size: int, seq_len: int, seed: int) -> None:
        ends = np.flatnonzero(ids == BOUNDARY_ID)
        if not len(ends):
            raise CorpusError("there is no complete document to train on", "Give more text, or --documents none.")
        self._ids = ids
        self._seed = seed
        self.num_documents = len(ends)  #: number of complete documents
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends + 1 - starts  # the boundary id is the last target
        self.seq_len = max(1, min(seq_len, int(np.quantile(lengths, LENGTH_QUANTILE, method="higher"))))
        windows = -(-lengths // self.seq_len)
        num_windows = int(windows.sum())
        self.batch_size = max(1, min(batch_size, max(len(ends), num_windows // MIN_ROW_WINDOWS)))
        row_windows = -(-num_windows // self.batch_size)
        max_windows = _choose_piece_size(windows, self.batch_size)
        self._starts, self._lengths = _divide(starts, lengths, self.seq_len, max_windows)
        self._windows = -(-self._lengths // self.seq_len)  # [pieces]: the number of windows of each
        self._is_small = self._windows * SMALL_SHARE <= row_windows
        large = np.sort(self._windows[~self._is_small])[::-1]
        loads = np.bincount(_pack(large, self.batch_size), large, self.batch_size)
        # Small documents fill up the rows. They may not fit exactly: an epoch can have up to 2 % more windows.
        self.windows_per_epoch = max(row_windows, int(loads.max()))
        self.num_ids = self.ids_per_epoch = int(ends[-1]) + 1
        self._layout = lru_cache(maxsize=2)(self._build_layout)

    def num_ids_before(self, position: Position) -> int:
        """Return an estimate of the number of targets in the windows of this epoch that precede a position."""
        return min(self.ids_per_epoch, position.window * self.ids_per_epoch // self.windows_per_epoch)

    def has_window(self, position: Position) -> bool:
        """Return whether the epoch of a position has a window with this index."""
        return position.window < int(np.diff(self._layout(position.epoch).row_starts).max())

    def next_position(self, position: Position) -> Position:
        """Return the position of the batch that follows: the next window, or the first one of the next epoch."""
        following = Position(position.epoch, position.window + 1)
        return following if self.has_window(following) else Position(position.epoch + 1)

    def get_batch(self, position: Position) -> Batch:
        """Return the batch at a position. It does not depend on the batches that were read before."""
        layout = self._layout(position.epoch)
        slots = layout.row_starts[:-1] + position.window
        has_slot = slots < layout.row_starts[1:]  # [B]: whether the row still has a window
        rank = np.searchsorted(layout.slots, np.minimum(slots, layout.slots[-1] - 1), side="right") - 1
        window = np.where(has_slot, slots - layout.slots[rank], 0)
        piece = layout.order[rank]
        offsets = window * self.seq_len + np.arange(self.seq_len)[:, None]  # [T, B], from the start of the piece
        has_target = has_slot & (offsets < self._lengths[piece])
        length = int(has_target.any(axis=1).sum())  # steps after the last target of all rows are left out
        has_target = has_target[:length]
        target_index = np.where(has_target, self._starts[piece] + offsets[:length], 0)
        pairs = self._ids[np.stack([np.maximum(target_index - 1, 0), target_index])].astype(np.int64)
        inputs = np.where(target_index > 0, pairs[0], BOUNDARY_ID)  # before a document is the boundary id of another
        return Batch(inputs, np.where(has_target, pairs[1], NO_TARGET), window == 0)

    def _build_layout(self, epoch: int) -> EpochLayout:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts))
        windows, is_small = self._windows[order], self._is_small[order]
        rows = np.empty(len(order), dtype=np.int32)
        large = np.flatnonzero(~is_small)
        large = large[np.argsort(-windows[large], kind="stable")]
        rows[large] = _pack(windows[large], self.batch_size)
        if is_small.any():
            free = self.windows_per_epoch - np.bincount(rows[large], windows[large], self.batch_size)  # [B]
            read = np.cumsum(windows[is_small])
            row_ends = np.cumsum(free) / free.sum() * read[-1]
            rows[is_small] = np.searchsorted(row_ends, read - windows[is_small] / 2)
        by_row = np.argsort(rows, kind="stable")
        slots = np.concatenate([[0], np.cumsum(windows[by_row])])
        row_starts = slots[np.searchsorted(rows[by_row], np.arange(self.batch_size + 1))]
        return EpochLayout(order[by_row], slots, row_starts)


def _choose_piece_size(windows: NDArray[np.int64], num_rows: int) -> int:
    """Return the maximum number of windows of a piece, chosen so that the longest row is short.

    A piece that is a little shorter than a row leaves a gap that no second piece fits into. So shorter and shorter
    pieces are tried. They are used if they make the longest row shorter by MIN_PIECE_GAIN.

    Args:
        windows: Number of windows of each document, [documents].
        num_rows: Number of rows.
    """
    row_windows = -(-int(windows.sum()) // num_rows)
    long = windows[windows * SMALL_SHARE > row_windows]
    best_size, lowest = 0, math.inf
    for attempt in range(NUM_PIECE_SIZES):
        size = max(MIN_ROW_WINDOWS, round(MAX_PIECE_SHARE * row_windows * PIECE_SIZE_FACTOR**attempt))
        _, pieces = _divide(np.zeros_like(long), long, 1, size)
        large = np.sort(pieces[pieces * SMALL_SHARE > row_windows])[::-1]
        longest = np.bincount(_pack(large, num_rows), large, num_rows).max()
        if longest < (1.0 - MIN_PIECE_GAIN) * lowest:
            best_size, lowest = size, longest
        if longest <= (1.0 + MIN_PIECE_GAIN) * row_windows or size == MIN_ROW_WINDOWS:
            break
    return best_size


def _divide(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], seq_len: int, max_windows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide documents that have too many windows into pieces of nearly equal length, each a number of whole windows.

    Args:
        starts: Index of the first target of each document, [documents].
        lengths: Number of targets of each document, [documents].
        seq_len: Length of a window.
        max_windows: Maximum number of windows of a piece.

    Returns:
        The same for each piece, [pieces].
    """
    windows = -(-lengths // seq_len)
    piece_len = -(-windows // -(-windows // max_windows)) * seq_len  # [documents]: of all pieces but the last
    num_pieces = -(-lengths // piece_len)
    document = np.repeat(np.arange(len(starts)), num_pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(num_pieces) - num_pieces, num_pieces)
    offsets = number * piece_len[document]
    return starts[document] + offsets, np.minimum(piece_len[document], lengths[document] - offsets)


def _pack(windows: NDArray[np.int64], num_rows: int) -> NDArray[np.int32]:
    """Assign each piece to the row with the fewest windows so far, and return its row, [pieces].

    With the longest piece first, this is the LPT rule (Graham 1969): the longest row is at most 4/3 of the optimum.

    Args:
        windows: Number of windows of each piece, the longest first, [pieces].
        num_rows: Number of rows.
    """
    loads = [(0, row) for row in range(num_rows)]  # a heap
    rows = np.empty(len(windows), dtype=np.int32)
    for index, count in enumerate(windows.tolist()):
        load, row = loads[0]
        rows[index] = row
        heapreplace(loads, (load + count, row))
    return rows


def build_batches(
    ids: NDArray[Any], start_id: int, has_documents: bool, batch_size: int, seq_len: int, seed: int
) -> BatchSource:
    """Return the batches of a continuous text, or of documents.

    Args:
        ids: Token ids, [N].
        start_id: The input token id before a continuous text.
        has_documents: Whether the token ids are those of documents.
        batch_size: Requested number of batch rows.
        seq_len: Maximum window length.
        seed: Seed of the order of documents.

    Raises:
        CorpusError: If there is nothing to train on.
    """
    if has_documents:
        return DocumentBatches(ids, batch_size, seq_len, seed)
    return TextBatches(ids, start_id, batch_size, seq_len)
