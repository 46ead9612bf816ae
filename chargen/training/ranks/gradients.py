"""Add up the gradients of all ranks, with one message in each step.

Everything is copied to one buffer, which an all-reduce adds up. A message over a network takes a millisecond or two
for any size up to about a million numbers; so one message is faster than one for each parameter.

    │ gradients of all parameters │ loss │ rows [P, 2K] │ factors [P, K] │ gradients of the features [P, D] │ unused │

The last three parts are what the n-gram table needs (`TableReads`), for the positions of all batch rows: at each of P
positions, the features are the sum of K rows. Each rank fills the places of its own rows and leaves zeros in the
others, so the sum puts the parts of all ranks together. A row number can be larger than the integers that float32 holds
exactly, so it is sent as a quotient and a remainder.

The buffer has the size for the longest window. A shorter window uses the start of it, and only this start is sent: the
windows of documents can have as many lengths as the longest window has steps.

`pack` launches kernels on fixed buffers only, so a GPU can repeat them as a recording; `exchange` follows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from chargen.networks.draws import Rows
from chargen.networks.network import TableReads
from chargen.training.ranks.group import Ranks

ROW_DIVISOR = 1 << 12


class GradientSum:
    """Adds up the gradients of all ranks.

    Args:
        ranks: The ranks.
        rows: The batch rows of this rank.
        parameters: The parameters with gradients.
        max_steps: Steps of the longest window.
    """

    def __init__(self, ranks: Ranks, rows: Rows, parameters: Sequence[Tensor], max_steps: int) -> None:
        self._ranks, self._rows, self._parameters, self._max_steps = ranks, rows, parameters, max_steps
        self._num_dense = sum(p.numel() for p in parameters) + 1  # and the loss
        self._num_columns = 0  # numbers for the n-gram table at each position
        self._whole = torch.zeros(0)  # the buffer; made by the first `pack`, which knows the number of columns

    @torch.no_grad()
    def pack(self, loss: Tensor, reads: TableReads | None, num_steps: int) -> None:
        """Copy what this rank has computed to the buffer, and let the gradients of the parameters be parts of it.

        Args:
            loss: Part of the loss that this rank has computed.
            reads: What it has read of the n-gram table, after back-propagation; None without a table.
            num_steps: Steps of the window.
        """
        sparse = _parts(reads)
        if not len(self._whole):
            self._num_columns = sum(part.shape[1] for part in sparse)
            self._whole = torch.zeros(self._size(self._max_steps), device=self._parameters[0].device)
        buffer = self._buffer(num_steps)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        dense = [*(gradient.flatten() for gradient in gradients), loss.flatten()]
        torch.cat(dense, out=buffer[: self._num_dense])
        sizes = [p.numel() for p in self._parameters]
        for parameter, part in zip(self._parameters, torch.split(buffer[: sum(sizes)], sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        buffer[self._num_dense :].zero_()
        for part, place in zip(sparse, self._places(buffer, num_steps, sparse), strict=True):
            place[:, self._rows.slice] = part.view(num_steps, self._rows.count, -1)

    def exchange(self, num_steps: int) -> Tensor:
        """Add up what `pack` has copied, over all ranks, and return the loss of the whole batch."""
        buffer = self._buffer(num_steps)
        self._ranks.add_up(buffer)
        return buffer[self._num_dense - 1]

    def all_reads(self, reads: TableReads, num_steps: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return what all ranks have read, after `exchange`, as `SparseAdagrad.step_reads` takes it.

        Args:
            reads: What this rank has read.
            num_steps: Steps of the window.
        """
        quotients, remainders, *factors, gradient = (
            place.flatten(0, 1) for place in self._places(self._buffer(num_steps), num_steps, _parts(reads))
        )
        rows = quotients.long() * ROW_DIVISOR + remainders.long()
        return rows, factors[0] if factors else None, gradient

    def _size(self, num_steps: int) -> int:
        """Return how many numbers are sent for a window of this number of steps."""
        return self._num_dense + num_steps * self._rows.total * self._num_columns

    def _buffer(self, num_steps: int) -> Tensor:
        """Return the part of the buffer that a window of this number of steps uses."""
        return self._whole[: self._size(num_steps)]

    def _places(self, buffer: Tensor, num_steps: int, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the places in the buffer, [T, B, …], of the parts of all batch rows."""
        shapes = [(num_steps, self._rows.total, part.shape[1]) for part in parts]
        pieces = torch.split(buffer[self._num_dense :], [math.prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _parts(reads: TableReads | None) -> list[Tensor]:
    """Return the arrays to exchange, [P, …] each."""
    if reads is None:
        return []
    gradient = reads.features.grad
    assert gradient is not None, "the loss depends on the features"
    factors = [] if reads.factors is None else [reads.factors]
    return [reads.rows // ROW_DIVISOR, reads.rows % ROW_DIVISOR, *factors, gradient]
