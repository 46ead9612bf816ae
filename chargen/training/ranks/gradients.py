"""Add up the gradients of all ranks.

The gradients of the dense parameters and the loss are copied one after another into one buffer, which a single
all-reduce adds up: for a network of a few million weights, one message is faster than one for each parameter. The
gradient of the n-gram table is sparse: the rows and gradients of all ranks are put one after another, as those of all
batch rows are in a single process.

`pack` and `unpack` launch kernels on fixed buffers only, so a GPU can repeat them as a recording; `exchange` lies
between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chargen.training.ranks.group import Ranks


@dataclass(frozen=True)
class SparseBuffers:
    """The sparse gradient of a window. A rank with fewer batch rows than others has some zeros at the end."""

    own_rows: Tensor  #: rows of the table, [n]
    own_values: Tensor  #: their gradients, [n, D]
    rows: Tensor  #: the same of all ranks, [size · n]
    values: Tensor  #: [size · n, D]


class GradientSum:
    """Adds up the gradients of all ranks.

    Args:
        ranks: The ranks.
        batch_size: Rows of the whole batch.
        parameters: The parameters with dense gradients.
        table: The parameter with a sparse gradient, or None.
    """

    def __init__(self, ranks: Ranks, batch_size: int, parameters: Sequence[Tensor], table: Tensor | None) -> None:
        self._ranks, self._parameters, self._table = ranks, parameters, table
        self._own_batch_size = ranks.rows(batch_size).count
        self._max_batch_size = max(Ranks(rank, ranks.size).rows(batch_size).count for rank in range(ranks.size))
        self._buffer = torch.zeros(sum(p.numel() for p in parameters) + 1, device=parameters[0].device)
        self._loss = self._buffer[-1]
        self._sparse: dict[int, SparseBuffers] = {}  # by the number of steps of the window

    @torch.no_grad()
    def pack(self, loss: Tensor, num_steps: int) -> None:
        """Copy the gradients and the loss of this rank to the buffers, and let the gradients be parts of them.

        Args:
            loss: Part of the loss that this rank has computed.
            num_steps: Steps of the window.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        torch.cat([*(gradient.flatten() for gradient in gradients), loss.flatten()], out=self._buffer)
        sizes = [p.numel() for p in self._parameters]
        for parameter, part in zip(self._parameters, torch.split(self._buffer[:-1], sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        if self._table is not None and self._table.grad is not None:
            rows, values = self._table.grad._indices()[0], self._table.grad._values()
            buffers = self._sparse_buffers(num_steps, rows, values)
            buffers.own_rows[: len(rows)].copy_(rows)
            buffers.own_values[: len(rows)].copy_(values)
            self._table.grad = None

    def _sparse_buffers(self, num_steps: int, rows: Tensor, values: Tensor) -> SparseBuffers:
        if num_steps not in self._sparse:
            n, size = len(rows) // self._own_batch_size * self._max_batch_size, self._ranks.size
            own_rows, all_rows = (rows.new_zeros(length) for length in (n, size * n))
            own_values, all_values = (values.new_zeros(length, values.shape[1]) for length in (n, size * n))
            self._sparse[num_steps] = SparseBuffers(own_rows, own_values, all_rows, all_values)
        return self._sparse[num_steps]

    def exchange(self, num_steps: int) -> Tensor:
        """Add up what `pack` has copied, over all ranks, and return the loss of the whole batch."""
        self._ranks.add_up(self._buffer)
        if num_steps in self._sparse:
            buffers = self._sparse[num_steps]
            self._ranks.stack(buffers.own_rows, buffers.rows)
            self._ranks.stack(buffers.own_values, buffers.values)
        return self._loss

    def table_gradient(self, num_steps: int) -> tuple[Tensor, Tensor] | None:
        """Return the sparse gradient of all ranks after `exchange`: (rows [N], gradients [N, D]); None without one."""
        buffers = self._sparse.get(num_steps)
        return None if buffers is None else (buffers.rows, buffers.values)
