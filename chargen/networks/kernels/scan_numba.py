"""The states of a real linear recurrence, and its gradient, each in one compiled pass; see `scan.py`.

The coefficients are rows of tables, of which each step reads one by its number. For the first layer, that is a row for
each token id: neither the coefficients of all steps nor their gradients are ever written to memory. The passes of
`scan.py` need four times as long, most of it to write and read arrays [T, B, H].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.jit import njit


@njit(cache=True, fastmath=True, error_model="numpy")
def forward_pass(decay: Any, update: Any, rows: Any, hs: Any) -> None:
    """Compute the states h_1 … h_T in hs [T + 1, B, H], from h_0."""
    T, B = rows.shape
    H = hs.shape[2]
    for t in range(T):
        for k in range(B):
            a, b, h, h_next = decay[rows[t, k]], update[rows[t, k]], hs[t, k], hs[t + 1, k]
            for j in range(H):
                h_next[j] = a[j] * h[j] + b[j]


@njit(cache=True, fastmath=True, error_model="numpy")
def backward_pass(decay: Any, rows: Any, hs: Any, d_out: Any, d_h: Any, d_decay: Any, d_update: Any) -> None:
    """Add the gradients of the coefficients to their rows; d_h [B, H], zero before, becomes the gradient of h_0."""
    T, B = rows.shape
    H = hs.shape[2]
    for t in range(T - 1, -1, -1):
        for k in range(B):
            a, h, out, dh = decay[rows[t, k]], hs[t, k], d_out[t, k], d_h[k]
            da, db = d_decay[rows[t, k]], d_update[rows[t, k]]
            for j in range(H):
                dh[j] += out[j]
            for j in range(H):
                db[j] += dh[j]
            for j in range(H):
                da[j] += dh[j] * h[j]
            for j in range(H):
                dh[j] *= a[j]


class RowScan(torch.autograd.Function):
    """(a [R,H], b [R,H], rows [T,B], h_0 [B,H]) → h [T,B,H]; all float32. Row `rows[t, b]` has the coefficients."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, update: Tensor, rows: Tensor, initial: Tensor) -> Tensor:
        """Compute all states, and keep what the backward pass needs."""
        (T, B), H = rows.shape, initial.shape[1]
        hs = initial.new_empty(T + 1, B, H)
        hs[0] = initial
        forward_pass(*(part.detach().contiguous().numpy() for part in (decay, update, rows, hs)))
        ctx.save_for_backward(decay, rows, hs)
        return hs[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        decay, rows, hs = ctx.saved_tensors
        d_decay, d_update, d_h = torch.zeros_like(decay), torch.zeros_like(decay), torch.zeros_like(hs[0])
        parts = (decay.contiguous(), rows, hs, d_states.contiguous(), d_h, d_decay, d_update)
        backward_pass(*(part.numpy() for part in parts))
        return d_decay, d_update, None, d_h
