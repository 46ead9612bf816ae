"""The rule for the table of n-grams, of which a window reads a few thousand rows of a hundred thousand.

    G_r ← G_r + mean g_r²        w_r ← w_r − η g_r / √(δ + G_r)        g: the gradient of the window's sum of losses

Adagrad (Duchi, Hazan & Singer 2011) with one G for a row, and steps made smaller until a row was read some dozens of
times (δ). A row that was not read stays as it is, so that on a CPU the others need not be looked at. Adam would move a
row that is seldom read by its whole rate each time: with it, n-grams were learned by heart (`benchmarks/LOG.md`).
"""

from __future__ import annotations

import numpy as np
import torch

from chargen.nets.network import Network

TABLE = "ngrams__weight"
RATE, DAMPING = 10.0, 24.0  #: η over the rate of the other weights; δ
SQUARES = "squares"  #: what is remembered


class RowAdagrad:
    """The optimizer of a network's table, if it has one.

    Args:
        network: its table is changed in place by each step.
        ids: of a window, whose mean loss the gradient is of.
    """

    def __init__(self, network: Network, ids: int) -> None:
        self._table = network.get_parameter(TABLE) if network.config.ngrams else None
        self._ids = ids
        self._squares = torch.zeros(0) if self._table is None else self._table.new_zeros(len(self._table))

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the rows that were read against their gradient, and forget it."""
        if self._table is None or self._table.grad is None:
            return
        gradient, self._table.grad = self._table.grad, None
        if not gradient.is_sparse:  # of a GPU, which would have to wait for the number of rows
            gradient = gradient * self._ids
            self._squares += gradient.square().mean(1)
            self._table.sub_(RATE * learning_rate * gradient / (DAMPING + self._squares).sqrt()[:, None])
            return
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values() * self._ids  # [R], [R, D]
        squares = self._squares[rows] + values.square().mean(1)
        self._squares[rows] = squares
        self._table.index_add_(0, rows, values / (DAMPING + squares).sqrt()[:, None], alpha=-RATE * learning_rate)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of what is remembered."""
        return {} if self._table is None else {f"{SQUARES}.{TABLE}": self._squares.cpu().numpy().copy()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Put back what `tensors()` returned.

        Raises:
            KeyError: it is missing.
        """
        if self._table is not None:
            self._squares.copy_(torch.from_numpy(tensors[f"{SQUARES}.{TABLE}"].copy()))
