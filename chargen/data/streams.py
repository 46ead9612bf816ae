"""B lanes over one long stream of ids, in windows of T: what truncated back-propagation through time reads.

    ids      │ lane 0 ─────────▶│ lane 1 ─────────▶│ … │ lane B−1 ───────▶│ r    r = N mod B ids, left out
    window k      [═══]              [═══]                  [═══]
    input         start,x₀,x₁…  the id before each target;  target  x₀,x₁,x₂…

At the end of its part a lane goes on into the next lane's part, state carried, so that over B epochs every lane reads
the whole text as it stands. Only the lane that begins at the beginning of the text again is fresh.

The L = N // B ids of a part are cut into windows of as equal a length as can be, none longer than T: no window is so
short that its gradient is noise, and nothing is left over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError


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


class Stream(ABC):
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


class LaneStream(Stream):
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
