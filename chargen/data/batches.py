"""B lanes over one long stream of ids, in windows of T: what truncated back-propagation through time reads.

    ids      │ lane 0 ─────────▶│ lane 1 ─────────▶│ … │ lane B−1 ───────▶│ r    r = N mod B ids, left out
    window k      [═══]              [═══]                  [═══]
    input         start,x₀,x₁…  the id before each target;  target  x₀,x₁,x₂…

At the end of its part a lane goes on into the next lane's part, state carried, so that over B epochs every lane reads
the whole text as it stands. Only the lane that begins at the beginning of the text again is fresh.

The L = N // B ids of a part are cut into windows of as equal a length as can be, none longer than T: no window is so
short that its gradient is noise, and nothing is left over.

B lanes of documents, shuffled anew for each epoch, in windows of T.

    lane 0   [doc 7 ···│··· end ‒‒‒][doc 2 ···│··· end ‒][…
    lane 1   [doc 0 ·· end ‒‒‒‒‒‒‒‒][doc 5 ···│·········│·· end ‒‒]        ‒ is padding: no target, no loss

A document begins at a window's beginning, from the initial state and the boundary, and ends with the boundary. What is
left of its last window is padding. Lanes end with whole documents, the shorter ones with empty windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.tokenizers.tokenizer import BOUNDARY_ID


@dataclass(frozen=True)
class Batch:
    """One window of every lane. Time comes first, as everywhere inside the networks."""

    inputs: NDArray[np.int64]  #: [T, B]
    targets: NDArray[np.int64]  #: [T, B]: the id that follows each input
    fresh: NDArray[np.bool_]  #: [B]: the lanes that start anew here, from the initial state


@dataclass(frozen=True)
class Position:
    """Where the next batch stands: all that a resumed run needs to know."""

    epoch: int = 0
    window: int = 0


class BatchSource(ABC):
    """An endless stream of batches, each of which can be asked for by its position."""

    batch_size: int
    seq_len: int  #: the longest window there is
    num_ids: int
    ids_per_epoch: int  #: how many targets an epoch has
    windows_per_epoch: int

    @abstractmethod
    def ids_before(self, position: Position) -> int:
        """How many targets of its epoch the windows before a position have."""

    @abstractmethod
    def batch(self, position: Position) -> Batch:
        """Return the batch at a position. No position depends on the ones before it."""

    def has(self, position: Position) -> bool:
        """Tell whether there is a batch at a position."""
        return position.window < self.windows_per_epoch

    def after(self, position: Position) -> Position:
        """Return the position of the batch after this one."""
        if position.window + 1 < self.windows_per_epoch:
            return Position(position.epoch, position.window + 1)
        return Position(position.epoch + 1, 0)


class TextBatches(BatchSource):
    """An endless stream of batches over ids.

    Args:
        ids: [N], in memory or memory-mapped.
        start_id: what the text begins after.
        batch_size: lanes wanted; fewer where the text is short: never so many that a lane has under `seq_len` ids.
        seq_len: T, the longest window; shorter where even one lane has fewer ids.

    Raises:
        CorpusError: there are no ids.
    """

    def __init__(self, ids: NDArray[Any], start_id: int, batch_size: int, seq_len: int) -> None:
        if not len(ids):
            raise CorpusError("there is nothing to train on", "Give a text with at least two characters.")
        self.batch_size = max(1, min(batch_size, len(ids) // seq_len))
        self.lane_len = len(ids) // self.batch_size
        self.windows_per_epoch = -(-self.lane_len // seq_len)
        self._ids = np.asarray(ids)  # of a memory map: still one, but quicker to index
        self._start_id = start_id
        self._bounds = [k * self.lane_len // self.windows_per_epoch for k in range(self.windows_per_epoch + 1)]
        self.seq_len = -(-self.lane_len // self.windows_per_epoch)
        self.num_ids = len(ids)
        self.ids_per_epoch = self.lane_len * self.batch_size  # all but the N mod B at the end

    def ids_before(self, position: Position) -> int:
        """How many targets of its epoch the windows before a position have."""
        return self._bounds[position.window] * self.batch_size

    def text(self) -> NDArray[np.int32]:
        """Return a copy of what the text begins after and all its ids, [N + 1]: what `window` gives places in."""
        text = np.empty(len(self._ids) + 1, dtype=np.int32)
        text[0], text[1:] = self._start_id, self._ids
        return text

    def window(self, position: Position) -> tuple[NDArray[np.int64], int]:
        """Return (the place in `text()` of each lane's first input [B], how many steps long the window is)."""
        begin, end = self._bounds[position.window], self._bounds[position.window + 1]
        parts = (np.arange(self.batch_size) + position.epoch) % self.batch_size  # the part that each lane reads
        return parts * self.lane_len + begin, end - begin

    def fresh(self, position: Position) -> NDArray[np.bool_]:
        """Return which lanes start anew at a position, from the initial state, [B]."""
        begins, _ = self.window(position)
        return np.asarray((begins == 0) | (position == Position()))

    def batch(self, position: Position) -> Batch:
        """Return the batch at a position. No position depends on the ones before it."""
        begins, length = self.window(position)
        places = begins + np.arange(-1, length)[:, None]  # [T + 1, B]
        window = self._ids[np.maximum(places, 0)].astype(np.int64)
        window[places < 0] = self._start_id
        return Batch(window[:-1], window[1:], self.fresh(position))


NO_TARGET = -100  #: what the cross-entropy passes over
MAX_PADDED = 0.95  #: of the documents fit into one window, where they are shorter than a window was to be


@dataclass(frozen=True)
class Layout:
    """Where an epoch's documents stand: window k of lane b is slot `lane_begins[b] + k`."""

    order: NDArray[np.int64]  #: [documents], shuffled
    slots: NDArray[np.int64]  #: [documents + 1]: the windows before each of `order`
    lane_begins: NDArray[np.int64]  #: [B + 1], in slots


class DocumentBatches(BatchSource):
    """An endless stream of batches over documents.

    Args:
        ids: [N], each document followed by the boundary.
        batch_size: lanes wanted; fewer where there are fewer documents.
        seq_len: T, the longest window; shorter where nearly all documents are.
        seed: of the shuffling.

    Raises:
        CorpusError: there is no document.
    """

    def __init__(self, ids: NDArray[Any], batch_size: int, seq_len: int, seed: int) -> None:
        ends = np.flatnonzero(ids == BOUNDARY_ID)
        if not len(ends):
            raise CorpusError("there is no whole document to train on", "Give more text, or --documents none.")
        self._ids, self._seed = ids, seed
        self._begins = np.concatenate([[0], ends[:-1] + 1])
        self._lengths = ends + 1 - self._begins  # the boundary is the last target
        self.seq_len = max(1, min(seq_len, int(np.quantile(self._lengths, MAX_PADDED, method="higher"))))
        self._windows = -(-self._lengths // self.seq_len)
        self.batch_size = max(1, min(batch_size, len(ends)))
        self.num_ids = self.ids_per_epoch = int(ends[-1]) + 1
        self.windows_per_epoch = int(-(-self._windows.sum() // self.batch_size))  # or a few more, as documents fall
        self._layout = lru_cache(maxsize=2)(self._laid_out)

    @property
    def num_documents(self) -> int:
        return len(self._begins)

    def ids_before(self, position: Position) -> int:
        """How many targets of its epoch the windows before a position have, about."""
        return min(self.ids_per_epoch, position.window * self.ids_per_epoch // self.windows_per_epoch)

    def has(self, position: Position) -> bool:
        """Tell whether there is a batch at a position."""
        return position.window < int(np.diff(self._layout(position.epoch).lane_begins).max())

    def after(self, position: Position) -> Position:
        """Return the position of the batch after this one."""
        more = self.has(Position(position.epoch, position.window + 1))
        return Position(position.epoch, position.window + 1) if more else Position(position.epoch + 1)

    def batch(self, position: Position) -> Batch:
        """Return the batch at a position. No position depends on the ones before it."""
        layout = self._layout(position.epoch)
        slots = layout.lane_begins[:-1] + position.window
        open_ = slots < layout.lane_begins[1:]
        place = np.searchsorted(layout.slots, np.minimum(slots, layout.slots[-1] - 1), side="right") - 1
        window = np.where(open_, slots - layout.slots[place], 0)
        document = layout.order[place]
        offsets = window * self.seq_len + np.arange(self.seq_len)[:, None]  # [T, B], from the document's beginning
        inside = open_ & (offsets < self._lengths[document])
        needed = int(inside.any(axis=1).sum())
        offsets, inside = offsets[:needed], inside[:needed]
        places = np.where(inside, self._begins[document] + offsets, 0)
        found = self._ids[np.stack([np.maximum(places - 1, 0), places])].astype(np.int64)
        inputs = np.where(inside & (offsets > 0), found[0], BOUNDARY_ID)
        return Batch(inputs, np.where(inside, found[1], NO_TARGET), window == 0)

    def _laid_out(self, epoch: int) -> Layout:
        order = np.random.default_rng([self._seed, epoch]).permutation(self.num_documents)
        slots = np.concatenate([[0], np.cumsum(self._windows[order])])
        ideal = np.arange(self.batch_size + 1) * slots[-1] // self.batch_size
        return Layout(order, slots, slots[np.searchsorted(slots, ideal)])
