"""The state of a whole network: what it carries from one token to the next.

NumPy and torch engines share this type. A state is a value: functions take one and return another, and nothing
changes its arrays in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chargen.cells.cell import Array, State


class NetworkState(NamedTuple):
    """The states of all layers, and the n-gram history of a network that has n-gram features.

    The first axis of every array is the batch, B.
    """

    layers: tuple[State, ...]  #: one state a layer, each part [B, H]
    ngram_history: Array | None = None  #: the last N − 1 token ids, [B, N − 1], the newest last; None without n-grams

    @property
    def batch_size(self) -> int:
        """The number of streams, B."""
        return len(self.layers[0][0])

    def map(self, function: Callable[..., Array], *others: NetworkState) -> NetworkState:
        """Return the state with each array replaced by function(array, the same array of each other state …)."""
        layers = tuple(
            tuple(function(*arrays) for arrays in zip(*parts, strict=True))
            for parts in zip(self.layers, *(other.layers for other in others), strict=True)
        )
        if self.ngram_history is None:
            return NetworkState(layers)
        return NetworkState(layers, function(self.ngram_history, *(other.ngram_history for other in others)))
