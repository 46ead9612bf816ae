"""The gradient of the multiplicative gated unit with one compiled pass between two products; see `mgru.py`.

The loops take the rows of a batch one by one, and each loop writes one array. So the compiler can tell that nothing
overlaps, and generates vector instructions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.jit import FOUR, ONE, TWO, njit, sigmoid
from chargen.networks.kernels import (
    num_slices,
    run_backward,
    run_forward,
    sigmoid_backward,
    split_units,
    transposed_slices,
)


@njit(cache=True, fastmath=True, error_model="numpy")
def scale(t: int, s: Any, ids: Any, hs: Any, us: Any) -> None:
    """Compute 2u_t = s ∘ h_{t−1}."""
    B, H = hs.shape[1:]
    for b in range(B):
        row, u, h = s[ids[t, b]], us[t, b], hs[t, b]
        for i in range(H):
            u[i] = row[i] * h[i]


@njit(cache=True, fastmath=True, error_model="numpy")
def forward_step(t: int, x: Any, s: Any, ids: Any, bias: Any, gates: Any, hs: Any, us: Any) -> None:
    """Compute z, q and h_t from the products with 2u_t in gates[t], and then 2u_{t+1}."""
    B, H = hs.shape[1:]
    S, N = gates.shape[1] // 2, gates.shape[3]
    for b in range(B):
        row = x[ids[t, b]]
        for p in range(S):
            i = p * N
            z, q = gates[t, p, b], gates[t, S + p, b]
            x_z, x_n, b_z, b_n = row[i : i + N], row[H + i : H + i + N], bias[i : i + N], bias[H + i : H + i + N]
            h, h_next = hs[t, b, i : i + N], hs[t + 1, b, i : i + N]
            for j in range(N):
                z[j] = sigmoid(z[j] + x_z[j] + b_z[j])
            for j in range(N):
                q[j] = sigmoid(TWO * (q[j] + x_n[j] + b_n[j]))
            for j in range(N):
                n = TWO * q[j] - ONE
                h_next[j] = n + z[j] * (h[j] - n)
    if t + 1 < ids.shape[0]:
        scale(t + 1, s, ids, hs, us)


@njit(cache=True, fastmath=True, error_model="numpy")
def backward_step(
    t: int, s: Any, ids: Any, d_out: Any, d_u: Any, gates: Any, hs: Any, d_h: Any, d_a: Any, d_x: Any
) -> None:
    """Complete step t, whose ∂u is in d_u, and start step t − 1: write ∂h_{t−1} to d_h and ∂a_{t−1} to d_a[t − 1].

    The gradients of the input gates and of s are added to d_x, which has one row for each token id.
    """
    T, B, H = d_out.shape
    S, N = gates.shape[1] // 2, gates.shape[3]
    for b in range(B):
        for p in range(S):
            i = p * N
            dh = d_h[b, i : i + N]
            if t < T:
                row, d_row = s[ids[t, b], i : i + N], d_x[ids[t, b], 2 * H + i : 2 * H + i + N]
                z, du, h = gates[t, p, b], d_u[p, b], hs[t, b, i : i + N]
                for j in range(N):
                    d_row[j] += du[j] * h[j]
                for j in range(N):
                    dh[j] = dh[j] * z[j] + du[j] * row[j]
            if t > 0:
                out, z, q = d_out[t - 1, b, i : i + N], gates[t - 1, p, b], gates[t - 1, S + p, b]
                h = hs[t - 1, b, i : i + N]
                d_z, d_n = d_a[t - 1, b, i : i + N], d_a[t - 1, b, H + i : H + i + N]
                for j in range(N):
                    dh[j] += out[j]
                for j in range(N):
                    d_z[j] = dh[j] * (h[j] - (TWO * q[j] - ONE)) * z[j] * (ONE - z[j])
                for j in range(N):
                    d_n[j] = dh[j] * FOUR * (ONE - z[j]) * q[j] * (ONE - q[j])
        if t > 0:
            x_row, a_row = d_x[ids[t - 1, b], : 2 * H], d_a[t - 1, b]
            for k in range(2 * H):
                x_row[k] += a_row[k]


class MGRUFunction(torch.autograd.Function):
    """A layer of the multiplicative gated unit over a window, with its hand-written gradient in compiled passes.

    (x [V,3H], ids [T,B], h [B,H], weight_hh [2H,H], bias_hh [2H]) → (outputs [T,B,H], h [B,H]); all float32.

    Row `ids[t, b]` of x has the input gates of stream b at step t. s = 2σ(last H numbers) is computed once for each row
    of x. `us` holds 2u.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, ids: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        (T, B), H = ids.shape, h.shape[1]
        S = num_slices(H)
        weight_t = transposed_slices(weight_hh, 2 * S)  # [2S,H,H/S]
        gates, hs, us = h.new_empty(T, 2 * S, B, H // S), h.new_empty(T + 1, B, H), h.new_empty(T, B, H)
        hs[0] = h
        s = torch.sigmoid(x[:, 2 * H :]).mul_(2.0)
        arrays = [part.detach().numpy() for part in (x, s, ids, bias_hh, gates, hs, us)]
        scale(0, *arrays[1:3], *arrays[5:])
        run_forward(forward_step, us, weight_t, gates, arrays)
        ctx.save_for_backward(s, ids, gates, us, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        s, ids, gates, us, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        S = gates.shape[1] // 2
        weight = split_units(weight_hh, S).contiguous()  # [S,2H,H/S]
        d_a, d_x = gates.new_empty(T, B, 2 * H), s.new_zeros(len(s), 3 * H)
        d_u, d_h = gates.new_empty(S, B, H // S), d_last.contiguous().clone()
        parts = (s, ids, d_outputs.contiguous(), d_u, gates, hs, d_h, d_a, d_x)
        run_backward(backward_step, d_a, weight, d_u, [part.numpy() for part in parts])
        sigmoid_backward(2.0 * d_x[:, 2 * H :], 0.5 * s, out=d_x[:, 2 * H :])
        d_all = d_a.view(T * B, 2 * H)
        return d_x, None, d_h, d_all.t() @ us.view(T * B, H), d_all.sum(0)
