"""The rule for the table of n-grams, of which a window reads a few thousand rows of a hundred thousand.

    G_r ← G_r + Σ mean g²        w_r ← w_r − η Σ g / √(δ + G_r)        g: the gradient of one place where r was read,
                                                                       of the sum of the window's losses
Adagrad (Duchi, Hazan & Singer 2011) with one G for a row, and steps made smaller until a row was read some dozens of
times (δ). A row that was not read stays as it is, so that the others need not be looked at. Adam would move a row that
is seldom read by its whole rate each time: with it, n-grams were learned by heart (`benchmarks/LOG.md`).
"""

from __future__ import annotations

import numpy as np
import torch

from chargen.nets.network import NGRAM_TABLE, Network

RATE, DAMPING = 5.0, 5.0  #: η over the rate of the other weights; δ
SQUARES = "squares"  #: what is remembered


class RowAdagrad:
    """The optimizer of a network's table, if it has one.

    Args:
        network: its table is changed in place by each step.
        ids: of a window, whose mean loss the gradient is of.
    """

    def __init__(self, network: Network, ids: int) -> None:
        self._table = network.get_parameter(NGRAM_TABLE) if network.config.ngrams else None
        self._ids = ids
        self._squares = torch.zeros(0) if self._table is None else self._table.new_zeros(len(self._table))

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the rows that were read against their gradient, and forget it."""
        if self._table is None or self._table.grad is None:
            return
        gradient, self._table.grad = self._table.grad, None
        if gradient.is_sparse:
            rows, values = gradient._indices()[0], gradient._values() * self._ids  # [N], [N, D], a row once or often
            self._squares.index_add_(0, rows, values.square().mean(1))
            scales = (DAMPING + self._squares[rows]).rsqrt_().mul_(-RATE * learning_rate)
            self._table.index_add_(0, rows, values * scales[:, None])  # in order; `index_put_` adds as threads come
        else:  # of a device without sparse tensors, where the places of a row are one
            gradient = gradient * self._ids
            self._squares += gradient.square().mean(1)
            self._table.sub_(RATE * learning_rate * gradient / (DAMPING + self._squares).sqrt()[:, None])

    def tensors(self) -> dict[str, np.ndarray]:
        """Return a copy of what is remembered."""
        return {} if self._table is None else {f"{SQUARES}.{NGRAM_TABLE}": self._squares.cpu().numpy().copy()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Put back what `tensors()` returned.

        Raises:
            KeyError: it is missing.
        """
        if self._table is not None:
            self._squares.copy_(torch.from_numpy(tensors[f"{SQUARES}.{NGRAM_TABLE}"].copy()))
