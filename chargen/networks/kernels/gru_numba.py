"""The gradient of the GRU with one compiled pass between two products; `gru.py` has the equations.

`mgru_numba.py` explains the form of the loops.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.jit import ONE, njit, sigmoid, tanh
from chargen.networks.kernels import num_slices, run_backward, run_forward, split_units, transposed_slices


@njit(cache=True, fastmath=True, error_model="numpy")
def forward_step(t: int, x: Any, ids: Any, bias: Any, gates: Any, ns: Any, hs: Any) -> None:
    """Compute r, z, m and h_t from the products with h_{t−1} in gates[t]."""
    B, H = hs.shape[1:]
    S, N = gates.shape[1] // 3, gates.shape[3]
    for b in range(B):
        row = x[ids[t, b]]
        for p in range(S):
            i = p * N
            r, z, m, n = gates[t, p, b], gates[t, S + p, b], gates[t, 2 * S + p, b], ns[t, p, b]
            x_r, x_z, x_n = row[i : i + N], row[H + i : H + i + N], row[2 * H + i : 2 * H + i + N]
            b_r, b_z, b_n = bias[i : i + N], bias[H + i : H + i + N], bias[2 * H + i : 2 * H + i + N]
            h, h_next = hs[t, b, i : i + N], hs[t + 1, b, i : i + N]
            for j in range(N):
                r[j] = sigmoid(r[j] + x_r[j] + b_r[j])
            for j in range(N):
                z[j] = sigmoid(z[j] + x_z[j] + b_z[j])
            for j in range(N):
                m[j] += b_n[j]
            for j in range(N):
                n[j] = tanh(x_n[j] + r[j] * m[j])
            for j in range(N):
                h_next[j] = n[j] + z[j] * (h[j] - n[j])


@njit(cache=True, fastmath=True, error_model="numpy")
def backward_step(
    t: int, ids: Any, d_out: Any, d_u: Any, gates: Any, ns: Any, hs: Any, d_h: Any, d_a: Any, d_x: Any
) -> None:
    """Complete step t, whose Wᵀ ∂a is in d_u, and start step t − 1: write ∂h_{t−1} to d_h and ∂a_{t−1} to d_a[t − 1].

    The gradients of the input gates are added to d_x, which has one row for each token id.
    """
    T, B, H = d_out.shape
    S, N = ns.shape[1], ns.shape[3]
    for b in range(B):
        for p in range(S):
            i = p * N
            dh = d_h[b, i : i + N]
            if t < T:
                z, du = gates[t, S + p, b], d_u[p, b]
                for j in range(N):
                    dh[j] = dh[j] * z[j] + du[j]
            if t > 0:
                out, h, n = d_out[t - 1, b, i : i + N], hs[t - 1, b, i : i + N], ns[t - 1, p, b]
                r, z, m = gates[t - 1, p, b], gates[t - 1, S + p, b], gates[t - 1, 2 * S + p, b]
                row, x_row = d_a[t - 1, b], d_x[ids[t - 1, b]]
                a_r, a_z, a_n = row[i : i + N], row[H + i : H + i + N], row[2 * H + i : 2 * H + i + N]
                x_n = x_row[2 * H + i : 2 * H + i + N]
                for j in range(N):
                    dh[j] += out[j]
                for j in range(N):  # this is ∂n'; the loop after next multiplies it with r, which gives ∂m
                    a_n[j] = dh[j] * (ONE - z[j]) * (ONE - n[j] * n[j])
                for j in range(N):
                    x_n[j] += a_n[j]
                for j in range(N):
                    a_r[j] = a_n[j] * m[j] * r[j] * (ONE - r[j])
                for j in range(N):
                    a_n[j] *= r[j]
                for j in range(N):
                    a_z[j] = dh[j] * (h[j] - n[j]) * z[j] * (ONE - z[j])
        if t > 0:
            r_z_row, a_row = d_x[ids[t - 1, b], : 2 * H], d_a[t - 1, b]
            for k in range(2 * H):
                r_z_row[k] += a_row[k]


class GRUFunction(torch.autograd.Function):
    """A layer of the GRU over a window, with its hand-written gradient in compiled passes.

    (x [V,3H], ids [T,B], h [B,H], weight_hh [3H,H], bias_hh [3H]) → (outputs [T,B,H], h [B,H]); all float32.

    Row `ids[t, b]` of x has the input gates of stream b at step t.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, ids: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        (T, B), H = ids.shape, h.shape[1]
        S = num_slices(H)
        weight_t = transposed_slices(weight_hh, 3 * S)  # [3S,H,H/S]
        gates, ns, hs = h.new_empty(T, 3 * S, B, H // S), h.new_empty(T, S, B, H // S), h.new_empty(T + 1, B, H)
        hs[0] = h
        arrays = [part.detach().numpy() for part in (x, ids, bias_hh, gates, ns, hs)]
        run_forward(forward_step, hs[:-1], weight_t, gates, arrays)
        ctx.save_for_backward(x, ids, gates, ns, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        x, ids, gates, ns, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        S = ns.shape[1]
        weight = split_units(weight_hh, S).contiguous()  # [S,3H,H/S]
        d_a, d_x = gates.new_empty(T, B, 3 * H), torch.zeros_like(x)
        d_u, d_h = gates.new_empty(S, B, H // S), d_last.contiguous().clone()
        parts = (ids, d_outputs.contiguous(), d_u, gates, ns, hs, d_h, d_a, d_x)
        run_backward(backward_step, d_a, weight, d_u, [part.numpy() for part in parts])
        d_all = d_a.view(T * B, 3 * H)
        return d_x, None, d_h, d_all.t() @ hs[:-1].view(T * B, H), d_all.sum(0)
